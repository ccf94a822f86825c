"""What a run of frames changes, commit by commit: which pages, where their bytes are, and the sums that follow.

1. A commit is its frames up to one whose commit field is not 0. Of a page with several frames the last one counts;
   frames of pages beyond the commit's size, which a transaction wrote before it gave them up, and of the page that
   holds the lock bytes (H12), are none of it.
2. SQLite writes no frame for a free page that it never filled. A page by which the database grew and that is in no
   frame of its commit is *unwritten*: it is read from the log or the file at that commit, else it is zeros (H21).
3. The database sum follows by the old and new sums of what changed, and of what was cut off (H22).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import lt

from pagewarden.following.log import Broken
from pagewarden.following.sums import SumTable
from pagewarden.following.values import Cause
from pagewarden.pages import WalTail, lock_page

_MOST_UNWRITTEN = 1 << 22
"""Pages that one commit may add without writing them. More is not believed: a few bytes could claim billions."""


@dataclass(slots=True, kw_only=True)
class Change:
    """One commit, or several that are one here."""

    first: int  # its first frame, counted from 0 in the run
    last: int  # its last frame, likewise
    pages: int  # size of the database after it, in pages
    numbers: Sequence[int]  # the pages that its frames change, ascending
    places: Sequence[int]  # the frame of each of them
    unwritten: tuple[int, ...]  # the pages that it adds without a frame, ascending
    unwritten_sums: tuple[int, ...] = ()  # once they were read
    unwritten_pages: bytes = b""  # likewise
    database_sum: int = 0  # after it
    commits: int = 1

    @property
    def held(self) -> int:
        """How many pages it brings."""
        return len(self.numbers) + len(self.unwritten)


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
        del self.sums[count * 8 :]

    def commits(self) -> list[int]:
        """Return the last frame of each commit."""
        return [place for place, size in enumerate(self.sizes) if size]


def changes_of(frames: Frames, before: int, page_size: int) -> list[Change]:
    """Return the commits of a run of frames, which ends with one. `before` is the size of the database, in pages.

    Raises Broken for what no SQLite writes.
    """
    lock, numbers = lock_page(page_size), frames.numbers
    changes, first = [], 0
    for last in frames.commits():
        pages = frames.sizes[last]
        some: Sequence[int] = numbers[first : last + 1]
        places: Sequence[int] = range(first, last + 1)
        if some[-1] > pages or lock in some or not all(map(lt, some, some[1:])):
            some, places = _sorted(numbers[first : last + 1], first, pages, lock)
        changes.append(
            Change(
                first=first,
                last=last,
                pages=pages,
                numbers=some,
                places=places,
                unwritten=_unwritten(some, before, pages, lock),
            )
        )
        before, first = pages, last + 1
    return changes


def merged(frames: Frames, before: int, page_size: int, counted: int | None) -> Change:
    """Return all commits of a run of frames as one: the last frame of each page. iChange counts `counted` of them."""
    lock, pages = lock_page(page_size), frames.sizes[-1]
    numbers, places = _sorted(frames.numbers, 0, pages, lock)
    commits = frames.commits()
    # Of what was cut off in between, and came again without a frame, the file may have forgotten what it was before.
    least = min([before, *(frames.sizes[place] for place in commits)])
    count = len(commits)
    if counted is not None and 0 < count - counted <= len(padding(frames)):
        count = max(1, counted)
    return Change(
        first=0,
        last=len(frames.numbers) - 1,
        pages=pages,
        numbers=numbers,
        places=places,
        unwritten=_unwritten(numbers, least, pages, lock),
        commits=count,
    )


def padding(frames: Frames) -> list[int]:
    """Return the last frames of those commits that may be what SQLite fills up a sector of the disk with.

    Without "powersafe overwrite" it writes the last frame of a commit again and again, with its mark
    (sqlite3WalFrames in wal.c), and iChange counts one commit.
    """
    numbers, sizes, sums = frames.numbers, frames.sizes, frames.sums
    return [
        place
        for place in frames.commits()
        if place
        and (numbers[place], sizes[place]) == (numbers[place - 1], sizes[place - 1])
        and sums[place * 8 - 8 : place * 8] == sums[place * 8 : place * 8 + 8]
    ]


def without_padding(changes: list[Change], frames: Frames, counted: int) -> list[Change]:
    """Return `counted` of `changes`, where the others can be padding; else all.

    Which of equal ones are left out makes no difference.
    """
    surplus = len(changes) - counted
    repeats = padding(frames) if 0 < surplus < len(changes) else []
    if surplus <= 0 or surplus > len(repeats):
        return changes
    left_out = set(repeats[-surplus:])
    return [change for change in changes if change.last not in left_out]


class Overlay:
    """The page sums after some commits, over those of the position before them."""

    def __init__(self, table: SumTable, database_sum: int) -> None:
        """Begin at the position of `table`, which is not changed."""
        self.sums: dict[int, int] = {}  # of the pages that changed and are in the database still
        self.pages = table.pages
        self.database_sum = database_sum
        self._table = table
        self._floor = table.pages  # pages up to here, and no others, are as in the table where they did not change

    def apply(self, change: Change, sums: Sequence[int]) -> None:
        """Go on by one commit, whose unwritten pages were read; `sums` are those of the run's frames."""
        known, words, total = self.sums, self._table.words, self.database_sum
        if change.pages < self.pages:
            total ^= self._cut(change.pages)
        floor = self._floor
        for pgno, place in zip(change.numbers, change.places, strict=True):
            new = sums[place]
            total ^= new ^ known.get(pgno, words[pgno - 1] if pgno <= floor else 0)
            known[pgno] = new
        for pgno, new in zip(change.unwritten, change.unwritten_sums, strict=True):
            total ^= new ^ known.get(pgno, words[pgno - 1] if pgno <= floor else 0)
            known[pgno] = new
        self.pages, self.database_sum = change.pages, total
        change.database_sum = total

    def settle(self) -> None:
        """Let the table, which has room, be of this position."""
        self._table.pages, words = self.pages, self._table.words
        for pgno, new in self.sums.items():
            words[pgno - 1] = new

    def _cut(self, pages: int) -> int:
        """Forget pages beyond `pages`; return the XOR of their sums."""
        gone = 0
        # Through whichever are fewer: the pages that go, or those that changed.
        few = range(pages + 1, self.pages + 1) if self.pages - pages < len(self.sums) else tuple(self.sums)
        mine = [pgno for pgno in few if pgno > pages and pgno in self.sums]
        if self._floor > pages:
            gone = self._table.fold(pages + 1, self._floor + 1)
            for pgno in mine:
                gone ^= self._table.words[pgno - 1] if pgno <= self._floor else 0
            self._floor = pages
        for pgno in mine:
            gone ^= self.sums.pop(pgno)
        return gone


def _sorted(numbers: array[int], first: int, pages: int, lock: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the pages that stand in frames from `first` on, ascending, and the last frame of each."""
    last = dict(zip(numbers, range(first, first + len(numbers)), strict=True))
    kept = sorted(pgno for pgno in last if pgno <= pages and pgno != lock)
    return kept, [last[pgno] for pgno in kept]


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
