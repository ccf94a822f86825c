"""Page sets of commits: every version that pages had between two positions. Runs in the page reader.

A segment holds the last version of each page. Where it stands for several commits, a page set of commits beside it
holds the versions of each, so that every position in between can be restored too.

1. `CommitsFile` proves one as `pageset` does, and its commits besides: that txids and entries add up, that within each
   commit page numbers ascend and are within its database, that no page is missing by which the database grew (H21).
2. `extract` makes an ordinary segment of it that leads to a commit within. Of each page the last version comes, pages
   beyond the size of the database then are dropped, and those that were dropped before it grew again (H21). Assembly
   proves that segment as any other: by the database sum that is recorded, here of the commit.
3. `join` makes one page set of commits of several, and of segments, each of which stands for one commit.

What is read may be hostile. Memory does not grow with the number of commits: they are read by block, pages by frame.
"""

from __future__ import annotations

import hashlib
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from operator import lt
from pathlib import Path
from typing import ClassVar, overload

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged, RepositoryNotFound, VerificationFailed
from pagewarden.pages import (
    FrameIn,
    PageDataError,
    PageSource,
    Progress,
    Stretch,
    backend,
    frames_in,
    lock_page,
    runs_of,
    spread_in,
)
from pagewarden.repository import blocks
from pagewarden.repository.assemble import Claims
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.commitswriter import CommitsWriter, NoHistory, lacking
from pagewarden.repository.format import Beside, Commit, Kind, PageSetInfo
from pagewarden.repository.pageset import STRETCH, PageSetFile, verify_pageset

__all__ = ["Commit", "CommitTable", "CommitsFile", "CommitsWriter", "extract", "join", "verify_commits"]

_SUM = blocks.SUMS_ENTRY
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


def extract(path: str | Path, txid: int, to: str | Path, *, level: int, threads: int = 2) -> PageSetInfo:
    """Make the segment that leads to position `txid`, from where the page set of commits at `path` begins.

    It is written to the new file `to`, durable when this returns; nothing is left there if it fails. Raises
    RepositoryNotFound where the page set has no such commit, RepositoryDamaged where it is not whole, OutOfSpace,
    TargetFailed, or VerificationFailed where what was written beside `to` did not read back.
    """
    with CommitsFile(path) as file:
        file.prove_digest()
        index, found = file.commits.find(txid)
        if not found:
            raise RepositoryNotFound(_no_commit(file, txid, index))
        commit, size = file.commits[index], file.page_size
        header = replace(
            file.info.header, kind=Kind.SEGMENT, txid=txid, time=commit.time, pages=commit.pages, commits=0
        )
        last = _LastVersions(file, index)
        with BatchWriter(to, header, level=level, threads=threads) as writer:
            with _beside(Path(to)) as beside:
                for _ in spread_in(last.stretches(), fd_out=beside, page_size=size, threads=threads):
                    pass
                source = PageSource(database=beside, page_size=size, pages=commit.pages, file_size=commit.pages * size)
                writer.gather(source, last.claims.runs())
            if writer.folded() != last.sum:
                raise _not_read_back(Path(to))
            return writer.seal(commit.pages, file.info.database_sum_from, commit.database_sum)


@contextmanager
def _beside(to: Path) -> Iterator[int]:
    """Yield an unnamed file in the folder of `to`, where pages find their places; name what goes wrong with it."""
    try:
        with tempfile.TemporaryFile(dir=str(to.parent)) as file:
            yield file.fileno()
    except OSError as error:
        raise durable.failure(error, f"cannot write beside {to}") from error
    except PageDataError as error:
        raise _not_read_back(to) from error


def _not_read_back(to: Path) -> VerificationFailed:
    return VerificationFailed(
        f"what was written beside {to} did not read back as it was written",
        hint=f"look at the disk of {to.parent}: dmesg | tail",
    )


def _no_commit(file: CommitsFile, txid: int, index: int) -> str:
    """Return why position `txid` cannot be had, with those beside it; `index` is of the first commit behind it."""
    head = file.info.header
    if not head.txid_from < txid <= head.txid:
        return f"{file.path} goes from position {head.txid_from} to {head.txid}: {txid} is not within"
    behind = file.commits[index]
    return (
        f"position {txid} was merged with others: {file.path} has {behind.txid_from} and {behind.txid}, "
        "and none in between"
    )


