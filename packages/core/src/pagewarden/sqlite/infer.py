"""What the pages of a database say of its header: page size and reserved bytes, text encoding, all other fields.

The first 100 bytes of a database are worth nothing here. What tells the rest:

| field | from |
|---|---|
| page size, reserved bytes | page 1 as a b-tree page: what its cells and free blocks take ends with the usable bytes |
| text encoding | the words "table", "index", "view" and "trigger" in the rows of sqlite_schema |
| payload fractions, bytes for later | the file format, which fixed them |
| counts, freelist, largest root page | whoever has walked the b-trees |
| change counter | whichever of its two copies is less; it is counted on, since a repair is a change |

Nothing can tell the user version and the application id, so that they stand as they were found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pagewarden.sqlite.btree import PageKind, child_pages, local_payload, page_kind, parse_page
from pagewarden.sqlite.header import HEADER_SIZE, MAGIC
from pagewarden.sqlite.record import Malformed, read_varint
from pagewarden.sqlite.schema import MAX_SCHEMA_PAGES, Layout, ReadPage, SchemaEntry, read_whole_schema

PAGE_SIZES = tuple(1 << power for power in range(9, 17))
"""What a page can have, in bytes."""

MOST_RESERVED = 255
"""Reserved bytes that the header can name; a page has 480 usable ones at the least."""

_LEAST_USABLE = 480
_LONG_CELLS = 160  # cells of one page with a payload that some page size would let overflow; more do not fit
_ENCODINGS = (1, 2, 3)
_NAMES = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
_KINDS = frozenset(("table", "index", "view", "trigger"))
_FRACTIONS = bytes((64, 32, 32))
_LATEST_FORMAT = 4  # of the schema; it reads what all older ones wrote, but for descending keys
_MOST_CACHE = 1_000_000  # pages or KiB of the suggested cache size that somebody may have meant
_RELEASES = range(3_000_000, 4_000_000)  # SQLITE_VERSION_NUMBER
_UNBELIEVED = frozenset(("page count", "version number"))  # what SQLite passes over where its two counters differ
_RELEASE = 3_007_000  # the first that wrote a page count

FIELDS = (
    ("magic", 0, 16),
    ("page size", 16, 18),
    ("journal mode", 18, 20),
    ("reserved bytes", 20, 21),
    ("payload fractions", 21, 24),
    ("page count", 28, 32),
    ("freelist", 32, 40),
    ("schema format", 44, 48),
    ("cache size", 48, 52),
    ("largest root page", 52, 56),
    ("text encoding", 56, 60),
    ("incremental vacuum", 64, 68),
    ("bytes kept for later", 72, 92),
    ("version number", 96, 100),
)
"""The fields of the header that are inferred, with their first byte and the one behind their last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageShape:
    """The size of a page, and how much of it SQLite uses."""

    page_size: int  # bytes
    usable: int  # bytes without the reserved ones

    @property
    def reserved(self) -> int:
        """Bytes at the end of each page that SQLite leaves to extensions."""
        return self.page_size - self.usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What was derived from the pages for a header."""

    shape: PageShape
    pages: int  # size of the database, in pages
    encoding: int  # 1 UTF-8, 2 UTF-16le, 3 UTF-16be; 0 for a database that never had a table
    trunk: int  # first freelist trunk page, 0 for none
    free: int  # pages in the freelist
    largest_root: int  # 0 where there are no ptrmap pages
    logged: bool  # whether a -wal with a commit belongs to it
    schema_format: int = 0  # 0: as it was found, where that can be


def page_shapes(first: bytes) -> Iterator[PageShape]:
    """Yield the shapes of pages that the beginning of a file could have; mostly there is one.

    `first` are the first bytes, up to 65536. On page 1 as on each b-tree page, cells, free blocks and fragments fill
    all of the content area (file format, section 1.6), so that they tell where its usable bytes end.
    """
    parts = _content_of(first)
    if parts is None:
        return
    fixed, long_cells = parts
    for page_size in PAGE_SIZES:
        least = max(_LEAST_USABLE, page_size - MOST_RESERVED)
        if page_size > len(first):
            return
        for usable in range(page_size, least - 1, -1):
            taken = fixed
            for start, payload in long_cells:
                local = local_payload(payload, usable, table_leaf=True)
                taken += start + local + (4 if local < payload else 0)
            if taken == usable:
                yield PageShape(page_size=page_size, usable=usable)


def _content_of(first: bytes) -> tuple[int, list[tuple[int, int]]] | None:
    """Return where the content area would end, and what cells with long payloads add to that.

    Of those, (bytes before the payload, its size); None where page 1 is no b-tree page that holds.
    """
    kind = page_kind(first, 1)
    if kind is None or not kind.is_table:
        return None
    block, count, content, fragments = struct.unpack_from(">HHHB", first, HEADER_SIZE + 1)
    pointers = HEADER_SIZE + (8 if kind.is_leaf else 12)
    end = (content or 65536) + fragments
    long_cells: list[tuple[int, int]] = []
    try:
        offsets = struct.unpack_from(f">{count}H", first, pointers)
        for offset in offsets:
            at = offset if kind.is_leaf else offset + 4
            number, behind = read_varint(first, at)
            if not kind.is_leaf:
                end += behind - offset
                continue
            _, behind = read_varint(first, behind)
            if number > _LEAST_USABLE - 35:
                long_cells.append((behind - offset, number))
            else:
                end += max(4, behind - offset + number)
        end += _free_blocks(first, block)
    except (struct.error, Malformed):
        return None
    return None if len(long_cells) > _LONG_CELLS or any(size > 1 << 31 for _, size in long_cells) else (end, long_cells)


def _free_blocks(first: bytes, block: int) -> int:
    """Return the bytes of all free blocks; raises Malformed where their chain does not ascend."""
    total = 0
    while block:
        following, size = struct.unpack_from(">HH", first, block)
        if size < 4 or 0 < following < block + size:
            raise Malformed(f"the free block at byte {block} does not hold")
        total += size
        block = following
    return total


def schema_of(read: ReadPage, shape: PageShape, *, pages: int, stated: int) -> tuple[int, tuple[SchemaEntry, ...]]:
    """Return the text encoding and the rows of sqlite_schema; raises Malformed where the schema does not hold.

    `stated` is the encoding that the header names, whatever it is worth. The schema holds where every row of it can be
    read, is of a kind that there is, and names a root page if it must.
    """
    problem = "no text encoding fits"
    for encoding in sorted(_ENCODINGS, key=lambda number: number != stated):
        layout = Layout(
            page_size=shape.page_size,
            usable=shape.usable,
            pages=pages,
            encoding=_NAMES[encoding],
            freelist=0,
            pointer_maps=False,
        )
        entries, whole = read_whole_schema(read, layout)
        if not whole:
            raise Malformed("the schema is too large")
        rows = entries[1:]
        if len(rows) == _rows(read, layout) and all(entry.kind in _KINDS for entry in rows):
            _check_roots(rows, pages)
            return (encoding if rows or stated in _ENCODINGS else 0 if stated == 0 else 1), entries
        if any(entry.kind in _KINDS for entry in rows):
            problem = "a row of sqlite_schema cannot be read"
    raise Malformed(problem)


def _check_roots(rows: tuple[SchemaEntry, ...], pages: int) -> None:
    for entry in rows:
        rooted = entry.kind == "index" or (entry.kind == "table" and not _is_virtual(entry.sql))
        if rooted != (1 < entry.stated <= pages):
            raise Malformed(f"sqlite_schema names page {entry.stated} as the root of {entry.kind} {entry.name}")


def _is_virtual(sql: str) -> bool:
    words = sql[:200].upper().split(maxsplit=3)
    return words[:3] == ["CREATE", "VIRTUAL", "TABLE"]


def _rows(read: ReadPage, layout: Layout) -> int:
    """Return how many rows the leaves of the schema's b-tree count. Raises Malformed."""
    count = 0
    stack, seen = [1], {1}
    while stack:
        pgno = stack.pop()
        data = read(pgno)
        if page_kind(data, pgno) is PageKind.TABLE_LEAF:
            page = parse_page(data, pgno=pgno, usable=layout.usable)
            count += len(page.cells) + len(page.bad)
        for child in child_pages(data, pgno, layout.usable):
            if 1 < child <= layout.pages and child not in seen and len(seen) <= MAX_SCHEMA_PAGES:
                seen.add(child)
                stack.append(child)
    return count


