"""The foreign keys of a database, and how a row without its parent is told in SQL."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from pagewarden.sqlite.names import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key of a table."""

    parent: str
    columns: tuple[tuple[str, str | None], ...]  # the child's, and the parent's; None: that of its primary key


def foreign_keys(connection: sqlite3.Connection, table: str) -> dict[int, ForeignKey]:
    """Return the foreign keys of a table by their numbers."""
    rows = connection.execute(f"PRAGMA main.foreign_key_list({quote(table)})").fetchall()
    keys: dict[int, ForeignKey] = {}
    for number, _, parent, child, to, *_ in rows:
        before = keys[number].columns if number in keys else ()
        keys[number] = ForeignKey(parent=str(parent), columns=(*before, (str(child), to)))
    return keys


def parent_columns(connection: sqlite3.Connection, key: ForeignKey) -> tuple[str, ...]:
    """Return the columns of the parent that a key names, in its order; none where they cannot be told."""
    columns = connection.execute(f"PRAGMA main.table_xinfo({quote(key.parent)})").fetchall()
    primary = [str(name) for _, name in sorted((row[5], row[1]) for row in columns if row[5])]
    named = []
    for number, (_, to) in enumerate(key.columns):
        if not columns or (to is None and number >= len(primary)):
            return ()
        named.append(primary[number] if to is None else to)
    return tuple(named)


def orphan(connection: sqlite3.Connection, key: ForeignKey) -> str:
    """Return SQL that holds where the row `c` has no parent; "" where there is none to be had.

    It compares as SQLite does when it enforces the key (foreignkeys.html, section 3): with affinity and collation of
    the parent's column. The left side decides on the collation, and `+` takes the child's affinity away.
    """
    named = parent_columns(connection, key)
    if not named:
        return ""
    present = [f"c.{quote(child)} IS NOT NULL" for child, _ in key.columns]
    same = [f"p.{quote(to)} = +c.{quote(child)}" for to, (child, _) in zip(named, key.columns, strict=True)]
    parents = f"SELECT 1 FROM main.{quote(key.parent)} AS p WHERE {' AND '.join(same)}"
    return f"({' AND '.join(present)} AND NOT EXISTS ({parents}))"
