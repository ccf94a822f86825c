"""Injuries of single fields: pointers, entries and numbers that a bug or a stray write has made wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import islice

from pagewarden.sqlite.btree import BTreePage, Cell, parse_page
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.owner import Owner, chain
from pagewarden.sqlite.record import Malformed, parse_record
from pagewarden.testing.injuries.closed import TRIES, Attempt, ClosedCopy
from pagewarden.testing.injuries.pages import whole_page

_LONGEST = 16  # bytes of garbage
_LINKS = 64  # pages of an overflow chain among which one is chosen


def header_garbage(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put garbage over some bytes of the database header."""
    for _ in range(TRIES):
        length = chance.randrange(4, _LONGEST + 1)
        begin = chance.randrange(HEADER_SIZE - length + 1)
        yield _garbage(copy, 1, begin, length, chance, " of the database header")


def schema_page(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put garbage over a part of page 1 behind the database header: its b-tree header, its pointers or a cell."""
    try:
        page = parse_page(copy.read(1), pgno=1, usable=copy.layout.usable)
    except Malformed:
        parts = [(HEADER_SIZE, copy.layout.usable)]
    else:
        parts = [(HEADER_SIZE, page.pointers_end), *((cell.offset, cell.end) for cell in page.cells)]
    for _ in range(TRIES):
        begin, end = chance.choice(parts)
        length = min(chance.randrange(1, _LONGEST + 1), end - begin)
        yield _garbage(copy, 1, chance.randrange(begin, end - length + 1), length, chance, " of the schema")


def freelist_trunk(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Let a trunk page of the freelist name a wrong next trunk, a wrong number of leaves or a wrong leaf."""
    trunks = list(copy.freelist.trunks)
    chance.shuffle(trunks)
    for pgno in trunks:
        (count,) = struct.unpack_from(">I", copy.read(pgno), 4)
        slots = min(count, copy.layout.usable // 4 - 2)
        field = chance.choice(("next", "count", "leaf") if slots else ("next", "count"))
        if field == "count":
            new = _other(count, range(copy.layout.usable), chance)
            message = f"freelist trunk page {pgno} counts {new} leaves instead of {count}"
            yield _number(copy, pgno, 4, new, 4, message)
            continue
        slot = chance.randrange(slots) if field == "leaf" else 0
        offset, what = (8 + 4 * slot, f"leaf {slot}") if field == "leaf" else (0, "the next trunk")
        new, old = _other_page(copy, pgno, offset, chance)
        message = f"freelist trunk page {pgno} names page {new} as {what} instead of {old}"
        yield _number(copy, pgno, offset, new, 4, message)


def overflow_pointer(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Let a row go on at a wrong overflow page, by its cell or by a page of its chain."""
    for owner, page in _trees(copy, chance):
        cells = [cell for cell in page.cells if cell.overflow is not None]
        if not cells:
            continue
        cell = chance.choice(cells)
        places = [(owner.pgno, cell.end - 4)]
        chained = [pgno for pgno, _ in islice(chain(copy.read, cell, copy.layout), _LINKS)]
        places += [(pgno, 0) for pgno in chained[:-1]]
        pgno, offset = chance.choice(places)
        new, old = _other_page(copy, pgno, offset, chance)
        row = "" if cell.rowid is None else f", rowid {cell.rowid}"
        message = f"page {pgno} ({owner.kind} {owner.object}{row}) goes on at page {new} instead of {old}"
        yield _number(copy, pgno, offset, new, 4, message)


def cell_pointer(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Let a pointer of a page lead to a byte where its cell does not begin."""
    for owner, page in _trees(copy, chance):
        if not page.cells:
            continue
        cell = chance.choice(page.cells)
        place = page.header + (8 if page.kind.is_leaf else 12) + 2 * cell.index
        usable = copy.layout.usable
        new = _other(cell.offset, range(min(page.pointers_end, usable - 2), usable), chance)
        message = f"cell {cell.index} of page {owner.pgno} ({owner}) begins at byte {new} instead of {cell.offset}"
        yield _number(copy, owner.pgno, place, new, 2, message)


def interior_child_pointer(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Let an interior page name a wrong child."""
    for owner, page in _trees(copy, chance):
        if page.kind.is_leaf:
            continue
        offset = chance.choice([page.header + 8, *(cell.offset for cell in page.cells)])
        new, old = _other_page(copy, owner.pgno, offset, chance)
        message = f"page {owner.pgno} ({owner}) names page {new} as its child instead of {old}"
        yield _number(copy, owner.pgno, offset, new, 4, message)


def index_entry(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Change one byte of an entry of an index, which then names another key, or another row."""
    for owner, page in _trees(copy, chance):
        cells = [cell for cell in page.cells if cell.local]
        if owner.kind != "index" or not cells:
            continue
        data = copy.read(owner.pgno)
        cell = chance.choice(cells)
        offset = chance.choice(_values(data, cell) or range(cell.payload, cell.payload + cell.local))
        new = _other(data[offset], range(256), chance)
        message = f"byte {offset} of page {owner.pgno} ({owner}), in entry {cell.index}, became 0x{new:02x}"
        yield _number(copy, owner.pgno, offset, new, 1, message)


def _trees(copy: ClosedCopy, chance: random.Random) -> Iterator[tuple[Owner, BTreePage]]:
    """Yield the b-tree pages that hold together, shuffled."""
    for owner in copy.tree_pages(chance):
        try:
            yield owner, parse_page(copy.read(owner.pgno), pgno=owner.pgno, usable=copy.layout.usable)
        except Malformed:
            continue


def _values(data: bytes, cell: Cell) -> range:
    """Return where the values of an entry stand on its page, behind the header of the record; nothing if unreadable."""
    try:
        record = parse_record(data[cell.payload : cell.payload + cell.local], cell.payload_size)
    except Malformed:
        return range(0)
    begin = min((field.offset for field in record.fields), default=cell.local)
    return range(cell.payload + begin, cell.payload + cell.local)


def _garbage(copy: ClosedCopy, pgno: int, begin: int, length: int, chance: random.Random, where: str) -> Attempt:
    old = copy.read(pgno)
    new = old[:begin] + chance.randbytes(length) + old[begin + length :]
    bytes_of = f"bytes {begin} to {begin + length - 1} of page {pgno}"
    return whole_page(copy, pgno, new, f"{bytes_of}{where} became garbage")


def _other(old: int, numbers: range, chance: random.Random) -> int:
    """Return one of `numbers`, which are more than one, but not `old`."""
    new = chance.choice(numbers)
    return new if new != old else numbers[numbers.index(new) - 1]


def _other_page(copy: ClosedCopy, pgno: int, offset: int, chance: random.Random) -> tuple[int, int]:
    """Return a wrong page number for a place where one stands, within the database or just behind it, and that one."""
    (old,) = struct.unpack_from(">I", copy.read(pgno), offset)
    return _other(old, range(1, copy.pages + 3), chance), old


def _number(copy: ClosedCopy, pgno: int, offset: int, new: int, size: int, message: str) -> Attempt:
    page = copy.read(pgno)
    return whole_page(copy, pgno, page[:offset] + new.to_bytes(size, "big") + page[offset + size :], message)
