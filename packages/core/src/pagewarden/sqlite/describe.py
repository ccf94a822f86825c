"""Which b-trees a schema names and what their records hold: SQLite itself parses the schema, in memory.

1. The rows of sqlite_schema come from the pages of a file that may be hostile (H29). They are written into the
   sqlite_schema of an empty database in memory, and SQLite is made to load that: it parses every statement as it does
   when it opens a file, and runs none. Functions and collations that only an application has are no error then.
2. Only what begins like a CREATE of an ordinary table or index is taken: views, triggers and virtual tables have no
   b-tree, and asking about them would run their modules.
3. What was parsed is asked for with PRAGMA table_list, table_xinfo and index_xinfo, which read no table.

The root pages in memory are stand-ins. A statement that SQLite cannot parse leaves its tree without columns.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from pagewarden.sqlite.btree import page_kind
from pagewarden.sqlite.names import as_text, quote
from pagewarden.sqlite.schema import MAX_PAYLOAD, Layout, ReadPage, SchemaEntry, read_whole_schema
from pagewarden.structure import Collation, Column, StrictType, Tree

MAX_TREES = 1_000_000
"""How many b-trees are described; a schema with more counts as one that was not read to its end."""

MAX_COLUMNS = 4_000_000
"""How many columns all trees together may have; the trees after that many stay without."""

SECONDS = 30.0
"""How long SQLite may parse; the trees that are not parsed by then stay without columns."""

_AT_ONCE = 4 << 20  # characters of statements that are parsed together
_TABLE = re.compile(r"\s*CREATE\s+TABLE\s", re.IGNORECASE)
_INDEX = re.compile(r"\s*CREATE\s+(UNIQUE\s+)?INDEX\s", re.IGNORECASE)
_COLLATIONS = {"BINARY": Collation.BINARY, "NOCASE": Collation.NOCASE, "RTRIM": Collation.RTRIM}
_STRICT = {
    "INT": StrictType.INTEGER,
    "INTEGER": StrictType.INTEGER,
    "REAL": StrictType.REAL,
    "TEXT": StrictType.TEXT,
    "BLOB": StrictType.BLOB,
}
_ASKED = frozenset({"table_list", "table_xinfo", "index_list", "index_xinfo"})
_VIRTUAL = 2  # "hidden" of PRAGMA table_xinfo: a generated column that is not stored
_NO_PAGE = 0xFFFFFFFF
_DESCENDING_FORMAT = 4  # schema format (header, byte 44) from which SQLite honours DESC in indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The b-trees of a schema."""

    trees: tuple[Tree, ...]  # sqlite_schema first
    unknown: tuple[str, ...] = ()  # tables and indexes whose statement could not be parsed
    whole: bool = True  # whether the schema was read to its end


