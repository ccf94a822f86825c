"""A load on one database: processes that commit, that checkpoint, and that open and close connections.

Every transaction writes the same number into three tables, far apart in the file, so that an image that mixes two
commits holds two numbers. `python -m tests.support.load ROLE DATABASE SEED REPORT` plays one role until its standard
input closes; a writer then writes the seconds that each of its transactions took to the file REPORT, as JSON.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.program import unmeasured

TABLES = ("first", "second", "third")
CHECKPOINTS = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")
PATIENCE = 60.0  # seconds that a writer waits for a lock before it gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Processes at work on one database."""

    database: Path
    processes: tuple[subprocess.Popen[bytes], ...]
    reports: tuple[Path, ...]  # of the writers, complete once the load has stopped

    def pids(self) -> tuple[int, ...]:
        """Return the process ids."""
        return tuple(process.pid for process in self.processes)

    def waits(self) -> list[float]:
        """Return the seconds of every transaction of every writer, sorted. Call it once the load has stopped."""
        return sorted(seconds for report in self.reports for seconds in json.loads(report.read_text()))


def make(database: Path, *, mode: str, rows: int = 20_000) -> None:
    """Make the database: three numbered tables with an index, and ballast between them."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("BEGIN")
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, number INTEGER, body TEXT)")
            connection.execute(f"CREATE INDEX {table}_number ON {table}(number)")
            connection.execute(f"CREATE TABLE {table}_ballast(id INTEGER PRIMARY KEY, body TEXT)")
            connection.executemany(
                f"INSERT INTO {table}_ballast(body) VALUES(?)", ((f"{i:08}" * 20,) for i in range(rows // 3))
            )
            connection.execute(f"INSERT INTO {table}(number, body) VALUES(0, '')")
        connection.execute("COMMIT")


def number_of(database: Path) -> int:
    """Return the number that a closed database holds in all its tables; fail if it mixes two or is not sound."""
    with closing(sqlite3.connect(database)) as connection:
        found = {table: connection.execute(f"SELECT max(number), count(*) FROM {table}").fetchone() for table in TABLES}
        assert len(set(found.values())) == 1, f"{database} mixes commits: {found}"
        number, count = found["first"]
        assert count == number + 1, f"{database} lacks transactions: {found}"
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return int(number)


@contextmanager
def running(database: Path, roles: Sequence[str], folder: Path) -> Iterator[Load]:
    """Run processes in `roles` ("writer", "checkpointer", "visitor") until the context is left; none may fail."""
    folder.mkdir(parents=True, exist_ok=True)
    reports = [folder / f"{seed}.json" for seed in range(len(roles))]
    processes = tuple(
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.load", role, database, str(seed), report],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=unmeasured(),
        )
        for seed, (role, report) in enumerate(zip(roles, reports, strict=True))
    )
    writers = tuple(report for role, report in zip(roles, reports, strict=True) if role == "writer")
    try:
        yield Load(database=database, processes=processes, reports=writers)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        codes = [process.wait(PATIENCE + 30) for process in processes]
    assert not any(codes), f"exit codes of {roles}: {codes}"


def _write(database: Path, chance: random.Random, stop: threading.Event, report: Path) -> None:
    """Commit transactions, each with the next number in all three tables, and some ballast."""
    seconds = []
    with closing(sqlite3.connect(database, isolation_level=None, timeout=PATIENCE)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        while not stop.is_set():
            began = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            (number,) = connection.execute("SELECT max(number) FROM first").fetchone()
            for table in TABLES:
                body = "x" * chance.randrange(20, 3000)
                connection.execute(f"INSERT INTO {table}(number, body) VALUES(?, ?)", (number + 1, body))
                for _ in range(chance.randrange(3)):
                    connection.execute(
                        f"UPDATE {table}_ballast SET body = ? WHERE id = ?",
                        (f"{number:08}" * chance.randrange(10, 30), chance.randrange(1, 6000)),
                    )
            connection.execute("COMMIT")
            seconds.append(time.perf_counter() - began)
            time.sleep(chance.random() * 0.008)
    report.write_text(json.dumps(seconds))


def _checkpoint(database: Path, chance: random.Random, stop: threading.Event) -> None:
    """Run all kinds of checkpoints."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0.05)) as connection:
        while not stop.is_set():
            connection.execute(f"PRAGMA wal_checkpoint({chance.choice(CHECKPOINTS)})").fetchall()
            time.sleep(chance.random() * 0.05)


def _visit(database: Path, chance: random.Random, stop: threading.Event) -> None:
    """Open a connection, read, close it, again and again."""
    while not stop.is_set():
        with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
            connection.execute("SELECT count(*) FROM first").fetchone()
        time.sleep(chance.random() * 0.02)


def main(role: str, database: Path, seed: int, report: Path) -> None:
    """Play `role` until standard input closes."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    chance = random.Random(seed)
    if role == "writer":
        _write(database, chance, stop, report)
    elif role == "checkpointer":
        _checkpoint(database, chance, stop)
    else:
        _visit(database, chance, stop)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
