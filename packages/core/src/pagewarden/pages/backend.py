"""The one interface of the scanner and the copier, and the choice between its two backends."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol

from pagewarden.errors import ConfigurationInvalid, NativeMissing
from pagewarden.pages.source import Buffer, Followed, PageSource, WalBehind, WalPoint, WalScan, WalStart, WalTail

if TYPE_CHECKING:
    from pagewarden.pages.walk import Walker, WalkPlan

ENVIRONMENT = "PAGEWARDEN_NATIVE"
"""Environment variable: `require`, `prefer` (the default) or `off`."""


class Compressor(Protocol):
    """Copies pages out. It keeps buffers and a zstd context, and belongs to one thread at a time."""

    def compress(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> tuple[int, bytes]:
        """Write pages as one independent zstd frame with its content size; return its bytes and the page sums.

        `out` holds at least `frame_bound(count * page_size)` bytes. `count` is at least 1.
        """

    def compress_buffer(self, pages: Buffer, out: bytearray | memoryview) -> int:
        """Write pages that stand in a buffer as one independent zstd frame with its content size; return its bytes.

        `out` holds at least `frame_bound(len(pages))` bytes. There is at least one page.
        """


class Decompressor(Protocol):
    """Copies pages in. It keeps a zstd context and belongs to one thread at a time."""

    def decompress(self, frame: Buffer, page_size: int, first: int, count: int, out: bytearray | memoryview) -> bytes:
        """Decode one frame that must hold exactly `count` pages into the beginning of `out`; return the page sums.

        Raises BadFrame for anything else. No frame, however hostile, costs more memory than `out`.
        """


class Backend(Protocol):
    """Page sums, reads, copies and WAL scans. Safe for many threads at once.

    Everywhere: ValueError for arguments out of bounds, OSError with its errno for a failed read, ShortRead where a
    file ends before a byte it was believed to hold. Sums are 8 bytes for each page, little-endian.
    """

    @property
    def name(self) -> str:
        """`native` or `twin`."""

    def page_sum(self, pgno: int, page: Buffer) -> int:
        """Return the XXH64 of `page` seeded with `pgno`; 0 for the lock-byte page."""

    def buffer_sums(self, pages: Buffer, page_size: int, first: int, count: int) -> bytes:
        """Return the sums of `count` pages that stand in `pages`, the first of which is page `first`."""

    def listed_sums(self, pages: Buffer, page_size: int, numbers: Sequence[int]) -> bytes:
        """Return the sums of pages that stand in `pages` one after the other, with any page numbers."""

    def read(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> None:
        """Read pages into the beginning of `out`."""

    def sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return the sums of pages `first` … `first + count - 1`."""

    def reserved_sums(self, source: PageSource, first: int, count: int) -> bytes:
        """Return a byte for each page: 1 where the checksum of cksumvfs in its last 8 bytes holds, else 0 (H10)."""

    def fold(self, sums: Buffer) -> int:
        """Return the XOR of all sums: the database sum, if they are those of all pages."""

    def walker(self, plan: WalkPlan) -> Walker:
        """Return a new walk over all b-trees of one commit."""

    def compressor(self, level: int) -> Compressor:
        """Return a new compressor for one thread. `level` is a zstd level from 1 to 22."""

    def decompressor(self) -> Decompressor:
        """Return a new decompressor for one thread."""

    def wal_scan(
        self, wal_fd: int, *, page_size: int, last_frame: int | None = None, most: int | None = None
    ) -> WalScan:
        """Verify the WAL at `wal_fd` up to `last_frame` (None: to its end). `page_size` 0 believes its header.

        A map of more than `most` pages is left out.
        """

    def wal_take(
        self, wal_fd: int, start: WalPoint, *, last_frame: int, pages: bytearray | memoryview | None = None
    ) -> WalTail:
        """Follow a chain from `start` on, not past `last_frame`; return what its frames hold.

        With `pages`, which has room for all of them, the pages are put there one after the other. Memory is taken for
        every frame up to `last_frame`: bound it by the size of the file.
        """

    def wal_map(self, numbers: Sequence[int], first: int) -> bytes:
        """Return the map (see `PageSource.frames`) of consecutive frames that hold pages `numbers`, from `first` on."""

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
        """Go through the plain commits of a run of frames, from frame `place` on, up to one that is not plain.

        A plain commit names its pages in ascending order, does not make the database smaller, and has a frame of each
        page by which it grows. `numbers`, `sizes` and `sums` are those of a `WalTail`. `table` has the sums of all
        pages, as numbers of 64 bits, and is changed; the database has `pages` pages before, and the sum `database_sum`.
        """

    def wal_behind(self, wal_fd: int, start: WalStart) -> WalBehind:
        """Look at every frame from `start` to the end of the file; see `survey_wal`."""


def backend() -> Backend:
    """Return the backend that PAGEWARDEN_NATIVE asks for.

    Raises NativeMissing if it is `require` and the native module cannot be used, ConfigurationInvalid if it is
    something else than `require`, `prefer` or `off`.
    """
    return _choose(os.environ.get(ENVIRONMENT, "prefer"))


@cache
def _choose(wish: str) -> Backend:
    if wish not in ("require", "prefer", "off"):
        raise ConfigurationInvalid(
            f"{ENVIRONMENT} is {wish!r}, which is not a choice",
            hint=f"export {ENVIRONMENT}=prefer (or require, or off)",
        )
    if wish != "off":
        # Imported here: whoever chose the twin must not need the module, and start-up must not pay for both.
        try:
            from pagewarden.pages._native import NativeBackend

            return NativeBackend()
        except ImportError as error:
            if wish == "require":
                raise NativeMissing(
                    f"{ENVIRONMENT} is require, but the native module cannot be used: {error}",
                    hint="pip install pagewarden-native",
                ) from error
    from pagewarden.pages._twin import TwinBackend

    return TwinBackend()
