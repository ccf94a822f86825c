"""The rows that stand on a b-tree page, without SQLite: a range scan over damage can leave rows out in silence (H28).

Table leaves hold rowid and record; the pages of a table WITHOUT ROWID, interior ones too, hold records that begin with
its primary key. Text whose bytes are not valid keeps them as surrogate escapes, so that nothing is lost on the way.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from pagewarden.contracts import SqlValue
from pagewarden.repair.closed import ClosedFile, Tick
from pagewarden.sqlite.btree import BTreePage, Cell, PageKind, parse_page
from pagewarden.sqlite.record import Malformed, decode_value, parse_record

AT_ONCE = 2_000_000
"""Keys of rows that are held at once; where there are more, all are gone through several times."""

MOST_PAYLOAD = 1 << 28
"""Bytes of a record whose values are decoded; of a longer one only the digest is taken."""

_OVERFLOWS = b"\xff" * 16  # what a key begins with that is a digest: no cell begins like that

DIGEST = 12
"""Bytes of the digest of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """A row as it stands on a page."""

    rowid: int | None  # None in a table WITHOUT ROWID
    values: tuple[SqlValue, ...]  # in the order of the record; fewer than columns where some were added later


def leaf_cells(
    file: ClosedFile, pgno: int, *, index: bool, only: Container[int] | None = None
) -> tuple[bytes, BTreePage] | None:
    """Return a page with the cells on it that hold; None where it is no page that holds rows of such a tree.

    `index` says that it is of a table WITHOUT ROWID; `only` names the cells that are asked for.
    """
    data = file.page(pgno)
    try:
        page = parse_page(data, pgno=pgno, usable=file.layout.usable, only=only)
    except Malformed:
        return None
    wanted = (PageKind.INDEX_LEAF, PageKind.INDEX_INTERIOR) if index else (PageKind.TABLE_LEAF,)
    return (data, page) if page.kind in wanted else None


def chain_pages(file: ClosedFile, cell: Cell, tick: Tick) -> Iterator[tuple[int, bytes]]:
    """Yield the overflow pages of a cell with their part of its payload, as many as the payload needs.

    Raises Malformed where the chain leaves the file before. A circle ends, because each page takes something off.
    """
    missing, pgno = cell.payload_size - cell.local, cell.overflow or 0
    while missing > 0:
        if not 1 < pgno <= file.pages:
            raise Malformed(f"an overflow chain leads to page {pgno}")
        tick()
        data = file.page(pgno)
        part = data[4 : min(file.layout.usable, 4 + missing)]
        yield pgno, part
        missing -= len(part)
        (pgno,) = struct.unpack_from(">I", data)


def row_digest(file: ClosedFile, data: bytes, cell: Cell, tick: Tick) -> bytes:
    """Return what tells a row, its rowid included, from any other. Raises Malformed where its chain ends early."""
    digest = hashlib.blake2b(b"" if cell.rowid is None else struct.pack(">q", cell.rowid), digest_size=DIGEST)
    digest.update(data[cell.payload : cell.payload + cell.local])
    if cell.overflow is not None:
        for _, part in chain_pages(file, cell, tick):
            digest.update(part)
    return digest.digest()


def keys_on(file: ClosedFile, pgno: int, tick: Tick, *, index: bool) -> list[tuple[int, bytes]]:
    """Return cell and key of each row on a page; equal keys are equal rows. What cannot be put together has none."""
    data = file.page(pgno)
    quick = _quick_keys(data, pgno, file.layout.usable, index=index)
    if quick is not None:
        return quick
    page = leaf_cells(file, pgno, index=index)
    found = []
    for cell in () if page is None else page[1].cells:
        if cell.overflow is None:
            found.append(
                (cell.index, data[cell.offset + (4 if cell.child is not None else 0) : cell.payload + cell.local])
            )
            continue
        try:
            found.append((cell.index, _OVERFLOWS + row_digest(file, data, cell, tick)))
        except Malformed:
            continue
    return found


def _quick_keys(data: bytes, pgno: int, usable: int, *, index: bool) -> list[tuple[int, bytes]] | None:
    """Do the same for a leaf whose rows are all on it, whose sizes have one or two bytes; None for any other page."""
    # This runs for every row of every page that differs: what `parse_page` does takes ten times as long.
    if pgno == 1 or data[0] != (10 if index else 13):
        return None
    count = data[3] << 8 | data[4]
    begin = 8 + 2 * count
    most = (usable - 12) * 64 // 255 - 23 if index else usable - 35
    if begin > usable:
        return None
    found = []
    try:
        for cell, offset in enumerate(struct.unpack_from(f">{count}H", data, 8)):
            size, place = data[offset], offset + 1
            if size >= 0x80:
                low = data[place]
                size, place = (size & 0x7F) << 7 | low, place + 1
                if low >= 0x80:
                    return None
            if not index:
                while data[place] >= 0x80:
                    place += 1
                place += 1
                if place > offset + 11:
                    return None
            if offset < begin or size > most or place + size > usable or offset + 4 > usable:
                return None
            found.append((cell, data[offset : place + size]))
    except IndexError:
        return None
    return found


