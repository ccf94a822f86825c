"""How to read the pages of one commit, and what a write-ahead log was found to hold: values without I/O."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

Buffer = bytes | bytearray | memoryview

LOCK_BYTE_OFFSET = 0x40000000
"""Byte of a database file where SQLite's lock bytes lie. The page that holds it never holds data (H12)."""

MAX_PAGES = 0xFFFFFFFE
"""The largest database, in pages. https://www.sqlite.org/limits.html, point 11"""

WAL_HEADER = 32
"""Bytes of a WAL's header. https://www.sqlite.org/fileformat2.html#walformat"""

WAL_FRAME_HEADER = 24
"""Bytes that stand before the page in each frame of a WAL."""


class PageDataError(ValueError):
    """Bytes that are not what they must be. `pgno` and `frame` name the place where they are known."""

    def __init__(self, message: str, *, pgno: int | None = None, frame: int | None = None) -> None:
        """`frame` counts the frames of one copy from 0."""
        super().__init__(message)
        self.pgno = pgno
        self.frame = frame


class ShortRead(PageDataError):
    """A file ends before a byte that it was believed to hold: it shrank while it was read, or it is cut off."""


class BadFrame(PageDataError):
    """A stored frame is not one whole zstd frame of exactly the expected pages."""


class SumMismatch(PageDataError):
    """A page was decoded, but it is not the page whose sum was recorded."""


def lock_page(page_size: int) -> int:
    """Return the number of the page that holds the lock bytes; a smaller database does not have it (H12)."""
    return LOCK_BYTE_OFFSET // page_size + 1


def is_page_size(page_size: int) -> bool:
    """Return whether SQLite knows the page size: a power of two from 512 to 65536."""
    return 512 <= page_size <= 65536 and page_size & (page_size - 1) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSource:
    """How to read the pages of one commit.

    A page is its frame in the WAL where `frames` names one, else it comes from the database file, else it is zeros.
    The lock-byte page is zeros, its sum is 0, and it is never read (H12). Files are read with pread only (H36).
    """

    database: int  # descriptor of the database file
    page_size: int  # bytes
    pages: int  # size of the commit, in pages
    file_size: int  # bytes of the database file to believe; beyond them a page is zeros
    wal: int = -1  # descriptor of the -wal, -1 where it is not used
    frames: bytes = b""  # map from page to frame: u32 pgno, u32 frame from 1, little-endian; sorted by pgno

    def __post_init__(self) -> None:
        """Refuse what no database can be: ValueError."""
        if not is_page_size(self.page_size):
            raise ValueError(f"{self.page_size} is not a page size")
        if not 0 <= self.pages <= MAX_PAGES:
            raise ValueError(f"a database cannot have {self.pages} pages")
        if not 0 <= self.file_size < 1 << 63:
            raise ValueError(f"a file cannot have {self.file_size} bytes")
        if len(self.frames) % 8 or (self.frames and self.wal < 0):
            raise ValueError("the map of WAL frames needs 8 bytes for each page, and a WAL")

    def check_range(self, first: int, count: int) -> None:
        """Refuse pages that are not in the commit: ValueError."""
        if first < 1 or count < 0 or first + count - 1 > self.pages:
            raise ValueError(f"pages {first} to {first + count - 1} are not all within a database of {self.pages}")

    def frame_of(self, pgno: int) -> int | None:
        """Return the frame of the WAL that holds a page, None where the database file does."""
        entries = len(self.frames) // 8
        index = bisect_left(range(entries), pgno, key=lambda i: int(struct.unpack_from("<I", self.frames, i * 8)[0]))
        found, frame = struct.unpack_from("<2I", self.frames, index * 8) if index < entries else (0, 0)
        return int(frame) if found == pgno else None


class WalEnd(StrEnum):
    """Where and why the chain of valid frames in a WAL ended. The order is that of `pw_wal_end` in the C header."""

    LIMIT = "limit"
    END = "end"
    PARTIAL = "partial"
    SALTS = "salts"
    PGNO = "pgno"
    CHECKSUM = "checksum"
    NO_HEADER = "no-header"
    BAD_HEADER = "bad-header"
    PAGE_SIZE = "page-size"


