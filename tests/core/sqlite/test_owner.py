from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.sqlite.columns import stored_columns
from pagewarden.sqlite.owner import find_owners, leaf_pages
from pagewarden.sqlite.place import find_place
from pagewarden.sqlite.schema import Layout
from tests.core.sqlite.closed import Closed, load, make, marker


def owners(closed: Closed, *, budget: int = 10**6) -> dict[int, str]:
    """Return the owner of every page, as text."""
    found = find_owners(closed.read, range(1, closed.layout.pages + 1), closed.layout, budget=budget)
    return {pgno: str(owner) for pgno, owner in found.items()}


@pytest.mark.parametrize("auto_vacuum", [False, True])
@pytest.mark.parametrize("page_size", [512, 4096])
def test_every_page_has_an_owner(tmp_path: Path, page_size: int, auto_vacuum: bool) -> None:
    """All of them: trees, chains, freelist, ptrmap pages; as many free ones as SQLite counts."""
    path = tmp_path / "a.db"
    closed = make(path, page_size=page_size, rows=60, auto_vacuum=auto_vacuum)
    found = find_owners(closed.read, range(1, closed.layout.pages + 1), closed.layout)
    assert found.keys() == set(range(1, closed.layout.pages + 1))
    with closing(sqlite3.connect(path)) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    assert sum(owner.role.startswith("freelist") for owner in found.values()) == free
    assert any(owner.role == "ptrmap" for owner in found.values()) is auto_vacuum
    assert found[1].object == "sqlite_schema"
    for entry in closed.schema:
        if entry.root:
            assert (found[entry.root].object, found[entry.root].root) == (entry.name, entry.root)


@pytest.mark.parametrize("page_size", [512, 4096])
def test_every_text_is_found_in_its_row_and_column(tmp_path: Path, page_size: int) -> None:
    """A marker in each value says whose byte it is: table or index, rowid, column; in cells and in overflow chains."""
    closed = make(tmp_path / "a.db", page_size=page_size, rows=60)
    seen = 0
    for number in range(1, 61):
        rowid = number * 3 - 1000
        if rowid % 5 == 0:
            continue
        for kind, column in (("label", "label"), ("body", "body"), ("odd", 'odd "name"')):
            for pgno, offset in closed.find(marker(kind, number).encode()):
                owner = find_owners(closed.read, [pgno], closed.layout, schema=closed.schema)[pgno]
                place = find_place(closed.read, owner, offset, closed.layout)
                if owner.object is None:
                    continue  # what a deleted row left in a free page
                if owner.object == "item" and place.part == "column":
                    assert place.rowid == rowid
                    assert place.column is not None
                    assert stored_columns(closed.schema, "item")[place.column] == column
                    seen += 1
                elif owner.object == "item_label" and place.part == "column":
                    assert (place.column, place.rowid) == (0, None)
    assert seen > 130


def test_places_of_a_leaf_have_names(tmp_path: Path) -> None:
    """Every byte of a page is some part of it."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    item = next(entry for entry in closed.schema if entry.name == "item")
    page = next(leaf_pages(closed.read, item, closed.layout))
    owner = find_owners(closed.read, [page.pgno], closed.layout)[page.pgno]
    parts = [find_place(closed.read, owner, offset, closed.layout) for offset in range(512)]
    assert [place.part for place in parts[:8]] == ["page header"] * 8
    assert (parts[8].part, parts[8].cell, parts[8].rowid) == ("cell pointer", 0, page.cells[0].rowid)
    cell = page.cells[0]
    assert (parts[cell.offset].part, parts[cell.offset].rowid) == ("cell header", cell.rowid)
    assert parts[cell.payload].part == "record header"
    assert {place.part for place in parts} >= {"column", "unused space", "overflow pointer"}
    schema = find_owners(closed.read, [1], closed.layout)[1]
    assert find_place(closed.read, schema, 20, closed.layout).part == "database header"


def test_reserved_bytes_and_free_pages_are_places(tmp_path: Path) -> None:
    """Bytes behind the usable ones belong to an extension; a free page is a free page."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    layout = Layout(
        page_size=512, usable=480, pages=closed.layout.pages, encoding="utf-8", freelist=0, pointer_maps=False
    )
    owner = find_owners(closed.read, [2], closed.layout)[2]
    assert find_place(closed.read, owner, 500, layout).part == "reserved bytes"
    free = find_owners(closed.read, [closed.layout.freelist], closed.layout)[closed.layout.freelist]
    assert str(free) == "freelist trunk page"
    assert find_place(closed.read, free, 100, closed.layout).part == "freelist trunk page"