Cells = dict[int, "array[int]"]
"""By page, which of its cells."""


def unlike(
    one: ClosedFile, pages: Sequence[int], other: ClosedFile, there: Sequence[int], tick: Tick, *, index: bool
) -> tuple[Cells, Cells]:
    """Return the rows on `pages` of one file that stand on none of the pages `there` of another, and the reverse."""
    left = _on_other_pages(one, pages, other, there, tick, index=index)
    right = _on_other_pages(other, there, one, pages, tick, index=index)
    return (
        _still_unlike(one, left, other, right, tick, index=index),
        _still_unlike(other, right, one, left, tick, index=index),
    )


def lacking(
    one: ClosedFile, pages: Sequence[int], other: ClosedFile, there: Sequence[int], tick: Tick, *, index: bool
) -> Cells:
    """Return the rows on `pages` of one file that stand on none of the pages `there` of another."""
    left = _on_other_pages(one, pages, other, there, tick, index=index)
    if not left:
        return left
    right = _on_other_pages(other, there, one, pages, tick, index=index)
    return _still_unlike(one, left, other, right, tick, index=index)


def _on_other_pages(
    one: ClosedFile, pages: Sequence[int], other: ClosedFile, there: Sequence[int], tick: Tick, *, index: bool
) -> Cells:
    """Return the rows on `pages` that do not stand on the page of the same number, where most do."""
    others = set(there)
    found: Cells = {}
    for pgno in pages:
        tick()
        keys = keys_on(one, pgno, tick, index=index)
        known = {key for _, key in keys_on(other, pgno, tick, index=index)} if keys and pgno in others else ()
        cells = array("H", [cell for cell, key in keys if key not in known])
        if cells:
            found[pgno] = cells
    return found


def _still_unlike(one: ClosedFile, left: Cells, other: ClosedFile, right: Cells, tick: Tick, *, index: bool) -> Cells:
    """Return of `left` what does not stand in `right` either."""
    if not left or not right:
        return left
    rounds = min(256, _count(right) // AT_ONCE + 1)
    found: Cells = {}
    for number in range(rounds):
        # A hash that two keys share by chance is one of 2**64, and Python's own begins anew in each process.
        known = {hash(key) for _, _, key in _keys(other, right, tick, index=index) if key[-1] % rounds == number}
        for pgno, cell, key in _keys(one, left, tick, index=index):
            if key[-1] % rounds == number and hash(key) not in known:
                found.setdefault(pgno, array("H")).append(cell)
    return found


def _count(cells: Cells) -> int:
    return sum(map(len, cells.values()))


def _keys(file: ClosedFile, cells: Cells, tick: Tick, *, index: bool) -> Iterator[tuple[int, int, bytes]]:
    for pgno, wanted in cells.items():
        tick()
        chosen = set(wanted)
        for cell, key in keys_on(file, pgno, tick, index=index):
            if cell in chosen:
                yield pgno, cell, key


def all_cells(file: ClosedFile, pages: Sequence[int], tick: Tick, *, index: bool) -> Cells:
    """Return all rows of some pages."""
    found: Cells = {}
    for pgno in pages:
        tick()
        page = leaf_cells(file, pgno, index=index)
        if page is not None and page[1].cells:
            found[pgno] = array("H", (cell.index for cell in page[1].cells))
    return found


def raw_row(file: ClosedFile, data: bytes, cell: Cell, tick: Tick) -> RawRow:
    """Decode a row. Raises Malformed where its record contradicts itself, is too long, or its chain ends early."""
    if cell.payload_size > MOST_PAYLOAD:
        raise Malformed(f"a record of {cell.payload_size} bytes")
    payload = data[cell.payload : cell.payload + cell.local]
    if cell.overflow is not None:
        payload = b"".join((payload, *(part for _, part in chain_pages(file, cell, tick))))
    record = parse_record(payload)
    if record.size != len(payload):
        raise Malformed(f"a record of {record.size} bytes in a payload of {len(payload)}")
    encoding = file.layout.encoding
    return RawRow(
        rowid=cell.rowid,
        values=tuple(
            _value(field.serial, payload[field.offset : field.offset + field.size], encoding) for field in record.fields
        ),
    )


def _value(serial: int, data: bytes, encoding: str) -> SqlValue:
    if serial >= 13 and serial % 2:
        if encoding == "utf-8":
            return data.decode(encoding, "surrogateescape")
        try:
            return data.decode(encoding, "surrogatepass")
        except UnicodeDecodeError:  # half a unit at its end
            return data.decode(encoding, "replace")
    return decode_value(serial, data)
