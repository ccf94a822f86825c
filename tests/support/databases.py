"""Databases made to order, and SQLite's own copies of them as the oracle."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.pages import backend


def build(path: Path, *, mode: str = "delete", page_size: int = 4096, rows: int = 200, seed: int = 1) -> Path:
    """Make a database with a table, an index, overflow pages and a freelist; all connections are closed afterwards."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
        connection.execute("CREATE INDEX item_name ON item(name)")
        with_body = ((f"name {i * 7919 % 1000}", chance.randbytes(chance.randrange(10, 3 * 4096))) for i in range(rows))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO item(name, body) VALUES(?, ?)", with_body)
        connection.execute("COMMIT")
        connection.execute("DELETE FROM item WHERE id % 10 = 3")
    return path


def backup(connection: sqlite3.Connection, to: Path) -> bytes:
    """Return what SQLite's backup API copies of the commit that `connection` sees."""
    to.unlink(missing_ok=True)
    with closing(sqlite3.connect(to)) as target:
        connection.backup(target)
    return to.read_bytes()


def masked(image: bytes) -> bytes:
    """Return an image of a database without what the backup API may change.

    docs/live-read.md, "What a snapshot equals": change counter, schema cookie, version-valid-for and SQLite version,
    and the size in pages, which may not be valid in the source.
    """
    data = bytearray(image)
    for begin, end in ((24, 28), (28, 32), (40, 44), (92, 100)):
        data[begin:end] = bytes(end - begin)
    return bytes(data)


def file_sums(path: Path, page_size: int) -> bytes:
    """Return the page sums of a closed file."""
    data = path.read_bytes()
    return backend().buffer_sums(data, page_size, 1, len(data) // page_size)
