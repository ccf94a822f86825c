"""The flipped bit, if possible where SQLite's checks cannot see it: in a text that nothing else depends on."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pagewarden.sqlite.btree import BTreePage, PageKind, child_pages, parse_page
from pagewarden.sqlite.columns import TableShape, table_shape
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.owner import leaf_pages
from pagewarden.sqlite.record import Malformed, parse_record
from pagewarden.sqlite.schema import SchemaEntry
from pagewarden.testing.injuries.closed import TRIES, Attempt, ClosedCopy
from pagewarden.testing.injuries.pages import whole_page


def flipped_bit(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Flip one bit of a text; without one that SQLite's checks know nothing of, of any row, or of any page."""
    pgno, offset, bits, what = _text_target(copy, chance) or _payload_target(copy, chance)
    bit = chance.choice(bits)
    new = bytearray(copy.read(pgno))
    new[offset] ^= 1 << bit
    yield whole_page(copy, pgno, bytes(new), f"flipped bit {bit} of byte {offset} of page {pgno}{what}")


def _text_target(copy: ClosedCopy, chance: random.Random) -> tuple[int, int, range, str] | None:
    """Return a byte of text that no index, constraint or full-text search knows: SQLite's checks cannot see it change.

    Bits 0 to 4 of a byte from 0x20 on leave a byte of text: never a NUL, never a control character.
    """
    virtual = tuple(f"{entry.name}_" for entry in copy.schema if entry.kind == "table" and not entry.root)
    tables = [
        entry
        for entry in copy.schema
        if entry.kind == "table" and entry.root > 1 and not entry.name.startswith((*virtual, "sqlite_"))
    ]
    chance.shuffle(tables)
    for entry in tables:
        shape = table_shape(copy.schema, entry.name)
        if not shape.plain or set(shape.columns) <= shape.indexed:
            continue
        pages = [page for _ in range(TRIES) if (page := _random_leaf(copy, entry, chance)) is not None]
        for page in (*pages, *leaf_pages(copy.read, entry, copy.layout)):
            targets = _text_bytes(copy, page, shape)
            if targets:
                offset, rowid, column = chance.choice(targets)
                return page.pgno, offset, range(5), f": table {entry.name}, rowid {rowid}, column {column}"
    return None


def _random_leaf(copy: ClosedCopy, entry: SchemaEntry, chance: random.Random) -> BTreePage | None:
    """Go down from the root by chance; None where the tree does not hold together."""
    pgno = entry.root
    for _ in range(20):
        data = copy.read(pgno)
        children = [child for child in child_pages(data, pgno, copy.layout.usable) if 1 < child <= copy.pages]
        if not children:
            break
        pgno = chance.choice(children)
    try:
        page = parse_page(copy.read(pgno), pgno=pgno, usable=copy.layout.usable)
    except Malformed:
        return None
    return page if page.kind.is_leaf else None


def _text_bytes(copy: ClosedCopy, page: BTreePage, shape: TableShape) -> list[tuple[int, int, str]]:
    """Return the bytes of text on a table leaf that nothing else depends on, as (offset, rowid, column)."""
    found: list[tuple[int, int, str]] = []
    data = copy.read(page.pgno)
    for cell in page.cells if page.kind is PageKind.TABLE_LEAF else ():
        try:
            record = parse_record(data[cell.payload : cell.payload + cell.local], cell.payload_size)
        except Malformed:
            continue
        for column, field in zip(shape.columns, record.fields, strict=False):
            if column in shape.indexed or not field.is_text or cell.rowid is None:
                continue
            begin = cell.payload + field.offset
            for offset in range(begin, min(begin + field.size, cell.payload + cell.local)):
                if data[offset] >= 0x20:
                    found.append((offset, cell.rowid, column))
    return found


def _payload_target(copy: ClosedCopy, chance: random.Random) -> tuple[int, int, range, str]:
    """Return any byte of a row; where the database has no rows, any byte behind the header."""
    for entry in copy.schema[1:]:
        for page in leaf_pages(copy.read, entry, copy.layout) if entry.root else ():
            cells = [cell for cell in page.cells if cell.local]
            if cells:
                cell = chance.choice(cells)
                offset = chance.randrange(cell.payload, cell.payload + cell.local)
                row = "" if cell.rowid is None else f", rowid {cell.rowid}"
                return page.pgno, offset, range(8), f": {entry.kind} {entry.name}{row}"
    pages = copy.in_use(chance) or [1]
    offset = chance.randrange(HEADER_SIZE if pages[0] == 1 else 0, copy.page_size)
    return pages[0], offset, range(8), ": no table has a row"
