"""Writing a batch of commits: a segment of the last versions and, of several commits, a page set of every version.

What is stored is compared with what the chain of the log proved, and read back from the files before it counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pagewarden.following.changes import Change, Overlay
from pagewarden.following.log import Broken
from pagewarden.following.values import Cause
from pagewarden.pages import PageSource, runs_of
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.commits import CommitsWriter, verify_commits
from pagewarden.repository.format import Commit, Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.pageset import verify_pageset

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is to be written."""

    header: PageSetHeader  # of the segment, all known
    changes: Sequence[Change]  # in order; several only with `versions`
    overlay: Overlay  # the sums of the position after them
    source: PageSource  # the pages of that position, as far as they changed
    versions: memoryview  # the pages of all frames, one after the other; empty where they are not kept
    sums: bytes  # the sums of all frames, 8 bytes each
    database_sum_from: int
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
        header, overlay = batch.header, batch.overlay
        numbers = sorted(overlay.sums)
        with BatchWriter(path, header, level=self._level, threads=self._threads) as writer:
            writer.gather(batch.source, runs_of(numbers))
            place = 0
            for stored, sums in writer.entries():
                wanted = tuple(map(overlay.sums.__getitem__, numbers[place : place + len(stored)]))
                if struct.unpack(f"<{len(stored)}Q", sums) != wanted:
                    raise Broken(Cause.LOG_DAMAGED, "pages in the log were others when they were read again")
                place += len(stored)
            return writer.seal(header.pages, batch.database_sum_from, overlay.database_sum, batch.time)

    def _write_commits(self, batch: Batch, path: Path) -> PageSetInfo:
        """Write every version."""
        header = replace(batch.header, kind=Kind.COMMITS)
        with CommitsWriter(path, header, level=self._level) as writer:
            for txid, change in enumerate(batch.changes, header.txid_from + 1):
                numbers, pages, sums = _versions(batch, change)
                commit = Commit(
                    txid=txid,
                    time=batch.time,
                    pages=change.pages,
                    entries=len(numbers),
                    database_sum=change.database_sum,
                )
                writer.add(commit, numbers, pages, sums)
            return writer.seal(batch.database_sum_from)


def _both(first: Callable[[], A], second: Callable[[], B] | None) -> tuple[A, B | None]:
    """Return what two functions do at the same time; neither runs any more when this returns or raises."""
    if second is None:
        return first(), None
    with ThreadPoolExecutor(1, "batch") as pool:
        beside = pool.submit(second)
        return first(), beside.result()


def _versions(batch: Batch, change: Change) -> tuple[Sequence[int], memoryview | bytes, bytes]:
    """Return page numbers, pages and sums of one commit, ascending."""
    size = batch.header.page_size
    places = change.places
    if isinstance(places, range) and not change.unwritten:
        begin, end = places.start, places.stop
        return change.numbers, batch.versions[begin * size : end * size], batch.sums[begin * 8 : end * 8]
    parts = {
        pgno: (batch.versions[place * size : (place + 1) * size], batch.sums[place * 8 : place * 8 + 8])
        for pgno, place in zip(change.numbers, places, strict=True)
    }
    unwritten = memoryview(change.unwritten_pages)
    for at, (pgno, value) in enumerate(zip(change.unwritten, change.unwritten_sums, strict=True)):
        parts[pgno] = (unwritten[at * size : (at + 1) * size], value.to_bytes(8, "little"))
    numbers = sorted(parts)
    return (
        numbers,
        b"".join(parts[pgno][0] for pgno in numbers),
        b"".join(parts[pgno][1] for pgno in numbers),
    )