def test_overflow_pages_know_their_row(tmp_path: Path) -> None:
    """Also where the chain does not lie in order: rows were updated, so that pages were used again."""
    path = tmp_path / "a.db"
    make(path, page_size=512, rows=60)
    chance = random.Random(2)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for _ in range(120):
            size = chance.randrange(0, 6000)
            connection.execute(
                "UPDATE item SET body = ? WHERE id = ?", (chance.randbytes(size), chance.randrange(1, 61) * 3 - 1000)
            )
    closed = load(path.read_bytes())
    found = find_owners(closed.read, range(1, closed.layout.pages + 1), closed.layout)
    chains = [owner for owner in found.values() if owner.role == "overflow"]
    assert found.keys() == set(range(1, closed.layout.pages + 1))
    assert all(owner.object == "item" and owner.rowid is not None for owner in chains)
    assert "table item, overflow page, rowid " in str(chains[0])
    one = chains[len(chains) // 2]
    assert find_owners(closed.read, [one.pgno], closed.layout)[one.pgno] == one
    assert find_owners(closed.read, [one.pgno], closed.layout, overflow=False) == {}


def test_an_overflow_page_has_a_pointer_and_an_unused_end(tmp_path: Path) -> None:
    """The first four bytes lead on; what is behind the payload's end is nobody's."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    found = find_owners(closed.read, range(1, closed.layout.pages + 1), closed.layout)
    chains = [owner for owner in found.values() if owner.role == "overflow"]
    parts = {
        find_place(closed.read, owner, offset, closed.layout).part for owner in chains for offset in (0, 4, 300, 511)
    }
    assert parts == {"overflow pointer", "column", "unused space"}


def test_a_search_ends_with_its_budget(tmp_path: Path) -> None:
    """No more pages are read than it may, and what was found until then stays."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    reads = []

    def read(pgno: int) -> bytes:
        reads.append(pgno)
        return closed.read(pgno)

    found = find_owners(read, range(1, closed.layout.pages + 1), closed.layout, budget=30)
    assert 0 < len(reads) == len(set(reads)) <= 30
    assert 0 < len(found) < closed.layout.pages


def test_a_search_ends_with_its_time(tmp_path: Path) -> None:
    """Where each page takes a second, ten seconds are ten pages; what was found until then stays."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    reads: list[int] = []

    def read(pgno: int) -> bytes:
        reads.append(pgno)
        return closed.read(pgno)

    pgnos = range(1, closed.layout.pages + 1)
    found = find_owners(read, pgnos, closed.layout, seconds=10.0, clock=lambda: float(len(reads)))
    assert len(reads) == 11
    assert 0 < len(found) < closed.layout.pages


def test_the_lock_byte_page_is_known() -> None:
    """H12: it belongs to nobody, and is never read."""
    layout = Layout(page_size=65536, usable=65536, pages=20000, encoding="utf-8", freelist=0, pointer_maps=True)
    lock = 0x40000000 // 65536 + 1
    found = find_owners(lambda _: bytes(65536), [lock, 1], layout, schema=())
    assert {pgno: owner.role for pgno, owner in found.items()} == {lock: "lock-byte"}


def test_damage_is_survived(tmp_path: Path) -> None:
    """Pages zeroed, swapped, overwritten or filled with noise: an answer in the end, for pages of the file only."""
    closed = make(tmp_path / "a.db", page_size=512, rows=60)
    chance = random.Random(4)
    for _ in range(40):
        data = bytearray(closed.data)
        for _ in range(chance.randrange(1, 30)):
            at = chance.randrange(closed.layout.pages) * 512
            other = chance.randrange(closed.layout.pages) * 512
            noise, interior = chance.randbytes(512), bytes([5]) + data[at + 1 : at + 512]
            data[at : at + 512] = chance.choice((bytes(512), noise, interior, closed.data[other : other + 512]))
        damaged = Closed(data=bytes(data), layout=closed.layout, schema=())
        layout = Layout.of(damaged.read(1), page_size=512, pages=closed.layout.pages)
        found = find_owners(damaged.read, range(1, 200), layout, budget=5000)
        for owner in list(found.values())[:40]:
            assert find_place(damaged.read, owner, chance.randrange(512), layout).part
        for entry in closed.schema[1:4]:
            assert len(list(leaf_pages(damaged.read, entry, layout))) <= layout.pages
