"""Page sets of commits made byte by byte by the tables of docs/formats/pageset-1.md: whole ones, and forged ones."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

import zstandard

from pagewarden.pages import StoredFrame
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer
from pagewarden.repository.format import HEADER_SIZE, Kind, PageSetHeader
from tests.support.segments import in_blocks, sum_of

Entry = tuple[int, int, int, int, int, int]
"""An entry of the commits: time in microseconds, pages, entries, database sum, merged, flags."""


def commits_set(
    header: PageSetHeader,
    table: Sequence[Entry],
    commits: Sequence[Mapping[int, bytes]],
    *,
    database_sum: int | None = None,
    database_sum_from: int = 0,
    numbers: list[int] | None = None,
    frames: list[bytes] | None = None,
    commits_check: int | None = None,
) -> bytes:
    """Return the page set of `commits`, each the pages that it changed. What is given besides stands in it instead."""
    versions = [(pgno, page) for commit in commits for pgno, page in sorted(commit.items())]
    per_frame = header.pages_per_frame
    groups = [versions[at : at + per_frame] for at in range(0, len(versions), per_frame)]
    compressor = zstandard.ZstdCompressor(level=1)
    stored = frames or [compressor.compress(b"".join(page for _, page in group)) for group in groups]
    said = numbers or [pgno for pgno, _ in versions]
    entries, offset = b"", HEADER_SIZE
    for number, data in enumerate(stored):
        first, count = said[number * per_frame], len(groups[number])
        entries += blocks.encode_entry(StoredFrame(offset=offset, csize=len(data), first=first, count=count))
        offset += len(data)
    numbered, numbers_check = in_blocks(blocks.NUMBERS_TAG, struct.pack(f"<{len(said)}I", *said), 4)
    index, index_check = in_blocks(blocks.INDEX_TAG, entries, blocks.INDEX_ENTRY)
    recorded = b"".join(
        sum_of(pgno, page).to_bytes(8, "little") for pgno, (_, page) in zip(said, versions, strict=True)
    )
    summed, _ = in_blocks(blocks.SUMS_TAG, recorded, blocks.SUMS_ENTRY)
    listed, _ = in_blocks(
        blocks.COMMITS_TAG, b"".join(struct.pack("<qIIQII", *entry) for entry in table), blocks.COMMITS_ENTRY
    )
    checks = _checks(summed, blocks.SUMS_ENTRY) + _checks(listed, blocks.COMMITS_ENTRY)
    head = blocks.encode_header(header)
    trailer = Trailer(
        kind=Kind.COMMITS,
        data_bytes=offset - HEADER_SIZE,
        frames=len(groups),
        pages=len(versions),
        commits=len(table),
        header_check=int.from_bytes(head[-8:], "little"),
        index_check=index_check,
        sums_check=blocks.hash64(checks) if commits_check is None else commits_check,
        database_sum=table[-1][3] if database_sum is None else database_sum,
        sha256=bytes(32),
        numbers_check=numbers_check,
        database_sum_from=database_sum_from,
    )
    body = b"".join(stored) + numbered + index + summed + listed + blocks.encode_trailer(trailer)
    return head + body + blocks.close(hashlib.sha256(body + head).digest())


def _checks(made: bytes, size: int) -> bytes:
    """Return the checksums of blocks that stand one after the other."""
    step = blocks.BLOCK_ENTRIES * size + blocks.BLOCK_OVERHEAD
    return b"".join(made[at : at + step][-8:] for at in range(0, len(made), step))
