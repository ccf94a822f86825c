from __future__ import annotations

import itertools
import random
import struct
from pathlib import Path

import pytest

from pagewarden.sqlite.btree import PageKind, child_pages, local_payload, page_kind, parse_page
from pagewarden.sqlite.record import Malformed
from tests.core.sqlite.closed import make


@pytest.mark.parametrize("page_size", [512, 1024, 65536])
def test_every_cell_lies_where_sqlite_put_it(tmp_path: Path, page_size: int) -> None:
    """Rowids of all table leaves are the table's, in order; no cell overlaps another or the header."""
    closed = make(tmp_path / "a.db", page_size=page_size, rows=120)
    root = next(entry.root for entry in closed.schema if entry.name == "item")
    rowids: list[int] = []
    stack = [root]
    while stack:
        page = parse_page(closed.read(stack[-1]), pgno=stack.pop(), usable=page_size)
        assert page.bad == ()
        spans = sorted((cell.offset, cell.end) for cell in page.cells)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
        assert not spans or (page.pointers_end <= spans[0][0] and spans[-1][1] <= page_size)
        assert not spans or spans[0][0] >= page.content
        rowids += [cell.rowid for cell in page.cells if page.kind.is_leaf and cell.rowid is not None]
        stack += reversed(child_pages(closed.read(page.pgno), page.pgno, page_size))
        for cell in page.cells:
            assert page.cell_at(cell.offset) is cell and page.cell_at(cell.end - 1) is cell
    assert rowids == [n * 3 - 1000 for n in range(1, 121) if (n * 3 - 1000) % 5]


def test_kinds() -> None:
    """The first byte is the kind, and page 1 begins with the database header."""
    assert page_kind(bytes([5]) + bytes(511), 2) is PageKind.TABLE_INTERIOR
    assert page_kind(bytes(100) + bytes([13]) + bytes(411), 1) is PageKind.TABLE_LEAF
    assert page_kind(bytes(512), 2) is None
    assert page_kind(b"", 2) is None
    assert str(PageKind.INDEX_LEAF) == "index leaf"
    assert (PageKind.INDEX_LEAF.is_leaf, PageKind.INDEX_LEAF.is_table) == (True, False)


@pytest.mark.parametrize("table_leaf", [True, False])
@pytest.mark.parametrize("usable", [480, 1004, 4096, 65536])
def test_local_payload_keeps_within_its_bounds(usable: int, table_leaf: bool) -> None:
    """All of a small payload stays; of a large one between the least and the most of section 1.6."""
    most = usable - 35 if table_leaf else (usable - 12) * 64 // 255 - 23
    least = (usable - 12) * 32 // 255 - 23
    for size in (0, 1, least, most, most + 1, most + usable, 10**6, 2**31 - 1):
        local = local_payload(size, usable, table_leaf=table_leaf)
        assert local == size if size <= most else least <= local <= most


def leaf(*cells: bytes, size: int = 512, kind: int = 13) -> bytes:
    """Build a leaf page of cells."""
    page = bytearray(size)
    pointers, end = [], size
    for cell in cells:
        end -= len(cell)
        page[end : end + len(cell)] = cell
        pointers.append(end)
    struct.pack_into(f">BHHHB{len(cells)}H", page, 0, kind, 0, len(cells), end, 0, *pointers)
    return bytes(page)


def test_a_bad_cell_leaves_its_neighbours_alone() -> None:
    """A cell that runs past the page, or begins in the header, is listed as bad; the others are there."""
    page = bytearray(leaf(b"\x02\x07\x02\x09", b"\x02\x08\x02\x09"))
    assert [cell.rowid for cell in parse_page(page, pgno=2, usable=512).cells] == [7, 8]
    struct.pack_into(">H", page, 8, 3)
    parsed = parse_page(page, pgno=2, usable=512)
    assert ([cell.rowid for cell in parsed.cells], parsed.bad) == ([8], (0,))
    struct.pack_into(">H", page, 8, 511)
    assert parse_page(page, pgno=2, usable=512).bad == (0,)


@pytest.mark.parametrize(
    "cell",
    [b"\xff" * 9 + b"\x01", b"\x88" * 8 + b"\x00\x01", b"\x8f\xff\xff\xff\x7f\x01", b"\xff"],
    ids=["negative", "huge", "overflowing", "cut"],
)
def test_sizes_that_no_cell_has_are_bad(cell: bytes) -> None:
    """A payload below zero, above 2 GiB, or whose pointer runs past the page."""
    parsed = parse_page(leaf(cell), pgno=2, usable=512)
    assert (parsed.cells, parsed.bad) == ((), (0,))


def test_a_page_that_is_none_is_refused() -> None:
    """No kind, more cells than fit, fewer bytes than usable."""
    with pytest.raises(Malformed, match="no b-tree page"):
        parse_page(bytes(512), pgno=2, usable=512)
    with pytest.raises(Malformed, match="no b-tree page"):
        parse_page(leaf(b"\x02\x07\x02\x09")[:400], pgno=2, usable=512)
    crowded = bytearray(leaf(b"\x02\x07\x02\x09"))
    struct.pack_into(">H", crowded, 3, 300)
    with pytest.raises(Malformed, match="more than fit"):
        parse_page(crowded, pgno=2, usable=512)
    crowded[0] = 5
    assert child_pages(crowded, 2, 512) == ()
    assert child_pages(crowded[:300], 2, 512) == ()


def test_interior_cells_that_run_past_the_page_are_bad() -> None:
    """Of both interior kinds, and of both ways to run past it."""
    for kind, tail in ((5, b"\0\0\0\2\xff"), (2, b"\0\0\0\2\xff"), (5, b"\0\0"), (2, b"\0\0")):
        page = bytearray(512)
        struct.pack_into(">BHHHBIH", page, 0, kind, 0, 1, 0, 0, 9, 512 - len(tail))
        page[512 - len(tail) :] = tail
        assert parse_page(page, pgno=3, usable=512).bad == (0,)


def test_noise_is_taken_apart_or_refused() -> None:
    """Random bytes with a plausible first one: only Malformed, and no cell outside the page."""
    chance = random.Random(5)
    for round_ in range(600):
        data = bytearray(chance.randbytes(512))
        data[0] = chance.choice((2, 5, 10, 13))
        data[3:5] = struct.pack(">H", round_ % 60)
        try:
            page = parse_page(data, pgno=2, usable=chance.choice((480, 512)))
        except Malformed:
            continue
        assert all(cell.offset < cell.end <= 512 for cell in page.cells)
        assert len(page.cells) + len(page.bad) == round_ % 60
        child_pages(data, 2, 512)
