"""A writer of one-row commits for measurements, in a process of its own.

`python -m tests.benchmarks.writer DATABASE REPORT --seconds 10 [--rate 500] [--kind change]` commits at a steady rate,
or as fast as it can, and leaves in the file REPORT when each commit began and when it had returned: pairs of 64-bit
numbers, nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.support.program import ROOT, unmeasured

BODY = "0123456789" * 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer did."""

    begins: array[int]  # monotonic nanoseconds, one for each commit
    ends: array[int]

    @property
    def commits(self) -> int:
        """How many there were."""
        return len(self.ends)

    @property
    def per_second(self) -> float:
        """Commits a second, from the first one's beginning to the last one's end."""
        return self.commits / ((self.ends[-1] - self.begins[0]) / 1e9)

    def latency(self, share: float) -> float:
        """Return how long a commit took, in seconds, that `share` of all were not slower than."""
        took = sorted(end - begin for begin, end in zip(self.begins, self.ends, strict=True))
        return took[min(len(took) - 1, int(len(took) * share))] / 1e9


def make(database: Path) -> None:
    """Make a small database in WAL mode for the writer of rows."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS written(id INTEGER PRIMARY KEY, body TEXT)")


def write(
    database: Path,
    report: Path,
    *,
    seconds: float = 3600.0,
    rate: float = 0.0,
    commits: int = 0,
    kind: str = "row",
    seed: int = 1,
) -> Written:
    """Run a writer to its end; `commits` ends it after so many."""
    words = [str(database), str(report), "--seconds", str(seconds), "--rate", str(rate)]
    words += ["--commits", str(commits), "--kind", kind, "--seed", str(seed)]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.writer", *words], check=True, cwd=ROOT, env=unmeasured())
    both = array("q", report.read_bytes())
    report.unlink()
    return Written(begins=both[::2], ends=both[1::2])


def row(connection: sqlite3.Connection) -> Callable[[], object]:
    """Return what commits one row: the statement is prepared once, and is a transaction of its own."""
    execute = connection.execute
    return lambda: execute("INSERT INTO written(body) VALUES(?)", (BODY,))


def change(connection: sqlite3.Connection, chance: random.Random) -> Callable[[], object]:
    """Return what commits a little of an application's work on a database of make_db.py: rows all over it."""
    (last,) = connection.execute("SELECT max(id) FROM events").fetchone()
    (orders,) = connection.execute("SELECT max(id) FROM orders").fetchone()
    execute, anywhere = connection.execute, chance.randrange

    def commit() -> None:
        execute("BEGIN IMMEDIATE")
        execute("UPDATE orders SET total = -total - 1 WHERE id = ?", (anywhere(1, orders + 1),))
        execute("UPDATE events SET payload = ? WHERE id = ?", (BODY, anywhere(1, last + 1)))
        execute("INSERT INTO events(ts, kind, payload) VALUES(?, 'click', ?)", (anywhere(1 << 31), BODY))
        execute("COMMIT")

    return commit


def main() -> None:
    """Write until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=0.0, help="commits a second; 0: as many as there can be")
    parser.add_argument("--commits", type=int, default=0, help="0: as many as there is time for")
    parser.add_argument("--kind", choices=["row", "change"], default="row")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    times = array("q")
    with closing(sqlite3.connect(chosen.database, isolation_level=None, timeout=60.0)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        commit = row(connection) if chosen.kind == "row" else change(connection, random.Random(chosen.seed))
        now, take = time.monotonic_ns, times.append
        first = now()
        end, step = first + int(chosen.seconds * 1e9), int(1e9 / chosen.rate) if chosen.rate else 0
        last = chosen.commits or sys.maxsize
        while len(times) < 2 * last:
            began = now()
            if step:
                due = first + len(times) // 2 * step
                if began < due:
                    time.sleep((due - began) / 1e9)
                    began = now()
            if began >= end:
                break
            commit()
            take(began)
            take(now())
    chosen.report.write_bytes(times.tobytes())


if __name__ == "__main__":
    main()
