"""Which rows of which side: table by table.

| the table in the damaged file | the new one has |
|---|---|
| its tree is sound | its rows as they stand there: newer ones, and deletions |
| its tree is not | every row of the restore point, and rows of sound pages that differ in the place of theirs |
| it is not in a schema that is sound | it was dropped: nothing |
| it is new | the rows of its sound pages |

Whatever version of a row is not taken goes into the quarantine, unless the table was sound: then it was changed or
deleted by whoever owns it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pagewarden.contracts import RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.repair.lookups import Table, fold, read_table
from pagewarden.repair.rows import Cells, RawRow, all_cells, leaf_cells, raw_row, unlike
from pagewarden.sqlite.columns import only_make
from pagewarden.sqlite.names import quote
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import SchemaEntry
from pagewarden.sqlite.virtual import virtual_table
from pagewarden_repair_restore.schema import Choice, Schema, shadows
from pagewarden_repair_restore.sides import Damaged, Image, never, unshared
from pagewarden_repair_restore.writing import DROPPED, OLDER, UNSOUND, Keeper, Unwritable, Writer

_REBUILT = ("fts4", "fts5")  # modules that can make their index anew from their rows
_MOST_KEYS = 500_000  # of rows that are held at once
_NAMED = 3  # tables, in a message
_TABLE = re.compile(r"\s*CREATE\s+TABLE\s", re.IGNORECASE)
_INDEX = re.compile(r"\s*CREATE\s+(UNIQUE\s+)?INDEX\s", re.IGNORECASE)


class Merge:
    """Brings the tables of the new file up to date."""

    def __init__(
        self, bench: RepairBench, connection: sqlite3.Connection, ours: Image, theirs: Damaged, known: Schema,
        choice: Choice,
    ) -> None:  # fmt: skip
        """`connection` is one to a copy of the restore point, whose pages are `ours`; `known` is its schema."""
        self._bench = bench
        self._connection = connection
        self._ours = ours
        self._theirs = theirs
        self._known = known
        self._choice = choice
        self._suspect = theirs.suspect
        self._shadows = shadows(choice.schema)
        self._merged_tables: set[str] = set()  # whose rows are of both sides
        self._mixed: set[str] = set()  # virtual tables of which not all that they store could be taken
        self._strays = self._stray_pages()

    def run(self) -> None:
        """Do all tables."""
        tables = self._choice.schema.tables
        if self._choice.own:
            self._drop(set(self._known.tables) - set(tables))
        held = self._held_back()
        for number, (name, entry) in enumerate(tables.items()):
            self._bench.progress(number, len(tables))
            if name not in held:
                self._table(name, entry)
        self._sequences()
        self._bench.progress(len(tables), len(tables))

    def rebuild_virtual(self) -> None:
        """Let full-text tables whose rows were merged make their indexes anew, where SQLite knows their module."""
        for name, entry in self._choice.schema.virtual.items():
            table = virtual_table(entry.name, entry.sql)
            content = f"{name}_content" if table.content is None else fold(table.content)
            if table.module in _REBUILT and content and (content in self._merged_tables or name in self._mixed):
                quoted = quote(entry.name)
                with suppress(sqlite3.Error):  # its tokenizer is the application's: it says so when it is checked (H7)
                    self._connection.execute(f"INSERT INTO {quoted}({quoted}) VALUES ('rebuild')")

    # Which side

    def _held_back(self) -> set[str]:
        """Return shadow tables that stay as the restore point has them, because not all of their kind are sound."""
        held: set[str] = set()
        for name, tables in self._shadows.items():
            if all(self._believed(table) and self._theirs.sound(table) for table in tables):
                continue
            held.update(table for table in tables if table in self._known.tables)
            self._mixed.add(name)
            # The rows of a full-text table can be merged as any others; its index is made of them.
            if f"{name}_content" in tables and self._can_rebuild(name):
                held.discard(f"{name}_content")
        return held

    def _can_rebuild(self, name: str) -> bool:
        entry = self._choice.schema.virtual[name]
        module = virtual_table(entry.name, entry.sql).module
        known = {str(row[0]) for row in self._connection.execute("PRAGMA module_list")}
        return module in _REBUILT and module in known and name in self._known.virtual

    def _believed(self, name: str) -> bool:
        """Whether the tree that the schema names is that table's in the damaged file."""
        if name in self._choice.foreign:
            return False
        return self._choice.proven or self._theirs.resembles(self._ours, name)

    # One table

    def _table(self, name: str, entry: SchemaEntry) -> None:
        known = self._known.tables.get(name)
        if not self._believed(name):
            return
        try:
            with self._savepoint():
                if known is None:
                    self._make(entry)
                    self._new(name)
                elif known.sql != entry.sql or not self._same_indexes(name):
                    self._remade(name, entry, known)
                elif self._theirs.sound(name):
                    self._whole(name)
                else:
                    self._merged(name)
        except (Unwritable, sqlite3.OperationalError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:
                raise
            self._give_up(name)

    def _whole(self, name: str) -> None:
        """Make the table what it is in the damaged file."""
        table = self._shape(name)
        pages, known = unshared(self._theirs, self._ours, name, self._suspect)
        newer, gone = self._unlike(table, pages, known)
        if not newer and not gone:
            return
        keeper = Keeper(self._bench, table)
        writer = self._writer(table, keeper)
        if not table.without_rowid and table.rowid is None:  # no row can be named
            self._connection.execute(f"DELETE FROM main.{quote(table.name)}")
            newer = self._all(self._theirs, self._theirs.pages(name), table)
        else:
            keys = self._keys(table, newer)
            for _, raw in self._rows(self._ours, table, gone):
                if keys and _key(table, raw) in keys:
                    keeper.keep_raw(raw, OLDER)
                writer.delete(raw)
        for _, raw in self._rows(self._theirs, table, newer):
            writer.insert(raw)
        self._finish(table, keeper)

    def _merged(self, name: str) -> None:
        """Put newer rows of sound pages into the table; what is not taken goes into the quarantine."""
        table = self._shape(name)
        pages, known = unshared(self._theirs, self._ours, name, self._suspect)
        strays = self._strays.get(name, ())
        newer, missing = self._unlike(table, [*pages, *strays], known)
        keeper = Keeper(self._bench, table)
        writer = self._writer(table, keeper)
        nameless = not table.without_rowid and table.rowid is None
        for believed, raw in self._rows(self._theirs, table, newer):
            if nameless or not believed:
                if nameless or not self._same_row(writer, raw):
                    keeper.keep_raw(raw, UNSOUND)
                continue
            writer.replace(raw)
        self._bench.note(table.name, rows_from_backup=max(0, sum(map(len, missing.values())) - writer.replaced))
        self._merged_tables.add(name)
        self._finish(table, keeper)

    def _keys(self, table: Table, cells: Cells) -> set[object]:
        """Return the keys of rows; none of more rows than can be held, whose older versions the repository has."""
        if sum(map(len, cells.values())) > _MOST_KEYS:
            return set()
        return {_key(table, raw) for _, raw in self._rows(self._theirs, table, cells)}

    def _same_row(self, writer: Writer, raw: RawRow) -> bool:
        found = writer.find(raw)
        row = None if found is None else dict(zip(writer.table.named, found, strict=True))
        return row is not None and len(raw.values) <= len(writer.table.stored) and all(
            row[name] == (raw.rowid if name == writer.table.alias else value)
            for name, value in zip(writer.table.stored, raw.values, strict=False)
            if name in row
        )  # fmt: skip

    def _new(self, name: str) -> None:
        """Fill a table that the restore point does not have."""
        table = self._shape(name)
        keeper = Keeper(self._bench, table)
        writer = self._writer(table, keeper)
        pages = [*self._theirs.pages(name), *self._strays.get(name, ())]
        self._merged_tables.add(name)
        for believed, raw in self._rows(self._theirs, table, self._all(self._theirs, pages, table)):
            if not believed:
                keeper.keep_raw(raw, UNSOUND)
            else:
                writer.insert(raw)
        self._finish(table, keeper)

    def _remade(self, name: str, entry: SchemaEntry, known: SchemaEntry) -> None:
        """Make a table by another statement, or with other indexes: of the restore point's rows, then newer ones."""
        self._merged_tables.add(name)
        old = self._shape(name)
        older = [] if self._theirs.sound(name) else list(
            self._rows(self._ours, old, self._all(self._ours, self._ours.pages(name), old))
        )  # fmt: skip
        self._connection.execute(f"DROP TABLE main.{quote(known.name)}")
        self._make(entry)
        table = self._shape(name)
        keeper = Keeper(self._bench, table)
        writer = self._writer(table, keeper)
        dropped = Keeper(self._bench, old)
        for _, raw in older:
            mapped, left = _mapped(raw, old, table)
            if left:
                dropped.keep_raw(raw, DROPPED)
            writer.insert(mapped)
        self._finish(old, dropped)
        pages = [*self._theirs.pages(name), *(self._strays.get(name, ()) if older else ())]
        for believed, raw in self._rows(self._theirs, table, self._all(self._theirs, pages, table)):
            if believed:
                writer.replace(raw)
            elif not self._same_row(writer, raw):
                keeper.keep_raw(raw, UNSOUND)
        self._finish(table, keeper)

    def _give_up(self, name: str) -> None:
        """Leave a table that SQLite cannot write to as the restore point has it, and keep what is newer."""
        found = self._connection.execute(
            "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND lower(name) = ?", (name,)
        ).fetchone()
        if found is None:
            return
        table = self._shape(name)
        pages, known = unshared(self._theirs, self._ours, name, self._suspect)
        keeper = Keeper(self._bench, table)
        for _, raw in self._rows(self._theirs, table, self._unlike(table, pages, known)[0]):
            keeper.keep_raw(raw, "sqlite alone cannot write to its table")
        self._finish(table, keeper)

    def _finish(self, table: Table, keeper: Keeper) -> None:
        keeper.flush()
        self._bench.note(table.name, rows_quarantined=keeper.count)

    # Rows

    def _unlike(self, table: Table, pages: Sequence[int], known: Sequence[int]) -> tuple[Cells, Cells]:
        """Return the rows that the restore point does not have, and those that the damaged file does not."""
        return unlike(self._theirs.file, pages, self._ours.file, known, never, index=table.without_rowid)

    def _all(self, side: Image, pages: Sequence[int], table: Table) -> Cells:
        return all_cells(side.file, pages, never, index=table.without_rowid)

    def _rows(self, side: Image, table: Table, cells: Cells) -> Iterator[tuple[bool, RawRow]]:
        """Yield the rows of some cells, and whether each may be taken for one of the table."""
        name = fold(table.name)
        for pgno, wanted in cells.items():
            page = leaf_cells(side.file, pgno, index=table.without_rowid, only=set(wanted))
            for cell in () if page is None else page[1].cells:
                if page is not None:
                    with suppress(Malformed):
                        raw = raw_row(side.file, page[0], cell, never)
                        yield side is self._ours or self._theirs.believed(name, pgno, cell), raw

    def _stray_pages(self) -> dict[str, list[int]]:
        """Return pages that no tree leads to, by the table that they must be of: one that lost a part."""
        tables, theirs = self._choice.schema.tables, self._theirs
        lost = {name for name in (*tables, *self._choice.schema.table_of) if theirs.lost_a_part(name)}
        found: dict[str, list[int]] = {}
        for pgno in theirs.strays if lost.intersection(tables) else ():
            place = self._ours.usage.tree_of(pgno) if pgno <= self._ours.file.pages else None
            was = None if place is None else fold(self._ours.trees[place].name)
            fitting = [name for name in lost if self._fits(name, pgno)]
            owner = was if was in fitting else fitting[0] if len(fitting) == 1 else None
            if owner in tables:
                found.setdefault(owner, []).append(pgno)
        return found

    def _fits(self, name: str, pgno: int) -> bool:
        """Whether every row of a stray page may be one of a table, or entry of an index."""
        tree = self._theirs.trees[self._theirs.places[name]]
        page = leaf_cells(self._theirs.file, pgno, index=tree.index)
        if page is None or page[1].bad or not page[1].cells:
            return False
        rowids = [cell.rowid for cell in page[1].cells if cell.rowid is not None]
        try:
            counts = {len(raw_row(self._theirs.file, page[0], cell, never).values) for cell in page[1].cells}
        except Malformed:
            return False
        # Rows from before an ALTER TABLE ADD COLUMN have fewer columns; entries of an index never have.
        short = 0 if name in self._choice.schema.table_of else len(tree.columns)
        return len(tree.columns) - short <= min(counts) <= max(counts) <= len(tree.columns) and (
            rowids == sorted(set(rowids))
        )

    # The schema

    def _shape(self, name: str) -> Table:
        found, root, sql = self._connection.execute(
            "SELECT name, rootpage, sql FROM main.sqlite_master WHERE type = 'table' AND lower(name) = ?", (name,)
        ).fetchone()
        (without_rowid,) = (
            row[4] for row in self._connection.execute("PRAGMA main.table_list") if fold(str(row[1])) == name
        )
        return read_table(self._connection, found, root, sql, bool(without_rowid))

    def _writer(self, table: Table, keeper: Keeper) -> Writer:
        return Writer(self._connection, table, keeper, self._ours.file.layout.encoding)

    def _same_indexes(self, name: str) -> bool:
        def of(schema: Schema) -> dict[str, str]:
            return {each: entry.sql for each, entry in schema.indexes.items() if fold(entry.table) == name}

        return not self._choice.own or of(self._known) == of(self._choice.schema)

    def _make(self, entry: SchemaEntry) -> None:
        """Make a table and its indexes by the damaged file's statements, which may be hostile (H29)."""
        name = fold(entry.name)
        statements = [
            (_TABLE, entry.sql),
            *((_INDEX, each.sql) for each in self._choice.schema.indexes.values() if fold(each.table) == name),
        ]
        for form, sql in statements:
            if not form.match(sql):
                raise Unwritable(f"the statement of {entry.name} is none that can be run")
            self._connection.set_authorizer(only_make)
            try:
                self._connection.execute(sql)
            finally:
                self._connection.set_authorizer(None)

    def _drop(self, names: set[str]) -> None:
        for name in sorted(names):
            self._connection.execute(f"DROP TABLE main.{quote(self._known.tables[name].name)}")

    def _sequences(self) -> None:
        """Let no AUTOINCREMENT give a rowid that was given before."""
        place = self._theirs.places.get("sqlite_sequence")
        if place is None or not self._theirs.sound("sqlite_sequence") or not self._believed("sqlite_sequence"):
            return
        pages = self._theirs.pages("sqlite_sequence")
        for pgno in pages:
            page = leaf_cells(self._theirs.file, pgno, index=False)
            for cell in () if page is None else page[1].cells:
                with suppress(Malformed):
                    values = () if page is None else raw_row(self._theirs.file, page[0], cell, never).values
                    if len(values) == 2 and isinstance(values[0], str) and isinstance(values[1], int):
                        self._raise_sequence(values[0], values[1])

    def _raise_sequence(self, name: str, seq: int) -> None:
        with suppress(sqlite3.OperationalError, UnicodeEncodeError):  # there is no sqlite_sequence, or no such table
            changed = self._connection.execute(
                "UPDATE main.sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (seq, name)
            ).rowcount
            if not changed and fold(name) in self._choice.schema.tables:
                self._connection.execute("INSERT INTO main.sqlite_sequence(name, seq) VALUES (?, ?)", (name, seq))

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Take back all that was done where it fails."""
        self._connection.execute("SAVEPOINT one_table")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO one_table")
            raise
        finally:
            self._connection.execute("RELEASE one_table")


def refuse_others(ours: Image, theirs: Damaged, known: Schema, choice: Choice) -> None:
    """Raise RepairRefused where tables would get rows of a restore point that may be another database's.

    That is so where a table that needs them, or more than half of all, have rows in both, and hardly one in common.
    """
    both = [name for name in known.tables if name in choice.schema.tables and theirs.rows(name) and ours.rows(name)]
    others = [name for name in both if not theirs.resembles(ours, name)]
    wanting = [name for name in others if not (choice.proven and theirs.sound(name))]
    if wanting or 2 * len(others) > len(both):
        names = ", ".join(known.tables[name].name for name in (wanting or others)[:_NAMED])
        raise RepairRefused(
            f"nothing shows that the restore point is of this database: its rows of {names} are others than here",
            hint="name the repository and the --db of this database",
        )


def _key(table: Table, raw: RawRow) -> object:
    """Return what names a row."""
    return raw.values[: len(table.keys)] if table.without_rowid else raw.rowid


def _mapped(raw: RawRow, old: Table, new: Table) -> tuple[RawRow, bool]:
    """Return a row of a table as one of another statement has it, by the names of columns; and whether a value is left.

    Columns at the end that it never had are left to their defaults.
    A column may have been renamed. That is certain where all columns before and behind it stand where they stood: one
    that was dropped would have moved those behind it, and ALTER TABLE adds at the end alone.
    """
    values = dict(zip(old.stored, raw.values, strict=False))
    names = set(new.stored)
    if len(old.stored) == len(new.stored) and old.stored[-1:] == new.stored[-1:]:
        pairs = list(zip(old.stored, new.stored, strict=True))
        if all(was == now or (was not in names and now not in values) for was, now in pairs):
            values.update({now: values[was] for was, now in pairs if was in values})
            names.update(old.stored)
    left = any(name not in names and value is not None for name, value in values.items())
    count = max((place for place, name in enumerate(new.stored, start=1) if name in values), default=0)
    return RawRow(rowid=raw.rowid, values=tuple(values.get(name) for name in new.stored[:count])), left
