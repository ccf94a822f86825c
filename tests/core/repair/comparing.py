"""A database before and after a repair, and every row that SQLite can be made to read of it."""

from __future__ import annotations

import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from pagewarden.repair.compare import REPAIRER, Before, compare
from pagewarden.repair.cutouts import Cutouts, read_cutouts
from pagewarden.repair.reports import RepairedTable

Row = tuple[object, ...]


def build(path: Path, *, seed: int = 1, rows: int = 300, page_size: int = 1024, encoding: str = "UTF-8") -> Path:
    """Make a database with tables of all shapes: overflow pages, WITHOUT ROWID, AUTOINCREMENT, odd names and texts."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            f"""
            PRAGMA page_size={page_size}; PRAGMA encoding="{encoding}"; PRAGMA synchronous=OFF;
            CREATE TABLE item(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, body BLOB);
            CREATE INDEX item_name ON item(name);
            CREATE TABLE "pl""ain"(rowid TEXT, "a b" REAL, made AS (length(rowid)) VIRTUAL);
            CREATE TABLE keyed(kind TEXT COLLATE NOCASE, number INTEGER, value, PRIMARY KEY(kind, number))
                WITHOUT ROWID;
            CREATE VIEW seen AS SELECT name FROM item;
            CREATE TRIGGER noted AFTER DELETE ON item BEGIN DELETE FROM keyed WHERE number = old.id; END;
            BEGIN;
            """
        )
        for number in range(rows):
            body = chance.randbytes(chance.choice((4, 40, 40, 400, 3 * page_size)))
            connection.execute("INSERT INTO item(name, body) VALUES (?, ?)", (f"naïve {number * 7919 % 997}", body))
            connection.execute('INSERT INTO "pl""ain" VALUES (?, ?)', (f"text {number}", number / 2))
            long = chance.choice((None, number, "x" * chance.randrange(2 * page_size)))
            connection.execute("INSERT INTO keyed VALUES (?, ?, ?)", (f"Kind {number % 7}", number, long))
        connection.execute("COMMIT")
    return path


class Scene:
    """A database before and after a repair, and the folder of its quarantine."""

    def __init__(self, folder: Path, **made: object) -> None:
        self.before = build(folder / "before.db", **made)  # type: ignore[arg-type]
        self.after = folder / "after.db"
        self.after.write_bytes(self.before.read_bytes())
        self.folder = folder / "entry"
        self.folder.mkdir()

    def run(self, **known: bool) -> dict[str, RepairedTable]:
        """Compare, and return the report by table."""
        with Cutouts(self.folder) as cutouts:
            report = compare(Before(path=self.before, **known), self.after, cutouts)
        return {table.name: table for table in report}

    def cut(self, pgno: int, page_size: int = 1024) -> None:
        """Say that a repairer wrote over a page."""
        data = self.before.read_bytes()[(pgno - 1) * page_size : pgno * page_size]
        with Cutouts(self.folder) as cutouts:
            cutouts.page(pgno, page_size, data, "was damaged", "repair-splice")

    def kept(self, table: str) -> set[tuple[object, ...]]:
        """Return what the comparison put into the quarantine of a table."""
        with read_cutouts(self.folder) as view:
            return {row.values for row in view.rows(table) if row.repairer == REPAIRER}

    def change(self, *statements: str, path: Path | None = None) -> None:
        """Let SQL loose on the repaired copy."""
        with closing(sqlite3.connect(path or self.after, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            for statement in statements:
                connection.execute(statement)


def rows_of(path: Path, table: str) -> set[Row]:
    """Return all rows of a sound table as the quarantine keeps them; none where there is no such table."""
    columns = {"item": "id, name, body", 'pl"ain': 'oid, rowid, "a b"', "keyed": "kind, number, value"}[table]
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall():
            return set()
        return set(connection.execute(f'SELECT {columns} FROM "{table.replace(chr(34), chr(34) * 2)}"'))


def leaves(path: Path, table: str, page_size: int = 1024) -> list[int]:
    """Return the leaf pages of a table, found by their parent's pointers."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    data = path.read_bytes()
    found, stack = [], [root]
    while stack:
        page = data[(stack[-1] - 1) * page_size :][:page_size]
        pgno = stack.pop()
        if page[0] == 13:
            found.append(pgno)
            continue
        (count,) = struct.unpack_from(">H", page, 3)
        cells = struct.unpack_from(f">{count}H", page, 12)
        stack += [struct.unpack_from(">I", page, cell)[0] for cell in cells] + [struct.unpack_from(">I", page, 8)[0]]
    return sorted(found)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write bytes of a closed file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def oracle(path: Path, table: str, columns: str, rowid: str = "_rowid_") -> set[Row]:
    """Return every row that SQLite can be made to read: forward and backward, past errors, and each rowid by itself."""
    found: set[Row] = set()
    orders = [f"WHERE {rowid} = {number}" for number in range(-2, 400)]
    orders += [f"WHERE {rowid} > {number} ORDER BY {rowid}" for number in range(-2, 400, 40)]
    orders += [f"WHERE {rowid} < {number} ORDER BY {rowid} DESC" for number in range(-2, 400, 40)]
    if table == "keyed":
        orders = ["ORDER BY kind, number", "ORDER BY kind DESC, number DESC"]
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        for order in ("", *orders):
            try:
                for row in connection.execute(f"SELECT {columns} FROM {table} {order}"):
                    found.add(row)
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                continue
    return found


def page_of(path: Path, pgno: int) -> bytes:
    """Return a page of a closed file."""
    return path.read_bytes()[(pgno - 1) * 1024 : pgno * 1024]
