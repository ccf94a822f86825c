"""Page sets made byte by byte by the tables of docs/formats/pageset-1.md: whole ones, and what a forger would make."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import zstandard

from pagewarden.pages import StoredFrame, backend
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer
from pagewarden.repository.format import HEADER_SIZE, Kind, PageSetHeader


def sum_of(pgno: int, page: bytes) -> int:
    """Return a page sum."""
    return backend().page_sum(pgno, page)


def page_set(
    header: PageSetHeader,
    pages: Mapping[int, bytes],
    *,
    database_sum: int,
    database_sum_from: int = 0,
    numbers: list[int] | None = None,
    sums: list[int] | None = None,
    frames: list[bytes] | None = None,
) -> bytes:
    """Return the page set that holds `pages`. What is given besides stands in it instead of what is true."""
    held = sorted(pages)
    per_frame = header.pages_per_frame
    groups = [held[at : at + per_frame] for at in range(0, len(held), per_frame)]
    compressor = zstandard.ZstdCompressor(level=1)
    stored = frames or [compressor.compress(b"".join(pages[pgno] for pgno in group)) for group in groups]
    entries, offset = b"", HEADER_SIZE
    for group, data in zip(groups, stored, strict=True):
        frame = StoredFrame(offset=offset, csize=len(data), first=group[0], count=len(group))
        entries += blocks.encode_entry(frame)
        offset += len(data)
    recorded = [sum_of(pgno, pages[pgno]) for pgno in held] if sums is None else sums
    segment = header.kind is Kind.SEGMENT
    said = b"".join(pgno.to_bytes(4, "little") for pgno in numbers or held) if segment else b""
    numbered, numbers_check = in_blocks(blocks.NUMBERS_TAG, said, blocks.NUMBERS_ENTRY)
    index, index_check = in_blocks(blocks.INDEX_TAG, entries, blocks.INDEX_ENTRY)
    summed, sums_check = in_blocks(
        blocks.SUMS_TAG, b"".join(each.to_bytes(8, "little") for each in recorded), blocks.SUMS_ENTRY
    )
    head = blocks.encode_header(header)
    trailer = Trailer(
        kind=header.kind,
        data_bytes=offset - HEADER_SIZE,
        frames=len(groups),
        pages=len(held),
        header_check=int.from_bytes(head[-8:], "little"),
        index_check=index_check,
        sums_check=sums_check,
        database_sum=database_sum,
        sha256=bytes(32),
        numbers_check=numbers_check if segment else 0,
        database_sum_from=database_sum_from,
    )
    body = b"".join(stored) + numbered + index + summed + blocks.encode_trailer(trailer)
    return head + body + blocks.close(hashlib.sha256(body + head).digest())


def in_blocks(tag: bytes, entries: bytes, size: int) -> tuple[bytes, int]:
    """Return entries in their blocks, and the XXH64 over the blocks' checksums."""
    step = blocks.BLOCK_ENTRIES * size
    made = [
        blocks.encode_block(tag, number, entries[start : start + step], size)
        for number, start in enumerate(range(0, len(entries), step))
    ]
    return b"".join(made), blocks.hash64(b"".join(block[-8:] for block in made))


def segment_between(before: bytes, after: bytes, header: PageSetHeader) -> bytes:
    """Return the segment between two images; `header` says from where to where, its `pages` are those of `after`."""
    size = header.page_size
    changed = {
        pgno: page
        for pgno in range(1, len(after) // size + 1)
        if (page := after[(pgno - 1) * size : pgno * size]) != before[(pgno - 1) * size : pgno * size]
    }
    header = replace(header, kind=Kind.SEGMENT, pages=len(after) // size)
    return page_set(
        header, changed, database_sum=database_sum_of(after, size), database_sum_from=database_sum_of(before, size)
    )


def database_sum_of(data: bytes, page_size: int) -> int:
    """Return the database sum of an image."""
    total = 0
    for pgno in range(1, len(data) // page_size + 1):
        total ^= sum_of(pgno, data[(pgno - 1) * page_size : pgno * page_size])
    return total
