from __future__ import annotations

import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.sqlite.btree import Cell
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import Layout, read_payload, read_schema
from tests.core.sqlite.closed import load, make


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("tables", [0, 200])
def test_the_schema_is_the_one_that_sqlite_reads(tmp_path: Path, encoding: str, tables: int) -> None:
    """Every row, in order, in each encoding, from one page or from many, statements in overflow pages included."""
    path = tmp_path / "a.db"
    make(path, rows=3, encoding=encoding)
    with closing(sqlite3.connect(path)) as connection:
        for number in range(tables):
            columns = ", ".join(f"column_{k} TEXT" for k in range(number))
            connection.execute(f'CREATE TABLE "täble {number}"(id INTEGER PRIMARY KEY{", " * bool(columns)}{columns})')
        expected = connection.execute(
            "SELECT type, name, tbl_name, rootpage, coalesce(sql, '') FROM sqlite_schema ORDER BY rowid"
        ).fetchall()
    entries = load(path.read_bytes()).schema
    assert (entries[0].name, entries[0].root) == ("sqlite_schema", 1)
    assert [(each.kind, each.name, each.table, each.root, each.sql) for each in entries[1:]] == expected


def test_a_layout_survives_any_header(tmp_path: Path) -> None:
    """Reserved bytes that leave too little, an encoding that is none: the usual ones are taken."""
    page = bytearray(512)
    page[20] = 255
    page[56:60] = struct.pack(">I", 77)
    layout = Layout.of(bytes(page), page_size=512, pages=3)
    assert (layout.usable, layout.encoding, layout.pointer_maps) == (512, "utf-8", False)


def test_damaged_schema_pages_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    """Any bytes changed on page 1 and in the schema's pages: entries or none, within the file, and no error."""
    closed = make(tmp_path / "a.db", page_size=512, rows=40)
    chance = random.Random(9)
    for _ in range(150):
        data = bytearray(closed.data)
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(100, 3072)] = chance.randrange(256)

        def read(pgno: int, data: bytes = bytes(data)) -> bytes:
            assert 1 <= pgno <= closed.layout.pages
            return data[(pgno - 1) * 512 : pgno * 512]

        entries = read_schema(read, closed.layout)
        assert all(0 <= entry.root <= closed.layout.pages for entry in entries)


def test_a_circle_in_the_tree_ends() -> None:
    """A page that is its own child."""
    page = bytearray(512)
    struct.pack_into(">BHHHBI", page, 100, 5, 0, 0, 0, 0, 1)
    other = bytearray(512)
    struct.pack_into(">BHHHBIH", other, 0, 5, 0, 1, 0, 0, 2, 500)
    struct.pack_into(">I", other, 500, 2)
    struct.pack_into(">I", page, 108, 2)
    layout = Layout.of(bytes(page), page_size=512, pages=2)
    assert len(read_schema(lambda pgno: bytes(page if pgno == 1 else other), layout)) == 1


def test_a_payload_that_does_not_hold_is_refused() -> None:
    """Longer than the limit, a chain that leaves the file, and one that runs in a circle ends with the payload."""
    layout = Layout.of(bytes(512), page_size=512, pages=5)
    circle = struct.pack(">I", 3).ljust(512, b"x")

    def cell(size: int, overflow: int) -> Cell:
        return Cell(index=0, offset=8, end=30, payload_size=size, payload=10, local=16, overflow=overflow)

    assert len(read_payload(lambda _: circle, bytes(512), cell(3000, 3), layout)) == 3000
    with pytest.raises(Malformed, match="leads to page 9"):
        read_payload(lambda _: circle, bytes(512), cell(3000, 9), layout)
    with pytest.raises(Malformed, match="a payload of 5000 bytes"):
        read_payload(lambda _: circle, bytes(512), cell(5000, 3), layout, limit=4000)
