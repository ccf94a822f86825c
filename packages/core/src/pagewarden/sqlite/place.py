"""What a byte of a page means: which part of the page, which row, which column."""

from __future__ import annotations

from dataclasses import dataclass

from pagewarden.sqlite.btree import BTreePage, Cell, parse_page
from pagewarden.sqlite.owner import Owner
from pagewarden.sqlite.record import Malformed, parse_record
from pagewarden.sqlite.schema import Layout, ReadPage


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a byte lies."""

    part: str  # "column", "record header", "cell header", "cell pointer", "overflow pointer", "page header", …
    rowid: int | None = None
    cell: int | None = None  # index of the cell on its b-tree page
    column: int | None = None  # index in the record, from 0, where `part` is "column"


def find_place(read: ReadPage, owner: Owner, offset: int, layout: Layout) -> Place:
    """Return what byte `offset` of the page `owner` describes means; the page is read through `read`.

    What the page does not tell, because it does not hold together, is left out.
    """
    if offset >= layout.usable:
        return Place(part="reserved bytes")
    if owner.role == "overflow":
        return _in_overflow(read, owner, offset, layout)
    if not owner.object:
        return Place(part=f"{owner.role} page")
    data = read(owner.pgno)
    try:
        page = parse_page(data, pgno=owner.pgno, usable=layout.usable)
    except Malformed:
        return Place(part=f"{owner.role} page")
    if offset < page.pointers_end:
        return _in_header(page, offset)
    cell = page.cell_at(offset)
    return Place(part="unused space") if cell is None else _in_cell(data, cell, offset)


def _in_header(page: BTreePage, offset: int) -> Place:
    if offset < page.header:
        return Place(part="database header")
    pointers = page.header + (8 if page.kind.is_leaf else 12)
    if offset < pointers:
        return Place(part="page header")
    index = (offset - pointers) // 2
    rowid = next((cell.rowid for cell in page.cells if cell.index == index), None)
    return Place(part="cell pointer", rowid=rowid, cell=index)


def _in_cell(data: bytes, cell: Cell, offset: int) -> Place:
    if offset < cell.payload or not cell.payload_size:
        return Place(part="cell header", rowid=cell.rowid, cell=cell.index)
    if offset >= cell.payload + cell.local:
        part = "unused space" if cell.overflow is None else "overflow pointer"
        return Place(part=part, rowid=cell.rowid, cell=cell.index)
    return _in_payload(data, cell, offset - cell.payload)


def _in_payload(data: bytes, cell: Cell, position: int) -> Place:
    """Name the column that byte `position` of the payload belongs to; its header stands on the cell's own page."""
    try:
        record = parse_record(data[cell.payload : cell.payload + cell.local], cell.payload_size)
    except Malformed:
        return Place(part="record", rowid=cell.rowid, cell=cell.index)
    column = record.column_at(position)
    part = "record header" if column is None else "column"
    return Place(part=part, rowid=cell.rowid, cell=cell.index, column=column)


def _in_overflow(read: ReadPage, owner: Owner, offset: int, layout: Layout) -> Place:
    if offset < 4 or owner.head is None or owner.payload is None:
        return Place(part="overflow pointer", rowid=owner.rowid)
    pgno, index = owner.head
    data = read(pgno)
    try:
        page = parse_page(data, pgno=pgno, usable=layout.usable)
    except Malformed:
        return Place(part="overflow page")
    position = owner.payload + offset - 4
    for cell in page.cells:
        if cell.index == index and position < cell.payload_size:
            return _in_payload(data, cell, position)
    return Place(part="unused space", rowid=owner.rowid)
