"""Making a segment that leads to one commit of a page set of commits. Runs in the page reader.

Of each page the last version comes; pages beyond the size of the database then are dropped, and those that were dropped
before it grew again (H21). Frames are read from the newest down, and what is taken finds its place in an unnamed file.
Assembly proves the segment as any other: by the database sum that is recorded, here that of the commit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import RepositoryNotFound, VerificationFailed
from pagewarden.pages import FrameIn, PageDataError, PageSource, Stretch, backend, runs_of, spread_in
from pagewarden.repository import blocks
from pagewarden.repository.assemble import Claims
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.format import Kind, PageSetInfo
from pagewarden.repository.pageset import STRETCH

_SUM = blocks.SUMS_ENTRY


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
