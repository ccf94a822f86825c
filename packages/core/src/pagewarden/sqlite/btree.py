"""The b-tree page (file format, section 1.6): its header, its cells, and what each cell points at.

| offset | size | field |
|---|---|---|
| 0 | 1 | kind: 2 index interior, 5 table interior, 10 index leaf, 13 table leaf |
| 1 | 2 | first freeblock, 0 for none |
| 3 | 2 | number of cells |
| 5 | 2 | start of the cell content area, 0 means 65536 |
| 7 | 1 | fragmented free bytes |
| 8 | 4 | right-most child (interior pages only) |

The header is at byte 100 of page 1 and at byte 0 of every other page; the cell pointers follow it, 2 bytes each.
Bytes in, frozen values out; a cell that does not hold is listed as bad and leaves its neighbours alone.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum

from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.record import Buffer, Malformed, read_varint


class PageKind(IntEnum):
    """What a b-tree page is; the number is its first byte."""

    INDEX_INTERIOR = 2
    TABLE_INTERIOR = 5
    INDEX_LEAF = 10
    TABLE_LEAF = 13

    @property
    def is_leaf(self) -> bool:
        """Whether pages of this kind have no children."""
        return self in (PageKind.INDEX_LEAF, PageKind.TABLE_LEAF)

    @property
    def is_table(self) -> bool:
        """Whether pages of this kind belong to a b-tree keyed by rowid."""
        return self in (PageKind.TABLE_INTERIOR, PageKind.TABLE_LEAF)

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a b-tree page. Offsets are from the beginning of the page."""

    index: int  # position in the cell pointer array
    offset: int  # first byte of the cell
    end: int  # behind its last byte on this page
    child: int | None = None  # left child, on interior pages
    rowid: int | None = None  # on table pages
    payload_size: int = 0  # bytes of the whole payload, overflow included
    payload: int = 0  # first byte of the payload on this page
    local: int = 0  # bytes of the payload on this page
    overflow: int | None = None  # first overflow page


@dataclass(frozen=True, slots=True, kw_only=True)
class BTreePage:
    """One b-tree page, taken apart."""

    pgno: int
    kind: PageKind
    header: int  # where its header begins: 100 on page 1
    cells: tuple[Cell, ...]  # those that hold, in key order
    bad: tuple[int, ...]  # indexes of the cells that do not
    right: int | None  # right-most child, on interior pages
    content: int  # start of the cell content area

    @property
    def pointers_end(self) -> int:
        """The byte behind the cell pointer array."""
        return self.header + (8 if self.kind.is_leaf else 12) + 2 * (len(self.cells) + len(self.bad))

    def cell_at(self, offset: int) -> Cell | None:
        """Return the cell that byte `offset` of the page belongs to, if any."""
        return next((cell for cell in self.cells if cell.offset <= offset < cell.end), None)


def local_payload(size: int, usable: int, *, table_leaf: bool) -> int:
    """Return how many bytes of a payload of `size` bytes stay on the b-tree page (file format, section 1.6)."""
    most = usable - 35 if table_leaf else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= most else least


def page_kind(page: Buffer, pgno: int) -> PageKind | None:
    """Return what kind of b-tree page `page` says it is; None if its first byte is no kind."""
    header = HEADER_SIZE if pgno == 1 else 0
    if len(page) <= header or page[header] not in _KINDS:
        return None
    return PageKind(page[header])


_KINDS = frozenset(int(kind) for kind in PageKind)


def child_pages(page: Buffer, pgno: int, usable: int) -> tuple[int, ...]:
    """Return the children of an interior page in key order, none for any other page; the quick part of `parse_page`."""
    kind = page_kind(page, pgno)
    if kind is None or kind.is_leaf or usable > len(page):
        return ()
    header = HEADER_SIZE if pgno == 1 else 0
    (count,) = struct.unpack_from(">H", page, header + 3)
    if header + 12 + 2 * count > usable:
        return ()
    offsets = struct.unpack_from(f">{count}H", page, header + 12)
    left = tuple(int.from_bytes(page[offset : offset + 4], "big") for offset in offsets if offset + 4 <= usable)
    return (*left, int.from_bytes(page[header + 8 : header + 12], "big"))


def parse_page(page: Buffer, *, pgno: int, usable: int, only: Container[int] | None = None) -> BTreePage:
    """Take a b-tree page apart. `usable` is the page size without the reserved bytes.

    With `only`, cells of other indexes are left out, and nobody looks whether they hold.
    Raises Malformed where the page has no b-tree header or its cell pointers do not fit.
    """
    header = HEADER_SIZE if pgno == 1 else 0
    kind = page_kind(page, pgno)
    if kind is None or usable > len(page):
        raise Malformed(f"page {pgno} is no b-tree page")
    count, content = struct.unpack_from(">HH", page, header + 3)
    pointers = header + (8 if kind.is_leaf else 12)
    if pointers + 2 * count > usable:
        raise Malformed(f"page {pgno} has {count} cells, more than fit")
    cells, bad = [], []
    for index in range(count):
        if only is not None and index not in only:
            continue
        (offset,) = struct.unpack_from(">H", page, pointers + 2 * index)
        try:
            if offset < pointers + 2 * count:
                raise Malformed(f"cell {index} of page {pgno} begins at byte {offset}, inside the header")
            cells.append(_parse_cell(page, index, offset, kind, usable))
        except Malformed:
            bad.append(index)
    right = None if kind.is_leaf else struct.unpack_from(">I", page, header + 8)[0]
    return BTreePage(
        pgno=pgno, kind=kind, header=header, cells=tuple(cells), bad=tuple(bad), right=right, content=content or 65536
    )


def _parse_cell(page: Buffer, index: int, offset: int, kind: PageKind, usable: int) -> Cell:
    position = offset
    child = rowid = overflow = None
    if not kind.is_leaf:
        if position + 4 > usable:
            raise Malformed(f"cell {index} runs past the page")
        (child,) = struct.unpack_from(">I", page, position)
        position += 4
    if kind is PageKind.TABLE_INTERIOR:
        rowid, position = read_varint(page, position)
        if position > usable:
            raise Malformed(f"cell {index} runs past the page")
        return Cell(index=index, offset=offset, end=position, child=child, rowid=rowid)
    size, position = read_varint(page, position)
    if kind is PageKind.TABLE_LEAF:
        rowid, position = read_varint(page, position)
    if not 0 <= size <= 0x7FFFFFFF:  # the limit of a payload (limits, section 1)
        raise Malformed(f"cell {index} has a payload of {size} bytes")
    local = local_payload(size, usable, table_leaf=kind is PageKind.TABLE_LEAF)
    # A cell takes 4 bytes at least, so that a freeblock can take its place.
    end = max(position + local, offset + 4)
    if local < size:
        end = position + local + 4
        if end > usable:
            raise Malformed(f"cell {index} runs past the page")
        (overflow,) = struct.unpack_from(">I", page, position + local)
    if end > usable:
        raise Malformed(f"cell {index} runs past the page")
    return Cell(
        index=index,
        offset=offset,
        end=end,
        child=child,
        rowid=rowid,
        payload_size=size,
        payload=position,
        local=local,
        overflow=overflow,
    )
