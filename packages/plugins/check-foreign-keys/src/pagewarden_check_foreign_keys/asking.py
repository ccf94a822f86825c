"""Asks SQLite in portions whether all rows of a table have their parents; the native module will take its place.

`PRAGMA foreign_key_check` is one statement, and so one read transaction, for a whole table: a log that cannot be reset
for as long as that slows every writer down (H8). So rows are looked at in portions, in the order in which they are
stored, and the pragma is asked only where one has no parent, to say which, or where there are no portions to be had.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PORTION = 5_000
"""Rows that one statement looks at."""

_ROWID_NAMES = ("rowid", "oid", "_rowid_")
_ROWID, _EXPRESSION = -1, -2  # "cid" of PRAGMA index_xinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key of a table."""

    parent: str
    columns: tuple[tuple[str, str | None], ...]  # the child's, and the parent's; None: that of its primary key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """How the rows of a table are stored."""

    rows: str  # SQL that reads them in their order
    order: tuple[str, ...]  # SQL of what they are in the order of, always ascending


def quote(name: str) -> str:
    """Return a name as SQL quotes it (H29)."""
    return '"' + name.replace('"', '""') + '"'


def foreign_keys(connection: sqlite3.Connection, table: str) -> dict[int, ForeignKey]:
    """Return the foreign keys of a table by their numbers."""
    rows = connection.execute(f"PRAGMA foreign_key_list({quote(table)})").fetchall()
    keys: dict[int, ForeignKey] = {}
    for number, _, parent, child, to, *_ in rows:
        before = keys[number].columns if number in keys else ()
        keys[number] = ForeignKey(parent=str(parent), columns=(*before, (str(child), to)))
    return keys


def all_have_parents(
    connection: sqlite3.Connection, table: str, keys: dict[int, ForeignKey], between: Callable[[], None]
) -> bool:
    """Return whether every row of a table surely has its parents; `between` is called between two portions.

    False where that cannot be told so: then the pragma is the one to ask. Raises sqlite3.DatabaseError, where a parent
    key is not unique, too, as the pragma does.
    """
    connection.execute(f"EXPLAIN PRAGMA foreign_key_check({quote(table)})").fetchall()
    stored = _stored(connection, table)
    parents = [_parents(connection, key) for key in keys.values()]
    if stored is None or not all(parents):
        return False
    order = ", ".join(stored.order)
    places = f"({', '.join('?' for _ in stored.order)})"
    after: Sequence[object] = ()
    seen: set[Sequence[object]] = set()
    while after not in seen:  # in a damaged tree an order may lead in a circle (H28)
        seen.add(after)
        between()
        later = [f"({order}) > {places}"] if after else []
        until = connection.execute(
            f"SELECT {order} FROM {stored.rows}{_where(later)} ORDER BY {order} LIMIT 1 OFFSET {PORTION - 1}", after
        ).fetchone()
        portion = [*later, f"({order}) <= {places}"] if until else later
        bounds = (*after, *(until or ()))
        for key, exists in zip(keys.values(), parents, strict=True):
            present = [f"{quote(child)} IS NOT NULL" for child, _ in key.columns]
            chosen = ", ".join(f"+{quote(child)} AS k{number}" for number, (child, _) in enumerate(key.columns))
            rows = f"SELECT {chosen} FROM {stored.rows}{_where([*portion, *present])}"
            if connection.execute(f"SELECT 1 FROM ({rows}) AS o WHERE NOT {exists} LIMIT 1", bounds).fetchone():
                return False
        if until is None:
            return True
        after = until
    return False


def _parents(connection: sqlite3.Connection, key: ForeignKey) -> str:
    """Return SQL that holds where the row `o (k0, k1 …)` has its parent; "" where there is none to be had.

    It compares as SQLite does when it enforces the key (foreignkeys.html, section 3): with affinity and collation of
    the parent's column. The left side decides on the collation, and `+`, which k0 is made with, takes affinity away.
    """
    columns = connection.execute(f"PRAGMA table_xinfo({quote(key.parent)})").fetchall()
    primary = [str(name) for _, name in sorted((row[5], row[1]) for row in columns if row[5])]
    same = []
    for number, (_, to) in enumerate(key.columns):
        if not columns or (to is None and number >= len(primary)):
            return ""
        same.append(f"p.{quote(primary[number] if to is None else to)} = o.k{number}")
    return f"EXISTS (SELECT 1 FROM {quote(key.parent)} AS p WHERE {' AND '.join(same)})"


def _stored(connection: sqlite3.Connection, table: str) -> _Stored | None:
    """Return how a table is stored; None where its order cannot be named."""
    indexes = connection.execute(f"PRAGMA index_list({quote(table)})").fetchall()
    for name in (str(row[1]) for row in indexes if row[3] == "pk"):
        terms = connection.execute(f"PRAGMA index_xinfo({quote(name)})").fetchall()
        if all(row[1] not in (_ROWID, _EXPRESSION) for row in terms):  # WITHOUT ROWID: this index is the table
            if any(descending for _, _, _, descending, _, key in terms if key):
                return None
            order = tuple(f"{quote(row[2])} COLLATE {quote(row[4])}" for row in terms if row[5])
            return _Stored(rows=f"{quote(table)} INDEXED BY {quote(name)}", order=order)
    columns = connection.execute(f"PRAGMA table_xinfo({quote(table)})").fetchall()
    taken = {str(row[1]).lower() for row in columns}
    rowid = next((name for name in _ROWID_NAMES if name not in taken), None)
    return None if rowid is None else _Stored(rows=f"{quote(table)} NOT INDEXED", order=(rowid,))


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
