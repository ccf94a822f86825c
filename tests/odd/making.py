"""Makers of sound databases of every odd kind that SQLite lets one make. Each takes the path of a file to be."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

ROWS = 300

FREE_LEAVES = 8
"""How many leaves less than there is room for SQLite puts on a freelist trunk page (file format, section 1.5)."""


@contextmanager
def opened(path: Path, *settings: str) -> Iterator[sqlite3.Connection]:
    """Open a database for one transaction; `settings` are PRAGMAs that come before it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in settings:
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")


def fill(connection: sqlite3.Connection, *, rows: int = ROWS, most: int = 6000) -> None:
    """Make a table and an index with overflow pages, and leave free pages behind."""
    chance = random.Random(rows)
    connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
    connection.execute("CREATE INDEX item_name ON item(name, body)")
    connection.executemany(
        "INSERT INTO item(name, body) VALUES(?, ?)",
        ((f"náme {i * 7919 % 1000} \U0001f4be", chance.randbytes(chance.randrange(most))) for i in range(rows)),
    )
    connection.execute("DELETE FROM item WHERE id % 7 = 3")


def _filled(*settings: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with opened(path, *settings) as connection:
            fill(connection)

    return make


def _scripted(script: str, *settings: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("gone", 1, lambda value: value, deterministic=True)
            connection.create_collation("gone", lambda one, other: (one > other) - (one < other))
            connection.executescript("; ".join(f"PRAGMA {setting}" for setting in settings) + ";" + script)

    return make


def _reserved(count: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        """Make an empty database, say in its header that pages reserve bytes, and let SQLite go on from there."""
        with opened(path) as connection:
            connection.execute("PRAGMA user_version=1")
        data = bytearray(path.read_bytes())
        data[20] = count
        data[105:107] = (len(data) - count).to_bytes(2, "big")  # where cells begin on the empty page
        path.write_bytes(data)
        with opened(path) as connection:
            fill(connection)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("VACUUM")
        assert path.read_bytes()[20] == count

    return make


def vacuumed_in_part(path: Path) -> None:
    """Make one with incremental auto_vacuum, half of whose free pages were given back."""
    with opened(path, "auto_vacuum=2") as connection:
        fill(connection)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM item WHERE id > 150")
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        connection.execute(f"PRAGMA incremental_vacuum({free // 2})").fetchall()
        assert 0 < connection.execute("PRAGMA freelist_count").fetchone()[0] < free


def without_rowid(path: Path) -> None:
    """Make WITHOUT ROWID tables whose keys and rows overflow."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE item(key TEXT PRIMARY KEY DESC, n INTEGER, body BLOB) WITHOUT ROWID")
        connection.execute("CREATE UNIQUE INDEX item_n ON item(n)")
        rows = ((f"{i * 7919 % 1000:05}" * (i % 90 * 10 + 1), i, b"x" * (i * 37 % 9000)) for i in range(ROWS))
        connection.executemany("INSERT INTO item VALUES(?, ?, ?)", rows)
        connection.execute("DELETE FROM item WHERE n % 5 = 1")


def full_text(path: Path) -> None:
    """Make full-text tables of each kind: with content, without, and with somebody else's."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE source(id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("CREATE VIRTUAL TABLE five USING fts5(title, text, prefix='2 3')")
        connection.execute("CREATE VIRTUAL TABLE bare USING fts5(text, content='')")
        connection.execute("CREATE VIRTUAL TABLE other USING fts5(text, content='source', content_rowid='id')")
        connection.execute("CREATE VIRTUAL TABLE four USING fts4(title, text, tokenize=unicode61)")
        connection.execute("CREATE VIRTUAL TABLE three USING fts3(text)")
        for i in range(ROWS):
            words = " ".join(f"word{i * n % 211}" for n in range(40))
            connection.execute("INSERT INTO source VALUES(?, ?)", (i, words))
            connection.execute("INSERT INTO five VALUES(?, ?)", (f"title {i}", words))
            connection.execute("INSERT INTO bare(rowid, text) VALUES(?, ?)", (i, words))
            connection.execute("INSERT INTO other(rowid, text) VALUES(?, ?)", (i, words))
            connection.execute("INSERT INTO four VALUES(?, ?)", (f"title {i}", words))
            connection.execute("INSERT INTO three VALUES(?)", (words,))
        connection.execute("DELETE FROM five WHERE rowid % 3 = 0")
        connection.execute("DELETE FROM four WHERE docid % 3 = 0")


def trees(path: Path) -> None:
    """Make R-trees of both kinds."""
    with opened(path) as connection:
        connection.execute("CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1, +name)")
        connection.execute("CREATE VIRTUAL TABLE cell USING rtree_i32(id, x0, x1)")
        for i in range(4 * ROWS):
            x, y = i * 7919 % 1000, i * 104729 % 1000
            connection.execute("INSERT INTO box VALUES(?, ?, ?, ?, ?, ?)", (i, x, x + 5, y, y + 5, f"box {i}"))
            connection.execute("INSERT INTO cell VALUES(?, ?, ?)", (i, x, x + 1))
        connection.execute("DELETE FROM box WHERE id % 3 = 0")


def wide_row(path: Path, *, size: int = 100_000_000 if os.environ.get("PAGEWARDEN_FULL") else 30_000_000) -> None:
    """Make a row of very many bytes."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, body BLOB)")
        connection.execute("INSERT INTO item(body) VALUES(?)", (random.Random(1).randbytes(size),))


def many_tables(path: Path, *, tables: int = 10_000 if os.environ.get("PAGEWARDEN_FULL") else 1_000) -> None:
    """Make very many tables, each with an index, some with a foreign key into the one before.

    For each CREATE statement SQLite reads the whole schema again, which would take minutes. So the empty root pages are
    appended here, in SQLite's own format (section 1.6), and their entries inserted into the schema.
    """
    with opened(path) as connection:
        connection.execute("CREATE TABLE first(id INTEGER PRIMARY KEY)")
        (used,) = connection.execute("PRAGMA page_count").fetchone()
    with path.open("r+b") as file:
        file.seek(0, 2)
        size = file.tell() // used
        for kind in (13, 10) * tables:  # an empty leaf of a table, and one of an index
            file.write(struct.pack(">BHHHB", kind, 0, 0, size, 0).ljust(size, b"\0"))
        file.seek(28)
        file.write(struct.pack(">I", used + 2 * tables))
    with opened(path, "writable_schema=1") as connection:
        for i in range(tables):
            key = f"REFERENCES item_{i - 1}(id)" if 0 < i < 100 else ""
            table = f"CREATE TABLE item_{i}(id INTEGER PRIMARY KEY, parent INTEGER {key}, name TEXT)"
            index = f"CREATE INDEX index_{i} ON item_{i}(name)"
            connection.executemany(
                f"INSERT INTO sqlite_schema VALUES(?, ?, 'item_{i}', ?, ?)",
                [("table", f"item_{i}", used + 2 * i + 1, table), ("index", f"index_{i}", used + 2 * i + 2, index)],
            )
    with opened(path) as connection:
        for i in range(0, tables, 10):
            connection.execute(f"INSERT INTO item_{i}(name) VALUES('one'), ('two')")


def huge_schema(path: Path) -> None:
    """Make a schema of megabytes: very wide tables, very long statements and names."""
    with opened(path) as connection:
        columns = ", ".join(f'"column {i} with a name that takes its place" TEXT DEFAULT {i}' for i in range(2000))
        connection.execute(f"CREATE TABLE wide({columns})")
        connection.execute("INSERT INTO wide DEFAULT VALUES")
        connection.execute(f"CREATE TABLE commented(id INTEGER /* {'comment ' * 250_000} */ PRIMARY KEY)")
        connection.execute(f'CREATE TABLE "{"náme " * 5000}"(id)')
        selects = " UNION ALL ".join(f"SELECT {i} AS n, id FROM commented" for i in range(400))
        connection.execute(f"CREATE VIEW united AS {selects}")
        for i in range(300):
            connection.execute(f"CREATE VIEW view_{i} AS SELECT * FROM wide")


def no_bytes(path: Path) -> None:
    """Make the empty file that SQLite takes for an empty database."""
    path.touch()


def sparse(path: Path, *, page_size: int = 65536, beyond: int = 40) -> None:
    """Make a database beyond 1 GiB with `beyond` pages after the lock-byte page; most of it are holes in the file.

    They are pages of the freelist: its trunks are written here, in SQLite's own format, and SQLite then takes the pages
    that stand first on a trunk, which are those at the end of the file.
    """
    with opened(path, f"page_size={page_size}") as connection:
        fill(connection, rows=20)
        connection.execute("CREATE TABLE far(id INTEGER PRIMARY KEY, body BLOB)")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM")
        (used,) = connection.execute("PRAGMA page_count").fetchone()
    lock_page = (1 << 30) // page_size + 1
    pages = lock_page + beyond
    free = [pgno for pgno in range(pages, used, -1) if pgno != lock_page]
    room = page_size // 4 - FREE_LEAVES
    count = -(-len(free) // (room + 1))
    trunks, leaves = free[-count:], free[:-count]
    with path.open("r+b") as file:
        file.truncate(pages * page_size)
        for number, trunk in enumerate(trunks):
            mine = leaves[number * room : (number + 1) * room]
            after = trunks[number + 1] if number + 1 < count else 0
            file.seek((trunk - 1) * page_size)
            file.write(struct.pack(f">{2 + len(mine)}I", after, len(mine), *mine))
        file.seek(28)
        file.write(struct.pack(">3I", pages, trunks[0], len(free)))
    with opened(path) as connection:
        chance = random.Random(1)
        body = ((chance.randbytes(page_size),) for _ in range(beyond // 4))
        connection.executemany("INSERT INTO far(body) VALUES(?)", body)


JSON = """
CREATE TABLE doc(id INTEGER PRIMARY KEY, body TEXT, kind TEXT AS (json_extract(body, '$.kind')) STORED,
                 size INTEGER AS (length(body)) VIRTUAL CHECK (json_valid(body)));
CREATE INDEX doc_kind ON doc(json_extract(body, '$.kind'), body -> '$.tags') WHERE json_valid(body);
CREATE INDEX doc_size ON doc(size, abs(id - 5));
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO doc(body) SELECT json_object('kind', 'k' || (i % 7), 'tags', json_array(i, i / 2.0)) FROM n;
"""

STRICT = """
CREATE TABLE exact(id INTEGER PRIMARY KEY, i INT, r REAL, t TEXT NOT NULL, b BLOB, a ANY, UNIQUE(t, a)) STRICT;
CREATE TABLE exacter(k TEXT PRIMARY KEY, a ANY) STRICT, WITHOUT ROWID;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO exact SELECT i, i, i / 3.0, 't' || i, zeroblob(i), CASE i % 3 WHEN 0 THEN i WHEN 1 THEN 'x' END FROM n;
INSERT INTO exacter SELECT t, a FROM exact;
ALTER TABLE exact ADD COLUMN later REAL NOT NULL DEFAULT 5;
"""

# What needs functions that only the application has, where SQLite does not need them to judge.
ABSENT_IN_VIEWS = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO item(name) VALUES('a'), ('b');
CREATE VIEW shown AS SELECT gone(name) AS name, nowhere.x FROM item JOIN nowhere;
CREATE TRIGGER told AFTER INSERT ON item BEGIN SELECT gone(new.name); INSERT INTO nowhere VALUES(1); END;
"""

# SQLite's own answer for this one depends on whether the connection may write.
ABSENT_IN_CHECKS = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT CHECK (gone(name) = name));
INSERT INTO item(name) VALUES('a'), ('b');
"""

# What keeps SQLite from judging: an index and a generated column that cannot be computed.
ABSENT_IN_INDEXES = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, told TEXT AS (gone(name)) VIRTUAL);
CREATE INDEX item_name ON item(gone(name));
INSERT INTO item(name) VALUES('a'), ('b');
"""

ABSENT_COLLATION = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT COLLATE gone UNIQUE);
INSERT INTO item(name) VALUES('a'), ('b');
"""

SOUND: dict[str, Callable[[Path], None]] = {
    "page-size-512": _filled("page_size=512"),
    "page-size-65536": _filled("page_size=65536"),
    "utf-16le": _filled("encoding='UTF-16le'"),
    "utf-16be": _filled("encoding='UTF-16be'"),
    "auto-vacuum-full": _filled("auto_vacuum=1", "page_size=512"),
    "auto-vacuum-incremental": vacuumed_in_part,
    "without-rowid": without_rowid,
    "full-text": full_text,
    "r-tree": trees,
    "reserved-32": _reserved(32),
    "reserved-255": _reserved(255),
    "one-page": _scripted("PRAGMA user_version=1;"),
    "json": _scripted(JSON),
    "strict": _scripted(STRICT),
    "absent-in-views": _scripted(ABSENT_IN_VIEWS),
    "legacy-format": _scripted(
        "CREATE TABLE item(id INTEGER PRIMARY KEY, b INTEGER); INSERT INTO item(b) VALUES(0), (1);",
        "legacy_file_format=1",
    ),
    "descending": _scripted(
        "CREATE TABLE item(id INTEGER PRIMARY KEY DESC, a, b); CREATE INDEX i ON item(a DESC, b COLLATE NOCASE);"
        "INSERT INTO item(a, b) VALUES(1, 'x'), (NULL, 'X'), (x'00', 2.5), ('a' || char(0) || 'b', 9e999);"
    ),
    "extreme-rowids": _scripted(
        "CREATE TABLE item(id INTEGER PRIMARY KEY AUTOINCREMENT, a);"
        "INSERT INTO item VALUES(-9223372036854775808, 1), (0, 2), (9223372036854775806, 3);"
    ),
    "huge-schema": huge_schema,
    "thousands-of-tables": many_tables,
}
"""Those that every checker judges sound."""

UNKNOWN: dict[str, Callable[[Path], None]] = {
    "absent-in-indexes": _scripted(ABSENT_IN_INDEXES),
    "absent-collation": _scripted(ABSENT_COLLATION),
}
"""Those that SQLite cannot judge without the application."""

absent_in_checks = _scripted(ABSENT_IN_CHECKS)
