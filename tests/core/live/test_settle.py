"""Copies of rollback-journal databases: whatever is written while they are read, the result is one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseUnsettled
from pagewarden.live import Pin, scratch_copy, settle, snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import FRAME_BYTES
from tests.core.live.slices import HEADER, Between, Take, big, commit, number, oracle, sound
from tests.support.databases import build, masked
from tests.support.session import Session


def test_commits_in_between_are_seen(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is written to after each of the first reads comes to rest, at the last commit."""
    path = big(tmp_path / "a.db")
    monkeypatch.setattr(settle, "_LITTLE", FRAME_BYTES)
    with Session(path) as session:
        between = Between(monkeypatch, 20, lambda n: commit(session, n))
        taken, restored = take(path)
        assert number(restored, tmp_path) == 20
        assert restored == path.read_bytes()
        assert between.chances > 20 and taken.attempts >= 3
        assert taken.attachment.header == restored[:100]


def test_every_kind_of_change_in_between_is_seen(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_database_that_shrinks_while_it_is_copied_is_seen(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads beyond its new end are no failure."""
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
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_database_that_never_rests_is_unsettled(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            with pytest.raises(DatabaseUnsettled, match=r"written to all the time|the time that was allowed ended"):
                take(
                    path,
                    deadline=float(late_after),
                    clock=lambda ticks=ticks: float(next(ticks)),
                    sleep=lambda _seconds: None,
                )
            assert not (tmp_path / "set").exists()


def test_a_database_that_changes_its_nature_is_begun_again(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exclusive lock between two passes is no failure while there is time; else who holds it is told."""
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
        slept: list[float] = []
        _, restored = take(path, timeout=0.01, deadline=1e12, sleep=slept.append)
        assert restored == path.read_bytes()
        assert slept and min(slept) > 0  # a writer was met, so writers are given time
        tries.clear()
        with pytest.raises(DatabaseBusy, match=f"pid {session.pid}"):
            take(path, timeout=0.01)
        session.run("ROLLBACK")


def test_the_lock_is_held_only_to_attach_and_for_the_last_pass(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compressed under it: what differs then is put aside."""
    path = big(tmp_path / "a.db")
    held: list[str] = []
    begin, release, call = Pin.begin, Pin.release, PageReader._call

    def begun(pin: Pin) -> None:
        begin(pin)
        held.append("lock")

    def released(pin: Pin) -> None:
        if held and held[-1] != "free":
            held.append("free")
        release(pin)

    def called(reader: PageReader, name: str, *arguments: Any, **fields: Any) -> Any:
        held.append(f"{name} later" if fields.get("later") else name)
        return call(reader, name, *arguments, **fields)

    with Session(path) as session:
        Between(monkeypatch, 4, lambda n: commit(session, n))
        monkeypatch.setattr(Pin, "begin", begun)
        monkeypatch.setattr(Pin, "release", released)
        monkeypatch.setattr(PageReader, "_call", called)
        taken, restored = take(path)
        assert number(restored, tmp_path) == 4 and restored == path.read_bytes()
    under_lock: set[str] = set()
    locked = False
    for step in held:
        locked = step != "free" and (locked or step == "lock")
        under_lock |= {step} if locked else set()
    assert under_lock == {"lock", "attach", "detach", "recopy_changed later"}
    assert {"copy", "seal"} <= set(held)
    assert taken.lock_seconds > 0


def test_what_one_call_reads_is_whole_frames() -> None:
    """A snapshot takes nothing else, of any page size."""
    assert settle._AT_ONCE % FRAME_BYTES == settle._ALL_AGAIN % FRAME_BYTES == 0


def test_a_scratch_copy_comes_to_rest_like_a_snapshot(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits in between are seen by the copy, too."""
    path = big(tmp_path / "a.db")
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Session(path) as session:
        Between(monkeypatch, 9, lambda n: commit(session, n))
        copy = scratch_copy(str(path), reader, folder)
        assert number(copy.read_bytes(), tmp_path) == 9
        assert copy.read_bytes() == path.read_bytes()
