"""Databases for walks over their b-trees, and the walk itself in one call."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pagewarden.pages import Backend, PageSource
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import WalkPlan, plan_walk
from pagewarden.sqlite.btree import BTreePage, parse_page
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Flaw, FlawKind, StructureStep, Tree

SCHEMA = """
CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT NOT NULL, number REAL, body BLOB);
CREATE INDEX a_name ON a(name COLLATE NOCASE, number DESC);
CREATE INDEX a_body ON a(body, number);
CREATE TABLE b(word TEXT, place INTEGER, more, PRIMARY KEY(place, word COLLATE RTRIM)) WITHOUT ROWID;
CREATE TABLE c(i INTEGER, r REAL, t TEXT, b BLOB NOT NULL, x ANY) STRICT;
CREATE TABLE gone(x);
"""


@dataclass(kw_only=True)
class Database:
    """The bytes of a database file, to be injured, and how to walk them."""

    data: bytearray
    page_size: int
    trees: tuple[Tree, ...] = field(default=())  # described while it was sound

    @classmethod
    def read(cls, path: Path) -> Database:
        """Read a file and describe its trees."""
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[16:18], "big")
        database = cls(data=data, page_size=65536 if size == 1 else size)
        layout = Layout.of(database.page(1), page_size=database.page_size, pages=database.pages)
        database.trees = describe_trees(database.page, layout).trees
        return database

    @property
    def pages(self) -> int:
        """Size in pages."""
        return len(self.data) // self.page_size

    @property
    def usable(self) -> int:
        """Bytes of a page without the reserved ones."""
        return self.page_size - self.data[20]

    def page(self, pgno: int) -> bytes:
        """Return a page."""
        return bytes(self.data[(pgno - 1) * self.page_size : pgno * self.page_size])

    def parse(self, pgno: int) -> BTreePage:
        """Take a page apart."""
        return parse_page(self.page(pgno), pgno=pgno, usable=self.usable)

    def put(self, pgno: int, offset: int, new: bytes) -> None:
        """Write bytes into a page."""
        at = (pgno - 1) * self.page_size + offset
        self.data[at : at + len(new)] = new

    def number(self, pgno: int, offset: int, size: int = 4) -> int:
        """Return a number in a page."""
        return int.from_bytes(self.page(pgno)[offset : offset + size], "big")

    def tree(self, name: str) -> int:
        """Return the place of a tree by its name."""
        return next(place for place, tree in enumerate(self.trees) if tree.name == name)

    def root(self, name: str) -> int:
        """Return the root page of a tree."""
        return self.trees[self.tree(name)].root

    def leaf(self, name: str, at: int = 0) -> int:
        """Return a leaf of a tree: of child `at` of its root, the left-most below that."""
        page = self.parse(self.root(name))
        while not page.kind.is_leaf:
            children = [cell.child for cell in page.cells] + [page.right]
            page, at = self.parse(children[at] or 0), 0
        return page.pgno

    def plan(self) -> WalkPlan:
        """Return the plan of a walk over all trees."""
        return plan_walk(self.page(1), page_size=self.page_size, pages=self.pages, trees=self.trees)

    @contextmanager
    def source(self, folder: Path) -> Iterator[PageSource]:
        """Write the bytes to a file, and open it."""
        path = folder / "walked.db"
        path.write_bytes(self.data)
        file = os.open(path, os.O_RDONLY)
        try:
            yield PageSource(database=file, page_size=self.page_size, pages=self.pages, file_size=len(self.data))
        finally:
            os.close(file)

    def walk(self, using: Backend, folder: Path, *, threads: int = 1) -> StructureStep:
        """Walk everything in one step."""
        with self.source(folder) as source:
            return StructureWalk(self.plan(), threads=threads, using=using).step(source, 60.0)

    def flaws(self, using: Backend, folder: Path) -> tuple[Flaw, ...]:
        """Return the flaws of a walk by one thread."""
        return self.walk(using, folder).flaws


def fill(connection: sqlite3.Connection, rows: int, seed: int, longest: int = 3000) -> None:
    """Fill the tables of SCHEMA, delete a part, and leave free pages behind."""
    chance = random.Random(seed)

    def text() -> str:
        return "".join(chance.choices("aAbB zZé語🜚 ", k=chance.randrange(12)))

    def blob() -> bytes | None:
        length = chance.choice((0, 5, 40, 300, longest))
        return chance.choice((None, chance.randbytes(length), chance.randbytes(length // 2) + b"\0" * 20))

    def number() -> float | int | None:
        return chance.choice((None, chance.randrange(-(2**63), 2**63), chance.random() * 1e19, chance.randrange(-9, 9)))

    order = list(range(rows))
    chance.shuffle(order)
    connection.executemany(
        "INSERT INTO a VALUES(?,?,?,?)", [(i * 7 - 50 if i % 5 else i + 2**40, text(), number(), blob()) for i in order]
    )
    connection.executemany(
        "INSERT OR IGNORE INTO b VALUES(?,?,?)", [(text(), chance.randrange(40), blob()) for _ in range(rows)]
    )
    connection.executemany(
        "INSERT INTO c VALUES(?,?,?,?,?)",
        [(i, chance.choice((1.5, 3, None)), text(), b"x" * (i % 90), number()) for i in range(rows)],
    )
    connection.executemany("INSERT INTO gone VALUES(?)", [(b"g" * 400,) for _ in range(rows)])
    connection.execute("DELETE FROM gone")
    connection.execute("DELETE FROM a WHERE id % 3 = 0")
    connection.execute("UPDATE a SET name = name || name WHERE id % 4 = 0")
    connection.execute("ALTER TABLE c ADD COLUMN later INTEGER NOT NULL DEFAULT 7")


def build(
    *, page_size: int = 1024, rows: int = 300, seed: int = 1, pragmas: Sequence[str] = (), reserved: int = 0
) -> Database:
    """Return a database with SCHEMA that SQLite itself made; it is the caller's to change."""
    sound = _build(page_size, rows, seed, tuple(pragmas), reserved)
    return Database(data=bytearray(sound.data), page_size=sound.page_size, trees=sound.trees)


@cache
def _build(page_size: int, rows: int, seed: int, pragmas: tuple[str, ...], reserved: int) -> Database:
    with TemporaryDirectory() as folder:
        return _make(Path(folder) / "made.db", page_size, rows, seed, pragmas, reserved)


def _make(path: Path, page_size: int, rows: int, seed: int, pragmas: tuple[str, ...], reserved: int) -> Database:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (f"page_size={page_size}", *pragmas, "user_version=1"):  # the last one writes page 1
            connection.execute(f"PRAGMA {pragma}")
    if reserved:  # an empty database whose header reserves bytes: SQLite goes on from there
        data = bytearray(path.read_bytes())
        data[20] = reserved
        data[105:107] = struct.pack(">H", page_size - reserved)
        path.write_bytes(data)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for statement in SCHEMA.strip().split(";\n"):
            connection.execute(statement)
        fill(connection, rows, seed)
        connection.execute("COMMIT")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database = Database.read(path)
    assert (database.page_size, database.usable) == (page_size, page_size - reserved)
    return database


def kinds(flaws: Sequence[Flaw]) -> set[FlawKind]:
    """Return the kinds of flaws."""
    return {flaw.kind for flaw in flaws}
