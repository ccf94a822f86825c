"""The log under a guard stays small, and the file is scrubbed; what cannot be helped is told and survived."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import GuardFailed
from pagewarden.ledger.report import LedgerRequest, run_ledger
from pagewarden.runtime import Runtime
from pagewarden.wal.policy import CheckpointPolicy
from tests.support.guarding import PATIENCE, Guarded
from tests.support.session import Session

SMALL = CheckpointPolicy(passive_frames=40, idle_seconds=0.3, bound_bytes=400 << 10)
"""Checkpoints after a few commits; the bound is a hundred frames."""

FRAME = 4096 + 24
"""Bytes of a frame in the log."""


def test_the_log_of_a_busy_writer_is_restarted(guarded: Guarded) -> None:
    """Under a writer that never pauses the log begins anew again and again, and not one commit is missed (H20, H24).

    However late the guard comes: the file has no room for more than the largest of the log's generations.
    """
    guarded.start(policy=SMALL)
    guarded.application.run("PRAGMA wal_autocheckpoint=0")
    commits, until = 0, time.monotonic() + PATIENCE
    while not _restarts(guarded) or len(_ended(guarded)) < 3:
        assert time.monotonic() < until, guarded.told.named("wal.checkpointed")
        guarded.commit(30, "x" * 300)
        commits += 30
    assert guarded.flush().txid == commits + 1
    assert _log_size(guarded.database) <= _never_restarted(guarded, commits) - sum(_ended(guarded)[:-1]) * FRAME
    assert any(each["mode"] == "passive" for each in guarded.told.named("wal.checkpointed"))
    assert not guarded.told.named("guard.gap")
    assert [len(guarded.restored(txid)) for txid in (commits // 2, commits)] == [commits // 2 - 1, commits - 1]


def _restarts(guarded: Guarded) -> list[dict[str, Any]]:
    """Return the checkpoints beyond the bound after which the next commit could begin the log anew."""
    return [each for each in guarded.told.named("wal.checkpointed") if each["mode"] == "restart" and each["complete"]]


def _ended(guarded: Guarded) -> list[int]:
    """Return how many frames were seen at the last in each generation of the log that is over; the largest last."""
    seen = [each["frames"] for each in guarded.told.named("wal.checkpointed")]
    return sorted(frames for frames, later in pairwise(seen) if later < frames)


def _log_size(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


def _never_restarted(guarded: Guarded, commits: int) -> int:
    """Return the bytes of the log of another database with the same commits, which is never checkpointed."""
    database = guarded.folder / "alone.db"
    with Session(database) as alone:
        for sql in ("journal_mode=WAL", "wal_autocheckpoint=0"):
            alone.run(f"PRAGMA {sql}")
        alone.run("CREATE TABLE item(id INTEGER PRIMARY KEY, body TEXT)")
        for number in range(commits):
            alone.run("INSERT INTO item(body) VALUES(?)", f"{'x' * 300} {number % 30}")
        return _log_size(database)


def test_a_truncated_log_loses_nothing(guarded: Guarded) -> None:
    """With TRUNCATE beyond the bound the -wal becomes empty, and following goes on."""
    guard = guarded.start(policy=CheckpointPolicy(bound_bytes=100 << 10, mode="truncate", idle_seconds=0.2))
    guarded.commit(60, "x" * 300)
    guarded.told.wait("wal.checkpointed", mode="truncate", complete=True)
    guarded.commit(3)
    assert guarded.flush().txid == 64
    until = time.monotonic() + PATIENCE
    while guard.status().wal_bytes >= 100 << 10:  # a commit may have come between, and the next one is tried later
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not guarded.told.named("guard.gap")
    assert [len(guarded.restored(txid)) for txid in (30, 62, 64)] == [29, 61, 63]


def test_who_holds_the_log_back_is_named(guarded: Guarded) -> None:
    """A log beyond its bound that a reader keeps from being restarted is reported with that process."""
    guard = guarded.start(policy=SMALL)
    guarded.commit()
    reader = Session(guarded.database)
    reader.run("BEGIN")
    reader.run("SELECT count(*) FROM item")
    guarded.commit(150, "x" * 300)
    assert f"pid {reader.pid}" in guarded.told.wait("wal.over-bound")["by"]
    assert f"pid {reader.pid}" in guard.status().held_back
    reader.close()
    guarded.told.wait("wal.checkpointed", mode="restart", complete=True)
    guarded.commit(5)
    guarded.told.wait("wal.within-bound")
    assert guard.status().held_back == ""
    assert guarded.flush().txid == 157
    assert not guarded.told.named("guard.gap")


def test_a_flipped_bit_is_rot_and_no_write(guarded: Guarded) -> None:
    """Scrubbing finds a bit that changes under the guard, names its page, and writes it into the ledger."""
    guard = guarded.start(policy=CheckpointPolicy(idle_seconds=0.3), scrub=64.0)
    guarded.commit(100, "x" * 300)
    guarded.flush()
    guarded.told.wait("wal.checkpointed", complete=True)
    flip = f"import os; f = os.open({str(guarded.database)!r}, os.O_RDWR); at = 3 * 4096 + 2000;"
    flip += "os.pwrite(f, bytes([os.pread(f, 1, at)[0] ^ 4]), at)"
    subprocess.run([sys.executable, "-c", flip], check=True)
    assert guarded.told.wait("rot.found")["pages"] == [4]
    assert guard.rot == guard.status().rot == (4,)
    with Runtime(state=guarded.folder / "state") as runtime:
        (suspect,) = run_ledger(LedgerRequest(database=str(guarded.database)), runtime).suspects
    assert (suspect.pgno, suspect.checker, suspect.state) == (4, "scrub", "seen")
    guarded.commit(3)
    assert len(guarded.restored(guarded.flush().txid)) == 103, "what was followed is whole"
    assert len(guarded.told.named("rot.found")) == 1, "it is told once"


def test_a_full_spool_lets_go_and_is_healed(guarded: Guarded) -> None:
    """Where nothing more may wait the log is kept up to a bound, then let go; the repository's return heals it."""
    guard = guarded.start(policy=SMALL, spool=1)
    away = guarded.repository.rename(guarded.folder / "away")
    guarded.commit(20)
    guarded.told.wait("spool.full")
    guarded.commit(600, "x" * 300)
    guarded.told.wait("guard.let-go")
    assert "-wal" not in guard.status().why
    guarded.application.run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert Path(f"{guarded.database}-wal").stat().st_size == 0, "nothing keeps the log any more"
    guarded.commit(2)
    away.rename(guarded.repository)
    assert guarded.told.wait("guard.healed")["cause"] == "spool-full"
    position = guarded.flush()
    assert len(guarded.restored(position.txid)) == 622
    guarded.commit()
    assert len(guarded.restored(guarded.flush().txid)) == 623


