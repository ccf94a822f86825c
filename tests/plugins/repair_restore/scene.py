"""A database with a backup, newer commits and then damage; and which rows the damage cannot have hit."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pagewarden.contracts import Loss, Pattern, RepairStep
from pagewarden.pages import backend
from pagewarden.repair.closed import ClosedFile, differing
from pagewarden.repair.moving import stored_text
from pagewarden.repair.rows import chain_pages, leaf_cells, raw_row
from pagewarden.structure import Tree
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.values import Finding, Severity
from pagewarden_repair_restore.repairer import RestoreRepairer
from tests.support.recorded import History, Recorded

Rows = dict[str, set[tuple[object, ...]]]

DAMAGE = (Finding(kind="malformed", severity=Severity.DAMAGE, message="sqlite cannot read it"),)
SELECTED = {
    "item": "id, name, body",
    "keyed": "kind, number, value",
    "plain": "rowid, a, b",
    "strict": "id, mail, more",
    "found": "rowid, words",
    "fresh": "rowid, a, b",
}
_WITHOUT_ROWID = ("keyed",)


def make(path: Path, *, seed: int = 1, rows: int = 150, page_size: int = 1024, encoding: str = "UTF-8") -> None:
    """Make a database with tables of all shapes, and close it."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            f"""
            PRAGMA page_size={page_size}; PRAGMA encoding="{encoding}"; PRAGMA synchronous=OFF;
            PRAGMA secure_delete=ON; PRAGMA application_id=77;
            CREATE TABLE item(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, body BLOB);
            CREATE INDEX item_name ON item(name);
            CREATE TABLE keyed(kind TEXT, number INT, value, PRIMARY KEY(kind, number)) WITHOUT ROWID;
            CREATE TABLE plain(a, b REAL, twice AS (a * 2));
            CREATE TABLE strict(id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE, more INT DEFAULT 7) STRICT;
            CREATE VIRTUAL TABLE found USING fts5(words);
            CREATE VIEW seen AS SELECT name FROM item;
            BEGIN;
            """
        )
        for number in range(rows):
            body = chance.randbytes(chance.choice((5, 50, 50, 3 * page_size)))
            value = chance.randbytes(chance.choice((5, 50, 900)))
            connection.execute("INSERT INTO item(name, body) VALUES (?, ?)", (f"näme {number}", body))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?)", (f"kind {number % 50}", number, value))
            connection.execute("INSERT INTO plain VALUES (?, ?)", (number, float(number)))
            connection.execute("INSERT INTO strict(mail) VALUES (?)", (f"{number}@example",))
            connection.execute("INSERT INTO found VALUES (?)", (f"word{number} common",))
        connection.execute("COMMIT")
        connection.execute("CREATE TRIGGER emptied AFTER INSERT ON item BEGIN DELETE FROM plain; END")


def write_on(path: Path, *, seed: int = 1, rows: int = 30, schema: Sequence[str] = ()) -> None:
    """Commit what is newer than the backup."""
    chance = random.Random(seed + 1000)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA secure_delete=ON")
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        if schema:
            connection.execute("DROP TRIGGER emptied")
        else:  # the schema cookie stays as it is
            connection.execute("PRAGMA recursive_triggers=OFF")
        connection.execute("BEGIN")
        for number in range(rows if schema else 0):
            body = chance.randbytes(chance.choice((5, 50, 3000)))
            connection.execute("INSERT INTO item(name, body) VALUES (?, ?)", (f"new {number}", body))
        for number in range(rows):
            value = chance.randbytes(chance.choice((5, 50, 900)))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?)", (f"kind {number % 50}", 1000 + number, value))
            connection.execute("INSERT INTO plain(a, b) VALUES (?, ?)", (number, float(number)))
            connection.execute("INSERT INTO strict(mail) VALUES (?)", (f"new{number}@example",))
            connection.execute("INSERT INTO found VALUES (?)", (f"new{number} common",))
        connection.execute("UPDATE item SET name = name || '!' WHERE id % 17 = 0")
        connection.execute("UPDATE keyed SET value = 'later' WHERE number % 17 = 0")
        connection.execute("DELETE FROM strict WHERE id % 19 = 0")
        connection.execute("PRAGMA user_version=9")
        for statement in schema:
            connection.execute(statement)
        if schema:
            connection.execute(sql)
        connection.execute("COMMIT")


def rows_of(path: Path) -> Rows:
    """Return all rows of a sound database."""
    found: Rows = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = stored_text
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        for table, columns in SELECTED.items():
            there = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")} | {"rowid"}
            selected = columns if set(columns.split(", ")) <= there else "*"
            found[table] = set(connection.execute(f"SELECT {selected} FROM {table}")) if table in names else set()
    return found


class Scene:
    """All that a test needs of one database."""

    def __init__(self, folder: Path, *, seed: int = 1, schema: Sequence[str] = (), **made: object) -> None:
        self.folder = folder
        self.database = folder / "copy" / "app.db"
        self.database.parent.mkdir()
        make(self.database, seed=seed, **made)  # type: ignore[arg-type]
        self.recorded = Recorded(self.database)
        self.backed_up = rows_of(self.database)
        write_on(self.database, seed=seed, schema=schema)
        self.good = self.database.read_bytes()
        self.rows = rows_of(self.database)
        (folder / "good.db").write_bytes(self.good)

    def repair(
        self, findings: Sequence[Finding] = DAMAGE, *, refused: str = "", history: History | None = None,
        patterns: Sequence[Pattern] = (),
    ) -> ClosedBench:  # fmt: skip
        """Plan and apply the repair of the database as it is now."""
        past = history or History(self.recorded)
        case = ClosedCase(self.database, findings, refused=refused, history=past, patterns=patterns)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        for path in scratch.iterdir():
            path.unlink()
        (step,) = RestoreRepairer().plan(case)
        bench = ClosedBench(self.database, scratch, case)
        RestoreRepairer().apply(bench, [step])
        return bench

    def step(self, history: History) -> RepairStep:
        """Return what is planned."""
        (step,) = RestoreRepairer().plan(ClosedCase(self.database, DAMAGE, history=history))
        assert step.loss in (Loss.PROVEN, Loss.SINCE_BACKUP)
        return step

    def not_hit(self) -> Rows:
        """Return the rows no page of which differs between the sound database and the injured one."""
        with ClosedFile(self.folder / "good.db") as good:
            sums = backend().buffer_sums(self.good, good.page_size, 1, good.pages)
            injured = self.database.read_bytes()
            pages = -(-len(injured) // good.page_size)
            hit = differing(
                sums, backend().buffer_sums(injured.ljust(pages * good.page_size, b"\0"), good.page_size, 1, pages)
            )
            schema = good.usage([Tree(name="sqlite_schema", root=1, index=False)], lambda: None).by_tree()[0]
            cut_off = sum(good.page(pgno)[0] in (2, 5) for pgno in hit)
            # Where several trees are cut in pieces, or the schema is, nobody can tell whose the pieces are.
            if cut_off > 1 or hit.intersection(schema[1:]) or good.page(1)[100:] != injured[100 : good.page_size]:
                return defaultdict(set)
            return _rows_beside(good, self.folder / "good.db", hit)

    def check(self) -> None:
        """Assert that SQLite and FTS5 find nothing wrong with the database, and that nothing is beside it."""
        with closing(sqlite3.connect(self.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.execute("INSERT INTO found(found, rank) VALUES ('integrity-check', 0)")
        assert [path.name for path in self.database.parent.iterdir()] == [self.database.name]


def _rows_beside(good: ClosedFile, path: Path, hit: set[int]) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall())
    safe: Rows = defaultdict(set)
    rows = rows_of(path)
    for table in SELECTED:
        stored = "found_content" if table == "found" else table
        if stored not in roots:
            continue
        tree = Tree(name=stored, root=roots[stored], index=stored in _WITHOUT_ROWID)
        keys = set()
        for pgno in good.usage([tree], lambda: None).by_tree()[0]:
            page = None if pgno in hit else leaf_cells(good, pgno, index=tree.index)
            for cell in () if page is None else page[1].cells:
                assert page is not None
                if not hit.intersection(number for number, _ in chain_pages(good, cell, lambda: None)):
                    raw = raw_row(good, page[0], cell, lambda: None)
                    keys.add(raw.values[:2] if tree.index else (raw.rowid,))
        safe[table] = {row for row in rows[table] if row[: 2 if tree.index else 1] in keys}
    return safe


def kept(bench: ClosedBench, table: str) -> set[tuple[object, ...]]:
    """Return the rows of a table that went into the quarantine."""
    return {tuple(row) for name, _, rows, _ in bench.cut_rows if name == table for row in rows}


def ran(path: Path, *statements: str) -> None:
    """Commit each of some statements."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def asked(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Return what SQLite answers."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write bytes of a closed file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_leaf(scene: Scene, table: str) -> None:
    """Zero a page of a table that has several."""
    ((root,),) = asked(scene.database, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    assert isinstance(root, int)
    page = scene.good[(root - 1) * 1024 :]
    (child,) = struct.unpack_from(">I", page, struct.unpack_from(">H", page, 12)[0])
    overwrite(scene.database, (child - 1) * 1024, bytes(1024))
