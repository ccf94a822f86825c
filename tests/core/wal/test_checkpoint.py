"""The steps of a checkpoint: nothing is lost, nobody is raced, and writers wait for the last frames only (H20, H24)."""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, NotADatabase
from pagewarden.live import Pin, examine
from pagewarden.live.connection import open_writable
from pagewarden.processes.reader import PageReader
from pagewarden.wal import checkpoint
from pagewarden.wal.checkpoint import Checkpointer, readers_in_the_log
from tests.core.wal.conftest import commit, wal_of
from tests.support import load
from tests.support.databases import build
from tests.support.holding import holding

SECONDS = 60.0 if os.environ.get("PAGEWARDEN_FULL") else 1.5
"""How long writers and foreign checkpoints are at work beside ours."""


class Pins:
    """A read transaction that is never missing."""

    def __init__(self, database: Path, stack: ExitStack) -> None:
        self.held, self.free = (stack.enter_context(Pin(examine(database))) for _ in range(2))
        self.held.begin()

    def renew(self) -> None:
        """Pin the newest commit, then let go of the one before."""
        self.free.begin()
        self.held.release()
        self.held, self.free = self.free, self.held


@pytest.fixture
def steps(database: Path, writer: sqlite3.Connection) -> Iterator[tuple[Checkpointer, Pins]]:
    """A checkpointer and pins on a database whose log has one commit, with its writer beside them."""
    commit(writer)
    with ExitStack() as stack:
        pins = Pins(database, stack)
        yield stack.enter_context(closing(Checkpointer(str(database)))), pins


def salts(database: Path, reader: PageReader) -> str:
    """Return the salts of the log's header."""
    return reader.wal_look(str(database), live=True).salts


