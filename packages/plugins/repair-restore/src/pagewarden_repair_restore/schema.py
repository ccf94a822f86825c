"""Which schema the new file gets, and by which the damaged file is read.

| the damaged file | its trees are read by | the new file gets |
|---|---|---|
| its header has the restore point's schema cookie: no schema change since | the restore point's schema | that |
| another cookie, or none to be believed, and a sound schema whose tables share pages or rows | its own | its own |
| neither | the restore point's, as far as pages that both share prove its roots | the restore point's |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pagewarden.repair.closed import ClosedFile, TooDamaged
from pagewarden.repair.lookups import fold
from pagewarden.sqlite.describe import Description, describe_trees
from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.schema import SchemaEntry, read_whole_schema
from pagewarden.sqlite.virtual import virtual_table
from pagewarden.structure import Tree
from pagewarden_repair_restore.sides import never

_FRACTIONS = bytes((64, 32, 32))  # of payloads; SQLite takes no others (file format, section 1.3.4)
_OWN = "sqlite_"  # what the names of SQLite's own objects begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A schema as it stands in the pages of one file."""

    entries: tuple[SchemaEntry, ...]
    trees: tuple[Tree, ...]  # the schema's own first

    @property
    def tables(self) -> dict[str, SchemaEntry]:
        """The tables with a b-tree, by their folded names; SQLite's own are not among them."""
        return {
            fold(entry.name): entry
            for entry in self.entries
            if entry.kind == "table" and entry.root and entry.sql and not fold(entry.name).startswith(_OWN)
        }

    @property
    def virtual(self) -> dict[str, SchemaEntry]:
        """The virtual tables, by their folded names."""
        return {
            fold(entry.name): entry
            for entry in self.entries
            if entry.kind == "table" and not entry.stated and entry.sql
        }

    @property
    def indexes(self) -> dict[str, SchemaEntry]:
        """The indexes that a statement made, by their folded names."""
        return {fold(entry.name): entry for entry in self.entries if entry.kind == "index" and entry.sql}

    @property
    def table_of(self) -> dict[str, str]:
        """Which table each index is of, by folded names."""
        return {fold(entry.name): fold(entry.table) for entry in self.entries if entry.kind == "index"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is taken for true of the damaged file's first page."""

    schema: Schema  # by which its trees are read
    own: bool  # whether that is its own, another one than the restore point's
    proven: bool  # whether its roots are known to be those
    header: DatabaseHeader | None  # the damaged file's, where it can be believed


def schema_of(file: ClosedFile) -> Schema:
    """Return the schema of a sound file."""
    return _schema(file, describe_trees(file.page, file.layout))


def _schema(file: ClosedFile, description: Description) -> Schema:
    return Schema(entries=read_whole_schema(file.page, file.layout)[0], trees=description.trees)


def choose(damaged: ClosedFile, known: Schema, header: DatabaseHeader | None, there: DatabaseHeader) -> Choice:
    """Decide. `known` and `there` are the schema and header of the restore point, `header` what `credible` returned."""
    if header is not None and header.schema_cookie == there.schema_cookie:
        return Choice(schema=known, own=False, proven=True, header=header)
    own = _sound_schema(damaged)
    if own is not None:
        return Choice(schema=own, own=True, proven=True, header=header)
    return unproven(known, header)


def unproven(known: Schema, header: DatabaseHeader | None) -> Choice:
    """Return the choice of the restore point's schema, where nothing proves that the damaged file has it."""
    return Choice(schema=known, own=False, proven=False, header=header)


def credible(first: bytes, there: DatabaseHeader) -> DatabaseHeader | None:
    """Return the header in the first 100 bytes of the damaged file, unless something in it cannot be so.

    `there` is that of the restore point.
    """
    try:
        header = DatabaseHeader.parse(first)
    except HeaderInvalid:
        return None
    holds = (
        header.write_version in (1, 2)
        and header.read_version in (1, 2)
        and header.reserved == there.reserved
        and first[21:24] == _FRACTIONS
        and 1 <= header.schema_format <= 4
        and header.text_encoding == there.text_encoding
        and bool(header.largest_root) == bool(there.largest_root)
        and header.largest_root <= header.page_count
        and first[72:92] == bytes(20)
    )
    return header if holds else None


def _sound_schema(file: ClosedFile) -> Schema | None:
    description = describe_trees(file.page, file.layout)
    if description.unknown or not description.whole:
        return None
    try:
        usage = file.usage(description.trees[:1], never, judged=True)
    except TooDamaged:
        return None
    return None if usage.flaws else _schema(file, description)


def shadows(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return, by virtual table, the tables that hold what it stores; all names folded."""
    tables = schema.tables
    return {
        name: tuple(f"{name}{suffix}" for suffix in _suffixes(entry) if f"{name}{suffix}" in tables)
        for name, entry in schema.virtual.items()
    }


def _suffixes(entry: SchemaEntry) -> Sequence[str]:
    module = virtual_table(entry.name, entry.sql).module
    if module in ("fts3", "fts4"):
        return ("_content", "_segments", "_segdir", "_docsize", "_stat")
    if module == "fts5":
        return ("_data", "_idx", "_content", "_docsize", "_config")
    if module in ("rtree", "rtree_i32", "geopoly"):
        return ("_node", "_rowid", "_parent")
    return ()
