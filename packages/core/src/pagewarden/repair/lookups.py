"""The tables of a private file as SQLite sees them, and single rows of them, looked up one by one."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pagewarden.contracts import SqlValue
from pagewarden.repair.cutouts import text_bytes
from pagewarden.repair.moving import stored_text
from pagewarden.sqlite.names import quote, rowid_name
from pagewarden.sqlite.refusals import refusal_or_raise
from pagewarden.sqlite.virtual import virtual_tables
from pagewarden.structure import Tree

SqlRow = tuple[SqlValue, ...]

_NARROW = 64  # columns of a table whose indexes may hold all of them
_AROUND = 50  # rows of neighbouring pages that a scan of one page may meet
_FULL_TEXT = ("fts3", "fts4", "fts5")
_DERIVED = ("_data", "_idx", "_docsize", "_config", "_segments", "_segdir", "_stat")
"""Shadow tables of full-text tables that are made from their rows, and made anew by 'rebuild'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covering:
    """An index that holds all columns of its table, so that SQLite may answer from it alone."""

    name: str
    table: str
    root: int
    columns: tuple[str, ...]  # in the order of its entries; the rowid follows them

    @property
    def key(self) -> str:
        """What it is known by beside tables: no name of a table is folded into this."""
        return f"INDEX {self.name}"

    @property
    def tree(self) -> Tree:
        """Its b-tree."""
        return Tree(name=self.name, root=self.root, index=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that has a b-tree of its own."""

    name: str
    root: int
    without_rowid: bool
    columns: tuple[str, ...]  # that an INSERT may name: none that is generated
    stored: tuple[str, ...]  # in the order of the record; generated columns that are stored among them
    keys: tuple[str, ...]  # WITHOUT ROWID: the columns of the primary key, in the order of the record
    rowid: str | None  # what the rowid is called in SQL; None: it has none, or all its names are taken
    alias: str | None  # the column that is the rowid: an INTEGER PRIMARY KEY
    sql: str
    covering: tuple[Covering, ...] = ()

    @property
    def tree(self) -> Tree:
        """Its b-tree."""
        return Tree(name=self.name, root=self.root, index=self.without_rowid)

    @property
    def named(self) -> tuple[str, ...]:
        """What its rows are kept by in the quarantine: the rowid, where no column says it, and the columns."""
        own = self.rowid is not None and self.alias is None
        return (str(self.rowid), *self.columns) if own else self.columns


def fold(name: str) -> str:
    """Return a name as SQLite compares it: letters of ASCII alone have no case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def read_tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """Return the tables that have a b-tree, SQLite's own left out, by their folded names. Raises sqlite3.Error."""
    connection.text_factory = stored_text
    rows = connection.execute(
        "SELECT name, rootpage, sql FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    ).fetchall()
    kinds = {
        fold(str(row[1])): bool(row[4]) for row in connection.execute("PRAGMA main.table_list") if row[0] == "main"
    }
    found = {}
    for name, root, sql in rows:
        if fold(name) in kinds and not fold(name).startswith("sqlite_"):
            found[fold(name)] = read_table(connection, name, int(root), str(sql), kinds[fold(name)])
    return found


def with_covering(connection: sqlite3.Connection, table: Table) -> Table:
    """Return a table with the indexes that hold all of its columns. Raises sqlite3.Error."""
    if table.rowid is None or len(table.columns) > _NARROW:
        return table
    found = []
    for _, name, _, _, partial in connection.execute(f"PRAGMA main.index_list({quote(table.name)})").fetchall():
        info = connection.execute(f"PRAGMA main.index_xinfo({quote(name)})").fetchall()
        columns = tuple(str(row[2]) for row in info[:-1])
        whole = set(table.columns) <= {*columns, table.alias} and info[-1][1] == -1
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND name = ?", (name,)
        ).fetchone()
        if whole and not partial and all(row[1] >= 0 for row in info[:-1]) and root:
            found.append(Covering(name=name, table=table.name, root=int(root[0]), columns=columns))
    return replace(table, covering=tuple(found))


def read_table(connection: sqlite3.Connection, name: str, root: int, sql: str, without_rowid: bool) -> Table:
    """Return what SQLite knows of one table. Raises sqlite3.Error."""
    described = connection.execute(f"PRAGMA main.table_xinfo({quote(name)})").fetchall()
    columns = tuple(str(row[1]) for row in described if not row[6])
    indexes = connection.execute(f"PRAGMA main.index_list({quote(name)})").fetchall()
    primary = next((str(row[1]) for row in indexes if row[3] == "pk"), None)
    stored = tuple(str(row[1]) for row in described if row[6] != 2)
    keys: tuple[str, ...] = ()
    if without_rowid and primary is not None:
        info = connection.execute(f"PRAGMA main.index_xinfo({quote(primary)})").fetchall()
        stored = tuple(str(row[2]) for row in info)
        keys = tuple(str(row[2]) for row in info if row[5])
    own = next((str(row[1]) for row in described if row[5] and primary is None), None)
    rowid = None if without_rowid else own or rowid_name(str(row[1]) for row in described)
    return Table(
        name=name, root=root, without_rowid=without_rowid, columns=columns, stored=stored, keys=keys, rowid=rowid,
        alias=None if without_rowid else own, sql=sql,
    )  # fmt: skip


def derived_tables(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the folded names of tables that full-text tables make from their rows. Raises sqlite3.Error.

    Not those of a table without content of its own: what they hold stands nowhere else.
    """
    found: set[str] = set()
    for table in virtual_tables(connection):
        if table.module in _FULL_TEXT and table.content != "":
            found.update(fold(table.name) + suffix for suffix in _DERIVED)
    return frozenset(found)


def exactly(row: SqlRow) -> bytes:
    """Return a digest that only a row of equal values of equal types has."""
    text = repr(row).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


class Lookup:
    """Rows of one table through SQLite: exact look-ups, and short scans of both directions (H28)."""

    def __init__(self, connection: sqlite3.Connection, table: Table) -> None:
        self.table = table
        self._connection = connection
        self._select = f"SELECT {', '.join(map(quote, table.named))} FROM main.{quote(table.name)} NOT INDEXED"
        self._rowid = "" if table.rowid is None else quote(table.rowid)

    @property
    def possible(self) -> bool:
        """Whether a row can be named in SQL at all."""
        return self.table.without_rowid or self.table.rowid is not None

    def by_rowid(self, rowid: int) -> SqlRow | None:
        """Return the row, None where SQLite finds none or cannot read it. Raises sqlite3.Error for other failures."""
        return self._one(f"{self._select} WHERE {self._rowid} = ?", (rowid,))

    def by_key(self, values: Sequence[SqlValue]) -> SqlRow | None:
        """Return the row whose primary key begins the record `values`."""
        if len(values) < len(self.table.keys):
            return None
        terms, bound = [], []
        for name, value in zip(self.table.keys, values, strict=False):
            try:
                if isinstance(value, str):
                    value.encode()
                terms.append(f"{quote(name)} IS ?")
                bound.append(value)
            except UnicodeEncodeError:
                terms.append(f"{quote(name)} IS CAST(? AS TEXT)")
                bound.append(text_bytes(str(value)))
        return self._one(f"{self._select} WHERE {' AND '.join(terms)}", tuple(bound))

    def scan(self, start: int, most: int, *, backward: bool) -> list[tuple[int, SqlRow]]:
        """Return rows, with their rowids, from rowid `start` on, until `most` and some more were met, or an error."""
        sql = self._select.replace("SELECT ", f"SELECT {self._rowid}, ", 1)
        order = f"<= ? ORDER BY {self._rowid} DESC" if backward else f">= ? ORDER BY {self._rowid}"
        found = []
        try:
            for rowid, *row in self._connection.execute(
                f"{sql} WHERE {self._rowid} {order} LIMIT ?", (start, most + _AROUND)
            ):
                found.append((int(rowid), tuple(row)))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal_or_raise(error)  # what follows cannot be read from here
        return found

    def _one(self, sql: str, values: tuple[SqlValue, ...]) -> SqlRow | None:
        try:
            row: SqlRow | None = self._connection.execute(sql, values).fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal_or_raise(error)
            return None
        return row
