"""The native backend: the binding of `pagewarden_native`, and nothing else.

zstd is called by the C code through addresses that `zstandard._cffi`, a cffi build of libzstd in zstandard's wheel,
gives away; see docs/decisions/0001-native-without-zstd.md. cffi releases the GIL around every call.
"""

from __future__ import annotations

import os
import struct
import threading
from array import array
from collections.abc import Sequence
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from pagewarden.errors import PagewardenError
from pagewarden.pages._checks import (
    check_buffer,
    check_frame,
    check_frame_buffer,
    check_frame_range,
    check_level,
    check_listed,
    check_out,
    check_point,
    check_run,
    check_start,
    check_wal,
)
from pagewarden.pages._words import map_entries, words_of
from pagewarden.pages._zstd import PublicCompressor, PublicDecompressor
from pagewarden.pages.backend import Compressor, Decompressor
from pagewarden.pages.source import (
    BadFrame,
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
from pagewarden_native import ffi as ffi
from pagewarden_native import lib as lib

if TYPE_CHECKING:
    from pagewarden.pages.walk import Walker, WalkPlan

ABI = 6
"""The version of the C interface that this binding was written for."""

if lib.PW_ABI != ABI:
    raise ImportError(f"pagewarden-native has interface {lib.PW_ABI}, not {ABI}: install the matching version")

EXCEPTIONS: dict[str, type[Exception]] = {
    "PW_ARGUMENT": ValueError,
    "PW_IO": OSError,
    "PW_SHORT_READ": ShortRead,
    "PW_BAD_FRAME": BadFrame,
    "PW_COMPRESS": PagewardenError,
}
"""What each status of the C code becomes, PW_OK aside."""

_READ = 256 << 10  # bytes of the buffer that sums read through: small enough to stay in a core's cache
_SCAN = 1 << 20  # bytes of WAL read at once
_ENTRIES = 16384  # frames followed in one call
_BEHIND = 65536  # frames looked at in one call behind the end of a chain
_COMPACT = 4 << 20  # bytes of map entries above which superseded ones are let go


def _raise(fault: Any) -> NoReturn:
    status, pgno, offset = fault.status, fault.pgno, fault.offset
    if status == lib.PW_IO:
        raise OSError(fault.error, f"{os.strerror(fault.error)} at byte {offset}" + (f", page {pgno}" if pgno else ""))
    if status == lib.PW_SHORT_READ:
        raise ShortRead(f"the file ends at byte {offset}, within page {pgno}", pgno=pgno)
    if status == lib.PW_BAD_FRAME:
        raise BadFrame(f"the frame of page {pgno} is not one zstd frame of the expected pages", pgno=pgno)
    if status == lib.PW_COMPRESS:
        raise PagewardenError(f"zstd failed to compress the frame of page {pgno}: {offset:#x}")
    raise ValueError(f"arguments out of bounds for page {pgno}")


@cache
def zstd_library() -> ModuleType | None:
    """Return `zstandard._cffi`, or None where this build of zstandard does not have it."""
    try:
        import zstandard._cffi as library
    except ImportError:
        return None
    return library  # type: ignore[no-any-return]


class _Zstd:
    """The function table for the C code, and contexts that free themselves."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.table = ffi.new("pw_zstd *")
        for field, function in (
            ("compress", "ZSTD_compressCCtx"),
            ("decompress", "ZSTD_decompressDCtx"),
            ("frame_size", "ZSTD_findFrameCompressedSize"),
            ("content_size", "ZSTD_getFrameContentSize"),
            ("is_error", "ZSTD_isError"),
        ):
            address = library.ffi.addressof(library.lib, function)
            kind = ffi.typeof(getattr(self.table, field))
            setattr(self.table, field, ffi.cast(kind, int(library.ffi.cast("uintptr_t", address))))

    def context(self, kind: str) -> tuple[Any, Any]:
        """Return a new context (`CCtx` or `DCtx`): its owner, which frees it, and its address for the C code."""
        made = getattr(self.library.lib, f"ZSTD_create{kind}")()
        if made == self.library.ffi.NULL:
            raise MemoryError("zstd has no memory for a context")
        owner = self.library.ffi.gc(made, getattr(self.library.lib, f"ZSTD_free{kind}"))
        return owner, ffi.cast("void *", int(self.library.ffi.cast("uintptr_t", owner)))


class _Image:
    """A PageSource as the C code takes it; keeps the map's bytes alive."""

    __slots__ = ("_frames", "c")

    def __init__(self, source: PageSource) -> None:
        self.c = ffi.new("pw_source *")
        self._frames = ffi.from_buffer("uint8_t[]", source.frames)
        self.c.database, self.c.wal = source.database, source.wal
        self.c.page_size, self.c.pages, self.c.file_size = source.page_size, source.pages, source.file_size
        self.c.frames, self.c.frame_count = self._frames, len(source.frames) // 8


class _Compressor:
    """Reads, hashes and compresses in one call of the C code."""

    def __init__(self, zstd: _Zstd, level: int) -> None:
        self._zstd, self._level = zstd, level
        self._owner, self._context = zstd.context("CCtx")
        self._pages = ffi.new("uint8_t[]", 0)
        self._used, self._fault = ffi.new("size_t *"), ffi.new("pw_fault *")

    def compress(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> tuple[int, bytes]:
        """Write pages as one zstd frame; see `Compressor`."""
        check_frame_range(source, first, count, out)
        if len(self._pages) < count * source.page_size:
            self._pages = ffi.new("uint8_t[]", count * source.page_size)
        image, sums = _Image(source), ffi.new("uint8_t[]", count * 8)
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as to:
            if lib.pw_compress(
                image.c, first, count, self._zstd.table, self._context, self._level, self._pages, len(self._pages),
                sums, count * 8, to, len(to), self._used, self._fault,
            ):  # fmt: skip
                _raise(self._fault)
        return self._used[0], bytes(ffi.buffer(sums))

    def compress_buffer(self, pages: Buffer, out: bytearray | memoryview) -> int:
        """Write pages that stand in a buffer as one zstd frame; see `Compressor`."""
        check_frame_buffer(pages, out)
        ours, theirs = self._zstd.library.ffi, self._zstd.library.lib  # nothing of ours is needed between
        with ours.from_buffer(pages) as given, ours.from_buffer(out, require_writable=True) as to:
            used = theirs.ZSTD_compressCCtx(self._owner, to, len(to), given, len(given), self._level)
        if theirs.ZSTD_isError(used):
            raise PagewardenError(f"zstd failed to compress a frame of {len(pages)} bytes: {used:#x}")
        return int(used)


class _Decompressor:
    """Decodes and hashes in one call of the C code."""

    def __init__(self, zstd: _Zstd) -> None:
        self._zstd = zstd
        self._owner, self._context = zstd.context("DCtx")
        self._fault = ffi.new("pw_fault *")

    def decompress(self, frame: Buffer, page_size: int, first: int, count: int, out: bytearray | memoryview) -> bytes:
        """Decode one frame; see `Decompressor`."""
        check_frame(page_size, first, count, out)
        sums, data = ffi.new("uint8_t[]", count * 8), ffi.from_buffer("uint8_t[]", frame)
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as to:
            if lib.pw_decompress(
                self._zstd.table, self._context, data, len(data), page_size, first, count, to, len(to),
                sums, count * 8, self._fault,
            ):  # fmt: skip
                _raise(self._fault)
        return bytes(ffi.buffer(sums))


def _map(entries: bytearray, size: int) -> None:
    """Replace the first `size` bytes of entries, later frames after earlier ones, by the map that they make."""
    used = ffi.new("uint32_t *")
    with ffi.from_buffer("uint8_t[]", entries) as given:
        lib.pw_wal_map(given, ffi.new("uint8_t[]", size), size // 8, used)
    del entries[used[0] * 8 : size]


class NativeBackend:
    """See `Backend`. One instance serves all threads."""

    name = "native"

    def __init__(self) -> None:
        self._local = threading.local()

    @cached_property
    def _zstd(self) -> _Zstd | None:
        # Loading zstandard takes a fifth of the time of a small check, which needs none of it.
        library = zstd_library()
        return None if library is None else _Zstd(library)

    def _buffer(self) -> Any:
        # Kept for each thread: fresh memory costs more at the first touch than the hashing that goes through it.
        if not hasattr(self._local, "buffer"):
            self._local.buffer = ffi.new("uint8_t[]", _READ)
        return self._local.buffer

    def page_sum(self, pgno: int, page: Buffer) -> int:
        """Return the XXH64 of `page` seeded with `pgno`; 0 for the lock-byte page."""
        if is_page_size(len(page)) and pgno == lock_page(len(page)):
            return 0
        return int(lib.pw_xxh64(ffi.from_buffer("uint8_t[]", page), len(page), pgno))

    def buffer_sums(self, pages: Buffer, page_size: int, first: int, count: int) -> bytes:
        """Return the sums of pages that stand in a buffer."""
        check_buffer(pages, page_size, first, count)
        fault, sums = ffi.new("pw_fault *"), ffi.new("uint8_t[]", count * 8)
        data = ffi.from_buffer("uint8_t[]", pages)
        if lib.pw_buffer_sums(data, len(data), page_size, first, count, sums, count * 8, fault):
            _raise(fault)
        return bytes(ffi.buffer(sums))

    def listed_sums(self, pages: Buffer, page_size: int, numbers: Sequence[int]) -> bytes:
        """Return the sums of pages with any page numbers."""
        check_listed(pages, page_size, numbers)
        count, listed = len(numbers), struct.pack(f"<{len(numbers)}I", *numbers)
        fault, sums = ffi.new("pw_fault *"), ffi.new("uint8_t[]", count * 8)
        data = ffi.from_buffer("uint8_t[]", pages)
        given = ffi.from_buffer("uint8_t[]", listed)
        if lib.pw_listed_sums(data, len(data), page_size, given, len(listed), count, sums, count * 8, fault):
            _raise(fault)
        return bytes(ffi.buffer(sums))

    def read(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> None:
        """Read pages into the beginning of `out`."""
        source.check_range(first, count)
        check_out(source.page_size, count, out)
        fault, image = ffi.new("pw_fault *"), _Image(source)
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as to:
            if lib.pw_read(image.c, first, count, to, len(to), fault):
                _raise(fault)

    def sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return the sums of pages."""
        source.check_range(first, count)
        fault, image, sums = ffi.new("pw_fault *"), _Image(source), ffi.new("uint8_t[]", count * 8)
        if lib.pw_sums(image.c, first, count, self._buffer(), _READ, sums, count * 8, fault):
            _raise(fault)
        return bytes(ffi.buffer(sums))

    def reserved_sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return whether the checksums in the last 8 bytes of pages hold."""
        source.check_range(first, count)
        fault, image, holds = ffi.new("pw_fault *"), _Image(source), ffi.new("uint8_t[]", count)
        if lib.pw_reserved_sums(image.c, first, count, self._buffer(), _READ, holds, count, fault):
            _raise(fault)
        return bytes(ffi.buffer(holds))

    def fold(self, sums: Buffer) -> int:
        """Return the XOR of all sums."""
        if len(sums) % 8:
            raise ValueError("sums are 8 bytes each")
        return int(lib.pw_fold(ffi.from_buffer("uint8_t[]", sums), len(sums) // 8))

    def compressor(self, level: int) -> Compressor:
        """Return a new compressor for one thread."""
        check_level(level)
        return PublicCompressor(self, level) if self._zstd is None else _Compressor(self._zstd, level)

    def decompressor(self) -> Decompressor:
        """Return a new decompressor for one thread."""
        return PublicDecompressor(self) if self._zstd is None else _Decompressor(self._zstd)

    def walker(self, plan: WalkPlan) -> Walker:
        """Return a new walk over all b-trees of one commit."""
        from pagewarden.pages._native_walk import NativeWalker  # built upon this module

        return NativeWalker(plan)

    def wal_scan(
        self, wal_fd: int, *, page_size: int, last_frame: int | None = None, most: int | None = None
    ) -> WalScan:
        """Verify a WAL."""
        limit = check_wal(page_size, last_frame)
        fault, state, used = ffi.new("pw_fault *"), ffi.new("pw_wal *"), ffi.new("uint32_t *")
        if lib.pw_wal_begin(wal_fd, page_size, state, fault):
            _raise(fault)
        buffer = ffi.new("uint8_t[]", _SCAN)
        chunk = ffi.new("uint8_t[]", _ENTRIES * 8)
        # Entries grow with the frames that were verified, never with what a header or a file's size claims; and frames
        # that a later commit replaced are let go, so that a log many times the database costs no more than its pages.
        entries, ceiling, left_out = bytearray(), _COMPACT, False
        while not state.done:
            if lib.pw_wal_follow(wal_fd, limit, state, buffer, _SCAN, chunk, _ENTRIES, used, fault):
                _raise(fault)
            if left_out:
                continue
            entries += ffi.buffer(chunk, used[0] * 8)
            if len(entries) > ceiling:
                _map(entries, len(entries) - (state.valid - state.commit) * 8)
                ceiling = max(_COMPACT, 2 * len(entries))
                left_out = most is not None and len(entries) // 8 > max(most, _COMPACT // 8)
        if left_out:
            entries = bytearray()
        else:
            del entries[len(entries) - (state.valid - state.commit) * 8 :]
            _map(entries, len(entries))
        if most is not None and len(entries) // 8 > most:
            entries, left_out = bytearray(), True
        return WalScan(
            salts=bytes(ffi.buffer(state.salts)) if state.page_size else b"",
            page_size=state.page_size,
            sequence=state.sequence,
            big_endian_cksum=bool(state.big_endian),
            frames_valid=state.valid,
            last_commit=state.commit,
            pages=state.commit_pages,
            checksum=(state.commit_checksum[0], state.commit_checksum[1]),
            map=bytes(entries),
            end=tuple(WalEnd)[state.end],
            commits=state.commits,
            first_page_one=state.first_page_one if state.commit_page_one else 0,
            page_one=state.commit_page_one,
            map_left_out=left_out,
        )

    def wal_take(
        self, wal_fd: int, start: WalPoint, *, last_frame: int, pages: bytearray | memoryview | None = None
    ) -> WalTail:
        """Follow a chain from a place in it."""
        count = check_point(start, last_frame, pages)
        fault, state, used = ffi.new("pw_fault *"), ffi.new("pw_wal *"), ffi.new("uint32_t *")
        state.page_size, state.big_endian, state.valid = start.page_size, start.big_endian, start.frame
        state.salts, state.checksum = list(start.salts), start.checksum
        numbers, sizes = ffi.new("uint8_t[]", count * 4), ffi.new("uint8_t[]", count * 4)
        sums = ffi.new("uint8_t[]", count * 8)
        with ffi.from_buffer("uint8_t[]", bytearray() if pages is None else pages, require_writable=True) as to:
            if lib.pw_wal_take(
                wal_fd, start.frame + count, state, self._buffer(), _READ, numbers, sizes, sums,
                ffi.NULL if pages is None else to, len(to), count, used, fault,
            ):  # fmt: skip
                _raise(fault)
        some = used[0]
        return WalTail(
            numbers=words_of(ffi.buffer(numbers, some * 4)),
            sizes=words_of(ffi.buffer(sizes, some * 4)),
            sums=bytes(ffi.buffer(sums, some * 8)),
            checksum=(state.checksum[0], state.checksum[1]),
            end=tuple(WalEnd)[state.end],
        )

    def wal_map(self, numbers: Sequence[int], first: int) -> bytes:
        """Map pages to the last frame of each."""
        entries = bytearray(map_entries(numbers, first))
        _map(entries, len(entries))
        return bytes(entries)

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
        count, state = len(numbers), ffi.new("pw_following *")
        state.page_size, state.pages, state.place, state.database_sum = page_size, pages, place, database_sum
        fault, used = ffi.new("pw_fault *"), ffi.new("uint32_t *")
        rows, old = ffi.new("uint64_t[]", 3 * count), ffi.new("uint64_t[]", count)
        with ffi.from_buffer("uint64_t[]", table, require_writable=True) as known:
            if lib.pw_follow(
                ffi.from_buffer("uint32_t[]", numbers), ffi.from_buffer("uint32_t[]", sizes),
                ffi.from_buffer("uint8_t[]", sums), count, state, known, len(table), rows, old, used, fault,
            ):  # fmt: skip
                _raise(fault)
        return Followed(
            rows=list(struct.iter_unpack("=3Q", ffi.buffer(rows, used[0] * 24))),
            place=state.place,
            old=array("Q", bytes(ffi.buffer(old + place, (state.place - place) * 8))),
            pages=state.pages,
            database_sum=state.database_sum,
        )

    def wal_behind(self, wal_fd: int, start: WalStart) -> WalBehind:
        """Look behind the end of a chain."""
        check_start(start)
        fault, state = ffi.new("pw_fault *"), ffi.new("pw_behind *")
        state.page_size, state.big_endian, state.at = start.page_size, start.big_endian, start.at
        state.salts, state.checksum, state.other = list(start.salts), start.checksum, start.other
        buffer = ffi.new("uint8_t[]", start.page_size)
        while not state.done:
            if lib.pw_wal_behind(wal_fd, state, _BEHIND, buffer, start.page_size, fault):
                _raise(fault)
        return WalBehind(
            stranded=state.stranded,
            first=state.first,
            commits=state.commits,
            last_commit=state.last_commit,
            older=state.older,
            frames=state.at,
            bare=state.bare,
            bare_commit=state.bare_commit,
        )
