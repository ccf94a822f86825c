"""The rows that stand on a b-tree page, without SQLite: a range scan over damage can leave rows out in silence (H28).

Table leaves hold rowid and record; the pages of a table WITHOUT ROWID, interior ones too, hold records that begin with
its primary key. Text whose bytes are not valid keeps them as surrogate escapes, so that nothing is lost on the way.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pagewarden.contracts import SqlValue
from pagewarden.repair.closed import ClosedFile, Tick
from pagewarden.sqlite.btree import BTreePage, Cell, PageKind, parse_page
from pagewarden.sqlite.record import Malformed, decode_value, parse_record

AT_ONCE = 500_000
"""Digests of rows that are held at once; where there are more, all are gone through several times."""

MOST_PAYLOAD = 1 << 28
"""Bytes of a record whose values are decoded; of a longer one only the digest is taken."""

DIGEST = 12
"""Bytes of the digest of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """A row as it stands on a page."""

    rowid: int | None  # None in a table WITHOUT ROWID
    values: tuple[SqlValue, ...]  # in the order of the record; fewer than columns where some were added later


def leaf_cells(file: ClosedFile, pgno: int, *, index: bool) -> tuple[bytes, BTreePage] | None:
    """Return a page with the cells on it that hold; None where it is no page that holds rows of such a tree.

    `index` says that it is of a table WITHOUT ROWID.
    """
    data = file.page(pgno)
    try:
        page = parse_page(data, pgno=pgno, usable=file.layout.usable)
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


def digests(file: ClosedFile, pages: Sequence[int], tick: Tick, *, index: bool) -> Iterator[tuple[int, int, bytes]]:
    """Yield page, cell and digest of each row; what cannot be put together has none."""
    for pgno in pages:
        tick()
        page = leaf_cells(file, pgno, index=index)
        if page is None:
            continue
        for cell in page[1].cells:
            try:
                yield pgno, cell.index, row_digest(file, page[0], cell, tick)
            except Malformed:
                continue


def without_like(
    file: ClosedFile, pages: Sequence[int], other: ClosedFile, there: Sequence[int], tick: Tick, *, index: bool
) -> dict[int, array[int]]:
    """Return, by page, the cells of `pages` whose row stands byte for byte on none of the pages `there` of `other`."""
    # Rows of 32 bytes are short ones: with shorter ones a round holds some more.
    rounds = min(256, len(there) * (other.page_size // 32) // AT_ONCE + 1)
    found: dict[int, array[int]] = {}
    for number in range(rounds):
        known = {digest for _, _, digest in digests(other, there, tick, index=index) if digest[0] % rounds == number}
        for pgno, cell, digest in digests(file, pages, tick, index=index):
            if digest[0] % rounds == number and digest not in known:
                found.setdefault(pgno, array("H")).append(cell)
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