class _LastVersions:
    """Where the last version of each page stands, up to one commit."""

    def __init__(self, file: CommitsFile, index: int) -> None:
        """Up to the commit `index` of `file`."""
        self._file = file
        self._index = index
        self.claims = Claims()  # the pages that were found
        self.sum = 0  # XOR of their sums

    def stretches(self) -> Iterator[Stretch]:
        """Yield the frames that hold such versions, some at once and the last ones first, for `spread_in`."""
        group: list[FrameIn] = []
        for frame in self._frames():
            if group and group[0].offset + group[0].csize - frame.offset > STRETCH:
                yield self._stretch(group)
                group = []
            group.append(frame)
        if group:
            yield self._stretch(group)

    def _stretch(self, frames: list[FrameIn]) -> Stretch:
        begin, end = frames[-1].offset, frames[0].offset + frames[0].csize
        return Stretch(
            file=self._file.fileno(),
            offset=begin,
            size=end - begin,
            frames=tuple(reversed(frames)),
            errors=self._file.errors,
        )

    def _frames(self) -> Iterator[FrameIn]:
        """Yield the frames, the last one first, with what is wanted of them."""
        commits, per_frame = self._file.commits, self._file.info.header.pages_per_frame
        begin = commits.entry(self._index)
        end, pages = begin + commits[self._index].entries, commits[self._index].pages
        index = self._index
        for number in reversed(range(-(-end // per_frame))):
            frame = self._file.frame_in(number)
            first, numbers = number * per_frame, frame.numbers
            wanted: list[tuple[int, int, int]] = []
            while end > first:
                while begin >= end:  # of the commit before; what the database did not have since is not that page
                    index -= 1
                    begin, pages = begin - commits[index].entries, min(pages, commits[index].pages)
                low = max(begin, first) - first
                taken = self.claims.take_all(runs_of(numbers[low : end - first]), pages)
                wanted += [(low + at, start, some) for at, start, some in taken]
                end = first + low
            if wanted:
                self.sum ^= backend().fold(
                    b"".join([frame.sums[at * _SUM : (at + some) * _SUM] for at, _, some in wanted])
                )
                wanted.sort()
                yield replace(frame, wanted=tuple(wanted))


class Part(CommitsFile):
    """A page set that stands for commits: one of them, or a segment, which stands for one commit or merged ones."""

    KINDS: ClassVar[tuple[Kind, ...]] = (Kind.SEGMENT, Kind.COMMITS)

    def history(self) -> Iterable[Commit]:
        """Return the commits, in the order of their txids."""
        if not self.is_segment:
            return self.commits
        head = self.info.header
        try:
            commit = Commit(
                txid=head.txid,
                time=head.time,
                pages=head.pages,
                entries=self.info.held,
                database_sum=self.info.database_sum,
                merged=head.txid - head.txid_from,
            )
        except ValueError as error:
            raise RepositoryDamaged(f"{self.path} stands for {error}") from error
        return (commit,)

    def alone(self) -> Iterator[Stretch]:
        """Yield all frames, each in a stretch of its own."""
        for number, frame in enumerate(self.frames()):
            yield Stretch(
                file=self.fileno(),
                offset=frame.offset,
                size=frame.csize,
                frames=(self.frame_in(number),),
                errors=self.errors,
            )

    def _prove_entries(self) -> None:
        if self.is_segment:
            self._prove_numbers()
        else:
            super()._prove_entries()


def join(
    paths: Sequence[str | Path], to: str | Path, *, level: int, threads: int = 2, progress: Progress | None = None
) -> PageSetInfo:
    """Make one page set of commits of those at `paths`, and of segments, each from where the one before leads.

    A segment stands for one commit, or for those that were merged into it. It is written to the new file `to`, durable
    when this returns; nothing is left there if it fails. Raises RepositoryDamaged for page sets that are not whole or
    do not follow each other, OutOfSpace or TargetFailed.
    """
    first: PageSetInfo | None = None
    before: PageSetInfo | None = None
    with ExitStack() as stack:
        for path in paths:
            with Part(path) as part:
                if first is None or before is None:
                    first, header = part.info, replace(part.info.header, kind=Kind.COMMITS, commits=0)
                    writer = stack.enter_context(CommitsWriter(to, header, level=level))
                elif _link(part.info, start=True) != _link(before, start=False):
                    raise RepositoryDamaged(f"{part.path} does not begin where the page set before it ends")
                try:
                    _append(part, writer, threads)
                except NoHistory as error:
                    raise RepositoryDamaged(f"{part.path} does not continue the page set before it: {error}") from error
                before = part.info
                if progress is not None:
                    progress(writer.pages_copied, 0)
        if first is None:
            raise ValueError("nothing to join")
        return writer.seal(first.database_sum_from)


def _link(info: PageSetInfo, *, start: bool) -> tuple[str, int, int, int]:
    """Return what a page set and the one that follows it have in common."""
    head = info.header
    txid, database_sum = (head.txid_from, info.database_sum_from) if start else (head.txid, info.database_sum)
    return head.timeline, head.page_size, txid, database_sum


def _append(part: Part, writer: CommitsWriter, threads: int) -> None:
    """Append all commits of `part`; prove its SHA-256."""
    digest, size, left = hashlib.sha256(), part.page_size, 0
    history = iter(part.history())
    with closing(frames_in(part.alone(), page_size=size, threads=threads)) as frames:
        for stretch, stored, pages in frames:
            digest.update(stored)
            (frame,), at = stretch.frames, 0
            numbers = frame.numbers
            while at < frame.count:
                while not left:
                    commit = next(history)
                    writer.begin(commit)
                    left = commit.entries
                past = at + min(left, frame.count - at)
                writer.put(numbers[at:past], pages[at * size : past * size], frame.sums[at * _SUM : past * _SUM])
                left -= past - at
                at = past
    for commit in history:  # without pages
        writer.begin(commit)
    writer.end()
    part.prove_digest(digest, part.info.numbers_offset)