def test_a_spool_that_cannot_be_written_to_is_survived(guarded: Guarded) -> None:
    """What cannot be kept stays in the log, under the pin, until it can."""
    guard = guarded.start()
    (spool,) = (guarded.folder / "state" / "spool").iterdir()
    spool.rename(spool.with_name("away"))
    guarded.commit(4)
    guarded.told.wait("spool.failed")
    with pytest.raises(GuardFailed):
        guard.flush(0.2)
    spool.with_name("away").rename(spool)
    assert guarded.flush().txid == 5
    assert len(guarded.restored(3)) == 2
    assert not guarded.told.named("guard.gap")


def test_a_clock_that_steps_is_told(tmp_path: Path) -> None:
    """Times step with the clock, the order of commits does not (H23)."""
    step = timedelta(0)

    def clock() -> datetime:
        return datetime.now(UTC) + step

    with Guarded(tmp_path, runtime_options={"clock": clock}) as guarded:
        guarded.start()
        guarded.commit()
        guarded.flush()
        step = timedelta(hours=-3)
        assert guarded.told.wait("clock.stepped")["by"] == pytest.approx(-10_800, abs=1)
        guarded.commit()
        assert guarded.flush().txid == 3


def test_status_tells_how_it_stands(guarded: Guarded) -> None:
    """Positions, counts, lag: what `pagewarden run` shows."""
    guard = guarded.start(scrub=64.0)
    guarded.commit(7)
    position = guarded.flush()
    until = time.monotonic() + PATIENCE
    while (status := guard.status()).scrubbed < 1.0 and time.monotonic() < until:
        time.sleep(0.05)
    assert status.stored == status.taken == position
    assert (status.commits, status.merged, status.gaps, status.spooled, status.lag) == (7, 0, 0, 0, 0.0)
    assert status.scrubbed >= 1.0
    assert (status.state, status.why, status.rot, status.pid) == ("following", "", (), os.getpid())
