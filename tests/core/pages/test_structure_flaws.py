"""Every kind of flaw, made by hand, is found where it is, by both backends and in the same words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.pages._native import NativeBackend
from pagewarden.pages._twin import TwinBackend
from pagewarden.sqlite.btree import BTreePage, Cell
from pagewarden.structure import Flaw, FlawKind
from tests.core.pages.trees import Database, build

BACKENDS = (NativeBackend(), TwinBackend())

FIELDS = ("tree", "cell", "column", "other", "rowid", "expected", "seen")


def made(shape: str = "plain") -> Database:
    """Return a sound database, to be injured."""
    return build(pragmas=("auto_vacuum=INCREMENTAL",) if shape == "maps" else ())


def number(value: int, size: int = 4) -> bytes:
    """Return a number as SQLite stores it."""
    return value.to_bytes(size, "big")


def expect(database: Database, kind: FlawKind, pgno: int, folder: Path, **fields: int | None) -> tuple[Flaw, ...]:
    """Both backends give the same flaws, and the one that is meant is among them with exactly these fields."""
    native, twin = (database.flaws(backend, folder) for backend in BACKENDS)
    assert native == twin
    meant = Flaw(kind=kind, pgno=pgno, **{field: fields.get(field) for field in FIELDS})
    assert meant in native, native
    return native


def pointer(database: Database, pgno: int, cell: int) -> int:
    """Return where in its page the pointer to a cell stands."""
    page = database.parse(pgno)
    return page.header + (8 if page.kind.is_leaf else 12) + 2 * cell


def test_page_type(tmp_path: Path) -> None:
    """A page of another kind than its tree's is named with its first byte, and its parent."""
    database = made()
    leaf = database.leaf("a", 2)
    database.put(leaf, 0, b"\x0a")
    expect(database, FlawKind.PAGE_TYPE, leaf, tmp_path, tree=database.tree("a"), other=database.root("a"), seen=10)


@pytest.mark.parametrize("target", [0, 1, 10**6, 2**32 - 1])
def test_page_number(tmp_path: Path, target: int) -> None:
    """A child that no page can be is named with the page and cell that point to it; the right-most has no cell."""
    database = made()
    root, tree = database.root("a"), database.tree("a")
    database.put(root, database.parse(root).cells[1].offset, number(target))
    expect(database, FlawKind.PAGE_NUMBER, root, tmp_path, tree=tree, cell=1, seen=target)
    database.put(root, 8, number(target))
    expect(database, FlawKind.PAGE_NUMBER, root, tmp_path, tree=tree, seen=target)


def test_page_number_of_a_root_a_chain_and_a_ptrmap_page(tmp_path: Path) -> None:
    """A root, an overflow page and a trunk that cannot be are named, too; a ptrmap page is none that may be used."""
    database = made("maps")
    tree = database.tree("c")
    database.trees = (
        *database.trees[:tree],
        type(database.trees[tree])(name="c", root=2, index=False),
        *database.trees[tree + 1 :],
    )
    expect(database, FlawKind.PAGE_NUMBER, 2, tmp_path, tree=tree, seen=2)
    database = made()
    pgno, cell = overflowing(database, "a")
    first = cell.overflow or 0
    database.put(first, 0, number(database.pages + 1))
    expect(
        database, FlawKind.PAGE_NUMBER, first, tmp_path, tree=database.tree("a"), other=pgno, rowid=cell.rowid,
        seen=database.pages + 1,
    )  # fmt: skip
    database = made()
    database.put(1, 32, number(database.pages + 9))
    expect(database, FlawKind.PAGE_NUMBER, 1, tmp_path, seen=database.pages + 9)


def overflowing(database: Database, name: str) -> tuple[int, Cell]:
    """Return a leaf of a tree and a cell of it with a chain of at least two pages."""
    page = database.parse(database.root(name))
    while not page.kind.is_leaf:
        children = [*(cell.child or 0 for cell in page.cells), page.right or 0]
        for child in children:
            leaf = database.parse(child)
            for cell in leaf.cells:
                if cell.overflow is not None and cell.payload_size - cell.local > database.usable:
                    return child, cell
        page = database.parse(children[0])
    raise AssertionError("no chain")


