"""Page sets of commits: every version that pages had between two positions. Runs in the page reader.

A segment holds the last version of each page. Where it stands for several commits, a page set of commits beside it
holds the versions of each, so that every position in between can be restored too.

1. `CommitsFile` proves one as `pageset` does, and its commits besides: that txids and entries add up, that within each
   commit page numbers ascend and are within its database, that no page is missing by which the database grew (H21).
2. `commitswriter` writes them, `extract` makes the segment that leads to a commit within, `join` one of several.

What is read may be hostile. Memory does not grow with the number of commits: they are read by block, pages by frame.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from operator import lt
from pathlib import Path
from typing import ClassVar, overload

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import Progress, lock_page
from pagewarden.repository import blocks
from pagewarden.repository.commitswriter import CommitsWriter, lacking
from pagewarden.repository.format import Beside, Commit, Kind, PageSetInfo
from pagewarden.repository.pageset import PageSetFile, verify_pageset

__all__ = ["Commit", "CommitTable", "CommitsFile", "CommitsWriter", "verify_commits"]

_FEW = 64  # pages that most commits change at most


class CommitTable(Sequence[Commit]):
    """The commits of a page set, in the order of their txids; read by block, and proved again when they are read."""

    def __init__(self, file: CommitsFile, count: int) -> None:
        """`count` commits stand in `file`."""
        self._file = file
        self._count = count
        self._begins: list[tuple[int, int]] = []  # of each block: the position before it, and the entries
        self._kept: tuple[int, list[Commit], list[int]] = (-1, [], [])  # the block read last, and where entries begin

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Commit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Commit]: ...
    def __getitem__(self, index: int | slice) -> Commit | Sequence[Commit]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        at = range(self._count)[index]
        return self._block(at // blocks.BLOCK_ENTRIES)[0][at % blocks.BLOCK_ENTRIES]

    def __iter__(self) -> Iterator[Commit]:
        for number in range(-(-self._count // blocks.BLOCK_ENTRIES)):
            yield from self._file.commits_in(number, self._begins[number][0])

    def begins(self, txid: int, entry: int) -> None:
        """Note where the next block begins: the position before it, and the number of its first entry."""
        self._begins.append((txid, entry))

    def entry(self, index: int) -> int:
        """Return the number of the first entry of the commit `index`."""
        return self._block(index // blocks.BLOCK_ENTRIES)[1][index % blocks.BLOCK_ENTRIES]

    def find(self, txid: int) -> tuple[int, bool]:
        """Return the first commit at or after position `txid`, by its index, and whether it is of that position.

        The index is the number of all commits where there is none.
        """
        number = max(0, bisect_left(self._begins, (txid, 0)) - 1)
        commits = self._block(number)[0]
        place = bisect_left(commits, txid, key=lambda commit: commit.txid)
        return number * blocks.BLOCK_ENTRIES + place, place < len(commits) and commits[place].txid == txid

    def at(self, txid: int) -> Beside:
        """Return the commit of position `txid` and its neighbours."""
        index, found = self.find(txid)
        return self._beside(index, found=found)

    def seen_by(self, time: datetime) -> Beside:
        """Return the last commit, by txid, that was seen at or before `time`, and its neighbours (H23)."""
        for number in reversed(range(-(-self._count // blocks.BLOCK_ENTRIES))):
            commits = self._block(number)[0]
            for place in reversed(range(len(commits))):
                if commits[place].time <= time:
                    return self._beside(number * blocks.BLOCK_ENTRIES + place, found=True)
        return self._beside(0, found=False)

    def stored(self, number: int) -> tuple[int, int, bytes]:
        """Return how many blocks there are and, of block `number`, the position before it and the entries."""
        return len(self._begins), self._begins[number][0], self._file.commits_stored(number)

    def _beside(self, index: int, *, found: bool) -> Beside:
        """Return the commit `index`, if it was found, and its neighbours; else those beside the place before it."""
        after = index + found
        return Beside(
            before=self[index - 1] if index else None,
            commit=self[index] if found else None,
            after=self[after] if after < self._count else None,
        )

    def _block(self, number: int) -> tuple[list[Commit], list[int]]:
        if self._kept[0] != number:
            txid, entry = self._begins[number]
            commits = list(self._file.commits_in(number, txid))
            entries = list(accumulate((commit.entries for commit in commits), initial=entry))
            self._kept = (number, commits, entries)
        return self._kept[1:]


class CommitsFile(PageSetFile):
    """An open page set of commits whose structure was proved; see `PageSetFile`.

    Its entries are versions of pages, in the order of the commits and within each by page number. `commits` says whose
    they are.
    """

    KINDS: ClassVar[tuple[Kind, ...]] = (Kind.COMMITS,)

    commits: CommitTable

    def place_of(self, pgno: int) -> int | None:
        """Refuse to look for a page: there may be many versions of it. Raises ValueError."""
        raise ValueError(f"{self.path} holds versions of page {pgno}, which are found by their commits")

    def versions(self, pgno: int) -> Iterator[bytes]:
        """Yield every version of a page that it holds, each proved by its sum, in the order of the commits."""
        for first in range(0, self.info.held, blocks.BLOCK_ENTRIES):
            numbers = self.numbers(first, min(blocks.BLOCK_ENTRIES, self.info.held - first))
            for place, each in enumerate(numbers, first):
                if each == pgno:
                    yield self._page_at(place)

    def commits_in(self, number: int, txid: int) -> Iterator[Commit]:
        """Yield the commits of a block, from 0, the first of which comes after position `txid`."""
        return blocks.decode_commits(self._entries(blocks.COMMITS_TAG, number), txid, self._where)

    def commits_stored(self, number: int) -> bytes:
        """Return the entries of a block of commits, as they are stored."""
        return bytes(self._entries(blocks.COMMITS_TAG, number))

    def _prove_entries(self) -> None:
        """Prove that commits, page numbers, header and trailer agree."""
        header, held, lock = self.info.header, self.info.held, lock_page(self.page_size)
        self.commits = CommitTable(self, header.commits)
        txid, place, size = header.txid_from, 0, None
        first, numbers = 0, tuple[int, ...]()  # page numbers at hand, and the place of the first of them
        last: blocks.CommitRow | None = None
        for number in range(-(-header.commits // blocks.BLOCK_ENTRIES)):
            self.commits.begins(txid, place)
            for row in blocks.commit_rows(self._entries(blocks.COMMITS_TAG, number)):
                last = time, pages, entries, _, merged, flags = row
                if place + entries > first + len(numbers) and place < held:
                    first = place
                    numbers = self.numbers(place, min(blocks.BLOCK_ENTRIES, held - place))
                some = numbers[place - first : place - first + entries] if entries <= _FEW else ()
                # There may be very many, and most of them only change some pages of a database that stays as large.
                if (
                    some
                    and len(some) == entries
                    and pages == size
                    and some[-1] <= pages
                    and some[0] > 0
                    and lock not in some
                    and merged
                    and not flags
                    and time in blocks.TIMES
                    and (entries == 1 or all(map(lt, some, some[1:])))
                ):
                    txid += merged
                else:
                    commit = blocks.decode_row(row, txid, self._where)
                    if place + entries > held:
                        raise RepositoryDamaged(f"the commits of {self._where} have more pages than the {held}")
                    self._prove_commit(commit, place, size)
                    txid, size = commit.txid, pages
                place += entries
        if (
            last is None
            or (txid, place) != (header.txid, held)
            or (last[0], last[1], last[3]) != (blocks.micros(header.time), header.pages, self._trailer.database_sum)
        ):
            raise RepositoryDamaged(f"the commits of {self._where} do not lead to what its header and trailer say")

    def _prove_commit(self, commit: Commit, place: int, before: int | None) -> None:
        """Prove the page numbers of a commit, whose entries begin at `place`; `before` pages had the database."""
        pgno, came, lock, past = 0, 0, lock_page(self.page_size), place + commit.entries
        for at in range(place, past, blocks.BLOCK_ENTRIES):
            numbers = self.numbers(at, min(blocks.BLOCK_ENTRIES, past - at))
            if numbers[0] <= pgno or not all(map(lt, numbers, numbers[1:])):
                raise RepositoryDamaged(f"the page numbers of commit {commit.txid} in {self._where} do not ascend")
            found = bisect_left(numbers, lock)
            if numbers[-1] > commit.pages or numbers[found : found + 1] == (lock,):
                raise RepositoryDamaged(
                    f"commit {commit.txid} in {self._where} holds a page that its database of {commit.pages} has not"
                )
            pgno = numbers[-1]
            came += len(numbers) - (0 if before is None else bisect_right(numbers, before))
        if lacking(self.page_size, before, commit, came):
            raise RepositoryDamaged(
                f"commit {commit.txid} in {self._where} lacks pages by which the database grew to {commit.pages}"
            )


def verify_commits(
    path: str | Path,
    *,
    threads: int,
    read_data: bool,
    drop_cache: bool = False,
    progress: Progress | None = None,
) -> PageSetInfo:
    """Prove the page set of commits at `path`, as `verify_pageset` does one of another kind.

    Database sums within are proved where the pages before are known: see `proof.SumsMap.prove`.
    """
    return verify_pageset(
        path, threads=threads, read_data=read_data, drop_cache=drop_cache, progress=progress, opened=CommitsFile
    )
