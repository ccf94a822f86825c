"""The pages of the database under judgement, read by the page reader; see docs/live-read.md.

In WAL mode a pin keeps one commit readable for as long as a checker needs. With a rollback journal every read lock
stops commits, so each access is a slice of its own: the lock is taken, pages are read or hashed, the lock is let go.
All slices are of one commit if the header did not change between them: every commit moves the change counter. Leaves of
the freelist may change all the same (H34), and no checker may take their bytes for anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pagewarden.contracts import FileFacts
from pagewarden.live.commit import read_pinned
from pagewarden.live.pin import Pin
from pagewarden.live.place import examine
from pagewarden.processes.reader import Attachment, PageReader

if TYPE_CHECKING:
    from pagewarden.structure import StructureStep, Tree, WalSurvey

T = TypeVar("T")

_AIM = 0.02  # seconds that a slice is planned to take, so that it stays below 50 ms on a busy machine, too
_FIRST_SLICE = 4 << 20  # bytes of pages, before anything was measured
_SMALLEST_SLICE = 256 << 10
_LARGEST_SLICE = 64 << 20
_STEP = 0.2  # seconds of a step of a walk where nobody waits for it


class ImageMoved(BaseException):
    """A commit was made between two slices: what was read so far is of two commits, and the checker begins again.

    No Exception, so that a checker that catches those does not judge a mixture.
    """


def _pass() -> None:
    """Let every access pass."""


def facts_of(attachment: Attachment) -> FileFacts:
    """Return what an attachment says of the files."""
    return FileFacts(
        file_size=attachment.file_size,
        journal_mode="wal" if attachment.mode == "wal" else "rollback",
        wal_in_use=attachment.uses_wal,
        claimed_pages=attachment.claimed_pages,
        wal_fault=attachment.wal_fault,
    )


class HandleImage:
    """Pages behind a handle of the reader's, which stay as they are while it is open: a `PageImage`."""

    def __init__(
        self, reader: PageReader, handle: int, *, page_size: int, pages: int, guard: Callable[[], None]
    ) -> None:
        """`guard` is called before each access, and raises once the checker must stop."""
        self._reader = reader
        self._handle = handle
        self._guard = guard
        self.page_size = page_size
        self.pages = pages

    def sums(self, first: int, count: int) -> bytes:
        """Return page sums."""
        self._guard()
        within(first, count, self.pages)
        return self._reader.sums(self._handle, first, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page."""
        self._guard()
        within(pgno, 1, self.pages)
        return self._reader.pages(self._handle, [pgno])[0]

    def reread(self, pgno: int) -> bytes:
        """Return the bytes of one page again; see `LiveImage`."""
        self._guard()
        within(pgno, 1, self.pages)
        return self._reader.reread(self._handle, pgno)

    def reserved_sums(self, first: int, count: int) -> bytes:
        """Return which pages' own checksums hold; see `LiveImage`."""
        self._guard()
        within(first, count, self.pages)
        return self._reader.reserved_sums(self._handle, first, count)

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Walk all b-trees; see `LiveImage`."""
        return _walk(self, self._reader, trees, resume, self._walk_on)

    def wal(self) -> WalSurvey | None:
        """Return what stands in the -wal; see `LiveImage`."""
        self._guard()
        return self._reader.wal_survey(self._handle)

    def _walk_on(self, walk: int) -> StructureStep:
        self._guard()
        return self._reader.walk_step(walk, self._handle, _STEP)


def attached_image(reader: PageReader, attachment: Attachment, guard: Callable[[], None]) -> HandleImage:
    """Return the pages of a commit that is attached in the reader."""
    return HandleImage(reader, attachment.handle, page_size=attachment.page_size, pages=attachment.pages, guard=guard)


class SlicedImage:
    """One commit of a database with a rollback journal, read in slices of a SHARED lock: a `PageImage`.

    One connection takes and lets go of the lock for all of them, because opening one takes longer than a small slice.
    """

    def __init__(
        self,
        path: str,
        reader: PageReader,
        first: Attachment,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the database. `first` is an attachment that has been read already; every slice must show its header.

        Raises what `examine` and `Pin` raise.
        """
        self._path = path
        self._reader = reader
        self._first = first
        self._guard: Callable[[], None] = _pass
        self._clock = clock
        self._sleep = sleep
        self._bytes = _FIRST_SLICE  # of the next slice
        self.page_size = first.page_size
        self.pages = first.pages
        self.moved = False
        self.longest = 0.0  # seconds that a slice took
        self._pin = Pin(examine(path), clock=clock, sleep=sleep)

    def sums(self, first: int, count: int) -> bytes:
        """Return page sums."""
        return self._in_slices(self._reader.sums, first, count)

    def reserved_sums(self, first: int, count: int) -> bytes:
        """Return which pages' own checksums hold; see `LiveImage`."""
        return self._in_slices(self._reader.reserved_sums, first, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page."""
        self._guard()
        within(pgno, 1, self.pages)
        return self._slice(lambda handle: self._reader.pages(handle, [pgno]))[0]

    def reread(self, pgno: int) -> bytes:
        """Return the bytes of one page again; see `LiveImage`. The lock is held while the disk is read."""
        self._guard()
        within(pgno, 1, self.pages)
        return self._slice(lambda handle: self._reader.reread(handle, pgno))

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Walk all b-trees, each step in a slice of its own; see `LiveImage`."""
        return _walk(self, self._reader, trees, resume, self._walk_on)

    def _walk_on(self, walk: int) -> StructureStep:
        self._guard()
        return self._slice(lambda handle: self._reader.walk_step(walk, handle, _AIM))

    def wal(self) -> WalSurvey | None:
        """Return what stands in a -wal; see `LiveImage`. A database with a rollback journal should have none."""
        self._guard()
        return self._reader.wal_survey(self._path)

    def guarded(self, guard: Callable[[], None]) -> SlicedImage:
        """Return this image, `guard` being called before each access: it raises once the checker must stop."""
        self._guard = guard
        return self

    def settled(self) -> bool:
        """Look once more, after the last access: whether no commit was made since the first one."""
        with suppress(ImageMoved):
            self._slice(lambda handle: handle)
        return not self.moved

    def close(self) -> None:
        """Close the connection."""
        self._pin.close()

    def _in_slices(self, scan: Callable[[int, int, int], bytes], first: int, count: int) -> bytes:
        """Return `scan(handle, first, count)` of as many pages, put together from slices."""
        within(first, count, self.pages)
        parts = []
        place, end = first, first + count
        while place < end:
            self._guard()
            some = min(end - place, max(1, self._bytes // self.page_size))
            parts.append(self._slice(partial(_scan, scan, place, some)))
            place += some
        return b"".join(parts)

    def _slice(self, read: Callable[[int], T]) -> T:
        """Return `read(handle)` under one SHARED lock, and learn how much the next slice may take."""

        def work(attachment: Attachment, _: object) -> T | None:
            if _commit(attachment) != _commit(self._first):
                return None
            began = self._clock()
            value = read(attachment.handle)
            self._measure(self._clock() - began)
            return value

        if not self._pin.place.unchanged():
            self.moved = True
            raise ImageMoved(f"{self._path} was replaced while it was read")
        with self._reader.exclusively():  # what another checker asks for must not come between lock and look
            self._reader.ping()  # it may have to start first, and that under a lock would stop writers
            value = read_pinned(self._pin, self._reader, work, clock=self._clock, sleep=self._sleep)
        if value is None:
            self.moved = True
            raise ImageMoved(f"{self._path} was written to while it was read")
        return value

    def _measure(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        if seconds < _AIM / 2:
            self._bytes = min(self._bytes * 2, _LARGEST_SLICE)
        elif seconds > _AIM:
            self._bytes = max(self._bytes // 2, _SMALLEST_SLICE)


def _walk(
    image: HandleImage | SlicedImage,
    reader: PageReader,
    trees: Sequence[Tree],
    resume: str,
    walk_on: Callable[[int], StructureStep],
) -> Iterator[StructureStep]:
    """Begin a walk in the reader, and yield its steps until the last one; what `walk_on` raises ends it."""
    if not image.pages:
        return
    from pagewarden.pages.walk import plan_walk  # here, because most checks at level quick walk nothing

    plan = plan_walk(image.page(1), page_size=image.page_size, pages=image.pages, trees=trees)
    walk = reader.begin_walk(plan, resume)
    try:
        done = False
        while not done:
            step = walk_on(walk)
            done = step.done
            yield step
    finally:
        reader.end_walk(walk)


def _scan(scan: Callable[[int, int, int], bytes], first: int, count: int, handle: int) -> bytes:
    return scan(handle, first, count)


def _commit(attachment: Attachment) -> tuple[str, bytes, int]:
    """Return what tells one commit with a rollback journal from the next."""
    return attachment.mode, attachment.header, attachment.pages


def within(first: int, count: int, pages: int) -> None:
    """Refuse pages that an image has not, in the checker's own process. Raises ValueError."""
    if first < 1 or count < 0 or first + count - 1 > pages:
        raise ValueError(f"pages {first} to {first + count - 1} are not all within a database of {pages}")
