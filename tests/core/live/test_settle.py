"""Copies in slices of a SHARED lock: whatever happens between two slices, the result is one commit."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseUnsettled
from pagewarden.live import LONGEST_SLICE, Pin, scratch_copy, settle, snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import FRAME_BYTES
from tests.core.live.slices import HEADER, Between, Take, big, commit, number, oracle, sound
from tests.support.databases import build, masked
from tests.support.session import Session


def test_commits_between_slices_are_seen(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            with pytest.raises(DatabaseUnsettled, match="written to all the time"):
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


def test_slices_keep_to_their_time(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
