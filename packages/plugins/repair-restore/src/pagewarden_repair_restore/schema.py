"""Which schema the new file gets, and by which the damaged file is read.

| the damaged file's schema | its trees are read by | the new file gets |
|---|---|---|
| is sound, and its tables share pages or rows with the restore point's | its own | its own |
| is hurt; what is left of it, and the schema cookie, are the restore point's | the restore point's | that |
| is hurt, and nothing tells | the restore point's, as far as pages that both share prove its roots | that |

The schema cookie is a counter: a file that another history led to, such as an older copy that was put back by hand and
migrated again, comes to the same one. So it says nothing against a schema that can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pagewarden.repair.closed import ClosedFile, TooDamaged
from pagewarden.repair.lookups import fold
from pagewarden.repair.rows import leaf_cells
from pagewarden.sqlite.describe import Description, describe_trees
from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.schema import SchemaEntry, read_whole_schema
from pagewarden.sqlite.virtual import virtual_table
from pagewarden.structure import Tree
from pagewarden_repair_restore.sides import never

_FRACTIONS = bytes((64, 32, 32))  # of payloads; SQLite takes no others (file format, section 1.3.4)
_KINDS = ("table", "index", "view", "trigger")
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
            if entry.kind == "table" and entry.stated and entry.sql and not fold(entry.name).startswith(_OWN)
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
    foreign: frozenset[str] = frozenset()  # tables of it that are others in what is left of the damaged file's schema


def schema_of(file: ClosedFile) -> Schema:
    """Return the schema of a file, as far as it can be read."""
    return _schema(file, describe_trees(file.page, file.layout))


def _schema(file: ClosedFile, description: Description) -> Schema:
    return Schema(entries=read_whole_schema(file.page, file.layout)[0], trees=description.trees)


def choose(damaged: ClosedFile, known: Schema, header: DatabaseHeader | None, there: DatabaseHeader) -> Choice:
    """Decide. `known` and `there` are the schema and header of the restore point, `header` what `credible` returned."""
    description = describe_trees(damaged.page, damaged.layout)
    own = _schema(damaged, description)
    if _is_sound(damaged, description, own):
        own = _with_right_roots(damaged, own, known)
        return Choice(schema=own, own=_statements(own) != _statements(known), proven=True, header=header)
    strange = _strange(own, known, description.unknown)
    same = header is not None and header.schema_cookie == there.schema_cookie
    # A file that went on from the restore point has committed as often, or more.
    later = header is not None and max(header.change_counter, header.version_valid_for) >= there.change_counter
    foreign = _foreign(strange, own, known)
    return Choice(schema=known, own=False, proven=same and later and not strange, header=header, foreign=foreign)


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


def _is_sound(file: ClosedFile, description: Description, schema: Schema) -> bool:
    """Whether nothing is wrong with a schema, and no row of it was left out."""
    if description.unknown or not description.whole:
        return False
    try:
        usage = file.usage(description.trees[:1], never, judged=True)
    except TooDamaged:
        return False
    if usage.flaws:
        return False
    pages = [leaf_cells(file, pgno, index=False) for pgno in usage.by_tree()[0]]
    rows = sum(len(page[1].cells) for page in pages if page is not None)
    stated = [entry.stated for entry in schema.entries if entry.stated]
    return (
        rows == len(schema.entries) - 1
        and all(entry.kind in _KINDS for entry in schema.entries)
        and len(stated) == len(set(stated))
    )


def _statements(schema: Schema) -> list[tuple[str, str, str, str]]:
    return [_statement(entry) for entry in schema.entries]


def _statement(entry: SchemaEntry) -> tuple[str, str, str, str]:
    return entry.kind, entry.name, entry.table, entry.sql


def _with_right_roots(file: ClosedFile, own: Schema, known: Schema) -> Schema:
    """Return a sound schema with the root pages of the restore point where the trees hold together better by those.

    A root page that is none says nothing of itself: a page further down is a tree, too, of fewer rows.
    """
    places = {_statement(entry): entry.stated for entry in known.entries}
    stated = {entry.name: places.get(_statement(entry), entry.stated) for entry in own.entries if entry.stated}
    trees = tuple(replace(tree, root=stated.get(tree.name, tree.root)) for tree in own.trees)
    if trees == own.trees or _held(file, trees) <= _held(file, own.trees):
        return own
    return Schema(entries=own.entries, trees=trees)


def _held(file: ClosedFile, trees: tuple[Tree, ...]) -> tuple[int, int]:
    """Return how well trees hold together: the fewer flaws, then the more pages are reached, the greater."""
    try:
        usage = file.usage(trees, never, judged=True)
    except TooDamaged:
        return -sys.maxsize, 0
    return -len(usage.flaws), sum(map(len, usage.by_tree()))


def _strange(own: Schema, known: Schema, unknown: Collection[str]) -> list[SchemaEntry]:
    """Return the tables and indexes that can be read in a hurt schema, and are not those of the restore point."""
    there = set(_statements(known))
    return [
        entry
        for entry in own.entries
        if entry.stated and entry.sql and entry.name not in unknown and _statement(entry) not in there
    ]


def _foreign(strange: Sequence[SchemaEntry], own: Schema, known: Schema) -> frozenset[str]:
    """Return tables of the restore point whose rows cannot be those that stand in the damaged file.

    There they have other columns, unless some were added at the end, or their root page is another table's.
    """
    columns, before = _columns(own), _columns(known)
    taken = {entry.stated: fold(entry.name) for entry in strange if entry.kind == "table"}
    return frozenset(
        name
        for name, entry in known.tables.items()
        if taken.get(entry.stated, name) != name
        or (name in taken.values() and columns[name][: len(before[name])] != before[name])
    )


def _columns(schema: Schema) -> dict[str, list[str]]:
    return {fold(tree.name): [column.name for column in tree.columns] for tree in schema.trees}


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
