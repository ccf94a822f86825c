"""The wal-index: what the -shm says of the write-ahead log.

Layout: https://www.sqlite.org/walformat.html, section 2.1 "The WAL-Index File Format". Numbers are in the machine's own
byte order, because the file never leaves it, but the salts are the eight bytes of the log's header.

| offset | size | meaning |
|---|---|---|
| 0 | 8 | version, unused |
| 8 | 4 | iChange: counts commits, modulo 2^32 |
| 12 | 4 | initialized, byte order of the log's checksums, page size (two bytes) |
| 16 | 8 | mxFrame, nPage |
| 24 | 24 | checksum of frame mxFrame, salts, checksum of the first 40 bytes |
| 48 | 48 | the header again: a reader believes it only where both copies are equal |
| 96 | 4 | nBackfill: frames that are already in the database file |
| 100 | 20 | five read-marks: lower bounds, never snapshots (H37) |
| 120 | 8 | locks |
| 128 | 4 | nBackfillAttempted |
| 136 | … | page number of each frame: 4062 in the first 32 KiB, 4096 in each later one, then a hash table |

A page size of 65536 is stored as 1.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from pagewarden.sqlite.header import valid_page_size
from pagewarden.sqlite.wal import FORMAT, wal_checksum

INDEX_SIZE = 136  # bytes of the -shm that are read: both headers and the checkpoint information
_HEADER_COPY = 48
_BLOCK = 32768  # bytes of the -shm for one hash table and its page numbers
_FIRST_BLOCK_FRAMES = 4062
_BLOCK_FRAMES = 4096
_UNUSED_MARK = 0xFFFFFFFF
_HEADER = struct.Struct("=3I2BH4I8s2I")
_CHECKPOINT = struct.Struct("=6I")


@dataclass(frozen=True, slots=True, kw_only=True)
class WalIndex:
    """One whole, checked reading of the wal-index header."""

    header: bytes  # the 48 bytes: equal where no commit, checkpoint or restart came between two readings
    page_size: int  # bytes; 0 where the log has had no frame yet
    frames: int  # mxFrame: the last committed frame, 0 for an empty log
    pages: int  # nPage: size of the database at that frame, in pages; 0 where no frame was ever committed
    frame_checksum: tuple[int, int]  # at frame mxFrame
    salts: bytes  # 8 bytes, as in the log's header
    backfilled: int  # nBackfill: frames that are in the database file already
    change: int = 0  # iChange: one more with each commit, whatever becomes of the log; 0 where it was rebuilt
    big_endian: bool = False  # how the log's checksums take their words

    @property
    def complete(self) -> bool:
        """Whether the database file alone is the newest commit (design of the live read, step 4)."""
        return self.backfilled == self.frames


def parse_index(data: bytes) -> WalIndex | None:
    """Decode the first 136 bytes of a -shm; None where they are torn, not initialized or do not match their checksum.

    A reader that met a writer in the middle of its update sees None and reads again.
    """
    if len(data) < INDEX_SIZE or data[:_HEADER_COPY] != data[_HEADER_COPY : 2 * _HEADER_COPY]:
        return None
    values = _HEADER.unpack_from(data)
    version, _unused, change, initialized, big_endian, stored_size, frames, pages = values[:8]
    checksum = wal_checksum(data[:40], big_endian=sys.byteorder == "big")
    if not initialized or version != FORMAT or checksum != (values[11], values[12]):
        return None
    page_size = (stored_size & 0xFE00) + ((stored_size & 0x0001) << 16)
    backfilled = _CHECKPOINT.unpack_from(data, 2 * _HEADER_COPY)[0]
    if not valid_page_size(page_size):
        if frames > 0:
            return None
        page_size = 0
    return WalIndex(
        header=data[:_HEADER_COPY],
        page_size=page_size,
        frames=frames,
        pages=pages,
        frame_checksum=(values[8], values[9]),
        salts=values[10],
        backfilled=backfilled,
        change=change,
        big_endian=bool(big_endian),
    )


def read_marks(data: bytes) -> tuple[int | None, ...]:
    """Return the five read-marks in the first 136 bytes of a -shm; None for a slot that is not used."""
    return tuple(None if mark == _UNUSED_MARK else mark for mark in _CHECKPOINT.unpack_from(data, 2 * _HEADER_COPY)[1:])


def frame_pages(read: Callable[[int, int], bytes], frames: int) -> array[int]:
    """Return the page number of each frame 1 … `frames` as the wal-index has it, which is what SQLite itself goes by.

    `read(offset, length)` returns bytes of the -shm. Where the file is shorter than that, the numbers end early.
    """
    numbers = array("I")
    offset, room = INDEX_SIZE, _FIRST_BLOCK_FRAMES
    block = 0
    while len(numbers) < frames:
        wanted = 4 * min(room, frames - len(numbers))
        data = read(offset, wanted)
        numbers.frombytes(data[: len(data) - len(data) % 4])
        if len(data) < wanted:
            break
        block += 1
        offset, room = block * _BLOCK, _BLOCK_FRAMES
    return numbers
