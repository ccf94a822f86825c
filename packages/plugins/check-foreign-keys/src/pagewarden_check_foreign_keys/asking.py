"""Asks SQLite in portions whether all rows of a table have their parents; the native module will take its place.

`PRAGMA foreign_key_check` is one statement, and so one read transaction, for a whole table: a log that cannot be reset
for as long as that slows every writer down (H8). So rows are looked at in portions, in the order in which they are
stored, and the pragma is asked only where one has no parent, to say which, or where there are no portions to be had.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pagewarden.sqlite.names import quote, rowid_name
from pagewarden.sqlite.relations import ForeignKey, orphan

PORTION = 5_000
"""Rows that one statement looks at."""

_ROWID, _EXPRESSION = -1, -2  # "cid" of PRAGMA index_xinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """How the rows of a table are stored."""

    rows: str  # SQL that reads them in their order, as `c`
    order: tuple[str, ...]  # SQL of what they are in the order of


def all_have_parents(
    connection: sqlite3.Connection, table: str, keys: dict[int, ForeignKey], between: Callable[[], None]
) -> bool:
    """Return whether every row of a table surely has its parents; `between` is called between two portions.

    False where that cannot be told so: then the pragma is the one to ask. Raises sqlite3.DatabaseError, where a parent
    key is not unique, too, as the pragma does.
    """
    connection.execute(f"EXPLAIN PRAGMA foreign_key_check({quote(table)})").fetchall()
    stored = _stored(connection, table)
    orphans = [orphan(connection, key) for key in keys.values()]
    if stored is None or not all(orphans):
        return False
    after: Sequence[object] = ()
    seen: set[Sequence[object]] = set()
    while after not in seen:  # in a damaged tree an order may lead in a circle (H28)
        seen.add(after)
        between()
        until = connection.execute(_last(stored, later=bool(after)), after).fetchone()
        portion = [_compared(stored, operator) for operator, place in ((">", after), ("<=", until)) if place]
        where = _where([*portion, f"({' OR '.join(orphans)})"])
        if connection.execute(f"SELECT 1 FROM {stored.rows}{where} LIMIT 1", (*after, *(until or ()))).fetchone():
            return False
        if until is None:
            return True
        after = until
    return False


def _stored(connection: sqlite3.Connection, table: str) -> _Stored | None:
    """Return how a table is stored; None where its order cannot be named, or SQLite would sort it for each portion."""
    indexes = connection.execute(f"PRAGMA index_list({quote(table)})").fetchall()
    for name in (str(row[1]) for row in indexes if row[3] == "pk"):
        terms = connection.execute(f"PRAGMA index_xinfo({quote(name)})").fetchall()
        if all(row[1] not in (_ROWID, _EXPRESSION) for row in terms):  # WITHOUT ROWID: this index is the table
            order = tuple(quote(row[2]) for row in terms if row[5])
            stored = _Stored(rows=f"{quote(table)} AS c INDEXED BY {quote(name)}", order=order)
            return stored if _is_descended(connection, stored) else None
    columns = connection.execute(f"PRAGMA table_xinfo({quote(table)})").fetchall()
    rowid = rowid_name(str(row[1]) for row in columns)
    return None if rowid is None else _Stored(rows=f"{quote(table)} AS c NOT INDEXED", order=(rowid,))


def _is_descended(connection: sqlite3.Connection, stored: _Stored) -> bool:
    """Return whether SQLite finds a portion by its order: not where a primary key and its columns collate otherwise."""
    plan = connection.execute(f"EXPLAIN QUERY PLAN {_last(stored, later=True)}", [None] * len(stored.order)).fetchall()
    return [str(row[3]).split()[0] for row in plan] == ["SEARCH"]


def _last(stored: _Stored, *, later: bool) -> str:
    """Return a query for the last row of a portion: of the first one, or of one that is `later` than a place."""
    order = ", ".join(stored.order)
    where = _where([_compared(stored, ">")] if later else [])
    return f"SELECT {order} FROM {stored.rows}{where} ORDER BY {order} LIMIT 1 OFFSET {PORTION - 1}"


def _compared(stored: _Stored, operator: str) -> str:
    return f"({', '.join(stored.order)}) {operator} ({', '.join('?' for _ in stored.order)})"


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
