"""What a database of the soak holds, as one number that every transaction can carry on.

The digest of the content is the XOR of a hash of every row of every table, the schema's rows included. So a transaction
that knows which rows it removed and which it added knows the digest after it, without reading the rest.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

CLOCK = "clock"
"""The table with one row: how many transactions there were, the token of the last one, and the digest after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Which commit a database stands at, by what it holds itself."""

    number: int  # transactions of the application so far
    token: str  # of the last one: the application made it up for this transaction alone
    cookie: int  # the schema cookie: VACUUM counts it up, too


def row_digest(table: str, row: tuple[object, ...]) -> int:
    """Return the hash of one row of a table."""
    return int.from_bytes(hashlib.blake2b(repr((table, row)).encode(), digest_size=8).digest(), "little")


def table_digest(connection: sqlite3.Connection, table: str) -> int:
    """Return the XOR of the hashes of all rows of a table."""
    total = 0
    for row in connection.execute(f'SELECT * FROM "{table}"'):
        total ^= row_digest(table, row)
    return total


def schema_digest(connection: sqlite3.Connection) -> int:
    """Return the digest of the schema: of its rows but SQLite's own, without root pages, which VACUUM moves."""
    total = 0
    ours = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    for row in connection.execute(ours):
        total ^= row_digest("sqlite_master", row)
    return total


def tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that the digest is of."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found if name != CLOCK]


def digest(connection: sqlite3.Connection) -> int:
    """Return the digest of all that a database holds, by reading all of it."""
    total = schema_digest(connection)
    for table in tables(connection):
        total ^= table_digest(connection, table)
    return total


def moment(connection: sqlite3.Connection) -> Moment:
    """Return the commit that a connection sees."""
    number, token = connection.execute(f"SELECT number, token FROM {CLOCK}").fetchone()
    (cookie,) = connection.execute("PRAGMA schema_version").fetchone()
    return Moment(number=number, token=token, cookie=cookie)


def read(path: Path, *, whole: bool = True) -> tuple[Moment, int]:
    """Return the commit that a closed file of ours holds and, read from all its rows, the digest of its content.

    `whole`: SQLite judges the file, too. Raises AssertionError where it finds something.
    """
    with closing(sqlite3.connect(path)) as connection:
        if whole:
            found = connection.execute("PRAGMA integrity_check").fetchall()
            assert found == [("ok",)], f"{path}: {found}"
        return moment(connection), digest(connection)
