"""One commit of a live database: pinned by SQLite, read outside it, and again where it moved."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled, ReaderCrashed
from pagewarden.live import Pin, examine, read_commit
from pagewarden.live import place as place_module
from pagewarden.processes.reader import Attachment, PageReader
from tests.support.databases import backup, build, masked
from tests.support.session import Session, SessionError


def pages(reader: PageReader, attachment: Attachment) -> bytes:
    """Return the whole commit."""
    return b"".join(reader.pages(attachment.handle, range(1, attachment.pages + 1)))


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_pin_keeps_its_commit(mode: str, reader: PageReader, tmp_path: Path) -> None:
    """BEGIN and a read that ran to its end pin a commit (step 1): later ones are not seen, and nothing passes it."""
    path = build(tmp_path / "a.db", mode=mode)
    with Session(path) as session, Pin(examine(path), connections=1) as pin:
        pin.begin()
        assert pin.still_pinned()
        (connection,) = pin.connections
        before = connection.execute("SELECT count(*) FROM item").fetchone()
        if mode == "wal":
            session.run("DELETE FROM item")
            busy, frames, done = session.run("PRAGMA wal_checkpoint(RESTART)")[0]
            assert busy == 1 and done < frames
        else:
            with pytest.raises(SessionError, match="SQLITE_BUSY"):
                session.run("DELETE FROM item")
        assert connection.execute("SELECT count(*) FROM item").fetchone() == before
        pin.release()
        assert not pin.still_pinned()
        assert session.run("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
        session.run("DELETE FROM item")


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_commit_equals_sqlites_backup_of_it(mode: str, page_size: int, reader: PageReader, tmp_path: Path) -> None:
    """The very commit of the pin, page for page, by the rule at the end of docs/live-read.md."""
    path = build(tmp_path / "a.db", mode=mode, page_size=page_size)

    def work(attachment: Attachment, pin: Pin) -> tuple[bytes, bytes, str]:
        return pages(reader, attachment), backup(pin.connections[0], tmp_path / "oracle"), attachment.mode

    with Session(path) as session:
        for sql in (
            "UPDATE item SET name = 'y' || name",
            "DELETE FROM item WHERE id > 50",
            "VACUUM",
            "PRAGMA wal_checkpoint",
        ):
            session.run(sql)
            ours, theirs, kind = read_commit(str(path), reader, work, exact=True, connections=1)
            assert masked(ours) == masked(theirs)
            assert ours[18:20] == (b"\2\2" if mode == "wal" else b"\1\1")
            assert kind == ("wal" if mode == "wal" else "file")


def test_a_commit_that_comes_between_is_begun_again(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `exact` the reader's commit is the pin's, however often writers come between (step 7)."""
    path = build(tmp_path / "a.db", mode="wal")
    with Session(path) as session:
        session.run("UPDATE item SET name = 'start'")
        begun: list[int] = []
        real = Pin.begin

        def late(pin: Pin) -> None:
            real(pin)
            begun.append(1)
            if len(begun) < 4:
                session.run("UPDATE item SET name = ?", f"commit {len(begun)}")

        def names(attachment: Attachment, pin: Pin) -> tuple[list[tuple[str]], bytes]:
            (connection,) = pin.connections
            return connection.execute("SELECT DISTINCT name FROM item").fetchall(), pages(reader, attachment)

        monkeypatch.setattr(Pin, "begin", late)
        slept: list[float] = []
        found, data = read_commit(str(path), reader, names, exact=True, connections=1, sleep=slept.append)
        assert found == [("commit 3",)] and data.count(b"commit 3") > 100
        assert len(begun) == 4 and len(slept) == 3 and slept == sorted(slept)
        begun.clear()
        found, data = read_commit(str(path), reader, names, connections=1)
        assert found == [("commit 3",)]  # without `exact` the reader may be ahead of the pin, never behind
        assert data.count(b"commit 1") > 100
        begun.clear()
        with pytest.raises(DatabaseUnsettled, match="in 2 attempts: a commit was made while it was pinned"):
            read_commit(str(path), reader, names, exact=True, connections=1, attempts=2)
        begun.clear()
        with pytest.raises(DatabaseUnsettled, match="in 2 attempts"):  # time goes on with each of them
            read_commit(
                str(path), reader, names, exact=True, connections=1, deadline=2.0, clock=lambda: float(len(begun))
            )
        assert not Path(f"{path}-shm").exists() or session.run("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0


def test_what_moved_under_the_work_is_done_again(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 6: a transaction that ended, a file that changed; the result of that attempt is discarded."""
    path = build(tmp_path / "a.db")
    calls: list[int] = []

    def work(attachment: Attachment, pin: Pin) -> int:
        calls.append(attachment.handle)
        if len(calls) == 1:
            pin.release()
        if len(calls) == 2:
            with path.open("ab") as file:
                file.write(b"more")
        if len(calls) == 3:
            raise DatabaseUnsettled("a short read")
        return len(calls)

    assert read_commit(str(path), reader, work, sleep=lambda _seconds: None) == 4
    assert len(set(calls)) == 4


def test_errors_of_the_work_go_on_unless_the_files_moved(reader: PageReader, tmp_path: Path) -> None:
    """A read error on a file that moved is of no account; any other error is the caller's, and nothing stays open."""
    path = build(tmp_path / "a.db")
    calls: list[int] = []

    def unreadable(attachment: Attachment, pin: Pin) -> None:
        calls.append(1)
        if len(calls) == 1:
            with path.open("ab") as file:
                file.write(b"more")
        raise DatabaseUnreadable("an I/O error")

    with pytest.raises(DatabaseUnreadable, match="an I/O error"):
        read_commit(str(path), reader, unreadable, sleep=lambda _seconds: None)
    assert len(calls) == 2

    def broken(attachment: Attachment, pin: Pin) -> None:
        raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        read_commit(str(path), reader, broken)
    folder = f"/proc/{reader.pid}/fd"
    assert not any(os.readlink(f"{folder}/{fd}").startswith(str(path)) for fd in os.listdir(folder))
    with Session(path) as session:
        session.run("DELETE FROM item")


def test_a_crash_of_the_reader_lets_go_of_the_pin(tmp_path: Path) -> None:
    """The error is ReaderCrashed, writers go on, and the next read works."""
    path = build(tmp_path / "a.db")
    with PageReader() as reader, Session(path) as session:

        def crash(attachment: Attachment, pin: Pin) -> None:
            reader.kill()
            reader.sums(attachment.handle, 1, 1)

        with pytest.raises(ReaderCrashed):
            read_commit(str(path), reader, crash)
        session.run("DELETE FROM item")
        assert read_commit(str(path), reader, lambda attachment, _pin: attachment.pages) > 0


def test_a_database_that_moves_while_it_is_attached_is_attached_again(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reader calls unsettled is an attempt, not the end."""
    path = build(tmp_path / "a.db")
    attach, glance, failures = PageReader.attach, PageReader.glance, [1, 2, 3, 4]

    def moved() -> bool:
        if failures:
            failures.pop()
            raise DatabaseUnsettled("it was replaced")
        return False

    def attach_late(self: PageReader, database: str) -> Attachment:
        moved()
        return attach(self, database)

    def glance_late(self: PageReader, database: str) -> bytes:
        moved()
        return glance(self, database)

    monkeypatch.setattr(PageReader, "attach", attach_late)
    monkeypatch.setattr(PageReader, "glance", glance_late)
    assert read_commit(str(path), reader, lambda attachment, _pin: attachment.pages) > 0
    failures.extend([1, 2])
    assert read_commit(str(path), reader, lambda attachment, _pin: attachment.pages, exact=True) > 0


def test_a_replaced_database_is_not_mistaken_for_its_successor(reader: PageReader, tmp_path: Path) -> None:
    """The pin is on the inode that was examined (H5)."""
    path = build(tmp_path / "a.db")
    with Pin(examine(path)) as pin:
        os.replace(build(tmp_path / "b.db", rows=3), path)
        with pytest.raises(DatabaseUnsettled, match="was replaced while it was opened"):
            pin.begin()
        assert not pin.still_pinned()


def test_a_damaged_schema_and_a_cut_off_file_can_be_pinned(reader: PageReader, tmp_path: Path) -> None:
    """What SQLite itself would refuse can be read, so that it can be judged and backed up (H18)."""
    path = build(tmp_path / "a.db")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE INDEX", b"CREATE XXXXX"))
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        connection.execute("SELECT count(*) FROM item")
    assert read_commit(str(path), reader, lambda attachment, _pin: pages(reader, attachment)) == path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    missing = read_commit(str(path), reader, lambda attachment, _pin: attachment.missing_bytes)
    assert missing == len(data) - len(data) // 2


def test_an_empty_file_is_a_commit_of_no_pages(reader: PageReader, tmp_path: Path) -> None:
    """As it is for SQLite, and nothing is made of it."""
    path = tmp_path / "a.db"
    path.touch()
    for exact in (False, True):
        assert read_commit(str(path), reader, lambda attachment, _pin: attachment.pages, exact=exact) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


def test_what_opening_leaves_behind_is_told(reader: PageReader, tmp_path: Path) -> None:
    """On a closed WAL database a 0-byte -wal and a -shm appear (H33); database and log keep every byte."""
    path = build(tmp_path / "a.db", mode="wal")
    before = path.read_bytes()
    assert read_commit(str(path), reader, lambda _attachment, pin: pin.created, exact=True) == ("-shm", "-wal")
    assert path.read_bytes() == before
    assert Path(f"{path}-wal").stat().st_size == 0
    assert read_commit(str(path), reader, lambda _attachment, pin: pin.created) == ()


def test_errors_before_the_first_attempt_are_themselves(reader: PageReader, tmp_path: Path) -> None:
    """A missing database, a busy one, and no attempt at all."""
    with pytest.raises(DatabaseNotFound):
        read_commit(str(tmp_path / "nothing"), reader, lambda _attachment, _pin: None)
    path = build(tmp_path / "a.db")
    with Session(path) as session:
        session.run("BEGIN EXCLUSIVE")
        for exact in (False, True):
            with pytest.raises(DatabaseBusy):
                read_commit(str(path), reader, lambda _attachment, _pin: None, timeout=0.0, exact=exact)
    with pytest.raises(ValueError, match="attempts"):
        read_commit(str(path), reader, lambda _attachment, _pin: None, attempts=0)


def test_wal_mode_on_a_network_file_system_is_refused(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shared memory does not reach other machines (H4); a rollback journal works there as well as its locks do."""
    monkeypatch.setattr(place_module, "file_system", lambda _path: "nfs4")
    plain = build(tmp_path / "plain.db")
    assert read_commit(str(plain), reader, lambda attachment, _pin: attachment.pages) > 0
    path = build(tmp_path / "a.db", mode="wal")
    with pytest.raises(DatabaseUnreadable, match=r"in WAL mode on a network file system \(nfs4\)"):
        read_commit(str(path), reader, lambda _attachment, _pin: None)
    assert Path(f"{path}-shm").exists()
    with pytest.raises(DatabaseUnreadable, match="in WAL mode on a network file system"):
        Pin(examine(path))