def build_header(found: bytes, derived: Derived) -> bytes:
    """Return the first 100 bytes as they must be; `found` are those that stand there.

    What `derived` does not say is kept where it can be. The change counter goes on only where anything else changes.
    """
    header = bytearray(found[:HEADER_SIZE].ljust(HEADER_SIZE, b"\0"))

    def number(offset: int) -> int:
        return int(struct.unpack_from(">I", header, offset)[0])

    def put(offset: int, value: int) -> None:
        struct.pack_into(">I", header, offset, value)

    shape = derived.shape
    counters = number(24), number(92)
    header[:16] = MAGIC
    header[16:18] = (1 if shape.page_size == 65536 else shape.page_size).to_bytes(2, "big")
    header[18:20] = bytes((_journal_mode(header[18], header[19], logged=derived.logged),)) * 2
    header[20] = shape.reserved
    header[21:24] = _FRACTIONS
    put(28, derived.pages)
    put(32, derived.trunk)
    put(36, derived.free)
    put(44, _schema_format(number(44), derived))
    if abs(struct.unpack_from(">i", header, 48)[0]) > _MOST_CACHE:
        put(48, 0)
    put(64, _incremental(number(64), derived))
    put(52, derived.largest_root)
    put(56, derived.encoding)
    header[72:92] = bytes(20)
    if number(96) and number(96) not in _RELEASES:  # old releases have left it at 0
        put(96, _RELEASE)
    differing = set(changed_fields(found, header))
    if counters[0] != counters[1] and differing <= _UNBELIEVED:
        return bytes(found[:HEADER_SIZE])
    if differing:
        counter = (min(counters) + 1) & 0xFFFFFFFF
        put(24, counter)
        put(92, counter)
    return bytes(header)


def changed_fields(found: bytes, header: bytes | bytearray) -> tuple[str, ...]:
    """Return the names of the fields in which two headers differ, the change counter aside."""
    return tuple(name for name, start, end in FIELDS if found[start:end] != header[start:end])


def _journal_mode(write: int, read: int, *, logged: bool) -> int:
    """Return 1 for a rollback journal, 2 for WAL: as SQLite reads it, unless that byte cannot be."""
    if logged:
        return 2
    return next((mode for mode in (read, write) if mode in (1, 2)), 1)


def _schema_format(found: int, derived: Derived) -> int:
    if derived.schema_format:
        return derived.schema_format
    if 1 <= found <= _LATEST_FORMAT or (found == 0 and derived.encoding == 0):
        return found
    return _LATEST_FORMAT


def _incremental(found: int, derived: Derived) -> int:
    """Return the flag of incremental vacuum: a full one leaves no free page behind at a commit."""
    if not derived.largest_root:
        return 0
    return found if found in (0, 1) else int(derived.free > 0)
