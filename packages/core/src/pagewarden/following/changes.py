"""What a run of frames changes, commit by commit: which pages, where their bytes are, and the sums that follow.

1. A commit is its frames up to one whose commit field is not 0. Of a page with several frames the last one counts;
   frames of pages beyond the commit's size, which a transaction wrote before it gave them up, and of the page that
   holds the lock bytes (H12), are none of it.
2. SQLite writes no frame for a free page that it never filled. A page by which the database grew and that is in no
   frame of its commit is *unwritten*: it is read from the log or the file at that commit, else it is zeros (H21).
3. The database sum follows by the old and new sums of what changed, and of what was cut off (H22).

Nearly all commits are *plain*: they have nothing of the kind, and are gone through by `Backend.follow`, many at once.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pagewarden.following.log import Broken
from pagewarden.following.sums import SumTable
from pagewarden.following.values import Cause
from pagewarden.pages import WalTail, backend, lock_page

_MOST_UNWRITTEN = 1 << 22
"""Pages that one commit may add without writing them. More is not believed: a few bytes could claim billions."""

_SUM = 8  # bytes


@dataclass(slots=True, kw_only=True)
class Frames:
    """A run of frames, joined of tails."""

    numbers: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    sums: bytearray = field(default_factory=bytearray)

    def add(self, tail: WalTail) -> None:
        """Add what follows."""
        self.numbers += tail.numbers
        self.sizes += tail.sizes
        self.sums += tail.sums

    def cut(self, count: int) -> None:
        """Forget frames from `count` on."""
        del self.numbers[count:]
        del self.sizes[count:]
        del self.sums[count * _SUM :]

    def count(self) -> int:
        """Return how many commits there are."""
        return len(self.sizes) - self.sizes.count(0)

    def end(self, first: int) -> int:
        """Return the last frame of the commit that begins at frame `first`."""
        while not self.sizes[first]:
            first += 1
        return first

    def last_commit(self) -> int:
        """Return the last frame of the last commit."""
        place = len(self.sizes) - 1
        while not self.sizes[place]:
            place -= 1
        return place

    def padding(self) -> list[int]:
        """Return the last frames of those commits that may be what SQLite fills up a sector of the disk with.

        Without "powersafe overwrite" it writes the last frame of a commit again and again, with its mark
        (sqlite3WalFrames in wal.c), and iChange counts one commit.
        """
        numbers, sizes, sums = self.numbers, self.sizes, self.sums
        return [
            place
            for place, (before, pgno) in enumerate(pairwise(numbers), 1)
            if before == pgno
            and sizes[place]
            and sizes[place] == sizes[place - 1]
            and sums[(place - 1) * _SUM : place * _SUM] == sums[place * _SUM : (place + 1) * _SUM]
        ]

    def join_padding(self, counted: int) -> None:
        """Let padding be part of the commit before it, where that makes `counted` commits; else change nothing.

        Which of equal ones are taken for padding makes no difference.
        """
        surplus = self.count() - counted
        repeats = self.padding() if counted and surplus > 0 else []
        if repeats and surplus <= len(repeats):
            for place in repeats[-surplus:]:
                self.sizes[place - 1] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A commit that is not plain, or several that are one here."""

    first: int  # its first frame, counted from 0 in the run
    last: int  # its last frame, likewise
    pages: int  # size of the database after it, in pages
    numbers: Sequence[int]  # the pages that its frames change, ascending
    places: Sequence[int]  # the frame of each of them
    unwritten: tuple[int, ...]  # the pages that it adds without a frame, ascending

    @property
    def held(self) -> int:
        """How many pages it brings."""
        return len(self.numbers) + len(self.unwritten)


def change_of(frames: Frames, first: int, before: int, page_size: int) -> Change:
    """Return the commit that begins at frame `first`. `before` is the size of the database before it, in pages.

    Raises Broken for what no SQLite writes.
    """
    lock, last = lock_page(page_size), frames.end(first)
    pages = frames.sizes[last]
    newest = dict(zip(frames.numbers[first : last + 1], range(first, last + 1), strict=True))
    numbers = sorted(pgno for pgno in newest if pgno <= pages and pgno != lock)
    return Change(
        first=first,
        last=last,
        pages=pages,
        numbers=numbers,
        places=[newest[pgno] for pgno in numbers],
        unwritten=_unwritten(numbers, before, pages, lock),
    )


