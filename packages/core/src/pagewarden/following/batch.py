"""Writing a batch of commits: a segment of the last versions and, of several commits, a page set of every version.

What is stored is compared with what the chain of the log proved, and read back from the files before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pagewarden.following.log import Broken
from pagewarden.following.values import Cause
from pagewarden.pages import PageSource, runs_of
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.commits import CommitsWriter, verify_commits
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.pageset import verify_pageset

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some consecutive commits, with every version of a page that they bring."""

    rows: Sequence[tuple[int, int, int]]  # of each: pages of the database, pages that changed, database sum
    numbers: Sequence[int]  # of the pages, those of each commit ascending
    pages: memoryview | bytes  # their bytes; empty where they are not kept
    sums: bytes  # 8 bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is to be written."""

    header: PageSetHeader  # of the segment, all known
    parts: Sequence[Part]  # in order; several commits only with their pages
    changed: Sequence[int]  # the pages of the segment, ascending
    sums: bytes  # what their sums must be, 8 bytes each
    source: PageSource  # how they are read
    database_sum_from: int
    database_sum: int
    time: datetime  # when the commits were seen, UTC


class Writer:
    """Writes batches. The two files of one are written at the same time, because both wait for the disk."""

    def __init__(self, *, level: int, threads: int) -> None:
        """`level` is zstd's; so many `threads` work on pages."""
        self._level = level
        self._threads = threads

    def write(self, batch: Batch, segment: Path, commits: Path | None) -> tuple[PageSetInfo, PageSetInfo | None]:
        """Write new files, durably, and return what they are. Raises Broken, OutOfSpace or TargetFailed."""
        return _both(
            lambda: self._write_segment(batch, segment),
            None if commits is None else lambda: self._write_commits(batch, commits),
        )

    def read_back(self, segment: Path, commits: Path | None) -> None:
        """Prove what was written, from the disk where the system allows. Raises RepositoryDamaged or TargetFailed."""
        threads = self._threads
        _both(
            lambda: verify_pageset(segment, threads=threads, read_data=True, drop_cache=True),
            None
            if commits is None
            else lambda: verify_commits(commits, threads=threads, read_data=True, drop_cache=True),
        )

    def _write_segment(self, batch: Batch, path: Path) -> PageSetInfo:
        """Write the last version of each page."""
        with BatchWriter(path, batch.header, level=self._level, threads=self._threads) as writer:
            writer.gather(batch.source, runs_of(batch.changed))
            stored = b"".join(sums for _, sums in writer.entries())
            if stored != batch.sums:
                raise Broken(Cause.LOG_DAMAGED, "pages in the log were others when they were read again")
            return writer.seal(batch.header.pages, batch.database_sum_from, batch.database_sum, batch.time)

    def _write_commits(self, batch: Batch, path: Path) -> PageSetInfo:
        """Write every version."""
        header = replace(batch.header, kind=Kind.COMMITS)
        with CommitsWriter(path, header, level=self._level) as writer:
            for part in batch.parts:
                writer.extend(batch.time, part.rows, part.numbers, part.pages, part.sums)
            return writer.seal(batch.database_sum_from)


def _both(first: Callable[[], A], second: Callable[[], B] | None) -> tuple[A, B | None]:
    """Return what two functions do at the same time; neither runs any more when this returns or raises."""
    if second is None:
        return first(), None
    with ThreadPoolExecutor(1, "batch") as pool:
        beside = pool.submit(second)
        return first(), beside.result()
