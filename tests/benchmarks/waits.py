"""How long writers wait while backups are taken all the time, beside the same load without backups."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.runtime import Runtime
from tests.support import load

ROLES = {"wal": ["writer"] * 4 + ["checkpointer"], "delete": ["writer"] * 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What the writers of one run waited for their transactions, in seconds."""

    transactions: int
    median: float
    high: float  # the 99.9th percentile
    highest: float
    backups: int


def run(mode: str, seconds: float, *, backups: bool) -> Waits:
    """Load a fresh database for `seconds`, with or without backups one after the other."""
    with tempfile.TemporaryDirectory(prefix="pagewarden-waits-") as scratch:
        folder = Path(scratch).resolve()
        database, taken = folder / "busy.db", 0
        load.make(database, mode=mode)
        with (
            Runtime(state=folder / "state") if backups else nullcontext() as runtime,
            load.running(database, ROLES[mode], folder / "reports") as busy,
        ):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if runtime is None:
                    time.sleep(0.1)
                    continue
                request = BackupRequest(database=str(database), repository=str(folder / "repository"))
                run_backup(request, runtime)
                taken += 1
        waits = busy.waits()
        return Waits(
            transactions=len(waits),
            median=statistics.median(waits),
            high=waits[int(len(waits) * 0.999)],
            highest=waits[-1],
            backups=taken,
        )


def rows(seconds: float, rounds: int) -> list[tuple[str, str]]:
    """Measure both journal modes, with and without backups in turns; return a line for each."""
    lines = []
    for mode in ROLES:
        extra, texts = [], []
        for _ in range(rounds):
            without, beside = run(mode, seconds, backups=False), run(mode, seconds, backups=True)
            extra.append(beside.high - without.high)
            texts.append(f"{beside.high * 1000:.0f} beside {beside.backups} backups, {without.high * 1000:.0f} without")
        added = statistics.median(extra) * 1000
        lines.append((f"p99.9 wait of four writers, {mode} mode", f"{added:+.0f} ms (ms: {'; '.join(texts)})"))
    return lines
