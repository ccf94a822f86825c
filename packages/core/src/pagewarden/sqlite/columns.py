"""Which columns a table or index stores, in which order: SQLite itself parses the CREATE statements, in memory.

The statements come from the pages of a file that may be hostile (H29). Each is one statement, run in an empty database
in memory whose authorizer allows CREATE TABLE and CREATE INDEX and nothing that reads, attaches or loads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from pagewarden.sqlite.names import quote
from pagewarden.sqlite.schema import MAX_PAYLOAD, SchemaEntry

_MAKING = frozenset(
    {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_UPDATE,
    }
)
_VIRTUAL = 2  # "hidden" of PRAGMA table_xinfo: a generated column that is not stored
_STORED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """What a table stores, as far as SQLite can parse its statement without the application's functions."""

    columns: tuple[str, ...]  # in the order of the record; empty where it could not be parsed
    indexed: frozenset[str]  # columns in some index, key or foreign key
    plain: bool  # no CHECK, no generated column, no index on an expression or with a WHERE


def only_make(action: int, *_: object) -> int:
    """Allow what making a table or an index needs, and no query: an authorizer for a `sqlite3.Connection`."""
    return sqlite3.SQLITE_OK if action in _MAKING else sqlite3.SQLITE_DENY


def _build(statements: Iterable[str]) -> sqlite3.Connection | None:
    """Return a database in memory in which `statements` were run; None where one was refused."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_PAYLOAD)
    connection.set_authorizer(only_make)
    try:
        for statement in statements:
            connection.execute(statement)
    except (sqlite3.Error, sqlite3.Warning, ValueError):  # ValueError: a NUL or a lone surrogate in the text
        connection.close()
        return None
    connection.set_authorizer(None)
    return connection


def _stored(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of `table` in the order of its records."""
    keys = [row for row in connection.execute(f"PRAGMA index_list({quote(table)})") if row[3] == "pk"]
    rowid = "rowid" if not keys else _key_rowid(connection, keys[0][1])
    if rowid is None:  # WITHOUT ROWID: the primary key's index is the table, key columns first
        return tuple(row[2] for row in connection.execute(f"PRAGMA index_xinfo({quote(keys[0][1])})"))
    rows = connection.execute(f"PRAGMA table_xinfo({quote(table)})")
    return tuple(row[1] for row in rows if row[6] != _VIRTUAL)


def _key_rowid(connection: sqlite3.Connection, index: str) -> str | None:
    """Return "rowid" if `index` ends with a rowid, as indexes of rowid tables do."""
    return "rowid" if any(row[1] == -1 for row in connection.execute(f"PRAGMA index_xinfo({quote(index)})")) else None


def _statements(entries: Iterable[SchemaEntry], table: str) -> list[str] | None:
    """Return the CREATE statements of `table`, then of its indexes; None if there is no such table to parse."""
    tables = [
        entry.sql for entry in entries if entry.kind == "table" and entry.name == table and entry.root and entry.sql
    ]
    indexes = [entry.sql for entry in entries if entry.kind == "index" and entry.table == table and entry.sql]
    return [tables[0], *indexes] if len(tables) == 1 else None


def stored_columns(entries: Iterable[SchemaEntry], name: str) -> tuple[str, ...]:
    """Return what the records of the table or index `name` hold, in order: columns, "rowid" or "expression".

    Empty where SQLite cannot parse it alone, because it needs an application's functions or collations.
    """
    known = tuple(entries)
    entry = next((entry for entry in known if entry.name == name and entry.root), None)
    statements = None if entry is None else _statements(known, entry.table)
    if entry is None or statements is None:
        return ()
    if entry.kind == "table":
        del statements[1:]
    elif entry.sql:
        statements[1:] = [entry.sql]
    connection = _build(statements)
    if connection is None:
        return ()
    try:
        if entry.kind == "table":
            return _stored(connection, entry.name)
        names = {-1: "rowid", -2: "expression"}
        rows = connection.execute(f"PRAGMA index_xinfo({quote(entry.name)})")
        return tuple(names.get(row[1], row[2]) for row in rows)
    except sqlite3.Error:
        return ()
    finally:
        connection.close()


def buildable_indexes(entries: Iterable[SchemaEntry], table: str) -> frozenset[str]:
    """Return the indexes of `entries` that SQLite can build on the table `table` without the application.

    An automatic index, which has no statement, is one if its table can be made.
    """
    known = tuple(entries)
    statements = _statements((entry for entry in known if entry.kind == "table"), table)
    connection = None if statements is None else _build(statements)
    if connection is None:
        return frozenset()
    found = set()
    with closing(connection):
        connection.set_authorizer(only_make)
        for entry in known:
            if entry.kind != "index" or entry.table != table:
                continue
            try:
                if entry.sql:
                    connection.execute(entry.sql)
                found.add(entry.name)
            except (sqlite3.Error, sqlite3.Warning, ValueError):
                continue
    return frozenset(found)


def table_shape(entries: Iterable[SchemaEntry], table: str) -> TableShape:
    """Return what the table stores and which of its columns something else depends on."""
    unknown = TableShape(columns=(), indexed=frozenset(), plain=False)
    statements = _statements(tuple(entries), table)
    connection = None if statements is None else _build(statements)
    if statements is None or connection is None:
        return unknown
    try:
        columns = _stored(connection, table)
        quoted = quote(table)
        indexes = connection.execute(f"PRAGMA index_list({quoted})").fetchall()
        keys = [
            row for index in indexes for row in connection.execute(f"PRAGMA index_xinfo({quote(index[1])})") if row[5]
        ]
        indexed = {row[2] for row in keys if row[1] >= 0}
        indexed |= {row[3] for row in connection.execute(f"PRAGMA foreign_key_list({quoted})")}
        described = connection.execute(f"PRAGMA table_xinfo({quoted})").fetchall()
        indexed |= {row[1] for row in described if row[5]}
        generated = any(row[6] in (_VIRTUAL, _STORED) for row in described)
        special = any(index[4] for index in indexes) or any(row[1] == -2 for row in keys)
        checked = any("CHECK" in statement.upper() for statement in statements)
    except sqlite3.Error:
        return unknown
    finally:
        connection.close()
    return TableShape(columns=columns, indexed=frozenset(indexed), plain=not (generated or special or checked))
