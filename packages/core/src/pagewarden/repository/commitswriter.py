"""Writing a page set of commits: commit after commit, in the order of their txids (H23). Runs in the page reader.

Frames are filled with whatever pages come, whosever they are: versions of one page next to each other compress well.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from operator import lt
from pathlib import Path

from pagewarden.pages import Buffer, backend, frame_bound, lock_page
from pagewarden.repository import blocks
from pagewarden.repository.container import ListedContainer
from pagewarden.repository.format import Commit, Kind, PageSetHeader, PageSetInfo, grown


class NoHistory(ValueError):
    """Commits that cannot follow each other, or that lack pages."""


class CommitsWriter(ListedContainer):
    """Writes one page set of commits to a new file: `add` for each commit in order, then `seal`.

    Leaving it as a context manager without `seal` abandons it: the file is removed. Errors of the file that is written
    are OutOfSpace or TargetFailed. Raises NoHistory, a ValueError, for what cannot be one, and is of no more use then.
    Sums are believed: whoever calls reads back what was written. Not for two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader, *, level: int) -> None:
        """Create the file `path`, which must not exist. `level` is zstd's.

        Of `header`, the position that it leads to is settled by `seal`: txid, pages, time and the number of commits.
        """
        if header.kind is not Kind.COMMITS:
            raise ValueError(f"a page set of commits cannot be of the kind {header.kind.name}")
        super().__init__(path, header)
        self._commits = self._table(blocks.COMMITS_ENTRY)
        self._compressor = backend().compressor(level)
        size = header.pages_per_frame * header.page_size
        # Anonymous mappings: a batch may be small, and only what is touched costs anything.
        self._pages = memoryview(mmap.mmap(-1, size))  # of the frame that is being filled
        self._frame = memoryview(mmap.mmap(-1, frame_bound(size)))
        self._held_numbers, self._held_sums = bytearray(), bytearray()
        self._lock_page = lock_page(header.page_size)
        self._now: Commit | None = None  # the one whose pages come
        self._before: int | None = None  # pages of the database before it; None where that is not known
        self._left = self._last = self._came = 0  # its entries to come, its last page number, pages that are new

    @property
    def pages(self) -> int:
        """Size of the database after the commits that it has, in pages; 0 before the first one."""
        return 0 if self._now is None else self._now.pages

    def add(self, commit: Commit, numbers: Sequence[int], pages: Buffer, sums: bytes) -> None:
        """Append a commit with its pages: their numbers, ascending, their bytes and their sums, 8 bytes each."""
        self.begin(commit)
        self.put(numbers, pages, sums)

    def begin(self, commit: Commit) -> None:
        """Append a commit, whose pages follow: for those that had better not be in memory at once."""
        txid = self.header.txid_from if self._now is None else self._now.txid
        if commit.txid_from != txid:
            raise NoHistory(f"a commit from {commit.txid_from} to {commit.txid} does not follow {txid}")
        self.end()
        self._before = None if self._now is None else self._now.pages
        self._now, self._left, self._last, self._came = commit, commit.entries, 0, 0
        with self._errors():
            self._commits.put(self._commits.count, blocks.encode_commit(commit))

    def put(self, numbers: Sequence[int], pages: Buffer, sums: bytes) -> None:
        """Append pages of the commit that was begun last, after those that it has."""
        self._check_room(numbers, pages, sums, self._left)
        if numbers:
            self._last, came = self._check(numbers)
            self._came += came
            self._left -= len(numbers)
            self.fill(numbers, pages, sums)

    def extend(
        self, time: datetime, rows: Sequence[tuple[int, int, int]], numbers: Sequence[int], pages: Buffer, sums: bytes
    ) -> None:
        """Append many commits at once, which is much faster: all of them were seen at `time`, and none was merged.

        `rows` are of pages of the database, pages that changed, and database sum. `numbers`, `pages` and `sums` are of
        all of them, commit after commit, in each by page number.
        """
        self.end()
        self._check_room(numbers, pages, sums, len(numbers))
        moment, place, lock = blocks.micros(time), 0, self._lock_page
        txid = self.header.txid_from if self._now is None else self._now.txid
        size = None if self._now is None else self._now.pages
        try:
            entries = b"".join([blocks.encode_row(moment, *row) for row in rows])
        except struct.error as error:
            raise NoHistory(f"what no commit after {txid} can be: {error}") from error
        for new, count, _ in rows:
            txid += 1
            some = numbers[place : place + count]
            # Most of them only change some pages of a database that stays as large.
            if not (
                new == size
                and 0 < count == len(some)
                and some[0] > 0
                and some[-1] <= new
                and lock not in some
                and (count == 1 or all(map(lt, some, some[1:])))
            ):
                self._now = Commit(txid=txid, time=time, pages=new, entries=count, database_sum=0)
                self._before, self._left, self._last, self._came = size, count - len(some), 0, 0
                if some:
                    self._last, self._came = self._check(some)
                self.end()
                size = new
            place += count
        if place != len(numbers):
            raise NoHistory(f"{len(numbers)} page numbers, of {place}")
        if rows:
            new, count, database_sum = rows[-1]
            self._now = Commit(txid=txid, time=time, pages=new, entries=count, database_sum=database_sum)
            self._before, self._left = None, 0  # it was looked at
        with self._errors():
            self._commits.put(self._commits.count, entries)
        self.fill(numbers, pages, sums)

    def follow(self, rows: Iterable[bytes], first: Commit, came: int, last: Commit) -> None:
        """Append commits as they stand in another page set, where they were proved: only that they follow is looked at.

        `rows` are blocks of their entries, `first` and `last` the first and the last of them, `came` how many pages of
        the first are beyond the size of the database before it. Their pages are then given to `fill`.
        """
        self.end()
        size = None if self._now is None else self._now.pages
        txid = self.header.txid_from if self._now is None else self._now.txid
        lacks = lacking(self.header.page_size, size, first, came)
        if first.txid_from != txid or lacks:
            raise NoHistory(f"commit {first.txid} does not follow {txid}, or lacks {lacks} pages by which it grew")
        with self._errors():
            for some in rows:
                self._commits.put(self._commits.count, some)
        self._now, self._before, self._left = last, None, 0

    def _check_room(self, numbers: Sequence[int], pages: Buffer, sums: bytes, most: int) -> None:
        """Refuse bytes that are not of so many pages, and more pages than `most`."""
        size, count = self.header.page_size, len(numbers)
        if (len(pages), len(sums)) != (count * size, count * blocks.SUMS_ENTRY) or count > most:
            raise NoHistory(f"{count} page numbers with {len(pages)} bytes and {len(sums)} of sums, of {most}")

    def fill(self, numbers: Sequence[int], pages: Buffer, sums: bytes) -> None:
        """Append pages to the frames, of commits that were given to `follow`."""
        given, at, size, count = memoryview(pages), 0, self.header.page_size, len(numbers)
        per_frame, held = self.header.pages_per_frame, len(self._held_sums) // blocks.SUMS_ENTRY
        while at < count:
            some = min(count - at, per_frame - held)
            self._pages[held * size : (held + some) * size] = given[at * size : (at + some) * size]
            self._held_numbers += struct.pack(f"<{some}I", *numbers[at : at + some])
            self._held_sums += sums[at * blocks.SUMS_ENTRY : (at + some) * blocks.SUMS_ENTRY]
            at, held = at + some, held + some
            if held == per_frame:
                self._flush()
                held = 0

    def end(self) -> None:
        """Refuse a commit that was begun and lacks pages. `begin` and `seal` do it too."""
        if self._now is not None:
            lacks = lacking(self.header.page_size, self._before, self._now, self._came)
            if self._left or lacks:
                raise NoHistory(
                    f"commit {self._now.txid} lacks {self._left} of its pages, and {lacks} by which the database grew"
                )

    def seal(self, database_sum_from: int) -> PageSetInfo:
        """Finish the file and return what it is; it is durable then.

        `database_sum_from` is of the position that it starts from. Raises NoHistory where there is no commit, or the
        last one lacks pages.
        """
        self.end()
        last = self._now
        if last is None:
            raise NoHistory("a page set of no commits")
        if self._held_sums:
            self._flush()
        header = replace(self.header, txid=last.txid, time=last.time, pages=last.pages, commits=self._commits.count)
        with self._errors():
            return self._finish(header, self._trailer(database_sum_from, last.database_sum, self._commits))

    def _check(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Return the last of `numbers`, and how many of them are of pages that are new; refuse what cannot be."""
        assert self._now is not None
        place = bisect_left(numbers, self._lock_page)
        if (
            numbers[0] <= self._last
            or not all(map(lt, numbers, numbers[1:]))
            or numbers[-1] > self._now.pages
            or (place < len(numbers) and numbers[place] == self._lock_page)
        ):
            raise NoHistory(
                f"pages {numbers[0]} to {numbers[-1]} of commit {self._now.txid}, of {self._now.pages} pages, "
                f"after page {self._last}"
            )
        return numbers[-1], 0 if self._before is None else len(numbers) - bisect_right(numbers, self._before)

    def _flush(self) -> None:
        count = len(self._held_sums) // blocks.SUMS_ENTRY
        used = self._compressor.compress_buffer(self._pages[: count * self.header.page_size], self._frame)
        self._store(bytes(self._held_numbers), bytes(self._held_sums), self._frame[:used])
        self._held_numbers, self._held_sums = bytearray(), bytearray()


def lacking(page_size: int, before: int | None, commit: Commit, came: int) -> int:
    """Return how many pages are missing of those by which the database grew from `before` pages (H21)."""
    return 0 if before is None else max(0, grown(page_size, before, commit.pages) - came)
