"""Snapshots and raw copies of live databases: each is exactly one commit, and nothing is left of one that failed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseUnsettled, OutOfSpace, ReaderCrashed, TargetFailed
from pagewarden.live import LONGEST_SLICE, Pin, SnapshotTaken, scratch_copy, settle, snapshot_commit
from pagewarden.processes.reader import Attachment, PageReader
from pagewarden.repository.format import FRAME_BYTES, PageSetHeader
from tests.support.databases import backup, build, masked
from tests.support.session import Session

EARLY = datetime(2000, 1, 1, tzinfo=UTC)
HEADER = PageSetHeader(page_size=512, pages=3, pages_per_frame=1, timeline="0a" * 16, txid=7, time=EARLY)


@pytest.fixture
def take(reader: PageReader, tmp_path: Path) -> Callable[..., tuple[SnapshotTaken, bytes]]:
    """Take a snapshot and restore it; return what is known of it, and the restored bytes."""

    def work(path: Path, **options: object) -> tuple[SnapshotTaken, bytes]:
        for name in ("set", "restored"):
            (tmp_path / name).unlink(missing_ok=True)
        taken = snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1, **options)  # type: ignore[arg-type]
        assert reader.verify_pageset(tmp_path / "set", read_data=True) == taken.info
        reader.restore_pageset(tmp_path / "set", tmp_path / "restored")
        return taken, (tmp_path / "restored").read_bytes()

    return work


def oracle(path: Path, folder: Path) -> bytes:
    """Return what the backup API makes of the database now, through another process's files."""
    with closing(sqlite3.connect(path)) as connection:
        return backup(connection, folder / "oracle")


