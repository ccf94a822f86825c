"""The log under a guard stays small, and the file is scrubbed; what cannot be helped is told and survived."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pagewarden.errors import GuardFailed
from pagewarden.ledger.report import LedgerRequest, run_ledger
from pagewarden.runtime import Runtime
from pagewarden.wal.policy import CheckpointPolicy
from tests.support.guarding import PATIENCE, Guarded
from tests.support.session import Session

SMALL = CheckpointPolicy(passive_frames=40, idle_seconds=0.3, bound_bytes=400 << 10)
"""Checkpoints after a few commits; the bound is a hundred frames."""


def test_the_log_of_a_busy_writer_stays_within_its_bound(guarded: Guarded) -> None:
    """Under writers that never pause the log is restarted, and not one commit is missed (H20, H24)."""
    guard = guarded.start(policy=SMALL)
    guarded.application.run("PRAGMA wal_autocheckpoint=0")
    largest = 0
    for _ in range(30):
        guarded.commit(30, "x" * 300)
        largest = max(largest, guard.status().wal_bytes)
    assert guarded.flush().txid == 901
    assert largest < 12 * SMALL.bound_bytes  # about half of what was written: on a busy machine the guard comes late
    done = guarded.told.named("wal.checkpointed")
    assert any(each["mode"] == "passive" for each in done)
    assert any(each["mode"] == "restart" and each["complete"] for each in done)
    assert not guarded.told.named("guard.gap")
    assert [len(guarded.restored(txid)) for txid in (451, 833)] == [450, 832]


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
