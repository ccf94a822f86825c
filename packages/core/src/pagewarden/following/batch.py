"""Writing a batch of commits: a segment of the last versions and, of several commits, a page set of every version.

What is stored is compared with what the chain of the log proved, and read back from the files before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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

    def __init__(self, *, threads: int) -> None:
        """So many `threads` work on pages."""
        self._threads = threads
        self._beside: ThreadPoolExecutor | None = None  # kept: a thread takes longer to start than a batch to write

    def close(self) -> None:
        """End; safe to repeat."""
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None

    def write(
        self, batch: Batch, segment: Path, commits: Path | None, *, level: int
    ) -> tuple[PageSetInfo, PageSetInfo | None]:
        """Write new files, durably, and return what they are; `level` is zstd's.

        Raises Broken, OutOfSpace or TargetFailed.
        """
        return self._both(
            lambda: self._write_segment(batch, segment, level),
            None if commits is None else lambda: _write_commits(batch, commits, level),
        )

    def read_back(self, segment: Path, commits: Path | None) -> None:
        """Prove what was written, from the disk where the system allows. Raises RepositoryDamaged or TargetFailed."""
        threads = self._threads
        self._both(
            lambda: verify_pageset(segment, threads=threads, read_data=True, drop_cache=True),
            None
            if commits is None
            else lambda: verify_commits(commits, threads=threads, read_data=True, drop_cache=True),
        )

    def _write_segment(self, batch: Batch, path: Path, level: int) -> PageSetInfo:
        """Write the last version of each page."""
        with BatchWriter(path, batch.header, level=level, threads=self._threads) as writer:
            writer.gather(batch.source, runs_of(batch.changed))
            stored = b"".join(sums for _, sums in writer.entries())
            if stored != batch.sums:
                raise Broken(Cause.LOG_DAMAGED, "pages in the log were others when they were read again")
            return writer.seal(batch.header.pages, batch.database_sum_from, batch.database_sum, batch.time)

    def _both(self, first: Callable[[], A], second: Callable[[], B] | None) -> tuple[A, B | None]:
        """Return what two functions do at the same time; neither runs any more when this returns or raises."""
        if second is None:
            return first(), None
        if self._beside is None:
            self._beside = ThreadPoolExecutor(1, "batch")
        beside = self._beside.submit(second)
        try:
            done = first()
        finally:
            wait((beside,))
        return done, beside.result()


def _write_commits(batch: Batch, path: Path, level: int) -> PageSetInfo:
    """Write every version."""
    with CommitsWriter(path, replace(batch.header, kind=Kind.COMMITS), level=level) as writer:
        for part in batch.parts:
            writer.extend(batch.time, part.rows, part.numbers, part.pages, part.sums)
        return writer.seal(batch.database_sum_from)
