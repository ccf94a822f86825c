"""The pure-Python backend: the same promises as the native one, for small data and as the reference in tests."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewarden.pages._checks import (
    check_buffer,
    check_level,
    check_listed,
    check_out,
    check_point,
    check_run,
    check_start,
    check_wal,
)
from pagewarden.pages._twin_follow import follow_plain
from pagewarden.pages._twin_wal import behind, chain, follow, pread_whole, scan
from pagewarden.pages._words import map_entries
from pagewarden.pages._zstd import PublicCompressor, PublicDecompressor
from pagewarden.pages.backend import Compressor, Decompressor
from pagewarden.pages.source import (
    WAL_FRAME_HEADER,
    WAL_HEADER,
    Buffer,
    Followed,
    PageSource,
    ShortRead,
    WalBehind,
    WalEnd,
    WalPoint,
    WalScan,
    WalStart,
    WalTail,
    is_page_size,
    lock_page,
)

if TYPE_CHECKING:
    from pagewarden.pages.walk import Walker, WalkPlan

_M = (1 << 64) - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotate(n: int, bits: int) -> int:
    return ((n << bits) | (n >> (64 - bits))) & _M


def _stir(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _M, 31) * _P1 & _M


def _lane(lane: int, words: tuple[int, ...]) -> int:
    for word in words:
        lane = (lane + word * _P2) & _M
        lane = ((lane << 31) | (lane >> 33)) * _P1 & _M  # the bits above 64 that the rotation leaves fall here
    return lane


def xxh64(data: Buffer, seed: int = 0) -> int:
    """Return the XXH64 of `data`. https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md."""
    data = bytes(data)
    whole = len(data) // 32 * 32
    if whole:
        words = struct.unpack_from(f"<{whole // 8}Q", data)
        starts = (seed + _P1 + _P2, seed + _P2, seed, seed - _P1)
        lanes = [_lane(start & _M, words[i::4]) for i, start in enumerate(starts)]
        value = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _M
        for lane in lanes:
            value = ((value ^ _stir(0, lane)) * _P1 + _P4) & _M
    else:
        value = (seed + _P5) & _M
    value = (value + len(data)) & _M
    for at in range(whole, len(data) - 7, 8):
        value = (_rotate(value ^ _stir(0, int.from_bytes(data[at : at + 8], "little")), 27) * _P1 + _P4) & _M
    at = len(data) & ~7
    if len(data) - at >= 4:
        value = (_rotate(value ^ (int.from_bytes(data[at : at + 4], "little") * _P1 & _M), 23) * _P2 + _P3) & _M
        at += 4
    for byte in data[at:]:
        value = _rotate(value ^ (byte * _P5 & _M), 11) * _P1 & _M
    value = (value ^ (value >> 33)) * _P2 & _M
    value = (value ^ (value >> 29)) * _P3 & _M
    return value ^ (value >> 32)


class TwinBackend:
    """See `Backend`. It has no state, so one instance serves all threads."""

    name = "twin"

    def page_sum(self, pgno: int, page: Buffer) -> int:
        """Return the XXH64 of `page` seeded with `pgno`; 0 for the lock-byte page."""
        if is_page_size(len(page)) and pgno == lock_page(len(page)):
            return 0
        return xxh64(page, pgno)

    def buffer_sums(self, pages: Buffer, page_size: int, first: int, count: int) -> bytes:
        """Return the sums of pages that stand in a buffer."""
        check_buffer(pages, page_size, first, count)
        data = memoryview(pages)
        sums = (self.page_sum(first + i, data[i * page_size : (i + 1) * page_size]) for i in range(count))
        return b"".join(value.to_bytes(8, "little") for value in sums)

    def listed_sums(self, pages: Buffer, page_size: int, numbers: Sequence[int]) -> bytes:
        """Return the sums of pages with any page numbers."""
        check_listed(pages, page_size, numbers)
        data = memoryview(pages)
        sums = (self.page_sum(pgno, data[at * page_size : (at + 1) * page_size]) for at, pgno in enumerate(numbers))
        return b"".join(value.to_bytes(8, "little") for value in sums)

    def read(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> None:
        """Read pages into the beginning of `out`."""
        source.check_range(first, count)
        check_out(source.page_size, count, out)
        size = source.page_size
        with memoryview(out) as view:
            for pgno in range(first, first + count):
                at = (pgno - first) * size
                view[at : at + size] = self._page(source, pgno)

    def _page(self, source: PageSource, pgno: int) -> bytes:
        size = source.page_size
        if pgno == lock_page(size):
            return bytes(size)
        frame = source.frame_of(pgno)
        if frame is None:
            file, offset = source.database, (pgno - 1) * size
            there = max(0, min(size, source.file_size - offset))
        elif frame == 0:
            raise ValueError(f"the map names frame 0 for page {pgno}")
        else:
            file, there = source.wal, size
            offset = WAL_HEADER + (frame - 1) * (WAL_FRAME_HEADER + size) + WAL_FRAME_HEADER
        data = pread_whole(file, there, offset)
        if len(data) < there:
            raise ShortRead(f"the file ends at byte {offset + len(data)}, within page {pgno}", pgno=pgno)
        return data + bytes(size - there)

    def sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return the sums of pages."""
        source.check_range(first, count)
        page = bytearray(source.page_size)
        sums = bytearray()
        for pgno in range(first, first + count):
            self.read(source, pgno, 1, page)
            sums += self.buffer_sums(page, source.page_size, pgno, 1)
        return bytes(sums)

    def reserved_sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return whether the checksums in the last 8 bytes of pages hold."""
        source.check_range(first, count)
        pages = (self._page(source, pgno) for pgno in range(first, first + count))
        return bytes(chain(page[:-8], "little", (0, 0)) == struct.unpack("<2I", page[-8:]) for page in pages)

    def fold(self, sums: Buffer) -> int:
        """Return the XOR of all sums."""
        if len(sums) % 8:
            raise ValueError("sums are 8 bytes each")
        folded = 0
        for (value,) in struct.iter_unpack("<Q", sums):
            folded ^= value
        return folded

    def compressor(self, level: int) -> Compressor:
        """Return a new compressor for one thread."""
        check_level(level)
        return PublicCompressor(self, level)

    def decompressor(self) -> Decompressor:
        """Return a new decompressor for one thread."""
        return PublicDecompressor(self)

    def wal_scan(
        self, wal_fd: int, *, page_size: int, last_frame: int | None = None, most: int | None = None
    ) -> WalScan:
        """Verify a WAL."""
        return scan(wal_fd, page_size, check_wal(page_size, last_frame), most)

    def wal_take(
        self, wal_fd: int, start: WalPoint, *, last_frame: int, pages: bytearray | memoryview | None = None
    ) -> WalTail:
        """Follow a chain from a place in it."""
        limit = start.frame + check_point(start, last_frame, pages)
        numbers, sizes, sums = array("I"), array("I"), bytearray()
        checksum, ended = start.checksum, WalEnd.LIMIT
        for frame, running, end in follow(wal_fd, start, limit):
            if end is not None:
                ended = end
                break
            pgno, size = struct.unpack_from(">2I", frame)
            page = frame[WAL_FRAME_HEADER:]
            if pages is not None:
                place = len(numbers) * start.page_size
                with memoryview(pages) as view:
                    view[place : place + start.page_size] = page
            numbers.append(pgno)
            sizes.append(size)
            sums += self.page_sum(pgno, page).to_bytes(8, "little")
            checksum = running
        return WalTail(numbers=numbers, sizes=sizes, sums=bytes(sums), checksum=checksum, end=ended)

    def wal_map(self, numbers: Sequence[int], first: int) -> bytes:
        """Map pages to the last frame of each."""
        last = dict(struct.iter_unpack("<2I", map_entries(numbers, first)))
        return b"".join(struct.pack("<2I", pgno, last[pgno]) for pgno in sorted(last))

    def follow(
        self,
        numbers: array[int],
        sizes: array[int],
        sums: Buffer,
        table: memoryview,
        *,
        page_size: int,
        place: int,
        pages: int,
        database_sum: int,
    ) -> Followed:
        """Go through plain commits."""
        check_run(numbers, sizes, sums, table, page_size, place, pages)
        values = struct.unpack(f"<{len(numbers)}Q", sums)
        return follow_plain(numbers, sizes, values, table, lock_page(page_size), place, pages, database_sum)

    def wal_behind(self, wal_fd: int, start: WalStart) -> WalBehind:
        """Look behind the end of a chain."""
        check_start(start)
        return behind(wal_fd, start)

    def walker(self, plan: WalkPlan) -> Walker:
        """Return a new walk over all b-trees."""
        from pagewarden.pages._twin_walk import TwinWalker

        return TwinWalker(plan, self._page)