def test_page_header(tmp_path: Path) -> None:
    """A count of cells that no page holds ends the page; a content area in the pointers or behind the end does not."""
    database = made()
    leaf, tree = database.leaf("c", 1), database.tree("c")
    database.put(leaf, 3, number(171, 2))
    expect(database, FlawKind.PAGE_HEADER, leaf, tmp_path, tree=tree, expected=(1024 - 8) // 6, seen=171)
    database = made()
    end = database.parse(leaf).pointers_end
    database.put(leaf, 5, number(end - 1, 2))
    expect(database, FlawKind.PAGE_HEADER, leaf, tmp_path, tree=tree, expected=end, seen=end - 1)
    database.put(leaf, 5, number(0, 2))
    flaws = expect(database, FlawKind.PAGE_HEADER, leaf, tmp_path, tree=tree, expected=1024, seen=65536)
    assert len(flaws) == 1


def test_cells(tmp_path: Path) -> None:
    """Cells outside the content area, past the page's end, or over one another are told apart."""
    database = made()
    leaf, tree = database.leaf("c", 1), database.tree("c")
    at = pointer(database, leaf, 2)
    page = database.parse(leaf)
    database.put(leaf, at, number(page.content - 1, 2))
    expect(database, FlawKind.CELL_POINTER, leaf, tmp_path, tree=tree, cell=2, seen=page.content - 1)
    database.put(leaf, at, number(1021, 2))
    expect(database, FlawKind.CELL_POINTER, leaf, tmp_path, tree=tree, cell=2, seen=1021)
    database = made()
    cell = page.cells[0]
    database.put(leaf, cell.offset, bytes([0x87, 0x40]))  # a payload of 960 bytes, none of them elsewhere
    end = cell.offset + 2 + (cell.payload - cell.offset - 1) + 960
    expect(database, FlawKind.CELL_SIZE, leaf, tmp_path, tree=tree, cell=0, expected=1024, seen=end)
    database.put(leaf, cell.offset, b"\xff" * 9 + b"\x01")
    expect(database, FlawKind.CELL_SIZE, leaf, tmp_path, tree=tree, cell=0, expected=1024, seen=2**63 - 1)
    database = made()
    database.put(leaf, pointer(database, leaf, 1), number(page.cells[0].offset, 2))
    expect(database, FlawKind.CELL_OVERLAP, leaf, tmp_path, tree=tree, cell=1, seen=page.cells[0].offset)


def test_free_space(tmp_path: Path) -> None:
    """A broken chain of free blocks, a block within a cell, and a wrong count of fragments are found."""
    database = made()
    leaf = next(
        pgno for pgno in range(2, database.pages) if database.page(pgno)[0] == 13 and database.number(pgno, 1, 2)
    )
    tree = database.tree("a")
    block, fragments = database.number(leaf, 1, 2), database.number(leaf, 7, 1)
    database.put(leaf, block, number(block, 2))
    expect(database, FlawKind.FREE_BLOCK, leaf, tmp_path, tree=tree, seen=block)
    database = made()
    database.put(leaf, 1, number(1022, 2))
    expect(database, FlawKind.FREE_BLOCK, leaf, tmp_path, tree=tree, seen=1022)
    database = made()
    cell = max(database.parse(leaf).cells, key=lambda cell: cell.end - cell.offset)
    inside = cell.offset + 3
    database.put(leaf, 1, number(inside, 2))
    database.put(leaf, inside, number(0, 2) + number(4, 2))
    expect(database, FlawKind.CELL_OVERLAP, leaf, tmp_path, tree=tree, seen=inside)
    database = made()
    database.put(leaf, 7, number(fragments + 1, 1))
    expect(database, FlawKind.FRAGMENTS, leaf, tmp_path, tree=tree, expected=fragments + 1, seen=fragments)


def swap(database: Database, pgno: int, one: int, other: int) -> None:
    """Exchange the pointers to two cells."""
    places = [pointer(database, pgno, cell) for cell in (one, other)]
    offsets = [database.number(pgno, place, 2) for place in places]
    for place, offset in zip(places, reversed(offsets), strict=True):
        database.put(pgno, place, number(offset, 2))


def test_rowid_order(tmp_path: Path) -> None:
    """A rowid below its neighbour, and one outside what the parent allows, are named with the bound that they break."""
    database = made()
    root, tree = database.root("a"), database.tree("a")
    leaf = database.leaf("a", 2)
    rowids = [cell.rowid for cell in database.parse(leaf).cells]
    swap(database, leaf, 0, 1)
    expect(database, FlawKind.ROWID_ORDER, leaf, tmp_path, tree=tree, cell=1, rowid=rowids[0], expected=rowids[1])
    database = made()
    page = database.parse(root)
    children = [cell.child or 0 for cell in page.cells]
    for place, child in ((1, children[2]), (2, children[1])):
        database.put(root, page.cells[place].offset, number(child))
    first = database.parse(children[2]).cells[0]
    expect(
        database, FlawKind.ROWID_ORDER, children[2], tmp_path, tree=tree, cell=0, rowid=first.rowid,
        expected=page.cells[1].rowid,
    )  # fmt: skip


def above_leaves(database: Database, name: str) -> BTreePage:
    """Return an interior page of a tree with at least two cells, whose children are leaves."""
    pages = [database.parse(database.root(name))]
    for page in pages:
        children = [database.parse(child) for child in (*(cell.child or 0 for cell in page.cells), page.right or 0)]
        if not children[0].kind.is_leaf:
            pages += children
        elif len(page.cells) > 1:
            return page
    raise AssertionError("no such page")


@pytest.mark.parametrize("name", ["a_name", "a_body", "b"])
def test_key_order(tmp_path: Path, name: str) -> None:
    """In a leaf, between a leaf and its parent, and in an interior page: a key in the wrong place is found."""
    database = made()
    page, tree = above_leaves(database, name), database.tree(name)
    one, two = (page.cells[i].child or 0 for i in (0, 1))
    count = len(database.parse(one).cells)
    swap(database, one, count - 2, count - 1)
    expect(database, FlawKind.KEY_ORDER, one, tmp_path, tree=tree, cell=count - 1)
    database = made()
    database.put(page.pgno, page.cells[0].offset, number(two))
    database.put(page.pgno, page.cells[1].offset, number(one))
    last = len(database.parse(two).cells) - 1
    expect(database, FlawKind.KEY_ORDER, two, tmp_path, tree=tree, cell=last, other=page.pgno)
    expect(database, FlawKind.KEY_ORDER, one, tmp_path, tree=tree, cell=0, other=page.pgno)
    database = made()
    swap(database, page.pgno, 0, 1)
    expect(database, FlawKind.KEY_ORDER, page.pgno, tmp_path, tree=tree, cell=1)


def test_depth(tmp_path: Path) -> None:
    """A leaf above the others is found; a tree that is deeper than SQLite goes is not followed."""
    database = made()
    root, tree = database.root("a"), database.tree("a")
    page = database.parse(root)
    while not database.parse(page.cells[0].child or 0).kind.is_leaf:
        page = database.parse(page.cells[0].child or 0)
    last = page.right or 0
    tower = made()
    interior = bytearray(1024)
    interior[0], interior[5:7] = 5, number(1024, 2)
    first = tower.pages + 1
    for level in range(25):
        interior[8:12] = number(first + level + 1)
        tower.data += interior
    tower.data += interior
    tower.put(root, 8, number(first))
    depth = 20
    expect(tower, FlawKind.DEPTH, first + depth - 1, tmp_path, tree=tree, other=first + depth - 2, expected=20, seen=21)
    shallow = made()
    empty = bytearray(1024)
    empty[0], empty[5:7] = 5, number(1024, 2)
    empty[8:12] = number(last)
    shallow.data += empty
    shallow.put(page.pgno, 8, number(shallow.pages))
    levels = 2 if page.pgno == root else 3
    expect(shallow, FlawKind.DEPTH, last, tmp_path, tree=tree, other=shallow.pages, expected=levels, seen=levels + 1)
    expect(shallow, FlawKind.EMPTY_PAGE, shallow.pages, tmp_path, tree=tree, other=page.pgno)


def test_chains(tmp_path: Path) -> None:
    """Chains that are too short, too long, or lead to a page in use are found, with the row that they belong to."""
    database = made()
    pgno, cell = overflowing(database, "a")
    tree, first = database.tree("a"), cell.overflow
    assert first is not None
    length = -(-(cell.payload_size - cell.local) // (database.usable - 4))
    database.put(first, 0, number(0))
    row = {"tree": tree, "rowid": cell.rowid}
    expect(database, FlawKind.OVERFLOW_LENGTH, pgno, tmp_path, **row, cell=cell.index, expected=length, seen=1)
    database.put(pgno, cell.end - 4, number(0))
    expect(database, FlawKind.OVERFLOW_LENGTH, pgno, tmp_path, **row, cell=cell.index, expected=length, seen=0)
    database = made()
    last = first
    while following := database.number(last, 0):
        last = following
    database.put(last, 0, number(first))
    expect(database, FlawKind.OVERFLOW_LENGTH, pgno, tmp_path, **row, cell=cell.index, expected=length, seen=length + 1)
    database = made()
    database.put(first, 0, number(first))
    expect(database, FlawKind.TWICE, first, tmp_path, **row, other=first)
    database = made()
    trunk = database.number(1, 32)
    database.put(pgno, cell.end - 4, number(trunk))
    expect(database, FlawKind.TWICE, trunk, tmp_path, other=1)


def test_pages_used_twice(tmp_path: Path) -> None:
    """A child of two parents, a root of two trees, a circle: each is found, and the walk ends."""
    database = made()
    root, tree = database.root("a"), database.tree("a")
    database.put(root, 8, number(root))
    expect(database, FlawKind.TWICE, root, tmp_path, tree=tree, other=root)
    database = made()
    database.trees = (*database.trees, database.trees[tree])
    expect(database, FlawKind.TWICE, root, tmp_path, tree=len(database.trees) - 1)


def test_unused_pages(tmp_path: Path) -> None:
    """Pages that nothing uses are told in runs."""
    database = made()
    database.data += bytes(3 * 1024)
    expect(database, FlawKind.UNUSED, database.pages - 2, tmp_path, seen=3)


def test_freelist(tmp_path: Path) -> None:
    """A wrong count, a trunk that counts more leaves than fit, and a circle of trunks are found."""
    database = made()
    trunk, count = database.number(1, 32), database.number(1, 36)
    database.put(1, 36, number(count + 1))
    assert len(expect(database, FlawKind.FREELIST_COUNT, 1, tmp_path, expected=count + 1, seen=count)) == 1
    database = made()
    database.put(trunk, 4, number(255))
    expect(database, FlawKind.FREELIST_TRUNK, trunk, tmp_path, expected=254, seen=255)
    database = made()
    last = trunk
    while following := database.number(last, 0):
        last = following
    database.put(last, 0, number(trunk))
    expect(database, FlawKind.TWICE, trunk, tmp_path, other=last)
    leaf = database.number(trunk, 8)
    database = made()
    database.put(trunk, 12, number(leaf))
    expect(database, FlawKind.TWICE, leaf, tmp_path, other=trunk)
    database = made()
    database.put(trunk, 12, number(0))
    expect(database, FlawKind.PAGE_NUMBER, trunk, tmp_path, cell=1, seen=0)


def test_pointer_map(tmp_path: Path) -> None:
    """Each of the five kinds of entries is checked: roots, free pages, first and later overflow pages, children."""
    sound = made("maps")
    pgno, cell = overflowing(sound, "a")
    first = cell.overflow or 0
    second, tree, trunk = sound.number(first, 0), sound.tree("a"), sound.number(1, 32)
    root, leaf = sound.root("a"), sound.leaf("a", 1)
    entries: tuple[tuple[int, int, int, dict[str, int | None]], ...] = (
        (root, 1, 0, {"tree": tree}),
        (leaf, 5, root, {"tree": tree, "other": root}),
        (first, 3, pgno, {"tree": tree, "other": pgno, "rowid": cell.rowid}),
        (second, 4, first, {"tree": tree, "other": first, "rowid": cell.rowid}),
        (trunk, 2, 0, {"other": 1}),
        (sound.number(trunk, 8), 2, 0, {"other": trunk}),
    )
    each = sound.usable // 5 + 1
    for page, kind, parent, fields in entries:
        database = made("maps")
        ptrmap = (page - 2) // each * each + 2
        at = 5 * (page - ptrmap - 1)
        assert database.page(ptrmap)[at : at + 5] == bytes([kind]) + number(parent)
        database.put(ptrmap, at, b"\x07" + number(99))
        flaws = expect(
            database, FlawKind.POINTER_MAP, page, tmp_path, **fields, expected=kind << 32 | parent, seen=7 << 32 | 99
        )
        assert len(flaws) == 1


def test_records(tmp_path: Path) -> None:
    """A header that runs past its payload, types that do not fill it, and reserved types are told apart."""
    database = made()
    leaf, tree = database.leaf("c", 1), database.tree("c")
    cell = database.parse(leaf).cells[0]
    row = {"tree": tree, "cell": 0, "rowid": cell.rowid}
    size = database.page(leaf)[cell.payload]
    for seen in (cell.payload_size + 1, 0):
        database.put(leaf, cell.payload, bytes([seen]))
        expect(database, FlawKind.RECORD_HEADER, leaf, tmp_path, **row, expected=cell.payload_size, seen=seen)
    database = made()
    database.put(leaf, cell.payload + 1, b"\x08")  # the first value is 0 or 1, and takes no byte any more
    expect(
        database, FlawKind.RECORD_HEADER, leaf, tmp_path, **row, expected=cell.payload_size, seen=cell.payload_size - 1
    )
    database = made()
    database.put(leaf, cell.payload + size - 1, b"\x80")  # the last type goes on behind the header
    expect(database, FlawKind.RECORD_HEADER, leaf, tmp_path, **row, expected=cell.payload_size, seen=size)
    database = made()
    database.put(leaf, cell.payload + 2, b"\x0b")
    expect(database, FlawKind.SERIAL_TYPE, leaf, tmp_path, **row, column=1, seen=11)
    database = made()
    database.put(leaf, cell.payload, b"\xff" * 9)
    database.put(leaf, cell.offset, b"\x08")
    expect(database, FlawKind.RECORD_HEADER, leaf, tmp_path, **row, expected=8)


def test_an_index_record_with_too_few_columns(tmp_path: Path) -> None:
    """An entry of an index that has not all of its key columns is a flaw."""
    database = made()
    tree = database.tree("a_name")
    wide = database.trees[tree]
    database.trees = (
        *database.trees[:tree],
        type(wide)(name="", root=wide.root, index=True, columns=(*wide.columns, wide.columns[-1]), keys=4),
        *database.trees[tree + 1 :],
    )
    expect(database, FlawKind.RECORD_HEADER, wide.root, tmp_path, tree=tree, cell=0, column=4, expected=4, seen=3)


def test_values(tmp_path: Path) -> None:
    """NULL in a NOT NULL column, and a value of another type in a STRICT table, are found, column and type named."""
    path = tmp_path / "made.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TABLE t(id INTEGER PRIMARY KEY NOT NULL, a INT NOT NULL, b TEXT, c REAL, d BLOB, e ANY) STRICT"
        )
        connection.execute("CREATE TABLE loose(a, b)")
        connection.execute("INSERT INTO t VALUES(1, 2, 'x', 4.5, x'05', 6)")
        connection.execute("INSERT INTO t VALUES(2, 2, NULL, 4, NULL, x'')")
        connection.execute("INSERT INTO loose VALUES(NULL, 'x')")
    sound = Database.read(path)
    leaf, tree = sound.root("t"), sound.tree("t")
    cell = sound.parse(leaf).cells[0]
    row = {"tree": tree, "cell": 0, "rowid": 1}
    assert sound.page(leaf)[cell.payload : cell.payload + 7] == bytes([7, 0, 1, 15, 7, 14, 1])
    for column, old, new, kind in (
        (1, 1, 0, FlawKind.NOT_NULL),
        (1, 1, 14, FlawKind.STRICT_TYPE),
        (2, 15, 14, FlawKind.STRICT_TYPE),
        (3, 7, 28, FlawKind.STRICT_TYPE),
        (4, 14, 15, FlawKind.STRICT_TYPE),
    ):
        database = Database(data=bytearray(sound.data), page_size=sound.page_size, trees=sound.trees)
        database.put(leaf, cell.payload + 1 + column, bytes([new]))
        seen = None if kind is FlawKind.NOT_NULL else new
        flaws = expect(database, kind, leaf, tmp_path, **row, column=column, seen=seen)
        assert old and len(flaws) == (1 if (old, new) != (1, 0) else 2)


def test_every_kind_has_its_test() -> None:
    """No kind of flaw is without a test here; UNREADABLE is tested where pages are read."""
    text = Path(__file__).read_text("utf-8")
    missing = [kind.name for kind in FlawKind if f"FlawKind.{kind.name}" not in text.partition("def test_every")[0]]
    assert missing == ["UNREADABLE"]
