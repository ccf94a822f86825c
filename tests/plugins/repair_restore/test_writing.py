"""Rows are put into a table through SQLite; what cannot be there goes into the quarantine, and columns go by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, cast

import pytest

from pagewarden.contracts import RepairBench
from pagewarden.repair.lookups import Table, read_tables
from pagewarden.repair.rows import RawRow
from pagewarden.sqlite.schema import SchemaEntry
from pagewarden_repair_restore import schema, tables, writing
from pagewarden_repair_restore.writing import Keeper, Unwritable, Writer

SCHEMA = """
CREATE TABLE item(id INTEGER PRIMARY KEY, mail TEXT UNIQUE, more TEXT CHECK(more <> 'never'));
CREATE TABLE bare(id INTEGER PRIMARY KEY);
CREATE TABLE renamed(id INTEGER PRIMARY KEY, post TEXT, more TEXT);
CREATE TABLE other(id INTEGER PRIMARY KEY, more TEXT, mail TEXT);
CREATE TABLE four(id INTEGER PRIMARY KEY, a, b, c);
CREATE TABLE turned(id INTEGER PRIMARY KEY, b, a, c);
CREATE TABLE doubt(id INTEGER PRIMARY KEY, mail TEXT, less TEXT);
"""


class Kept:
    """What a repairer put into the quarantine."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[Any, ...]], str]] = []

    def keep_rows(self, table: str, _: Sequence[str], rows: Sequence[Sequence[Any]], why: str) -> int:
        """Note the rows."""
        self.calls.append((table, [tuple(row) for row in rows], why))
        return len(rows)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.executescript(SCHEMA)
        yield made


@pytest.fixture
def known(connection: sqlite3.Connection) -> dict[str, Table]:
    """Its tables."""
    found = read_tables(connection)
    connection.text_factory = str
    return found


def writer_of(connection: sqlite3.Connection, table: Table) -> tuple[Writer, Keeper, Kept]:
    """Return a writer of a table, and where its rows are kept."""
    kept = Kept()
    keeper = Keeper(cast("RepairBench", kept), table)
    return Writer(connection, table, keeper, "UTF-8"), keeper, kept


def test_what_breaks_a_rule_is_kept(
    connection: sqlite3.Connection, known: dict[str, Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CHECK refuses it, its unique key is NULL: nothing stands in its way, and nothing else is touched."""
    monkeypatch.setattr(writing, "_BATCH", 1)
    writer, keeper, kept = writer_of(connection, known["item"])
    assert writer.insert(RawRow(rowid=1, values=(None, None, "fine")))
    assert not writer.insert(RawRow(rowid=2, values=(None, None, "never")))
    assert not writer.insert(RawRow(rowid=3, values=(None, "a", "b", "too many"))), "no row of this table"
    keeper.flush()
    assert [rows for _, rows, _ in kept.calls] == [[(2, None, "never")]]
    assert connection.execute("SELECT * FROM item").fetchall() == [(1, None, "fine")]


def test_a_row_of_nothing_but_its_rowid(connection: sqlite3.Connection, known: dict[str, Table]) -> None:
    """A record without values is a row with the defaults."""
    writer, _, _ = writer_of(connection, known["bare"])
    assert writer.insert(RawRow(rowid=7, values=()))
    assert connection.execute("SELECT count(*) FROM bare").fetchone() == (1,)


def test_a_table_that_is_gone_cannot_be_written(connection: sqlite3.Connection, known: dict[str, Table]) -> None:
    """Then whoever writes leaves the table as the restore point has it."""
    writer, _, _ = writer_of(connection, known["item"])
    connection.execute("DROP TABLE item")
    with pytest.raises(Unwritable):
        writer.insert(RawRow(rowid=1, values=(None, "a", "b")))


def test_columns_go_by_name(known: dict[str, Table]) -> None:
    """A column that was surely renamed keeps its values; one that may have been dropped gives them to nobody."""
    raw = RawRow(rowid=1, values=(None, "a@b", "text"))
    assert tables._mapped(raw, known["item"], known["item"]) == (raw, False)
    assert tables._mapped(raw, known["item"], known["renamed"]) == (raw, False)
    moved = RawRow(rowid=1, values=(None, "text", "a@b"))
    assert tables._mapped(raw, known["item"], known["other"]) == (moved, False)
    assert tables._mapped(raw, known["item"], known["doubt"]) == (RawRow(rowid=1, values=(None, "a@b")), True)
    four = RawRow(rowid=1, values=(None, 1, 2, 3))
    assert tables._mapped(four, known["four"], known["turned"]) == (RawRow(rowid=1, values=(None, 2, 1, 3)), False)


def test_a_virtual_table_of_an_unknown_module_owns_no_other() -> None:
    """Which tables such a module stores in nobody knows, so none is taken away with it."""
    sql = "CREATE VIRTUAL TABLE strange USING own(a)"
    entry = SchemaEntry(kind="table", name="strange", table="strange", root=0, sql=sql)
    assert list(schema._suffixes(entry)) == []


def test_what_is_no_row_of_a_table_is_not_kept_as_one(known: dict[str, Table]) -> None:
    """Its page is in the quarantine; its values have no columns to stand in."""
    keeper = Keeper(cast("RepairBench", Kept()), known["bare"])
    keeper.keep_raw(RawRow(rowid=1, values=(1, 2, 3)), "more values than columns")
    assert keeper.count == 0
