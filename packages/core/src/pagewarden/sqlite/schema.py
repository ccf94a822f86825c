"""The schema as it stands in the pages: which table or index has which root page (file format, section 2.6).

The rows of sqlite_schema are read from the b-tree under page 1 without SQLite, so that the schema of an image that
SQLite refuses can be read as far as it goes. Hostile input: the walk is bounded, and what does not hold is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pagewarden.sqlite.btree import Cell, PageKind, child_pages, page_kind, parse_page
from pagewarden.sqlite.record import Malformed, Record, decode_value, parse_record

ReadPage = Callable[[int], bytes]
"""Returns the bytes of one page, from 1 to the number of pages."""

SCHEMA_NAME = "sqlite_schema"

MAX_PAYLOAD = 1 << 20
"""How much of a payload is put together: a CREATE statement that does not lie in it counts as unreadable."""

MAX_SCHEMA_PAGES = 10_000
"""How many pages of the schema's b-tree are read: about a million tables."""

_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
_MAX_DEPTH = 20  # SQLite's BTCURSOR_MAX_DEPTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What must be known of a database before its pages can be walked."""

    page_size: int  # bytes
    usable: int  # bytes of a page without the reserved ones
    pages: int  # size of the database, in pages
    encoding: str  # Python's name for the text encoding
    freelist: int  # first trunk page, 0 for none
    pointer_maps: bool  # whether there are ptrmap pages (H13)

    @classmethod
    def of(cls, first: bytes, *, page_size: int, pages: int) -> Self:
        """Read the layout from page 1. Values that no database has are replaced by the usual ones: the walk is bounded
        by `pages` and survives being wrong."""
        reserved = first[20]
        (trunk,) = struct.unpack_from(">I", first, 32)
        (largest_root,) = struct.unpack_from(">I", first, 52)
        (encoding,) = struct.unpack_from(">I", first, 56)
        return cls(
            page_size=page_size,
            usable=page_size - reserved if page_size - reserved >= 480 else page_size,
            pages=pages,
            encoding=_ENCODINGS.get(encoding, "utf-8"),
            freelist=trunk,
            pointer_maps=largest_root != 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaEntry:
    """One row of sqlite_schema."""

    kind: str  # "table", "index", "view" or "trigger"
    name: str
    table: str  # the table that an index or trigger belongs to
    root: int  # root page; 0 for views, triggers and virtual tables, and where it is no page of the database
    sql: str  # "" for automatic indexes, and where it could not be read
    stated: int = 0  # the root page as it is written there


def read_payload(read: ReadPage, page: bytes, cell: Cell, layout: Layout, limit: int = MAX_PAYLOAD) -> bytes:
    """Put the payload of `cell` together from its page and its overflow pages (file format, section 1.7).

    Raises Malformed where it is longer than `limit` or its chain ends early, leaves the file or has a circle.
    """
    if cell.payload_size > limit:
        raise Malformed(f"a payload of {cell.payload_size} bytes")
    return _beginning(read, page, cell, layout, cell.payload_size)


def _beginning(read: ReadPage, page: bytes, cell: Cell, layout: Layout, size: int) -> bytes:
    """Return the first `size` bytes of a payload."""
    parts = [bytes(page[cell.payload : cell.payload + min(cell.local, size)])]
    missing = size - len(parts[0])
    following = cell.overflow or 0
    while missing > 0:
        # A circle ends, too: each page takes something off what is missing.
        if not 1 < following <= layout.pages:
            raise Malformed(f"an overflow chain leads to page {following}")
        data = read(following)
        (following,) = struct.unpack_from(">I", data)
        part = bytes(data[4 : min(layout.usable, 4 + missing)])
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_schema(read: ReadPage, layout: Layout) -> tuple[SchemaEntry, ...]:
    """Return the entries of sqlite_schema that can be read, itself first, in the order of their rowids."""
    return read_whole_schema(read, layout)[0]


def read_whole_schema(read: ReadPage, layout: Layout) -> tuple[tuple[SchemaEntry, ...], bool]:
    """Return what `read_schema` does, and whether nothing was left out for its size: pages or rows beyond a bound."""
    entries = [SchemaEntry(kind="table", name=SCHEMA_NAME, table=SCHEMA_NAME, root=1, sql="", stated=1)]
    stack, seen, whole = [(1, 0)], {1}, True
    while stack and len(seen) <= MAX_SCHEMA_PAGES:
        pgno, depth = stack.pop()
        data = read(pgno)
        if page_kind(data, pgno) is PageKind.TABLE_LEAF:
            found, complete = _entries(read, data, pgno, layout)
            entries.extend(found)
            whole = whole and complete
        for child in reversed(child_pages(data, pgno, layout.usable)):
            if 1 < child <= layout.pages and child not in seen and depth < _MAX_DEPTH:
                seen.add(child)
                stack.append((child, depth + 1))
    return tuple(entries), whole and not stack


def _entries(read: ReadPage, data: bytes, pgno: int, layout: Layout) -> tuple[list[SchemaEntry], bool]:
    """Return the entries of a leaf that can be read, and whether none was left out because its names are too long."""
    found: list[SchemaEntry] = []
    whole = True
    try:
        page = parse_page(data, pgno=pgno, usable=layout.usable)
    except Malformed:
        return found, whole
    for cell in page.cells:
        try:
            payload = _beginning(read, data, cell, layout, min(cell.payload_size, MAX_PAYLOAD))
            found.append(_entry(payload, parse_record(payload, cell.payload_size), layout))
        except Malformed:
            whole = whole and cell.payload_size <= MAX_PAYLOAD
    return found, whole


def _entry(payload: bytes, record: Record, layout: Layout) -> SchemaEntry:
    if len(record.fields) != 5:
        raise Malformed(f"a schema row of {len(record.fields)} columns")
    kind, name, table, root, sql = (
        decode_value(field.serial, payload[field.offset : field.offset + field.size], layout.encoding)
        if field.offset + field.size <= len(payload)
        else None
        for field in record.fields
    )
    if not isinstance(kind, str) or not isinstance(name, str) or not isinstance(table, str):
        raise Malformed("a schema row whose names are no text")
    stated = root if isinstance(root, int) else 0
    return SchemaEntry(
        kind=kind,
        name=name,
        table=table,
        root=stated if 0 <= stated <= layout.pages else 0,
        sql=sql if isinstance(sql, str) else "",
        stated=stated,
    )
