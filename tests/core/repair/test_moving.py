"""Rows are moved whole, and nothing but what a repair does happens to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.repair.moving import stored_text, table_rows, without_triggers

SCHEMA = """
CREATE TABLE t(id INTEGER PRIMARY KEY, a);
CREATE TABLE log(what);
CREATE VIEW v AS SELECT a FROM t;
CREATE TRIGGER one AFTER DELETE ON t BEGIN INSERT INTO log VALUES('one'); END;
CREATE TABLE later(x REFERENCES t ON DELETE CASCADE);
CREATE TRIGGER two AFTER DELETE ON t BEGIN INSERT INTO log VALUES('two'); END;
CREATE TRIGGER three INSTEAD OF DELETE ON v BEGIN DELETE FROM t; END;
INSERT INTO t VALUES(1, 'a'), (2, 'b');
INSERT INTO later VALUES(1);
"""


@pytest.fixture(params=["UTF-8", "UTF-16le"])
def connection(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """A connection to a database with triggers and an action of a key."""
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding='{request.param}'")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.executescript(SCHEMA)
        yield connection


def schema(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Return the schema as it is stored."""
    return connection.execute("SELECT rowid, *, typeof(sql) FROM sqlite_master").fetchall()


def test_no_trigger_fires_and_all_are_there_again(connection: sqlite3.Connection) -> None:
    """Nor does a key's action; afterwards the schema is the same to the row, and triggers fire in their order."""
    before = schema(connection)
    with without_triggers(connection):
        assert connection.execute("DELETE FROM t WHERE id = 1").rowcount == 1
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
    assert connection.execute("SELECT x FROM later").fetchall() == [(1,)]
    assert schema(connection) == before
    connection.execute("DELETE FROM v")
    assert connection.execute("SELECT what FROM log").fetchall() == [("two",), ("one",)]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_an_error_takes_all_of_it_back(connection: sqlite3.Connection) -> None:
    """Rows and triggers are as they were, and the schema is closed again."""
    before = schema(connection)
    with pytest.raises(KeyError), without_triggers(connection):
        connection.execute("DELETE FROM t")
        raise KeyError
    assert (schema(connection), connection.execute("SELECT count(*) FROM t").fetchone()) == (before, (2,))
    with pytest.raises(sqlite3.OperationalError, match="may not be modified"):
        connection.execute("DELETE FROM sqlite_master")


def test_what_is_no_trigger_by_its_row_does_not_run(connection: sqlite3.Connection) -> None:
    """H29: a hostile schema calls a trigger a view; it is denied, and nothing is committed."""
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET type = 'view' WHERE name = 'one'")
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"), without_triggers(connection):
        connection.execute("DELETE FROM t")
    connection.execute("PRAGMA writable_schema=ON")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


@pytest.mark.parametrize(
    ("sql", "columns", "rowid"),
    [
        ("t(a, b)", ("a", "b"), "rowid"),
        ("t(id INTEGER PRIMARY KEY, b)", ("id", "b"), ""),
        ("t(id INT PRIMARY KEY, b)", ("id", "b"), "rowid"),
        ("t(id PRIMARY KEY, b) WITHOUT ROWID", ("id", "b"), ""),
        ("t(rowid, oid, b)", ("rowid", "oid", "b"), "_rowid_"),
        ("t(rowid, oid, _rowid_)", ("rowid", "oid", "_rowid_"), ""),
        ("t(a, b AS (a), c AS (a) STORED)", ("a",), "rowid"),
    ],
)
def test_a_row_is_named_by_all_that_an_insert_takes(sql: str, columns: tuple[str, ...], rowid: str) -> None:
    """The rowid where it is no column and has a name left; no generated column."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {sql}")
        found = table_rows(connection, "t")
        assert (found.columns, found.rowid) == (columns, rowid)
        assert connection.execute(f"SELECT {found.select('t')} FROM t").fetchall() == []


def test_a_text_keeps_its_bytes() -> None:
    """Whatever they are."""
    assert stored_text(b"a\xff\xc3\xa9").encode("utf-8", "surrogateescape") == b"a\xff\xc3\xa9"
