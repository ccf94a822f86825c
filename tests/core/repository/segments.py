"""Small page maps and segments for tests, and a reader of segments that shares nothing with the product's."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pagewarden.pages import PageSource, backend, lock_page
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.segment import SegmentWriter
from tests.core.repository.sets import NOW, TIMELINE, source


def sums_of(data: bytes, page_size: int = 512) -> bytes:
    """Return the sums of all pages; 0 for that of the lock bytes."""
    count = len(data) // page_size
    sums = backend().buffer_sums(data, page_size, 1, count)
    lock = lock_page(page_size)
    return sums[: (lock - 1) * 8] + bytes(8) + sums[lock * 8 :] if lock <= count else sums


def map_of(path: Path, data: bytes, page_size: int = 512, *, txid: int = 1) -> PageMap:
    """Write the page map of a database and open it."""
    sums = sums_of(data, page_size)
    facts = MapFacts(
        timeline=TIMELINE,
        txid=txid,
        page_size=page_size,
        pages=len(data) // page_size,
        database_sum=backend().fold(sums),
    )
    write_map(path, facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
    return PageMap(path, facts)


def segment_header(page_size: int = 512, *, per_frame: int = 4, txid: int = 2) -> PageSetHeader:
    """Return the header of a segment from the position before `txid`."""
    return PageSetHeader(
        kind=Kind.SEGMENT,
        page_size=page_size,
        pages=0,
        pages_per_frame=per_frame,
        timeline=TIMELINE,
        txid_from=txid - 1,
        txid=txid,
        time=NOW,
    )


def write_segment(path: Path, before: bytes, after: bytes, page_size: int = 512, *, txid: int = 2) -> PageSetInfo:
    """Write the segment between two images of a database."""
    head = segment_header(page_size, txid=txid)
    with (
        tempfile.TemporaryDirectory() as folder,
        source(Path(folder), after, page_size) as pages,
        map_of(Path(folder) / "map", before, page_size, txid=txid - 1) as base,
        SegmentWriter(path, head, base, level=1, threads=2) as writer,
    ):
        writer.copy(pages, 1, pages.pages)
        return writer.seal(pages=pages.pages)


def mostly_zeros(path: Path, pages: int, page_size: int, content: dict[int, bytes]) -> PageSource:
    """Return a large database of zeros that needs no room, with a few pages in a log; closed by its user."""
    path.write_bytes(bytes(32) + b"".join(bytes(24) + page for page in content.values()))
    frames = b"".join(struct.pack("<II", pgno, number) for number, pgno in enumerate(content, 1))
    descriptor = os.open(path, os.O_RDONLY)
    return PageSource(database=descriptor, wal=descriptor, page_size=page_size, pages=pages, file_size=0, frames=frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A segment as its bytes say it, read by the tables of docs/formats/pageset-1.md."""

    pages: int
    numbers: tuple[int, ...]
    content: tuple[bytes, ...]
    database_sum: int
    database_sum_from: int

    def applied_to(self, before: bytes, page_size: int = 512) -> bytes:
        """Return the image that it makes of the one before."""
        after = bytearray(before[: self.pages * page_size].ljust(self.pages * page_size, b"\0"))
        for pgno, page in zip(self.numbers, self.content, strict=True):
            after[(pgno - 1) * page_size : pgno * page_size] = page
        return bytes(after)


def _blocks(data: bytes, tag: bytes, size: int) -> bytes:
    """Return the entries of all blocks in `data`."""
    entries, at, number = b"", 0, 0
    while at < len(data):
        _, length, its_tag, its_number, count, _ = struct.unpack_from("<II4sIII", data, at)
        assert (its_tag, its_number, length) == (tag, number, count * size + 24)
        entries += data[at + 24 : at + 24 + count * size]
        at, number = at + 8 + length, number + 1
    return entries


def parse(path: Path) -> Parsed:
    """Read a segment; assert what docs/formats/pageset-1.md says of one."""
    data = path.read_bytes()
    assert hashlib.sha256(data[128:-40] + data[:128]).digest() == data[-40:-8]
    kind, _, page_size, pages, per_frame = struct.unpack_from("<HIIII", data, 18)
    fields = struct.unpack_from("<16Q", data, len(data) - 192 + 16)
    first, size, numbers_at, numbers_size, index_at, index_size, sums_at, sums_size, frames, held = fields[:10]
    assert (kind, first, numbers_at) == (2, 128, 128 + size)
    numbers = [n for (n,) in struct.iter_unpack("<I", _blocks(data[numbers_at:][:numbers_size], b"PGNO", 4))]
    sums = _blocks(data[sums_at:][:sums_size], b"SUMS", 8)
    index = list(struct.iter_unpack("<QIIII", _blocks(data[index_at:][:index_size], b"INDX", 24)))
    assert (len(index), len(numbers), len(sums) // 8) == (frames, held, held)
    assert numbers == sorted(set(numbers)) and all(1 <= n <= pages and n != lock_page(page_size) for n in numbers)
    content: list[bytes] = []
    for number, (offset, csize, its_first, count, _) in enumerate(index):
        assert (its_first, count) == (numbers[number * per_frame], min(per_frame, held - number * per_frame))
        frame = zstandard.ZstdDecompressor().decompress(data[offset:][:csize], allow_extra_data=False)
        content += [frame[at : at + page_size] for at in range(0, len(frame), page_size)]
    for place, (pgno, page) in enumerate(zip(numbers, content, strict=True)):
        assert sums[place * 8 :][:8] == backend().page_sum(pgno, page).to_bytes(8, "little")
    return Parsed(
        pages=pages,
        numbers=tuple(numbers),
        content=tuple(content),
        database_sum=fields[14],
        database_sum_from=fields[15],
    )
