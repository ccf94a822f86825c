"""`wal checkpoint` does what its mode is for, or says who is in the way; it copies no damage and races no guard."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.config import WalSettings
from pagewarden.errors import ConfigurationInvalid, DatabaseBusy, NotInWalMode, WalRefused
from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.runtime import Runtime
from pagewarden.wal.checkpoint import Mode
from pagewarden.wal.enable import WalEnableRequest, run_wal_enable
from pagewarden.wal.reports import WalCheckpointReport
from pagewarden.wal.run import WalCheckpointRequest, run_wal_checkpoint
from tests.core.wal.conftest import commit, wal_of
from tests.support.databases import build
from tests.support.holding import holding

MODES: tuple[Mode, ...] = ("passive", "full", "restart", "truncate")


def checkpoint(database: Path, runtime: Runtime, mode: Mode, max_time: float = 5.0) -> WalCheckpointReport:
    """Run it."""
    settings = WalSettings(wait_seconds=0.05)
    request = WalCheckpointRequest(database=str(database), mode=mode, max_time=max_time, settings=settings)
    return run_wal_checkpoint(request, runtime)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_does_what_it_is_for(
    mode: Mode, database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """With nobody in the way all of the log is copied, and the next commit finds what was promised."""
    commit(writer, 3)
    before = wal_of(database).read_bytes()
    report = checkpoint(database, runtime, mode)
    assert (report.done, report.exit_code, report.busy, report.why, report.attempts) == (True, 0, False, "", 1)
    assert report.log == report.checkpointed
    assert report.wal_bytes_before == len(before)
    assert report.wal_bytes == (0 if mode == "truncate" else len(before))
    commit(writer)
    restarted = wal_of(database).read_bytes()[16:24] != before[16:24]
    assert restarted or mode == "passive"
    assert writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("mode", ["full", "restart", "truncate"])
def test_a_reader_in_the_way_is_named_and_nothing_is_lost(
    mode: Mode, database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """busy, or not all of it, is no success: exit code 3, within the time, with the process (H24)."""
    with holding(database) as other:
        other.do("pin")
        commit(writer, 3)
        began = time.monotonic()
        report = checkpoint(database, runtime, mode, max_time=1.0)
        assert time.monotonic() - began < 5.0
        assert (report.done, report.exit_code) == (False, 3)
        assert report.why
        assert report.attempts > 1
        assert report.checkpointed < report.log
        assert other.pid in {reader.pid for reader in report.held_back_by}
        passive = checkpoint(database, runtime, "passive")
        assert (passive.done, passive.checkpointed < passive.log) == (True, True)


def test_a_reader_that_ends_is_outwaited(database: Path, writer: sqlite3.Connection, runtime: Runtime) -> None:
    """While it is there writers go on; once it is gone, the checkpoint is done."""
    with holding(database) as other:
        other.do("pin")
        commit(writer, 2)
        timer = threading.Timer(0.4, other.do, ["end"])
        timer.start()
        report = checkpoint(database, runtime, "truncate", max_time=20.0)
        timer.join()
    assert (report.done, report.wal_bytes) == (True, 0)
    assert report.attempts > 1


def test_another_checkpoint_and_a_writer_are_in_the_way(
    database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """Both are said, with what the log is like; a writer that stays keeps `full` from its moment, not `passive`."""
    commit(writer, 2)
    with holding(database) as other:
        other.do("lock")
        assert checkpoint(database, runtime, "passive").done
        locked = checkpoint(database, runtime, "full", max_time=0.1)
        assert (locked.done, str(other.pid) in locked.why) == (False, True)
        other.do("end")
        commit(writer, 2)
        other.do("checkpointing")
        report = checkpoint(database, runtime, "passive", max_time=0.1)
    assert (report.done, report.busy, report.exit_code) == (False, True, 3)
    assert "another process checkpoints" in report.why
    assert report.checkpointed < report.log


def test_a_database_that_nobody_has_open_is_left_as_one_file(
    database: Path, writer: sqlite3.Connection, runtime: Runtime, tmp_path: Path
) -> None:
    """What a crash left in the log is in the file then, and SQLite's removal of the log is told."""
    commit(writer, 2)
    left = tmp_path / "left.db"
    left.write_bytes(database.read_bytes())
    wal_of(left).write_bytes(wal_of(database).read_bytes())
    report = checkpoint(left, runtime, "passive")
    assert report.done
    assert any("removed the -wal" in warning for warning in report.warnings)
    assert sorted(path.name for path in tmp_path.glob("left.db*")) == ["left.db"]
    rows = "SELECT id, name FROM item ORDER BY id"
    with closing(sqlite3.connect(left)) as connection:
        assert connection.execute(rows).fetchall() == writer.execute(rows).fetchall()
    again = checkpoint(left, runtime, "truncate")
    assert (again.done, again.warnings) == (True, ())
    assert sorted(path.name for path in tmp_path.glob("left.db*")) == ["left.db"]


def test_damage_is_not_copied_into_the_database(database: Path, writer: sqlite3.Connection, runtime: Runtime) -> None:
    """SQLite verifies no frame when it checkpoints (H14): the log is proved first, and refused."""
    commit(writer, 3)
    before = database.read_bytes()
    with wal_of(database).open("r+b") as log:
        log.seek(32 + 24 + 2000)
        log.write(b"\xff")
    with pytest.raises(WalRefused, match="damaged"):
        checkpoint(database, runtime, "passive")
    assert database.read_bytes() == before


@pytest.mark.parametrize("max_time", [-1.0, float("nan"), float("inf")])
def test_no_time_is_endless(max_time: float, database: Path, runtime: Runtime) -> None:
    """Whoever asks for it is told, before anything is opened."""
    with pytest.raises(ConfigurationInvalid, match="max_time"):
        checkpoint(database, runtime, "full", max_time=max_time)
    with pytest.raises(ConfigurationInvalid, match="max_time"):
        run_wal_enable(WalEnableRequest(database=str(database), max_time=max_time), runtime)


def test_there_is_nothing_to_checkpoint_without_a_log(tmp_path: Path, runtime: Runtime) -> None:
    """A database in rollback-journal mode is told apart from a checkpoint that failed."""
    with pytest.raises(NotInWalMode):
        checkpoint(build(tmp_path / "old.db", rows=5), runtime, "full")


@pytest.mark.parametrize("pid", [77, 0])
def test_what_the_guard_does_is_left_to_it(
    pid: int, database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """Its pin holds the log; PASSIVE is no matter to it (H20)."""
    commit(writer)
    status = {"pid": pid} if pid else {}
    path = guard_places(runtime.state, str(database), "").socket
    with closing(Control(path, lambda _request, _gone: {"status": status})):
        for mode in ("full", "restart", "truncate"):
            with pytest.raises(DatabaseBusy, match=str(pid or "its guard")):
                checkpoint(database, runtime, mode)
        assert checkpoint(database, runtime, "passive").done
