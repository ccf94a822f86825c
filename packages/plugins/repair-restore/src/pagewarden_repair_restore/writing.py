"""Rows of the damaged file into a table of the new one, and what stood there into the quarantine."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pagewarden.contracts import RepairBench, SqlValue
from pagewarden.repair.cutouts import text_bytes
from pagewarden.repair.lookups import Lookup, SqlRow, Table, exactly
from pagewarden.repair.rows import RawRow
from pagewarden.sqlite.names import quote

OLDER = "a newer version of it, or a row that takes its place, is in the damaged file"
DROPPED = "a column of it was dropped since the backup"
UNSOUND = "its page in the damaged file is not sound"
BREAKS = "it breaks a rule of its table"

_BATCH = 500


class Unwritable(Exception):
    """SQLite cannot write to a table: it needs a function or collation that only its application has."""


class Keeper:
    """Puts rows of one table into the quarantine, some at a time."""

    def __init__(self, bench: RepairBench, table: Table) -> None:
        self.count = 0
        self._bench = bench
        self._table = table
        self._rows: dict[str, list[SqlRow]] = {}

    def keep(self, row: SqlRow, why: str) -> None:
        """Keep one row."""
        rows = self._rows.setdefault(why, [])
        rows.append(row)
        self.count += 1
        if len(rows) >= _BATCH:
            self.flush()

    def keep_raw(self, raw: RawRow, why: str) -> None:
        """Keep a row as it stands in the damaged file."""
        row = as_named(self._table, raw)
        if row is not None:
            self.keep(row, why)

    def flush(self) -> None:
        """Write what is left."""
        for why, rows in self._rows.items():
            if rows:
                self._bench.keep_rows(self._table.name, self._table.named, rows, why)
        self._rows.clear()


def as_named(table: Table, raw: RawRow) -> SqlRow | None:
    """Return a row as `Table.named` has it; None where it cannot be one of that table."""
    if len(raw.values) > len(table.stored):
        return None
    values = dict(zip(table.stored, raw.values, strict=False))
    return tuple(raw.rowid if name == table.rowid else values.get(name) for name in table.named)


class Writer:
    """Writes rows of one table through SQLite. Raises Unwritable where that cannot be."""

    def __init__(self, connection: sqlite3.Connection, table: Table, keeper: Keeper, encoding: str) -> None:
        """`encoding` is that of the database's texts."""
        self.table = table
        self.replaced = 0  # rows that a newer version took the place of
        self._encoding = encoding
        self._connection = connection
        self._keeper = keeper
        self._lookup = Lookup(connection, table)
        self._statements: dict[tuple[int, int], str] = {}
        self._unique: list[tuple[tuple[str, str], ...]] | None = None
        self._name = f"main.{quote(table.name)}"

    def find(self, raw: RawRow) -> SqlRow | None:
        """Return the row that has the same key."""
        try:
            if self.table.without_rowid:
                return self._lookup.by_key(raw.values)
            return None if raw.rowid is None else self._lookup.by_rowid(raw.rowid)
        except sqlite3.Error as error:
            raise _unwritable(error) from error

    def delete(self, raw: RawRow) -> None:
        """Take the row that has the same key away."""
        if self.table.without_rowid:
            terms, values = [], []
            for name, value in zip(self.table.keys, raw.values, strict=False):
                text, bound = self._bindable(value)
                terms.append(f"{quote(name)} IS {'CAST(? AS TEXT)' if text else '?'}")
                values.append(bound)
            self._execute(f"DELETE FROM {self._name} WHERE {' AND '.join(terms)}", values)
        else:
            self._execute(f"DELETE FROM {self._name} WHERE {quote(str(self.table.rowid))} = ?", [raw.rowid])

    def insert(self, raw: RawRow) -> bool:
        """Put a row in. Rows that stand in its way by a UNIQUE go into the quarantine; so does it, where it breaks
        another rule, and then False is returned."""
        if len(raw.values) > len(self.table.stored):
            return False
        try:
            self._insert(raw)
        except sqlite3.IntegrityError:
            self._make_way(raw)
            try:
                self._insert(raw)
            except sqlite3.IntegrityError:
                self._keeper.keep_raw(raw, BREAKS)
                return False
        return True

    def replace(self, raw: RawRow) -> None:
        """Put a newer version in; another one with its key goes into the quarantine."""
        older = self.find(raw)
        if older is None:
            self.insert(raw)
            return
        self.replaced += 1
        self.delete(raw)
        if not self.insert(raw):
            self._put_back(older)
            return
        newer = self.find(raw)
        if newer is None or exactly(newer) != exactly(older):
            self._keeper.keep(older, OLDER)

    def _put_back(self, row: SqlRow) -> None:
        names = ", ".join(map(quote, self.table.named))
        shown, bound = zip(*((("CAST(? AS TEXT)" if text else "?"), value) for text, value in map(self._bindable, row)),
                           strict=True)  # fmt: skip
        self._execute(f"INSERT INTO {self._name}({names}) VALUES ({', '.join(shown)})", bound)

    def _insert(self, raw: RawRow) -> None:
        table = self.table
        bound: list[SqlValue] = [] if table.without_rowid or table.alias or not table.rowid else [raw.rowid]
        texts = 0
        for place, (name, value) in enumerate(zip(table.stored, raw.values, strict=False)):
            if name == table.alias:
                bound.append(raw.rowid)
            elif name in table.columns:
                text, given = self._bindable(value)
                texts |= text << place
                bound.append(given)
        shape = (len(raw.values), texts)
        if shape not in self._statements:
            self._statements[shape] = self._statement(*shape)
        self._execute(self._statements[shape], bound)

    def _statement(self, count: int, texts: int) -> str:
        table = self.table
        own = not (table.without_rowid or table.alias) and table.rowid
        names, shown = ([quote(str(table.rowid))], ["?"]) if own else ([], [])
        for place, name in enumerate(table.stored[:count]):
            if name in table.columns:
                names.append(quote(name))
                shown.append("CAST(? AS TEXT)" if texts >> place & 1 else "?")
        if not names:
            return f"INSERT INTO {self._name} DEFAULT VALUES"
        return f"INSERT INTO {self._name}({', '.join(names)}) VALUES ({', '.join(shown)})"

    def _make_way(self, raw: RawRow) -> None:
        """Put rows that have a unique key of this one into the quarantine."""
        row = as_named(self.table, raw)
        if row is None:
            return
        values = dict(zip(self.table.named, row, strict=True))
        for key in self._unique_keys():
            bound = [self._bindable(values.get(name)) for name, _ in key]
            if any(value is None for _, value in bound):
                continue
            where = " AND ".join(
                f"{quote(name)} = {'CAST(? AS TEXT)' if text else '?'} COLLATE {quote(collation)}"
                for (name, collation), (text, _) in zip(key, bound, strict=True)
            )
            selected = ", ".join(map(quote, self.table.named))
            given = [value for _, value in bound]
            for older in self._execute(f"SELECT {selected} FROM {self._name} WHERE {where}", given).fetchall():
                self._keeper.keep(older, OLDER)
            self._execute(f"DELETE FROM {self._name} WHERE {where}", given)

    def _unique_keys(self) -> list[tuple[tuple[str, str], ...]]:
        if self._unique is None:
            self._unique = []
            for _, name, unique, _, partial in self._connection.execute(
                f"PRAGMA main.index_list({quote(self.table.name)})"
            ).fetchall():
                terms = self._connection.execute(f"PRAGMA main.index_xinfo({quote(name)})").fetchall()
                keys = [(str(term[2]), str(term[4])) for term in terms if term[5] and term[1] >= 0]
                if unique and not partial and len(keys) == sum(bool(term[5]) for term in terms):
                    self._unique.append(tuple(keys))
        return self._unique

    def _execute(self, sql: str, values: Sequence[SqlValue]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise _unwritable(error) from error

    def _bindable(self, value: SqlValue) -> tuple[bool, SqlValue]:
        """Return whether a value is a text that must be bound as its bytes, and what to bind."""
        if not isinstance(value, str):
            return False, value
        try:
            value.encode()
        except UnicodeEncodeError:
            utf8 = self._encoding == "utf-8"
            return True, text_bytes(value) if utf8 else value.encode(self._encoding, "surrogatepass")
        return False, value


def _unwritable(error: sqlite3.Error) -> Exception:
    """Return Unwritable for what only the application has, and any other error as it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return Unwritable(str(error)) if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH) else error
