"""Page sets, format version 1: what one is, as values. `blocks` has the bytes, docs/formats/pageset-1.md the tables.

1. A page set is a valid zstd file. The pages stand in independent zstd frames, in page order; everything else rides in
   skippable frames, which stock zstd ignores. `zstd -d` of a snapshot is the database, byte for byte.
2. header | page frames | (page numbers, not of a snapshot) | index blocks | sums blocks | (commits) | trailer.
3. Page numbers, index, sums and commits are cut into blocks of `blocks.BLOCK_ENTRIES`, so that no skippable frame comes
   near its 4 GiB and a range is read and proved by reading the blocks that hold it.
4. Each block ends with its own XXH64; the trailer has one over those, and a SHA-256 over all bytes of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from pagewarden.pages import MAX_PAGES, is_page_size, lock_page
from pagewarden.values import Position

HEADER_SIZE = 128
"""Bytes of the header block; the first frame of pages follows."""

SKIPPABLE = 0x184D2A57
"""Magic number of a skippable frame, one of sixteen; a page set begins with it. RFC 8878, section 3.1.2."""

FRAME_BYTES = 512 * 1024
"""Bytes of pages in a frame as written here: big enough to compress well, small enough to read one page for."""

MAX_FRAME_BYTES = 4 << 20
"""Bytes of pages in a frame that a reader accepts, whoever wrote them: each of its threads has a buffer as large."""

MAX_COMMITS = 0xFFFFFFFF
"""Commits in one page set, and those that one entry of it can stand for."""

_TIMELINE = re.compile(r"[0-9a-f]{32}")


class Kind(IntEnum):
    """What a page set holds."""

    SNAPSHOT = 1  # every page, at one position
    SEGMENT = 2  # the pages changed between two positions: the last version of each
    COMMITS = 3  # every version that pages had between two positions, commit by commit


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSetHeader:
    """What a page set says of itself at its beginning. Raises ValueError if it says nonsense."""

    kind: Kind = Kind.SNAPSHOT
    page_size: int  # bytes
    pages: int  # size of the database, in pages
    pages_per_frame: int  # of every frame but the last
    timeline: str  # 32 hexadecimal digits
    txid: int  # the position that it brings the database to
    txid_from: int = 0  # the position that it starts from; 0 for a snapshot
    time: datetime  # when the position was seen, UTC, to the microsecond
    commits: int = 0  # how many a page set of commits holds; 0 in the others

    def __post_init__(self) -> None:
        if not is_page_size(self.page_size):
            raise ValueError(f"a page size of {self.page_size} bytes")
        if not 0 <= self.pages <= MAX_PAGES:
            raise ValueError(f"a database of {self.pages} pages")
        if not 1 <= self.pages_per_frame <= MAX_FRAME_BYTES // self.page_size:
            raise ValueError(f"{self.pages_per_frame} pages of {self.page_size} bytes per frame")
        if _TIMELINE.fullmatch(self.timeline) is None:
            raise ValueError(f"the timeline {self.timeline!r}")
        if not 0 <= self.txid_from < self.txid < 1 << 63:
            raise ValueError(f"the positions {self.txid_from} to {self.txid}")
        if self.kind is Kind.SNAPSHOT and self.txid_from:
            raise ValueError("a snapshot that starts from a position")
        if self.kind is not Kind.SNAPSHOT and not self.txid_from:
            what = "segment" if self.kind is Kind.SEGMENT else "page set of commits"
            raise ValueError(f"a {what} that starts from no position")
        if not 0 <= self.commits <= min(self.txid - self.txid_from if self.kind is Kind.COMMITS else 0, MAX_COMMITS):
            raise ValueError(f"{self.commits} commits from position {self.txid_from} to {self.txid}")
        if self.time.utcoffset() != timedelta(0):
            raise ValueError(f"a time that is not UTC: {self.time}")

    @property
    def frames(self) -> int:
        """How many frames hold the pages of a snapshot."""
        return self.frames_for(self.pages)

    def frames_for(self, held: int) -> int:
        """Return how many frames hold `held` pages."""
        return -(-held // self.pages_per_frame)

    def frame_pages(self, number: int) -> tuple[int, int]:
        """Return the first page and the count of pages of frame `number`, from 0, of a snapshot."""
        first = number * self.pages_per_frame + 1
        return first, min(self.pages_per_frame, self.pages - first + 1)

    def frame_of(self, pgno: int) -> int:
        """Return the number of the frame that holds page `pgno` of a snapshot."""
        return (pgno - 1) // self.pages_per_frame

    @property
    def most_held(self) -> int:
        """How many pages it can hold: all of the database, but a segment never that of the lock bytes (H12).

        A page set of commits holds versions: what each of them says of itself, and the size of the file, bound those.
        """
        if self.kind is Kind.COMMITS:
            return self.commits * MAX_PAGES
        lock = self.kind is Kind.SEGMENT and self.pages >= lock_page(self.page_size)
        return self.pages - lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a page set of commits. Raises ValueError if it says nonsense."""

    txid: int  # the position that it brings the database to
    time: datetime  # when it was seen, UTC, to the microsecond; it may be before that of an older commit (H23)
    pages: int  # size of the database then, in pages
    entries: int  # pages that it changed, as far as they are held
    database_sum: int  # XOR of all page sums of the database then
    merged: int = 1  # commits that it stands for: of all but the last one, positions cannot be restored

    def __post_init__(self) -> None:
        if not 1 <= self.merged <= min(self.txid, MAX_COMMITS) or self.txid >= 1 << 63:
            raise ValueError(f"{self.merged} commits up to position {self.txid}")
        if not 0 <= self.entries <= self.pages <= MAX_PAGES:
            raise ValueError(f"{self.entries} pages changed in a database of {self.pages}")
        if not 0 <= self.database_sum < 1 << 64:
            raise ValueError(f"the database sum {self.database_sum}")
        if self.time.utcoffset() != timedelta(0):
            raise ValueError(f"a time that is not UTC: {self.time}")

    @property
    def txid_from(self) -> int:
        """The position that it starts from."""
        return self.txid - self.merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A commit, and those beside it in the order of their txids."""

    before: Commit | None  # None where there is none in the same page set
    commit: Commit | None  # None where there is none of that position or time
    after: Commit | None


def pages_per_frame(page_size: int) -> int:
    """Return how many pages of `page_size` bytes a frame holds by default."""
    return FRAME_BYTES // page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSetInfo:
    """What is known of a whole page set, from its header and trailer."""

    header: PageSetHeader
    frames: int
    held: int  # pages that it holds, or versions of pages: all pages in a snapshot
    database_sum: int  # XOR of all page sums of the database at its position
    database_sum_from: int = 0  # the same at the position that it starts from; 0 in a snapshot
    sha256: str  # 64 hexadecimal digits, over all bytes but the last 40, the header last
    bytes: int  # of the file
    numbers_offset: int  # of the page numbers, bytes from the beginning of the file
    index_offset: int  # likewise
    sums_offset: int  # likewise

    @property
    def position(self) -> Position:
        """The position of the database that it holds."""
        return Position(timeline=self.header.timeline, txid=self.header.txid, time=self.header.time)


def grown(page_size: int, before: int, after: int) -> int:
    """Return how many pages a segment must hold at least that brings a database from `before` to `after` pages (H21).

    Negative where it shrank. The page of the lock bytes is in no segment. Whoever gives room to what a stored page set
    says of its size compares this with what it holds first: a few bytes can say that there are billions of pages.
    """
    return after - before - (before < lock_page(page_size) <= after)