def describe_trees(
    read: ReadPage,
    layout: Layout,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Description:
    """Read the schema from the pages, and return its b-trees."""
    entries, whole = read_whole_schema(read, layout)
    rooted = [entry for entry in entries if entry.stated and entry.kind in ("table", "index")]
    shapes = _Shapes(descending=int.from_bytes(read(1)[44:48], "big") >= _DESCENDING_FORMAT)
    end = clock() + seconds
    for some in _portions(rooted[1:MAX_TREES]):
        if clock() > end or shapes.columns > MAX_COLUMNS:
            break
        shapes.learn(some)
    trees = [Tree(name=rooted[0].name, root=1, index=False, columns=_schema_columns())]
    unknown = []
    described: set[str] = set()
    for entry in rooted[1:MAX_TREES]:
        key = _fold(entry.name)
        tree = None if key in described else shapes.tree(entry)
        described.add(key)
        if tree is None:
            unknown.append(entry.name)
            tree = Tree(name=entry.name, root=_root(entry), index=_looks_like_index(read, entry))
        trees.append(tree)
    return Description(trees=tuple(trees), unknown=tuple(unknown), whole=whole and len(rooted) <= MAX_TREES)


def _schema_columns() -> tuple[Column, ...]:
    return tuple(Column(name=name) for name in ("type", "name", "tbl_name", "rootpage", "sql"))


def _root(entry: SchemaEntry) -> int:
    """Return the root page that an entry states; a number that no page can have becomes one of those."""
    return entry.stated if 0 < entry.stated < _NO_PAGE else _NO_PAGE


def _fold(name: str) -> str:
    """Return a name as SQLite compares it: letters of ASCII alone have no case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _looks_like_index(read: ReadPage, entry: SchemaEntry) -> bool:
    """Guess what kind of b-tree it is: a table WITHOUT ROWID is kept as an index is."""
    if entry.kind == "index" or not entry.root:
        return entry.kind == "index"
    kind = page_kind(read(entry.root), entry.root)
    return kind is not None and not kind.is_table


def _portions(entries: Iterable[SchemaEntry]) -> Iterator[list[SchemaEntry]]:
    """Yield the entries in groups of bounded size, all of one table together."""
    tables: dict[str, list[SchemaEntry]] = {}
    for entry in entries:
        tables.setdefault(_fold(entry.table), []).append(entry)
    group: list[SchemaEntry] = []
    size = 0
    for members in tables.values():
        group += members
        size += sum(len(entry.sql) for entry in members)
        if size > _AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Shapes:
    """What SQLite made of the statements: the columns of tables and indexes by their names."""

    def __init__(self, *, descending: bool) -> None:
        self.columns = 0
        self._descending = descending
        self._tables: dict[str, tuple[Column, ...]] = {}
        self._trees: dict[str, tuple[tuple[Column, ...], int]] = {}  # indexes and tables WITHOUT ROWID, with their keys

    def tree(self, entry: SchemaEntry) -> Tree | None:
        """Return the tree of an entry; None if it could not be parsed."""
        key = _fold(entry.name)
        if entry.kind == "table" and key in self._tables:
            return Tree(name=entry.name, root=_root(entry), index=False, columns=self._tables[key])
        if key in self._trees:
            columns, keys = self._trees[key]
            return Tree(name=entry.name, root=_root(entry), index=True, columns=columns, keys=keys)
        return None

    def learn(self, entries: Sequence[SchemaEntry]) -> None:
        """Let SQLite parse `entries`; what it cannot parse, or refuses, stays unknown, and is told as such."""
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection, suppress(sqlite3.Error):
            # Names may hold anything; those that are no UTF-8 were replaced when the schema was read.
            connection.text_factory = as_text
            _load(connection, entries)
            wanted = {_fold(entry.name) for entry in entries}
            for _, name, kind, _, without_rowid, strict in connection.execute("PRAGMA main.table_list").fetchall():
                if kind == "table" and _fold(name) in wanted:
                    self._table(connection, name, bool(without_rowid), bool(strict))
            for entry in entries:
                if entry.kind == "index":
                    self._index(connection, entry)

    def _table(self, connection: sqlite3.Connection, name: str, without_rowid: bool, strict: bool) -> None:
        rows = connection.execute(f"PRAGMA main.table_xinfo({quote(name)})").fetchall()
        indexes = connection.execute(f"PRAGMA main.index_list({quote(name)})").fetchall()
        primary = next((row[1] for row in indexes if row[3] == "pk"), None)
        # A primary key without an index is the rowid.
        columns = {
            row[0]: Column(
                name=row[1],
                not_null=bool(row[3]),
                strict=_STRICT.get(str(row[2]).upper(), StrictType.ANY) if strict else StrictType.ANY,
                rowid=bool(row[5]) and primary is None,
            )
            for row in rows
            if row[6] != _VIRTUAL
        }
        if not without_rowid:
            self._tables[_fold(name)] = tuple(columns.values())
            self.columns += len(columns)
        elif primary is not None:
            stored = connection.execute(f"PRAGMA main.index_xinfo({quote(primary)})").fetchall()
            self._keep(name, [(columns.get(row[1], Column()), row) for row in stored], sum(row[5] for row in stored))

    def _index(self, connection: sqlite3.Connection, entry: SchemaEntry) -> None:
        rows = connection.execute(f"PRAGMA main.index_xinfo({quote(entry.name)})").fetchall()
        if rows:
            # All columns order an index: those behind the declared ones tell rows with equal values apart.
            named = [(Column(name=row[2] or ("rowid" if row[1] == -1 else "expression")), row) for row in rows]
            self._keep(entry.name, named, len(rows))

    def _keep(self, name: str, columns: Sequence[tuple[Column, Sequence[object]]], keys: int) -> None:
        self._trees[_fold(name)] = tuple(self._ordered(column, row) for column, row in columns), keys
        self.columns += len(columns)

    def _ordered(self, column: Column, row: Sequence[object]) -> Column:
        """Return a column as it is compared; `row` is one of PRAGMA index_xinfo."""
        return Column(
            name=column.name,
            collation=_COLLATIONS.get(str(row[4]).upper(), Collation.UNKNOWN),
            descending=bool(row[3]) and self._descending,
            not_null=column.not_null,
            strict=column.strict,
        )


def _load(connection: sqlite3.Connection, entries: Sequence[SchemaEntry]) -> None:
    """Make SQLite parse the statements of `entries` as the schema of an empty database."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MAX_PAYLOAD)
    # Functions that SQLite does not trust in a schema are parsed like others (docs/decisions/0007): there is no row
    # that one could be run for, and `_only_describe` keeps any other statement away.
    connection.execute("PRAGMA trusted_schema=1")
    connection.execute("PRAGMA page_size=512")
    rows, most = [], 2
    places: dict[str, int] = {}
    for entry in entries:
        if not _parsable(entry):
            continue
        # The indexes of one table must have different root pages; nobody ever looks at them.
        place = places[entry.table] = places.get(entry.table, 1) + 1
        most = max(most, place)
        rows.append((entry.kind, entry.name, entry.table, place, entry.sql or None))
    connection.execute("CREATE TABLE pagewarden(filler)")
    connection.execute("INSERT INTO pagewarden VALUES (zeroblob(?))", (512 * most,))
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("DELETE FROM sqlite_schema")
    connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("PRAGMA writable_schema=RESET")
    # Switched on again before the schema is loaded: then what cannot be parsed is left out, and no error.
    connection.execute("PRAGMA writable_schema=ON")
    connection.set_authorizer(_only_describe)


def _only_describe(action: int, name: str | None, *_: str | None) -> int:
    """Allow, from when the schema is there, the questions that read no table; the loading itself asks nobody."""
    return sqlite3.SQLITE_OK if action == sqlite3.SQLITE_PRAGMA and name in _ASKED else sqlite3.SQLITE_DENY


def _parsable(entry: SchemaEntry) -> bool:
    if not entry.sql:
        return entry.kind == "index"
    return bool((_TABLE if entry.kind == "table" else _INDEX).match(entry.sql))
