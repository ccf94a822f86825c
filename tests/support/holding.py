"""A process that holds a database as a test tells it to, and may get into trouble with it.

`python -m tests.support.holding DATABASE` opens the database through SQLite, reads, and answers lines: each is the name
of a function below, and is done in the process.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEPT: list[sqlite3.Connection] = []  # connections that stay open as long as the process


class Holding:
    """A process with a connection."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """`process` has said that it is ready."""
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def do(self, deed: str) -> str:
        """Let the process do something; return what it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{deed}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def holding(database: Path) -> Iterator[Holding]:
    """Run a process that has read from `database` and keeps its connection, until the context is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.holding", str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Holding(process)
        process.kill()


def write(connection: sqlite3.Connection, _path: str) -> str:
    """Commit a transaction."""
    connection.execute("UPDATE item SET name = name || '!' WHERE id = 1")
    return "written"


def pin(connection: sqlite3.Connection, _path: str) -> str:
    """Begin a read transaction, and keep it."""
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM item").fetchall()
    return "pinned"


def lock(connection: sqlite3.Connection, _path: str) -> str:
    """Take the write lock, and keep it."""
    connection.execute("BEGIN IMMEDIATE")
    return "locked"


def exclusive(connection: sqlite3.Connection, path: str) -> str:
    """Open the database anew with locking_mode=EXCLUSIVE, without a -shm (H35)."""
    connection.close()
    alone = sqlite3.connect(path, isolation_level=None)
    alone.execute("PRAGMA locking_mode=EXCLUSIVE")
    write(alone, path)
    _KEPT.append(alone)
    return "alone"


def checkpointing(_connection: sqlite3.Connection, path: str) -> str:
    """Hold the lock of a checkpoint, byte 121 of the -shm, through a descriptor of its own."""
    descriptor = os.open(f"{path}-shm", os.O_RDWR)  # and never closed, because that would drop all locks (H1)
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 121)
    return "checkpointing"


def end(connection: sqlite3.Connection, _path: str) -> str:
    """End the transaction."""
    connection.execute("ROLLBACK")
    return "ended"


def sniff(_connection: sqlite3.Connection, path: str) -> str:
    """Open and close the database beside SQLite (H1)."""
    Path(path).open("rb").close()
    return "sniffed"


def sniff_index(_connection: sqlite3.Connection, path: str) -> str:
    """Open and close the -shm beside SQLite (H1)."""
    Path(f"{path}-shm").open("rb").close()
    return "sniffed"


def fork(_connection: sqlite3.Connection, _path: str) -> str:
    """Fork a child that does nothing, and answer its process id."""
    child = os.fork()
    if child == 0:
        sys.stdin.read()  # until the parent ends
        os._exit(0)
    return str(child)


def main(path: str) -> None:
    """Hold the database until standard input ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("SELECT count(*) FROM item").fetchall()
    print("ready", flush=True)
    for line in sys.stdin:
        print(globals()[line.strip()](connection, path), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