_WHY = {
    WalEnd.LIMIT: "",
    WalEnd.END: "",
    WalEnd.PARTIAL: "the file ends within frame {0}",
    WalEnd.SALTS: "frame {0} carries other salts than the header",
    WalEnd.PGNO: "frame {0} names page 0",
    WalEnd.CHECKSUM: "the checksum of frame {0} does not match",
    WalEnd.NO_HEADER: "the file is shorter than a header",
    WalEnd.BAD_HEADER: "the header's magic, version, page size or checksum is wrong",
    WalEnd.PAGE_SIZE: "the header names another page size than the database's",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WalScan:
    """What a verified scan of a write-ahead log found. Frames are counted from 1.

    A frame is valid if it names a page, carries the header's salts and continues the chain of checksums that begins
    at the header. https://www.sqlite.org/fileformat2.html#walformat
    """

    salts: bytes  # 8 bytes of the header as stored; empty where there is no valid header
    page_size: int  # of the header, bytes; 0 where there is no valid header
    sequence: int  # checkpoint sequence number
    big_endian_cksum: bool  # whether checksums are over big-endian words
    frames_valid: int  # frames in the chain, commits and frames of an unfinished or rolled back transaction alike
    last_commit: int  # the last commit frame within the limit, 0 where there is none
    pages: int  # its commit field: size of the database, in pages
    checksum: tuple[int, int]  # the running pair at that frame; (0, 0) where there is none
    map: bytes  # page-to-frame map over frames 1 … last_commit, as `PageSource.frames` takes it
    end: WalEnd  # why the chain ended
    commits: int = 0  # commits in the chain
    first_page_one: int = 0  # the first frame up to last_commit that holds page 1, 0 where there is none
    page_one: int = 0  # the last such frame
    map_left_out: bool = False  # whether the map is empty because it would name more pages than was allowed

    @property
    def first_bad(self) -> int | None:
        """The first frame that is not valid, None where the chain ended at the limit, the file's end or the header."""
        bad = (WalEnd.PARTIAL, WalEnd.SALTS, WalEnd.PGNO, WalEnd.CHECKSUM)
        return self.frames_valid + 1 if self.end in bad else None

    @property
    def why(self) -> str:
        """One clause that says what ended the chain, empty where nothing is wrong."""
        return _WHY[self.end].format(self.frames_valid + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalPoint:
    """A place in the chain of a write-ahead log, from which it can be followed."""

    page_size: int  # bytes
    big_endian: bool  # how checksums take their words
    salts: bytes  # 8 bytes of the generation, as stored
    frame: int  # the last frame before it, 0 for the header
    checksum: tuple[int, int]  # the running pair at that frame


@dataclass(frozen=True, slots=True, kw_only=True)
class WalTail:
    """What stands in a write-ahead log behind a `WalPoint`: valid frames, one after the other."""

    numbers: array[int]  # page number of each frame
    sizes: array[int]  # its commit field: size of the database in pages for a commit, else 0
    sums: bytes  # its page sum: 8 bytes each, little-endian
    checksum: tuple[int, int]  # the running pair at the last of them
    end: WalEnd  # why the chain ended there


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What the plain commits of a run of frames have changed; see native/c/follow.c."""

    rows: list[tuple[int, int, int]]  # for each commit: pages of the database, pages that changed, database sum
    place: int  # the first frame that was not gone through, counted from 0
    old: array[int]  # for each frame that was: what the table had of its page
    pages: int  # size of the database after them, in pages
    database_sum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStart:
    """Where to look behind the end of a chain, and for what."""

    page_size: int  # bytes
    big_endian: bool  # how checksums take their words
    salts: bytes  # 8 bytes of the frames in question
    at: int  # the frame before the first one to look at, 0 for the header
    checksum: tuple[int, int]  # what it stores
    other: tuple[int, int]  # what it would store if that is what broke; else the same again


@dataclass(frozen=True, slots=True, kw_only=True)
class WalBehind:
    """What stands behind the end of a chain. Frames are counted from 1."""

    stranded: int = 0  # frames with the salts, each of which continues the checksum of the frame before it
    first: int = 0  # the first of them, 0 where there is none
    commits: int = 0  # commits that they prove: their own, and that of a broken frame which one of them continues
    last_commit: int = 0  # the last of those frames, 0 where there is none
    older: int = 0  # frames with other salts
    frames: int = 0  # whole frames in the file
    bare: int = 0  # frames right behind the chain that name a page, and whose salts and checksum are zeros
    bare_commit: int = 0  # the last of them that bears the mark of a commit, 0 where there is none


def frame_bound(size: int) -> int:
    """Return the largest zstd frame that `size` bytes can become: ZSTD_COMPRESSBOUND of zstd.h."""
    return size + (size >> 8) + (((128 << 10) - size) >> 11 if size < 128 << 10 else 0)
