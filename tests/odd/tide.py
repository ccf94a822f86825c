"""A process whose database grows and shrinks all the time: `python -m tests.odd.tide DATABASE` until its input ends.

Every transaction leaves as many rows in `item` as `mark` says, so that an image that mixes two of them shows it. Sizes
come and go by auto_vacuum with each commit, and by VACUUM now and then.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.program import unmeasured

PATIENCE = 60.0  # seconds that it waits for a lock before it gives up
_ROWS = 600  # at high tide


def make(database: Path, *, mode: str) -> None:
    """Make the database, with auto_vacuum."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=1")
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.executescript(
            "CREATE TABLE mark(rows INTEGER); INSERT INTO mark VALUES(0);"
            "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB); CREATE INDEX item_name ON item(name);"
        )


def rows_of(database: Path) -> int:
    """Return how many rows a closed database has; fail where it mixes two commits or is not sound."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (counted,) = connection.execute("SELECT count(*) FROM item").fetchone()
        assert connection.execute("SELECT rows FROM mark").fetchall() == [(counted,)]
    return int(counted)


@contextmanager
def running(database: Path) -> Iterator[None]:
    """Let the tide come and go until the context is left; it may not fail."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.odd.tide", database],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=unmeasured(),
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        code = process.wait(PATIENCE + 30)
    assert code == 0, f"exit code {code}"


def _flow(database: Path, stop: threading.Event) -> None:
    chance = random.Random(1)
    rows, number = 0, 0
    with closing(sqlite3.connect(database, isolation_level=None, timeout=PATIENCE)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        while not stop.is_set():
            aim = chance.choice([1, _ROWS // 8, _ROWS // 2, _ROWS])
            connection.execute("BEGIN IMMEDIATE")
            while rows < aim:
                number += 1
                connection.execute(
                    "INSERT INTO item VALUES(?, ?, ?)",
                    (number, f"{number:09}", chance.randbytes(chance.randrange(9000))),
                )
                rows += 1
            if rows > aim:
                connection.execute(
                    "DELETE FROM item WHERE id IN (SELECT id FROM item ORDER BY random() LIMIT ?)", (rows - aim,)
                )
                rows = aim
            connection.execute("UPDATE mark SET rows = ?", (rows,))
            connection.execute("COMMIT")
            if chance.random() < 0.1:
                connection.execute("VACUUM")
            time.sleep(chance.random() * 0.05)


def main(database: Path) -> None:
    """Play until standard input closes."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    _flow(database, stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