def test_passive_copies_up_to_the_pin_and_holds_no_lock(
    steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """What was committed since the pin waits; a writer in the midst of a transaction does not matter."""
    checkpointer, pins = steps
    before = checkpointer.passive()
    assert before.complete
    commit(writer, 2)
    pins.renew()
    commit(writer)
    writer.execute("BEGIN IMMEDIATE")
    after = checkpointer.passive()
    writer.execute("ROLLBACK")
    assert not after.busy
    assert before.log < after.checkpointed < after.log
    assert after.held_seconds == 0.0


def test_under_a_pin_in_the_log_nobody_restarts_it(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection, reader: PageReader
) -> None:
    """Read locks 1–4, though all was copied: so no writer can race a checkpoint of ours (the WAL-reset bug)."""
    checkpointer, _ = steps
    assert checkpointer.passive().complete
    assert readers_in_the_log(str(database))
    before = salts(database, reader)
    commit(writer, 3)
    assert salts(database, reader) == before
    with closing(sqlite3.connect(database, timeout=0.0, isolation_level=None)) as foreign:
        for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
            foreign.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        commit(foreign)
    assert salts(database, reader) == before


def test_after_settling_the_next_commit_restarts_the_log(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection, reader: PageReader
) -> None:
    """All is in the database file, and the newest pin is on read lock 0."""
    checkpointer, pins = steps
    commit(writer, 3)
    old = salts(database, reader)
    done = checkpointer.settle(pins.renew, timeout=1.0)
    assert (done.complete, done.mode) == (True, "full")
    assert not readers_in_the_log(str(database))
    commit(writer)
    assert salts(database, reader) != old


def test_no_commit_comes_between_the_tail_and_the_copy(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """H20: while a follower takes the tail nobody can write, and what it took is all that is copied."""
    checkpointer, pins = steps
    commit(writer)
    refused = []

    def take() -> None:
        with closing(sqlite3.connect(database, timeout=0.0, isolation_level=None)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                commit(other)
            refused.append(True)

    assert checkpointer.settle(pins.renew, take=take, timeout=1.0).complete
    assert refused == [True]
    commit(writer)  # and the lock is given up


def test_what_fails_under_the_write_lock_gives_it_up(
    steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """An exception of the follower's is the caller's, and writers go on."""
    checkpointer, pins = steps

    def take() -> None:
        raise EOFError

    with pytest.raises(EOFError):
        checkpointer.settle(pins.renew, take=take, timeout=1.0)
    commit(writer)


@pytest.mark.parametrize("mode", ["restart", "truncate"])
def test_finish_empties_the_log_or_lets_it_restart(
    mode: str, database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """With nobody on read locks 1–4 it is done at once, pinned as the caller is."""
    checkpointer, pins = steps
    assert checkpointer.settle(pins.renew, timeout=1.0).complete
    assert checkpointer.finish(mode).complete  # type: ignore[arg-type]
    assert (wal_of(database).stat().st_size == 0) is (mode == "truncate")
    commit(writer)


def test_a_commit_that_slips_in_is_neither_lost_nor_copied(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """Between settle and finish the log restarted: its new frames stay, because of the pin on read lock 0 (H24)."""
    checkpointer, pins = steps
    assert checkpointer.settle(pins.renew, timeout=1.0).complete
    commit(writer)
    size = wal_of(database).stat().st_size
    done = checkpointer.finish("truncate")
    assert (done.busy, done.complete, done.checkpointed) == (True, False, 0)
    assert done.log > 0
    assert wal_of(database).stat().st_size == size
    with closing(sqlite3.connect(database, timeout=0.0, isolation_level=None)) as foreign:
        assert foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (1, done.log, 0)
    pins.renew()
    assert checkpointer.settle(pins.renew, timeout=1.0).complete


def test_a_reader_at_an_older_commit_is_outwaited_by_nobody(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """What it needs stays in the log, and the answer is honest: not busy, and not all of it (H24)."""
    checkpointer, pins = steps
    with holding(database) as other:
        other.do("pin")
        commit(writer, 2)
        done = checkpointer.settle(pins.renew, timeout=1.0, wait_seconds=5.0)
        assert (done.busy, done.complete) == (False, False)
        assert done.checkpointed < done.log
        assert done.held_seconds < 4.0  # nobody waited for what does not help
        other.do("end")
    assert checkpointer.settle(pins.renew, timeout=1.0).complete


def test_a_reader_of_the_newest_commit_is_waited_for_as_long_as_it_was_said(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """It keeps the log from restarting though all is copied: writers wait for it within the bound, then it is busy."""
    checkpointer, pins = steps
    commit(writer)
    with holding(database) as other:
        other.do("pin")
        done = checkpointer.settle(pins.renew, timeout=1.0, wait_seconds=0.2)
        assert done.complete
        assert 0.2 <= done.held_seconds < 2.0
        assert checkpointer.finish("restart").busy
        other.do("end")
        assert checkpointer.settle(pins.renew, timeout=1.0, wait_seconds=5.0).held_seconds < 4.0
        assert checkpointer.finish("restart").complete


def test_who_has_the_write_lock_is_named(database: Path, steps: tuple[Checkpointer, Pins]) -> None:
    """When the time is over, and nothing was begun."""
    checkpointer, pins = steps
    with holding(database) as other:
        other.do("lock")
        with pytest.raises(DatabaseBusy, match=str(other.pid)):
            checkpointer.settle(pins.renew, timeout=0.05)


def test_a_checkpoint_of_another_process_makes_it_busy(
    database: Path, steps: tuple[Checkpointer, Pins], writer: sqlite3.Connection
) -> None:
    """busy = 1 is no success, whatever was copied (H24)."""
    checkpointer, _ = steps
    commit(writer)
    with holding(database) as other:
        other.do("checkpointing")
        done = checkpointer.passive()
        assert (done.busy, done.complete) == (True, False)


def test_a_mode_that_changed_is_no_success(tmp_path: Path) -> None:
    """Without a log SQLite answers -1, which is no number of frames."""
    with (
        closing(Checkpointer(str(build(tmp_path / "old.db", rows=5)))) as checkpointer,
        pytest.raises(DatabaseUnsettled, match="not in WAL mode"),
    ):
        checkpointer.passive()


def test_what_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database, and one that the second connection does not get: nothing stays open."""
    (tmp_path / "text.db").write_text("a text, and a long one: " * 20)
    with pytest.raises(NotADatabase):
        Checkpointer(str(tmp_path / "text.db"))
    database = build(tmp_path / "a.db", mode="wal", rows=5)
    opened: list[sqlite3.Connection] = []

    def once(path: str, *, timeout: float) -> sqlite3.Connection:
        if opened:
            raise DatabaseUnreadable(f"{path} is gone", hint="look")
        opened.append(open_writable(path, timeout=timeout))
        return opened[0]

    monkeypatch.setattr(checkpoint, "open_writable", once)
    with pytest.raises(DatabaseUnreadable, match="is gone"):
        Checkpointer(str(database))
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_closed_before_the_pin_it_leaves_the_log(database: Path, writer: sqlite3.Connection) -> None:
    """The last connection that may write and closes would remove the -wal, with what no follower took (H33)."""
    commit(writer)
    with ExitStack() as stack:
        Pins(database, stack)
        checkpointer = Checkpointer(str(database))
        writer.close()
        checkpointer.close()
        assert wal_of(database).stat().st_size > 0


def test_a_schema_that_cannot_be_parsed_is_no_matter(tmp_path: Path) -> None:
    """A log is copied whatever the tables are: damaged statements, or functions that a schema may not use."""
    database = build(tmp_path / "odd.db", mode="wal", rows=5)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("CREATE TABLE j(a, b AS (json_extract(a, '$')))")
        writer.execute("CREATE INDEX j_b ON j(b)")
        writer.execute("PRAGMA writable_schema=1")
        writer.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE nonsense(' WHERE name = 'item'")
        with ExitStack() as stack:
            pins = Pins(database, stack)
            checkpointer = stack.enter_context(closing(Checkpointer(str(database))))
            assert checkpointer.passive().complete
            assert checkpointer.settle(pins.renew, timeout=1.0).complete
            assert checkpointer.finish("truncate").complete


@contextmanager
def no_larger(size: int) -> Iterator[None]:
    """Let this process make no file larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_is_named_and_loses_nothing(database: Path, writer: sqlite3.Connection) -> None:
    """What cannot be copied stays in the log; writers go on, and the next try brings it over."""
    writer.execute("INSERT INTO item(body) SELECT zeroblob(200000) FROM item LIMIT 30")
    rows = writer.execute("SELECT count(*), sum(length(body)) FROM item").fetchone()
    with ExitStack() as stack:
        pins = Pins(database, stack)
        checkpointer = stack.enter_context(closing(Checkpointer(str(database))))
        with no_larger(database.stat().st_size), pytest.raises(DatabaseUnreadable, match="cannot be read by SQLite"):
            checkpointer.settle(pins.renew, timeout=1.0)
        assert writer.execute("SELECT count(*), sum(length(body)) FROM item").fetchone() == rows
        assert checkpointer.settle(pins.renew, timeout=1.0).complete
    assert writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_lost_beside_writers_and_foreign_checkpoints(tmp_path: Path) -> None:
    """Two writers, a process that checkpoints at random, and ours all the time: every transaction is there (H24)."""
    database = tmp_path / "busy.db"
    load.make(database, mode="wal", rows=600)
    complete = finished = tries = 0
    held = []
    with load.running(database, ["writer", "writer", "checkpointer"], tmp_path / "reports"), ExitStack() as stack:
        until = time.monotonic() + SECONDS
        pins = Pins(database, stack)
        checkpointer = stack.enter_context(closing(Checkpointer(str(database))))
        while time.monotonic() < until:
            tries += 1
            checkpointer.passive()
            pins.renew()
            done = checkpointer.settle(pins.renew, timeout=5.0, wait_seconds=0.02)
            held.append(done.held_seconds)
            if done.complete:
                complete += 1
                finished += checkpointer.finish("truncate" if tries % 2 else "restart").complete
            pins.renew()
    assert complete > 0
    assert finished > 0
    assert load.number_of(database) > 0
    assert sorted(held)[len(held) // 2] < 1.0