def sound(image: bytes, folder: Path) -> None:
    """Fail unless SQLite finds an image sound."""
    (folder / "image.db").write_bytes(image)
    with closing(sqlite3.connect(folder / "image.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_snapshot_is_the_newest_commit(
    mode: str, page_size: int, take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path
) -> None:
    """By the rule of docs/live-read.md, with the facts that tell later whether a commit was made since."""
    path = build(tmp_path / "a.db", mode=mode, page_size=page_size)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'newest'")
        taken, restored = take(path)
        assert masked(restored) == masked(oracle(path, tmp_path))
        assert restored.count(b"newest") >= 100
        assert taken.attempts == 1 and taken.created == ()
        assert taken.journal_mode == ("wal" if mode == "wal" else "delete")
        assert taken.schema_cookie == session.run("PRAGMA schema_version")[0][0]
        assert taken.change_counter == int.from_bytes(restored[24:28], "big")
        assert (len(taken.salts), taken.wal_frames > 0) == ((8, True) if mode == "wal" else (0, False))
        assert (taken.lock_seconds == 0.0) == (mode == "wal")
        header = taken.info.header
        assert header == replace(
            HEADER, page_size=page_size, pages=len(restored) // page_size, pages_per_frame=FRAME_BYTES // page_size
        )
        session.run("UPDATE item SET name = 'later'")
        again, _ = take(path)
        assert (again.salts, again.wal_frames, again.change_counter) != (
            taken.salts, taken.wal_frames, taken.change_counter,
        )  # fmt: skip
        sound(restored, tmp_path)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_time_is_one_at_which_it_was_committed_already(
    mode: str, take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is read after the last page, never before the pin: no later commit has an earlier time (H23)."""
    path = build(tmp_path / "a.db", mode=mode)
    order: list[str] = []
    real = Pin.release

    def release(pin: Pin) -> None:
        order.append("release")
        real(pin)

    monkeypatch.setattr(Pin, "release", release)

    def now() -> datetime:
        order.append("now")
        return EARLY + timedelta(days=1)

    taken, _ = take(path, now=now)
    assert taken.info.header.time == EARLY + timedelta(days=1)
    assert order[0] == "release" and order.count("now") == 1


def test_empty_and_tiny_databases_have_snapshots(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path
) -> None:
    """No page at all, and one page."""
    path = tmp_path / "a.db"
    path.touch()
    taken, restored = take(path)
    assert (restored, taken.info.header.pages, taken.change_counter, taken.schema_cookie) == (b"", 0, 0, 0)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=1")
    assert take(path)[1] == path.read_bytes()


def test_progress_counts_pages_of_the_whole(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go and in slices: it only grows, and ends at the size of the database."""
    monkeypatch.setattr(settle, "_FIRST_SLICE", FRAME_BYTES)
    monkeypatch.setattr(settle, "_AIM", 1e-9)
    for mode in ("wal", "delete"):
        path = build(tmp_path / f"{mode}.db", mode=mode, rows=400)
        told: list[tuple[int, int]] = []
        taken, _ = take(path, progress=lambda done, total, told=told: told.append((done, total)))
        pages = taken.info.header.pages
        assert told == sorted(told) and told[-1] == (pages, pages) and {total for _, total in told} == {pages}


def test_nothing_is_left_of_a_snapshot_that_failed(reader: PageReader, tmp_path: Path) -> None:
    """A callback that raises, a reader that crashes, a busy database: the staging file is gone, the lock, too."""
    path = build(tmp_path / "a.db", rows=300)

    class Enough(Exception):
        pass

    def enough(_done: int, _total: int) -> None:
        raise Enough

    def crash(_done: int, _total: int) -> None:
        own.kill()

    def attempt(reader: PageReader, **options: object) -> None:
        snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1, **options)  # type: ignore[arg-type]

    with pytest.raises(Enough):
        attempt(reader, progress=enough)
    with PageReader() as own:
        with pytest.raises(ReaderCrashed):
            attempt(own, progress=crash)
        with pytest.raises(ReaderCrashed):
            own.ping()
            folder = tmp_path / "scratch"
            folder.mkdir()
            scratch_copy(str(path), own, folder, progress=crash)
        assert list(folder.iterdir()) == []
    with Session(path) as session:
        session.run("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseBusy):
            attempt(reader, timeout=0.0)
        session.run("ROLLBACK")
        session.run("DELETE FROM item")
    (tmp_path / "set").write_bytes(b"somebody else's")
    with pytest.raises(TargetFailed, match="file exists"):
        attempt(reader)
    assert (tmp_path / "set").read_bytes() == b"somebody else's"
    (tmp_path / "set").unlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db", "scratch"]


def test_a_full_disk_while_sealing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails like the others."""
    path = build(tmp_path / "a.db")
    with PageReader() as own:

        def full(*_args: object) -> None:
            raise OutOfSpace("no space")

        monkeypatch.setattr(own, "seal", full)
        with pytest.raises(OutOfSpace):
            snapshot_commit(str(path), own, tmp_path / "set", HEADER, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


# Rollback-journal mode, in slices


class Between:
    """Does something whenever the lock was let go, a given number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, work: Callable[[int], object]) -> None:
        self.releases = 0
        real = Pin.release

        def release(pin: Pin) -> None:
            held = any(connection.in_transaction for connection in pin._all)
            real(pin)
            if held:
                self.releases += 1
                if self.releases <= times:
                    work(self.releases)

        monkeypatch.setattr(Pin, "release", release)
        monkeypatch.setattr(settle, "_FIRST_SLICE", FRAME_BYTES)
        monkeypatch.setattr(settle, "_AGAIN", FRAME_BYTES)
        monkeypatch.setattr(settle, "_AIM", 1e-9)  # every slice is one frame


def big(path: Path, mode: str = "delete") -> Path:
    """Make a database of some frames, four numbered tables far apart in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("BEGIN")
        for table in "abcd":
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, number INTEGER, body BLOB)")
            connection.executemany(
                f"INSERT INTO {table}(number, body) VALUES(0, ?)", ((bytes([i % 256]) * 2000,) for i in range(400))
            )
        connection.execute("COMMIT")
    return path


def number(image: bytes, folder: Path) -> int:
    """Return the one number that all rows of all tables hold; fail if there are two, or the image is not sound."""
    sound(image, folder)
    with closing(sqlite3.connect(folder / "image.db")) as connection:
        rows = [connection.execute(f"SELECT min(number), max(number) FROM {table}").fetchone() for table in "abcd"]
    assert len({value for row in rows for value in row}) == 1, rows
    return int(rows[0][0])


def commit(session: Session, value: int) -> None:
    """Write `value` into every row of every table, in one transaction."""
    session.run("BEGIN IMMEDIATE")
    for table in "abcd":
        session.run(f"UPDATE {table} SET number = ?", value)
    session.run("COMMIT")


def test_commits_between_slices_are_seen(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is written to after each of the first slices comes to rest, at the last commit."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        between = Between(monkeypatch, 9, lambda n: commit(session, n))
        taken, restored = take(path)
        assert number(restored, tmp_path) == 9
        assert restored == path.read_bytes()
        assert between.releases > 9 and taken.attempts >= 2
        assert taken.attachment.header == restored[:100]


def test_every_kind_of_change_between_slices_is_seen(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows, shrinks, grows by half a frame, loses a table: the copy is the file at the end."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        changes = [
            "CREATE TABLE e AS SELECT * FROM a UNION ALL SELECT * FROM b",
            "DROP TABLE a",
            "VACUUM",
            "CREATE TABLE f AS SELECT * FROM b LIMIT 37",
            "UPDATE c SET number = 5 WHERE id = 1",
            "PRAGMA user_version=6",
        ]
        Between(monkeypatch, len(changes), lambda n: session.run(changes[n - 1]))
        _, restored = take(path)
        assert restored == path.read_bytes()
        sound(restored, tmp_path)


def test_a_database_that_is_emptied_or_shrinks_below_the_slice_is_seen(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices that begin beyond the end copy nothing."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:

        def shrink(n: int) -> None:
            if n == 5:
                for table in "abc":
                    session.run(f"DROP TABLE {table}")
                session.run("DELETE FROM d")
                session.run("VACUUM")

        Between(monkeypatch, 5, shrink)
        _, restored = take(path)
        assert restored == path.read_bytes() and len(restored) < FRAME_BYTES


def test_pages_that_change_without_a_commit_are_seen(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that spilled and was rolled back changes free leaf pages, and no change counter (H34)."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        session.run("PRAGMA secure_delete=OFF")
        session.run("DROP TABLE d")
        session.run("PRAGMA cache_size=1")
        before = path.read_bytes()

        def spill(_n: int) -> None:
            session.run("BEGIN")
            session.run("CREATE TABLE e AS SELECT id, number, randomblob(1900) AS body FROM a")
            session.run("ROLLBACK")

        Between(monkeypatch, 5, spill)
        taken, restored = take(path)
        after = path.read_bytes()
        assert before != after and before[:100] == after[:100]
        assert restored == after
        assert taken.attempts == 1  # it is the last pass that sees them: nothing tells of them before


def test_a_database_that_never_rests_is_unsettled(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many rounds, or at the deadline, with the hint that helps; the staging file is gone."""
    path = big(tmp_path / "a.db")
    monkeypatch.setattr(settle, "_LITTLE", 0)
    monkeypatch.setattr(settle, "_ROUNDS", 3)
    with Session(path) as session:
        Between(monkeypatch, 10**6, lambda n: session.run("UPDATE d SET number = ? WHERE id = 390", n))
        with pytest.raises(DatabaseUnsettled, match=r"did not come to rest in 4 attempts") as caught:
            take(path)
        assert "PRAGMA journal_mode=WAL" in caught.value.hint
        assert not (tmp_path / "set").exists()
        monkeypatch.setattr(settle, "_ROUNDS", 10**6)
        for late_after in (2, 100, 101, 102, 130):
            ticks = iter(range(10**9))
            with pytest.raises(DatabaseUnsettled, match="written to all the time"):
                take(
                    path,
                    deadline=float(late_after),
                    clock=lambda ticks=ticks: float(next(ticks)),
                    sleep=lambda _seconds: None,
                )
            assert not (tmp_path / "set").exists()


def test_a_database_that_changes_its_nature_is_begun_again(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another page size, or WAL mode, in the midst of the copy."""
    for n, changes in enumerate((["PRAGMA page_size=8192", "VACUUM"], ["PRAGMA journal_mode=WAL", "DELETE FROM a"])):
        path = big(tmp_path / f"{n}.db")
        with Session(path) as session, monkeypatch.context() as patch:
            steps: list[list[str]] = [[], [], [], changes]

            def change(n: int, session: Session = session, steps: list[list[str]] = steps) -> None:
                for sql in steps[n - 1]:
                    session.run(sql)

            Between(patch, 4, change)
            taken, restored = take(path)
            assert masked(restored) == masked(oracle(path, tmp_path))
            assert taken.info.header.page_size == (8192 if n == 0 else 4096)
            assert taken.journal_mode == ("delete" if n == 0 else "wal")
            assert taken.attempts >= 2


def test_a_database_that_moves_at_every_attempt_is_unsettled(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as asked for, or until the deadline."""
    path = build(tmp_path / "a.db", mode="wal")

    def detach(_reader: PageReader, _handle: int) -> None:
        raise DatabaseUnsettled("the log began a new generation")

    monkeypatch.setattr(PageReader, "detach", detach)
    for options, attempts in (({"attempts": 3}, 3), ({"deadline": 0.0}, 1)):
        with pytest.raises(DatabaseUnsettled, match=f"in {attempts} attempts: the log began a new generation"):
            snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1, **options)
    assert not (tmp_path / "set").exists()


def test_a_writer_in_the_way_is_outwaited_until_the_deadline(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exclusive lock between two slices is no failure while there is time; else who holds it is told."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        tries: list[int] = []
        real = Pin.begin

        def begin(pin: Pin) -> None:
            tries.append(1)
            if len(tries) == 3:
                session.run("BEGIN EXCLUSIVE")
            if len(tries) == 6:
                session.run("ROLLBACK")
            real(pin)

        monkeypatch.setattr(Pin, "begin", begin)
        monkeypatch.setattr(settle, "_AIM", 1e-9)
        slept: list[float] = []
        _, restored = take(path, timeout=0.01, deadline=1e12, sleep=slept.append)
        assert restored == path.read_bytes()
        assert slept and min(slept) > 0  # a writer was met, so writers are given time
        tries.clear()
        with pytest.raises(DatabaseBusy, match=f"pid {session.pid}"):
            take(path, timeout=0.01)
        session.run("ROLLBACK")


def test_slices_keep_to_their_time(
    take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of many slices: each is planned by what the last one took, below the longest that is allowed."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.executemany("INSERT INTO t VALUES(?)", ((os.urandom(1 << 20),) for _ in range(48)))
        connection.commit()
    slices: list[int] = []
    real = PageReader.copy

    def copy(self: PageReader, snapshot: int, handle: int, first: int, count: int, progress: object = None) -> None:
        slices.append(count)
        real(self, snapshot, handle, first, count, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(PageReader, "copy", copy)
    taken, restored = take(path)
    assert restored == path.read_bytes()
    assert len(slices) > 3
    assert slices[0] * 4096 == settle._FIRST_SLICE
    assert all(later <= 2 * earlier for earlier, later in pairwise(slices))
    assert settle._AIM <= LONGEST_SLICE / 2
    assert taken.lock_seconds > 0


# Raw copies


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_scratch_copy_is_the_newest_commit(mode: str, reader: PageReader, tmp_path: Path) -> None:
    """Under the same name, for its owner alone, without any -wal: what a long check reads instead."""
    path = big(tmp_path / "a.db", mode)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Session(path) as session:
        commit(session, 3)
        copy = scratch_copy(str(path), reader, folder)
        assert copy == folder / "a.db"
        assert masked(copy.read_bytes()) == masked(oracle(path, tmp_path))
        assert number(copy.read_bytes(), tmp_path) == 3
        assert [file.name for file in folder.iterdir()] == ["a.db"]
        with pytest.raises(TargetFailed, match="file exists"):
            scratch_copy(str(path), reader, folder)


def test_a_scratch_copy_comes_to_rest_like_a_snapshot(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits between slices are seen by the copy, too."""
    path = big(tmp_path / "a.db")
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Session(path) as session:
        Between(monkeypatch, 9, lambda n: commit(session, n))
        copy = scratch_copy(str(path), reader, folder)
        assert number(copy.read_bytes(), tmp_path) == 9
        assert copy.read_bytes() == path.read_bytes()


def test_damage_is_copied_verbatim(take: Callable[..., tuple[SnapshotTaken, bytes]], tmp_path: Path) -> None:
    """A backup of a damaged database is that database (H18): its verdict is another matter."""
    path = build(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = os.urandom(4096)
    data[4096 * 5 : 4096 * 6] = bytes(4096)
    path.write_bytes(data)
    assert take(path)[1] == data
    shutil.copy(path, tmp_path / "b.db")
    os.truncate(tmp_path / "b.db", len(data) - 4096 * 2 - 50)
    assert take(tmp_path / "b.db")[1] == data[: -4096 * 2 - 50] + bytes(4096 * 2 + 50)


def test_an_attachment_that_is_refused_begins_nothing(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before the first page has nothing to remove."""
    path = build(tmp_path / "a.db")

    def attach(_reader: PageReader, _database: str) -> Attachment:
        raise ReaderCrashed("the page reader was killed")

    monkeypatch.setattr(PageReader, "attach", attach)
    with pytest.raises(ReaderCrashed):
        snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1)
