"""One b-tree page as the structure walk sees it, in Python: its header, its cells, and the bytes between them.

The numbers of rules are those of `pagewarden.pages.walk`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pagewarden.pages._twin_keys import MAX_NUMBER, Found
from pagewarden.pages.walk import MAX_FLAWS
from pagewarden.sqlite.btree import local_payload
from pagewarden.sqlite.record import Malformed, read_varint
from pagewarden.structure import FlawKind

_MAX_PAYLOAD = (1 << 31) - 1  # bytes
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class TreePage:
    """The header of a b-tree page."""

    data: bytes  # without the reserved bytes
    table: bool
    leaf: bool
    header: int  # where it begins: 100 on page 1
    count: int  # cells
    content: int  # where the content area begins
    content_known: bool  # whether the header says so, or it is the end of the pointers

    @property
    def pointers(self) -> int:
        """Where the cell pointers begin."""
        return self.header + (8 if self.leaf else 12)

    @property
    def right(self) -> int:
        """The right-most child of an interior page."""
        return int.from_bytes(self.data[self.header + 8 : self.header + 12], "big")

    def offset(self, cell: int) -> int:
        """Return where a cell begins."""
        at = self.pointers + 2 * cell
        return self.data[at] << 8 | self.data[at + 1]


@dataclass(frozen=True, slots=True)
class TreeCell:
    """One cell that holds."""

    number: int
    offset: int
    end: int  # behind its last byte on the page
    child: int  # on interior pages, else 0
    rowid: int  # on table pages, else 0
    payload: int  # where its payload begins
    local: int  # bytes of the payload on this page
    size: int  # bytes of the whole payload
    overflow: int  # first overflow page, 0 also where all of the payload is here


def read_page(data: bytes, *, pgno: int, parent: int | None, page_size: int, found: Found) -> TreePage | None:
    """Judge a page's header, rules 4 to 6; its first byte is one of the two of its tree. None: no more can be said."""
    header = 100 if pgno == 1 else 0
    leaf, table = data[header] & 8 != 0, data[header] & 1 != 0
    count, content = struct.unpack_from(">HH", data, header + 3)
    most = (page_size - 8) // 6
    if count > most:
        found(FlawKind.PAGE_HEADER, expected=most, seen=count)
        return None
    if not count and not (parent is None and (leaf or pgno == 1)):
        found(FlawKind.EMPTY_PAGE, other=parent)
    content = content or 65536
    least = header + (8 if leaf else 12) + 2 * count
    known = least <= content <= len(data)
    if not known:
        found(FlawKind.PAGE_HEADER, expected=least if content < least else len(data), seen=content)
    return TreePage(data, table, leaf, header, count, content if known else least, known)


def read_cell(page: TreePage, number: int, found: Found) -> TreeCell | None:
    """Judge where a cell lies, rules 1 and 2 of cells; None where it does not hold."""
    data, offset, usable = page.data, page.offset(number), len(page.data)
    if offset < page.content or offset > usable - 4:
        found(FlawKind.CELL_POINTER, cell=number, seen=offset)
        return None
    at, child, rowid = offset, 0, 0
    if not page.leaf:
        child = int.from_bytes(data[at : at + 4], "big")
        at += 4
    try:
        if page.table and not page.leaf:
            rowid, at = read_varint(data, at)
            return TreeCell(number, offset, at, child, rowid, at, 0, 0, 0)
        size, at = read_varint(data, at)
        if page.table:
            rowid, at = read_varint(data, at)
    except Malformed:
        found(FlawKind.CELL_SIZE, cell=number, expected=usable, seen=usable + 1)
        return None
    if not 0 <= size <= _MAX_PAYLOAD:
        found(FlawKind.CELL_SIZE, cell=number, expected=usable, seen=min(size & _U64, MAX_NUMBER))
        return None
    local = local_payload(size, usable, table_leaf=page.table)
    end = max(at + local + (4 if local < size else 0), offset + 4)
    if end > usable:
        found(FlawKind.CELL_SIZE, cell=number, expected=usable, seen=end)
        return None
    overflow = int.from_bytes(data[end - 4 : end], "big") if local < size else 0
    return TreeCell(number, offset, end, child, rowid, at, local, size, overflow)


def judge_bytes(page: TreePage, cells: list[TreeCell], found: Found) -> None:
    """Judge free blocks, bytes that are used twice, and fragments: rules 9 to 11. `cells` are those that hold."""
    blocks, sound = _free_blocks(page, found) if page.content_known else ([], False)
    used = bytearray(len(page.data))
    overlaps = 0
    for number, start, end in [*((cell.number, cell.offset, cell.end) for cell in cells), *blocks]:
        shared = used.find(1, start, end)
        if shared >= 0:
            found(FlawKind.CELL_OVERLAP, cell=number, seen=shared)
            sound = False
            overlaps += 1
            if overlaps == MAX_FLAWS:
                break
        used[start:end] = b"\1" * (end - start)
    if not sound or len(cells) < page.count:
        return
    fragments = used.count(0, page.content)
    expected = page.data[page.header + 7]
    if fragments != expected:
        found(FlawKind.FRAGMENTS, expected=expected, seen=fragments)


def _free_blocks(page: TreePage, found: Found) -> tuple[list[tuple[None, int, int]], bool]:
    """Return the free blocks, as (None, first byte, end), and whether their chain is whole."""
    data, usable = page.data, len(page.data)
    blocks: list[tuple[None, int, int]] = []
    (offset,) = struct.unpack_from(">H", data, page.header + 1)
    while offset:
        if offset < page.content or offset > usable - 4:
            found(FlawKind.FREE_BLOCK, seen=offset)
            return blocks, False
        following, size = struct.unpack_from(">HH", data, offset)
        if size < 4 or offset + size > usable or 0 < following < offset + size + 4:
            found(FlawKind.FREE_BLOCK, seen=offset)
            return blocks, False
        blocks.append((None, offset, offset + size))
        offset = following
    return blocks, True
