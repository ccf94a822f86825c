"""The indexes of a database, and how their entries and the rows they belong to are named in SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from pagewarden.sqlite.names import quote, rowid_name
from pagewarden.sqlite.statement import IndexText, NotUnderstood, take_apart

_ROWID, _EXPRESSION = -1, -2  # "cid" of PRAGMA index_xinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexName:
    """An index as the schema names it."""

    name: str
    table: str
    sql: str  # "" for one that SQLite made for a constraint


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One column of an index's entries."""

    text: str  # SQL
    collation: str  # by which the index compares
    key: bool  # whether it is indexed; otherwise it only tells rows apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index as SQL sees it."""

    name: str
    table: str
    unique: bool
    terms: tuple[Term, ...]  # without the rowid
    rowid: str  # how the rowid is named, "" for a table without
    rows: str  # SQL that reads the table and not the index
    entries: str  # SQL that reads the index, and the table only where the index does not hold what is wanted
    condition: str  # SQL that rows with an entry meet; "" for all rows


def index_names(connection: sqlite3.Connection) -> tuple[IndexName, ...]:
    """Return all indexes that have a b-tree, in a lasting order."""
    rows = connection.execute(
        "SELECT name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE type = 'index' AND rootpage > 0"
    )
    return tuple(sorted((IndexName(name=str(n), table=str(t), sql=str(s)) for n, t, s in rows), key=lambda i: i.name))


def is_there(connection: sqlite3.Connection, name: IndexName) -> bool:
    """Return whether the schema still has this very index: in a live database others may drop and make some.

    Raises sqlite3.DatabaseError.
    """
    found = connection.execute(
        "SELECT tbl_name, coalesce(sql, '') FROM sqlite_master WHERE type = 'index' AND name = ?", (name.name,)
    ).fetchone()
    return found is not None and (str(found[0]), str(found[1])) == (name.table, name.sql)


def rowid_range(connection: sqlite3.Connection, name: IndexName) -> tuple[int, int]:
    """Return the first and the last rowid of an index's table; (0, 0) where it has none, or SQLite cannot tell."""
    table = quote(name.table)
    try:
        rowid = _rowid_name(connection, name.table)
        first, last = connection.execute(
            f"SELECT (SELECT min({rowid}) FROM {table} NOT INDEXED), (SELECT max({rowid}) FROM {table} NOT INDEXED)"
        ).fetchone()
    except (NotUnderstood, sqlite3.DatabaseError, UnicodeDecodeError):
        return 0, 0  # there are no rowids, or there is damage, which is told when the index is judged
    return (first, last) if type(first) is int and type(last) is int else (0, 0)


def describe(connection: sqlite3.Connection, name: IndexName) -> Index:
    """Return what SQLite knows of an index. Raises NotUnderstood, sqlite3.DatabaseError."""
    columns = connection.execute(f"PRAGMA index_xinfo({quote(name.name)})").fetchall()
    listed = {row[1]: row for row in connection.execute(f"PRAGMA index_list({quote(name.table)})")}
    if not columns or name.name not in listed:
        raise NotUnderstood("sqlite knows nothing of it")
    expressions = any(row[1] == _EXPRESSION for row in columns)
    partial = bool(listed[name.name][4])
    text = take_apart(name.sql) if expressions or partial else IndexText(terms=(), condition="")
    has_rowid = any(row[1] == _ROWID for row in columns)
    table = quote(name.table)
    return Index(
        name=name.name,
        table=name.table,
        unique=bool(listed[name.name][2]),
        terms=tuple(_term(row, text) for row in columns if row[1] != _ROWID),
        rowid=_rowid_name(connection, name.table) if has_rowid else "",
        rows=f"{table} NOT INDEXED" if has_rowid else f"{table} INDEXED BY {quote(_table_itself(listed.values()))}",
        entries=f"{table} INDEXED BY {quote(name.name)}",
        condition=text.condition,
    )


def _term(row: tuple[int, int, str, int, str, int], text: IndexText) -> Term:
    number, column, name, _, collation, key = row
    if column == _EXPRESSION and number >= len(text.terms):
        raise NotUnderstood("its statement has too few terms")
    return Term(
        text=f"({text.terms[number]})" if column == _EXPRESSION else quote(name), collation=collation, key=bool(key)
    )


def _rowid_name(connection: sqlite3.Connection, table: str) -> str:
    """Return a name of the rowid that no column has."""
    name = rowid_name(str(row[1]) for row in connection.execute(f"PRAGMA table_xinfo({quote(table)})"))
    if name is None:
        raise NotUnderstood(f"columns of {table} have all names of its rowid")
    return name


def _table_itself(listed: Iterable[tuple[int, str, int, str, int]]) -> str:
    """Return the name of the primary key's index: in a table WITHOUT ROWID it is the table."""
    for row in listed:
        if row[3] == "pk":
            return row[1]
    raise NotUnderstood("its table has neither rowids nor a primary key")
