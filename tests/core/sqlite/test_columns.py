from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from pagewarden.sqlite.columns import buildable_indexes, stored_columns, table_shape
from pagewarden.sqlite.schema import SchemaEntry
from tests.core.sqlite.closed import make


def table(sql: str, name: str = "t") -> SchemaEntry:
    """Return the schema entry of a table."""
    return SchemaEntry(kind="table", name=name, table=name, root=2, sql=sql)


def index(sql: str, name: str) -> SchemaEntry:
    """Return the schema entry of an index on t."""
    return SchemaEntry(kind="index", name=name, table="t", root=3, sql=sql)


def test_columns_are_in_the_order_of_the_record(tmp_path: Path) -> None:
    """Virtual columns are not stored, a key of a WITHOUT ROWID table comes first, an index ends with the rowid."""
    schema = make(tmp_path / "a.db", rows=2).schema
    assert stored_columns(schema, "item") == ("id", "label", "body", 'odd "name"')
    assert stored_columns(schema, "pair") == ("b", "a", "c")
    assert stored_columns(schema, "made") == ("id", "x", "z")
    assert stored_columns(schema, "item_label") == ("label", "rowid")
    assert stored_columns(schema, "made_odd") == ("expression", "z", "rowid")
    assert stored_columns(schema, "nothing") == stored_columns(schema, "labels") == ()


def test_automatic_indexes_have_columns() -> None:
    """They have no statement of their own."""
    schema = (table("CREATE TABLE t(a, b, UNIQUE(b, a))"), index("", "sqlite_autoindex_t_1"))
    assert stored_columns(schema, "sqlite_autoindex_t_1") == ("b", "a", "rowid")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "ATTACH 'x.db' AS x",
        "CREATE TABLE t(a); DROP TABLE t",
        "CREATE TABLE t(a\0)",
        "CREATE TABLE t(",
        "PRAGMA writable_schema=1",
        "SELECT load_extension('x')",
        "CREATE TABLE sqlite_sequence(name, seq)",
        "CREATE TABLE t(a" + ", b" * 600_000 + ")",
        "\ud800",
    ],
    ids=lambda sql: sql[:24].encode("ascii", "replace").decode(),
)
def test_a_hostile_statement_does_nothing(sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H29: nothing is read, attached, loaded or run for ever; there are just no columns."""
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert stored_columns((table(sql),), "t") == ()
    assert not table_shape((table(sql),), "t").plain
    assert time.monotonic() - began < 2
    assert list(tmp_path.iterdir()) == []


def test_what_needs_the_application_has_no_columns() -> None:
    """An index with a collation or a function that only the application has; its table is known all the same."""
    schema = (table("CREATE TABLE t(a)"), index("CREATE INDEX i ON t(a COLLATE mine)", "i"))
    assert stored_columns(schema, "i") == ()
    assert stored_columns(schema, "t") == ("a",)
    assert not table_shape(schema, "t").plain
    assert sqlite3.sqlite_version_info >= (3, 11)


@pytest.mark.parametrize(
    ("sql", "indexes", "indexed", "plain"),
    [
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)", (), {"id"}, True),
        ("CREATE TABLE t(a UNIQUE, b REFERENCES x(y), c)", (), {"a", "b"}, True),
        ("CREATE TABLE t(a, b)", ("CREATE INDEX i ON t(b)",), {"b"}, True),
        ("CREATE TABLE t(a, b)", ("CREATE INDEX i ON t(a) WHERE b > 1",), {"a"}, False),
        ("CREATE TABLE t(a, b)", ("CREATE INDEX i ON t(lower(a))",), set(), False),
        ("CREATE TABLE t(a CHECK(a > 0), b)", (), set(), False),
        ("CREATE TABLE t(a, b AS (a + 1) STORED)", (), set(), False),
    ],
)
def test_what_else_depends_on_a_column(sql: str, indexes: tuple[str, ...], indexed: set[str], plain: bool) -> None:
    """Keys, indexes and foreign keys name columns; expressions, conditions and CHECKs make a table not plain."""
    shape = table_shape((table(sql), *(index(each, f"i{n}") for n, each in enumerate(indexes))), "t")
    assert (shape.indexed, shape.plain) == (frozenset(indexed), plain)


def test_two_tables_of_one_name_are_none() -> None:
    """A schema that contradicts itself is not believed."""
    twice = (table("CREATE TABLE t(a)"), table("CREATE TABLE t(b)"))
    assert stored_columns(twice, "t") == ()
    assert table_shape(twice, "t").columns == ()


def test_what_can_be_built_without_the_application() -> None:
    """Each index by itself: one that cannot be built is no matter to its neighbours, and nothing else is ever run."""
    schema = (
        table("CREATE TABLE t(a UNIQUE, b)"),
        index("CREATE INDEX i ON t(b)", "i"),
        index("CREATE INDEX j ON t(a COLLATE mine)", "j"),
        index("CREATE INDEX k ON t(mine(a))", "k"),
        index("CREATE INDEX l ON t(a) WHERE a IN (SELECT 1)", "l"),
        index("DROP TABLE t", "m"),
        index("", "sqlite_autoindex_t_1"),
        index("CREATE UNIQUE INDEX n ON t(lower(a) DESC) WHERE b > 1", "n"),
    )
    assert buildable_indexes(schema, "t") == {"i", "n", "sqlite_autoindex_t_1"}
    assert buildable_indexes(schema, "u") == frozenset()
    assert buildable_indexes((table("CREATE TABLE t(a UNIQUE COLLATE mine)"), *schema[-2:]), "t") == frozenset()
