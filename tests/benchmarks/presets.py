"""What the presets of `wal tune` cost and risk: commits a second of one writer, and what a power loss can take.

`python -m tests.benchmarks.run --part presets`; the databases are made in the folder for temporary files (TMPDIR), and
its disk decides what a sync costs. Presets take turns, because the absolute speed of a shared machine drifts; the
ratios are those of a round. Two more settings stand beside them for comparison: SQLite's own defaults, and
`synchronous=OFF`.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.wal.presets import PRESETS

PAGE_SIZE = 4096
BODY = "x" * 100
FRAME = PAGE_SIZE + 24

SETTINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    **{preset.name: preset.pragmas() for preset in PRESETS.values()},
    "rollback journal, synchronous=FULL": (("journal_mode", "delete"), ("synchronous", "full")),
    "WAL, synchronous=OFF": (("journal_mode", "wal"), ("synchronous", "off")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one writer came to with one choice."""

    commits: int
    seconds: float
    slow: float  # 99th percentile of a commit, in seconds
    wal_bytes: int  # size of the -wal at the end

    @property
    def rate(self) -> float:
        """Commits a second."""
        return self.commits / self.seconds


def turn(folder: Path, settings: tuple[tuple[str, str], ...], seconds: float) -> Turn:
    """Commit single rows with an index, one after the other, for `seconds`."""
    database = folder / "preset.db"
    with closing(_open(database, settings)) as connection:
        waits: list[float] = []
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            connection.execute("INSERT INTO t(name, body) VALUES(?, ?)", (f"{len(waits) * 7919 % 100_003}", BODY))
            waits.append(time.perf_counter() - now)
        elapsed = time.perf_counter() - began
        log = database.with_name("preset.db-wal")
        size = log.stat().st_size if log.exists() else 0
    for path in folder.glob("preset.db*"):
        path.unlink()
    waits.sort()
    return Turn(commits=len(waits), seconds=elapsed, slow=waits[int(len(waits) * 0.99)], wal_bytes=size)


def frames_per_commit(folder: Path, commits: int = 500) -> float:
    """Return how many frames such a commit writes."""
    database = folder / "frames.db"
    with closing(_open(database, (("journal_mode", "wal"), ("wal_autocheckpoint", "0")))) as connection:
        log = database.with_name("frames.db-wal")
        before = log.stat().st_size
        for number in range(commits):
            connection.execute("INSERT INTO t(name, body) VALUES(?, ?)", (f"{number * 7919 % 100_003}", BODY))
        frames = (log.stat().st_size - before) / FRAME
    for path in folder.glob("frames.db*"):
        path.unlink()
    return frames / commits


def rows(folder: Path, *, seconds: float, rounds: int) -> list[tuple[str, str]]:
    """Measure all of them in turns; return a line for each."""
    turns: dict[str, list[Turn]] = {name: [] for name in SETTINGS}
    for number in range(rounds + 1):
        for name, settings in SETTINGS.items():
            found = turn(folder, settings, seconds if number else seconds / 4)
            if number:
                turns[name].append(found)
    each = frames_per_commit(folder)
    lines = []
    for name, settings in SETTINGS.items():
        rates = [found.rate for found in turns[name]]
        ratio = statistics.median(a.rate / b.rate for a, b in zip(turns[name], turns["safe"], strict=True))
        slow = statistics.median(found.slow for found in turns[name]) * 1000
        size = max(found.wal_bytes for found in turns[name]) / (1 << 20)
        lines.append(
            (
                f"preset {name}",
                f"{statistics.median(rates):,.0f} commits/s [{min(rates):,.0f} {max(rates):,.0f}], {ratio:.2f} of safe,"
                f" p99 {slow:.2f} ms, -wal {size:.1f} MiB; a power loss takes {_at_risk(dict(settings), each)}",
            )
        )
    return lines


def _at_risk(settings: Mapping[str, str], frames: float) -> str:
    """Say how many commits a power loss can take: with NORMAL the log is synced when a checkpoint begins."""
    if settings["journal_mode"] == "delete":
        return "at most the last commit"
    match settings["synchronous"]:
        case "normal":
            return f"at most {int(settings['wal_autocheckpoint']) / frames:,.0f} commits"
        case "off":
            return "any of them, and can damage the database"
    return "none"


def _open(database: Path, settings: tuple[tuple[str, str], ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
    for name, value in settings:
        connection.execute(f"PRAGMA {name}={value}")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
    connection.execute("CREATE INDEX t_name ON t(name)")
    return connection
