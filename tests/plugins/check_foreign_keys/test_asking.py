from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from pagewarden.sqlite.relations import foreign_keys
from pagewarden.testing.subjects import ClosedSubject
from pagewarden_check_foreign_keys import asking
from pagewarden_check_foreign_keys.asking import all_have_parents
from pagewarden_check_foreign_keys.checker import ForeignKeyChecker

TYPES = ("", "INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB")
COLLATIONS = ("", "COLLATE NOCASE", "COLLATE RTRIM")
VALUES = (None, 1, 1.0, 1.5, -7, "1", "1.0", "1.5", "a", "A", "a ", "", b"", b"1", b"a", 1 << 62, float(1 << 62), "0x1")


def judged(connection: sqlite3.Connection, table: str) -> tuple[bool, bool]:
    """Return whether the portions find an orphan, or cannot tell; and whether the pragma does."""
    clean = all_have_parents(connection, table, foreign_keys(connection, table), lambda: None)
    return not clean, bool(connection.execute(f"PRAGMA foreign_key_check({table})").fetchall())


@pytest.mark.parametrize("parent", TYPES)
def test_values_are_compared_as_sqlite_enforces_keys(parent: str) -> None:
    """Each value of each type and collation, against each parent: what SQLite calls an orphan, and nothing else."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for collation, child, theirs in product(COLLATIONS, TYPES, ("", "COLLATE NOCASE")):
            connection.execute(f"CREATE TABLE p(k {parent} {collation} UNIQUE)")
            connection.execute(f"CREATE TABLE c(a {child} {theirs} REFERENCES p(k))")
            connection.executemany("INSERT OR IGNORE INTO p VALUES(?)", [(value,) for value in VALUES[::3]])
            for value in VALUES:
                connection.execute("DELETE FROM c")
                connection.execute("INSERT INTO c VALUES(?)", (value,))
                found, wanted = judged(connection, "c")
                assert found == wanted, (collation, child, theirs, value)
            connection.execute("DROP TABLE c")
            connection.execute("DROP TABLE p")


@pytest.mark.parametrize(
    "kind",
    [
        ("i INTEGER PRIMARY KEY", ""),
        ("i PRIMARY KEY", " WITHOUT ROWID"),
        ("i UNIQUE, j TEXT DEFAULT 'j' COLLATE NOCASE, PRIMARY KEY(j, i)", " WITHOUT ROWID"),
        ("i UNIQUE, PRIMARY KEY(i DESC)", " WITHOUT ROWID"),
    ],
)
def test_keys_of_several_columns_and_of_the_table_itself(
    kind: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random rows, in portions of three: an orphan is found wherever it stands, and NULLs need no parent."""
    monkeypatch.setattr(asking, "PORTION", 3)
    chance = random.Random(5)
    outcomes = set()
    for _ in range(60):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE p(a, b TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID")
            keys = "up REFERENCES c(i), x, y, FOREIGN KEY(x, y) REFERENCES p"
            columns, rest = keys.split(", FOREIGN")
            connection.execute(f"CREATE TABLE c(rowid, {columns}, {kind[0]}, FOREIGN{rest}){kind[1]}")
            pairs = [(chance.randrange(3), str(chance.randrange(3))) for _ in range(12)]
            connection.executemany("INSERT OR IGNORE INTO p(b, a) VALUES(?, ?)", pairs)
            known = connection.execute("SELECT b, a FROM p").fetchall()
            for number in chance.sample(range(-50, 50), 10):
                pair = chance.choice([*known, *known, (None, "7"), (7, None)])
                if chance.random() < 0.03:
                    pair = (8, "8")
                up = chance.choice([None, None, None, number])
                connection.execute("INSERT INTO c(x, y, up, i) VALUES(?, ?, ?, ?)", (*pair, up, number))
            found, wanted = judged(connection, "c")
            assert found == wanted
            outcomes.add(wanted)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    "tables",
    [
        ("CREATE TABLE c(a REFERENCES gone)",),
        ("CREATE TABLE c(a REFERENCES gone(x))",),
        (
            "CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE c(a REFERENCES p, PRIMARY KEY(a COLLATE NOCASE)) WITHOUT ROWID",
        ),
        ("CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(rowid, oid, _rowid_, a REFERENCES p)"),
    ],
)
def test_what_has_no_portions_is_left_to_the_pragma(tables: tuple[str, ...]) -> None:
    """No parent table, an order that SQLite would sort for, no name for the rowid: never called clean."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for table in tables:
            connection.execute(table)
        assert not all_have_parents(connection, "c", foreign_keys(connection, "c"), lambda: None)


def test_rows_that_stand_in_a_circle_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H28: on a damaged tree, with its leaves in a wrong order, portions may lead back to where they began."""
    monkeypatch.setattr(asking, "PORTION", 50)
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE p(id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE c(a REFERENCES p)")
        connection.execute("INSERT INTO p VALUES(1)")
        connection.executemany("INSERT INTO c VALUES(1)", [()] * 3000)
    data = bytearray(path.read_bytes())
    root = 3 * 4096 - 4096
    cells = [int.from_bytes(data[root + 12 + 2 * i : root + 14 + 2 * i], "big") + root for i in range(4)]
    children = [bytes(data[cell : cell + 4]) for cell in cells]
    for cell, child in zip(cells, reversed(children), strict=True):
        data[cell : cell + 4] = child
    path.write_bytes(data)
    with ClosedSubject(path) as subject:
        list(ForeignKeyChecker().check(subject))


def test_a_large_table_holds_up_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H8: between two portions the log can be reset."""
    monkeypatch.setattr(asking, "PORTION", 100)
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE p(id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE c(a REFERENCES p)")
        connection.execute("INSERT INTO p VALUES(1)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) INSERT INTO c SELECT 1 FROM n"
        )
    busy: list[int] = []

    class Restarted(ClosedSubject):
        def progress(self, done: int, total: int) -> None:
            writer.execute("INSERT INTO c VALUES(1)")
            busy.append(writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0])

    with Restarted(path) as subject, closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
        assert list(ForeignKeyChecker().check(subject)) == []
    assert len(busy) > 10 and not any(busy)
