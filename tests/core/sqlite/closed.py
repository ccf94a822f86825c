"""A closed database for tests of the walkers: its pages, its layout, its schema."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.sqlite.header import DatabaseHeader
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema

SCRIPT = """
CREATE TABLE item(id INTEGER PRIMARY KEY, label TEXT, body BLOB, [odd "name"] TEXT);
CREATE TABLE pair(a TEXT, b INTEGER, c TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID;
CREATE TABLE made(id INTEGER PRIMARY KEY, x INTEGER, y INTEGER AS (x * 2) VIRTUAL, z TEXT);
CREATE UNIQUE INDEX item_label ON item(label);
CREATE INDEX made_odd ON made(abs(x), z);
CREATE VIEW labels AS SELECT label FROM item;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A closed database in memory."""

    data: bytes
    layout: Layout
    schema: tuple[SchemaEntry, ...]

    def read(self, pgno: int) -> bytes:
        """Return a page."""
        size = self.layout.page_size
        assert 1 <= pgno <= self.layout.pages
        return self.data[(pgno - 1) * size : pgno * size]

    def find(self, text: bytes) -> list[tuple[int, int]]:
        """Return where bytes stand, as (pgno, offset)."""
        places, start = [], self.data.find(text)
        while start >= 0:
            places.append((start // self.layout.page_size + 1, start % self.layout.page_size))
            start = self.data.find(text, start + 1)
        return places


def load(data: bytes) -> Closed:
    """Take a database's bytes apart."""
    header = DatabaseHeader.parse(data[:100])
    size = header.page_size
    layout = Layout.of(data[:size], page_size=size, pages=len(data) // size)

    def read(pgno: int) -> bytes:
        return data[(pgno - 1) * size : pgno * size]

    return Closed(data=data, layout=layout, schema=read_schema(read, layout))


def marker(kind: str, number: int) -> str:
    """Return a text that stands nowhere else in the database."""
    return f"<{kind}-{number:05d}>"


def make(
    path: Path,
    *,
    page_size: int = 1024,
    rows: int = 200,
    auto_vacuum: bool = False,
    encoding: str = "UTF-8",
    body: int = 3000,
) -> Closed:
    """Make a database with a marker in every text, overflow chains up to `body` bytes and a freelist."""
    chance = random.Random(rows)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute(f"PRAGMA auto_vacuum={int(auto_vacuum)}")
        connection.executescript(SCRIPT)
        connection.execute("BEGIN")
        for number in range(1, rows + 1):
            blob = chance.randbytes(chance.randrange(0, body)) + marker("body", number).encode()
            connection.execute(
                "INSERT INTO item VALUES(?, ?, ?, ?)",
                (number * 3 - 1000, marker("label", number), blob, marker("odd", number)),
            )
            connection.execute(
                "INSERT INTO pair VALUES(?, ?, ?)", (marker("a", number), number % 7, marker("c", number))
            )
            connection.execute("INSERT INTO made(x, z) VALUES(?, ?)", (number - 50, marker("z", number)))
        connection.execute("COMMIT")
        if not auto_vacuum:
            connection.execute("DELETE FROM item WHERE id % 5 = 0")
    return load(path.read_bytes())
