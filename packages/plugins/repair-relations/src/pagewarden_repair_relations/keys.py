"""The foreign keys that SQLite can enforce, and those that a repair of some tables may touch."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pagewarden.repair.moving import TableRows, table_rows
from pagewarden.sqlite.names import quote
from pagewarden.sqlite.relations import ForeignKey, foreign_keys, orphan, parent_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A foreign key that can be enforced."""

    child: TableRows
    parent: TableRows
    columns: tuple[str, ...]  # of the child
    named: tuple[str, ...]  # of the parent, in the same order
    orphan: str  # SQL that holds where the row `c` of the child has no parent
    nullable: tuple[str, ...]  # of `columns`, those that may become NULL

    @property
    def orphans(self) -> str:
        """SQL that follows a SELECT … and names the child's rows without a parent, as `c`."""
        return f"FROM main.{quote(self.child.name)} AS c WHERE {self.orphan}"


def enforceable_keys(connection: sqlite3.Connection) -> tuple[Key, ...]:
    """Return the foreign keys of all tables. Raises sqlite3.DatabaseError.

    A table one of whose keys is a mismatch has none that can be enforced, nor has one that needs its application; a key
    whose parent is no table cannot be either. All these are only told of, by who checks them.
    """
    names = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
    tables = {fold(str(name)): str(name) for (name,) in names}
    keys = []
    for name in tables.values():
        for key in foreign_keys(connection, name).values():
            parent = tables.get(fold(key.parent))
            without = orphan(connection, key)
            if parent is not None and without and _can_be_asked(connection, name):
                keys.append(_key(connection, name, parent, key, without))
    return tuple(keys)


def touched(keys: Sequence[Key], tables: Collection[str]) -> tuple[Key, ...]:
    """Return the keys of `tables`, of the tables that they name, and of those that name them, and so on."""
    mine = {fold(name) for name in tables}
    above, below = set(mine), set(mine)
    grown = True
    while grown:
        before = len(above) + len(below)
        for key in keys:
            child, parent = fold(key.child.name), fold(key.parent.name)
            if child in above:
                above.add(parent)
            if parent in below:
                below.add(child)
        grown = len(above) + len(below) > before
    return tuple(key for key in keys if fold(key.child.name) in above | below)


def fold(name: str) -> str:
    """Return a name as SQLite compares it: letters of ASCII alone have no case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _can_be_asked(connection: sqlite3.Connection, table: str) -> bool:
    try:
        connection.execute(f"EXPLAIN PRAGMA main.foreign_key_check({quote(table)})").fetchall()
    except sqlite3.OperationalError:  # a mismatch, or a collation of the application's
        return False
    return True


def _key(connection: sqlite3.Connection, child: str, parent: str, key: ForeignKey, without: str) -> Key:
    described = connection.execute(f"PRAGMA main.table_xinfo({quote(child)})").fetchall()
    rows = table_rows(connection, child)
    ordinary = {fold(name) for name in rows.columns}
    # A NULL in a primary key is an accident of SQLite's, and the rowid cannot be one.
    free = {fold(str(row[1])) for row in described if not row[3] and not row[5]} & ordinary
    columns = tuple(name for name, _ in key.columns)
    return Key(
        child=rows,
        parent=table_rows(connection, parent),
        columns=columns,
        named=parent_columns(connection, key),
        orphan=without,
        nullable=tuple(name for name in columns if fold(name) in free),
    )