def merged(frames: Frames, before: int, page_size: int) -> Change:
    """Return all commits of a run of frames as one: the last frame of each page. Raises Broken."""
    lock, last = lock_page(page_size), len(frames.sizes) - 1
    pages = frames.sizes[last]
    newest = struct.iter_unpack("<2I", backend().wal_map(frames.numbers, 0))
    kept = [(pgno, place) for pgno, place in newest if pgno <= pages and pgno != lock]
    numbers = [pgno for pgno, _ in kept]
    # Of what was cut off in between, and came again without a frame, the file may have forgotten what it was before.
    least = min(before, min((size for size in set(frames.sizes) if size), default=before))
    return Change(
        first=0,
        last=last,
        pages=pages,
        numbers=numbers,
        places=[place for _, place in kept],
        unwritten=_unwritten(numbers, least, pages, lock),
    )


def _unwritten(numbers: Sequence[int], before: int, pages: int, lock: int) -> tuple[int, ...]:
    """Return the pages beyond `before` that are not among `numbers`, which ascend."""
    wanted = max(0, pages - before - (before < lock <= pages))
    have = len(numbers) - bisect_right(numbers, before)
    if have >= wanted:
        return ()
    if wanted - have > _MOST_UNWRITTEN:
        raise Broken(Cause.LOG_DAMAGED, f"a commit adds {wanted} pages, and writes {have} of them")
    written = set(numbers[len(numbers) - have :])
    return tuple(pgno for pgno in range(before + 1, pages + 1) if pgno not in written and pgno != lock)


class Replay:
    """Goes through commits, and changes a table of page sums by them; `undo` takes it all back."""

    def __init__(self, table: SumTable, database_sum: int, page_size: int) -> None:
        """Begin at the position of `table`."""
        self._table = table
        self._begin = database_sum
        self._page_size = page_size
        self._undo: list[tuple[Sequence[int], Sequence[int]]] = []  # pages, and what the table had of them
        self._start()

    def _start(self) -> None:
        self.pages = self._table.pages
        self.database_sum = self._begin
        self.unwritten: set[int] = set()  # pages that were added without a frame

    def plain(self, frames: Frames, place: int) -> tuple[int, list[tuple[int, int, int]]]:
        """Go through plain commits from frame `place` on; return the frame behind them, and a row for each.

        A row has the pages of the database, the pages that changed, and the database sum. Raises what `reserve` does.
        """
        self._table.reserve(self.pages + len(frames.numbers) - place)
        found = backend().follow(
            frames.numbers,
            frames.sizes,
            frames.sums,
            self._table.words,
            page_size=self._page_size,
            place=place,
            pages=self.pages,
            database_sum=self.database_sum,
        )
        self._undo.append((frames.numbers[place : found.place], found.old))
        self.pages, self.database_sum = found.pages, found.database_sum
        return found.place, found.rows

    def commit(self, change: Change, sums: bytearray, unwritten: bytes) -> tuple[int, int, int]:
        """Go on by one commit; `sums` are those of the run's frames, `unwritten` of those pages."""
        self._table.reserve(change.pages)
        words, total = self._table.words, self.database_sum
        if change.pages < self.pages:
            total ^= self._table.fold(change.pages + 1, self.pages + 1)
        floor = min(self.pages, change.pages)
        new = [struct.unpack_from("<Q", sums, place * _SUM)[0] for place in change.places]
        new += struct.unpack(f"<{len(change.unwritten)}Q", unwritten)
        numbers = [*change.numbers, *change.unwritten]
        self._undo.append((numbers, [words[pgno - 1] for pgno in numbers]))
        for pgno, value in zip(numbers, new, strict=True):
            total ^= value ^ (words[pgno - 1] if pgno <= floor else 0)
            words[pgno - 1] = value
        self.unwritten.update(change.unwritten)
        self.pages, self.database_sum = change.pages, total
        return change.pages, change.held, total

    def changed(self, frames: Frames) -> list[int]:
        """Return the pages that are others now, ascending, after all of `frames`."""
        lock = lock_page(self._page_size)
        pages = {pgno for pgno in {*frames.numbers, *self.unwritten} if pgno <= self.pages}
        return sorted(pages - {lock})

    def sums(self, numbers: Sequence[int]) -> bytes:
        """Return the sums of pages as they are now, 8 bytes each, little-endian."""
        return struct.pack(f"<{len(numbers)}Q", *[self._table.words[pgno - 1] for pgno in numbers])

    def undo(self) -> None:
        """Begin anew: let the table be what it was."""
        words = self._table.words
        while self._undo:
            numbers, old = self._undo.pop()
            for pgno, value in zip(reversed(numbers), reversed(old), strict=True):
                words[pgno - 1] = value
        self._start()

    def settle(self) -> None:
        """Let the table be of this position."""
        self._table.pages = self.pages
        self._undo.clear()
