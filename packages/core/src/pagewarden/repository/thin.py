"""Fewer commits in a page set of commits, and proving that what was gathered is what it was. Runs in the page reader.

1. `thin` leaves some commits out: each is merged into the next one that stays. Of each page the last version stays;
   pages that the database lost in between are dropped (H21). Every page is compared with its recorded sum, and read
   back from where it waited.
2. `prove_gathered` compares what page sets record, not what they hold: which page has which sum after the last commit,
   and entry by entry whose version each is. That the pages have those sums is for `verify_pageset` to prove. So page
   sets that replace others are proved to make the same databases without the page sets below them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged, VerificationFailed
from pagewarden.pages import backend, frames_in, runs_of
from pagewarden.repository import blocks
from pagewarden.repository.commitswriter import CommitsWriter
from pagewarden.repository.format import Commit, PageSetInfo
from pagewarden.repository.join import Part
from pagewarden.repository.pageset import PageSetFile

_SUM = blocks.SUMS_ENTRY
_AT_ONCE = 256  # pages that are put into a page set at once


def thin(path: str | Path, keep: Collection[int], to: str | Path, *, level: int, threads: int) -> PageSetInfo:
    """Make a page set of commits of the one at `path`, in which only those of the txids `keep` stay, and the last one.

    It is written to the new file `to`, durable when this returns; nothing is left there if it fails. Raises
    RepositoryDamaged where it is not whole or has no such commit, VerificationFailed, OutOfSpace, TargetFailed.
    """
    with Part(path) as file, _Waiting(Path(to).parent, file.page_size) as waiting:
        if file.is_segment:
            raise RepositoryDamaged(f"{file.path} is a segment, and no page set of commits")
        header = replace(file.info.header, commits=0)
        wanted = frozenset(keep) | {header.txid}
        with CommitsWriter(to, header, level=level) as writer:
            kept = 0
            for commit in waiting.take(file, threads):
                if commit.txid in wanted:
                    kept += 1
                    waiting.give(commit, writer)
            if kept != len(wanted):
                raise RepositoryDamaged(f"{file.path} has {kept} of the commits that are to stay, not {len(wanted)}")
            return writer.seal(file.info.database_sum_from)


class _Waiting:
    """The last versions of pages since a commit that stays, in an unnamed file. A context manager."""

    def __init__(self, folder: Path, page_size: int) -> None:
        self._page_size = page_size
        self._folder = folder
        self._sums: dict[int, bytes] = {}  # by page number
        self._size = 0  # of the database after the last commit, in pages
        self._after = 0  # the position of the last commit that stays
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise durable.failure(error, f"cannot write in {folder}") from error

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, file: Part, threads: int) -> Iterator[Commit]:
        """Take all pages in their order; yield each commit once all of its pages are there."""
        self._after = file.info.header.txid_from
        digest, size = hashlib.sha256(), self._page_size
        commits, place, past = iter(file.commits), 0, 0
        commit: Commit | None = None
        with closing(frames_in(file.alone(), page_size=size, threads=threads)) as frames:
            for stretch, stored, pages in frames:
                digest.update(stored)
                (frame,), at = stretch.frames, 0
                while at < frame.count:
                    while place == past:
                        if commit is not None:
                            yield self._end(commit)
                        commit = next(commits)
                        past = place + commit.entries
                    some = min(past - place, frame.count - at)
                    self._put(frame.numbers[at : at + some], pages[at * size :], frame.sums[at * _SUM :])
                    place, at = place + some, at + some
        file.prove_digest(digest, file.info.numbers_offset)
        if commit is not None:
            yield self._end(commit)
        for commit in commits:  # without pages
            yield self._end(commit)

    def give(self, commit: Commit, writer: CommitsWriter) -> None:
        """Let the commits since the last one that stays be one, up to `commit`, and forget its pages."""
        numbers = sorted(self._sums)
        merged = commit.txid - self._after
        writer.begin(replace(commit, entries=len(numbers), merged=merged))
        for first, count in runs_of(numbers):
            for start in range(first, first + count, _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, first + count))
                pages, sums = self._read(some), b"".join(self._sums[pgno] for pgno in some)
                if backend().buffer_sums(pages, self._page_size, start, len(some)) != sums:
                    raise VerificationFailed(
                        f"what was written in {self._folder} did not read back as it was written",
                        hint=f"look at the disk of {self._folder}: dmesg | tail",
                    )
                writer.put(some, pages, sums)
        self._sums.clear()
        self._after = commit.txid

    def _end(self, commit: Commit) -> Commit:
        """Drop what the database has no more after `commit`."""
        if commit.pages < self._size:
            self._sums = {pgno: each for pgno, each in self._sums.items() if pgno <= commit.pages}
        self._size = commit.pages
        return commit

    def _put(self, numbers: Sequence[int], pages: memoryview, sums: bytes) -> None:
        at = 0
        for first, count in runs_of(numbers):
            try:
                data = pages[at * self._page_size : (at + count) * self._page_size]
                durable.write_at(self._file.fileno(), data, (first - 1) * self._page_size)
            except OSError as error:
                raise durable.failure(error, f"cannot write in {self._folder}") from error
            for pgno in range(first, first + count):
                self._sums[pgno] = bytes(sums[at * _SUM : (at + 1) * _SUM])
                at += 1

    def _read(self, pgnos: range) -> bytes:
        try:
            return os.pread(self._file.fileno(), len(pgnos) * self._page_size, (pgnos[0] - 1) * self._page_size)
        except OSError as error:
            raise durable.failure(error, f"cannot read in {self._folder}") from error


def prove_gathered(
    segments: Sequence[str | Path],
    segment: str | Path,
    parts: Sequence[str | Path] = (),
    commits: str | Path | None = None,
) -> None:
    """Prove that the segment at `segment` records what those at `segments` do together, from the lowest up.

    And that the page set of commits at `commits` records, version by version, what `parts` do one after the other:
    page sets of commits, and segments. Raises RepositoryDamaged where it does not.
    """
    wanted, made = _Versions(), _Versions()
    for path in segments:
        with PageSetFile(path) as each:
            wanted.add(each, each.pages, 0, each.info.held)
    with PageSetFile(segment) as file:
        made.add(file, file.pages, 0, file.info.held)
    if made.sums != wanted.sums:
        raise RepositoryDamaged(f"{segment} does not record the pages that the segments before it do together")
    if commits is None:
        return
    with Part(commits) as joined:
        if joined.is_segment:
            raise RepositoryDamaged(f"{commits} is a segment, and no page set of commits")
        mine, theirs = _Account(), _Account()
        mine.add(joined)
        for path in parts:
            with Part(path) as part:
                theirs.add(part)
        if mine.digest() != theirs.digest():
            raise RepositoryDamaged(f"{commits} does not record what the batches before it do one after the other")
        versions = _Versions()
        begin = end = size = 0
        for block in joined.rows():
            for _, pages, entries, *_ in blocks.commit_rows(block):
                # Pages are gone that came before it; where it grows again all of them come again: proved (H21).
                if pages < size:
                    versions.add(joined, size, begin, end - begin)
                    begin = end
                size, end = pages, end + entries
        versions.add(joined, size, begin, end - begin)
        if versions.sums != made.sums:
            raise RepositoryDamaged(f"{commits} does not lead to the pages that {segment} records")


class _Versions:
    """Which pages changed, with the sums of their last versions."""

    def __init__(self) -> None:
        self.sums: dict[int, int] = {}  # by page number
        self._size = 0  # of the database, in pages

    def add(self, file: PageSetFile, pages: int, begin: int, count: int) -> None:
        """Add entries, after which the database has so many pages: what it had beyond is gone (H21)."""
        if pages < self._size:
            self.sums = {pgno: each for pgno, each in self.sums.items() if pgno <= pages}
        self._size = pages
        for place in range(begin, begin + count, blocks.BLOCK_ENTRIES):
            some = min(blocks.BLOCK_ENTRIES, begin + count - place)
            sums = struct.unpack(f"<{some}Q", file.entry_sums(place, some))
            self.sums.update(zip(file.numbers(place, some), sums, strict=True))


class _Account:
    """What page sets record, one after the other, as digests."""

    def __init__(self) -> None:
        self._commits, self._numbers, self._sums = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def add(self, part: Part) -> None:
        """Add all of one."""
        if part.is_segment:
            for commit in part.history():
                self._commits.update(blocks.encode_commit(commit))
        else:
            for block in part.rows():
                self._commits.update(block)
        for place in range(0, part.info.held, blocks.BLOCK_ENTRIES):
            some = min(blocks.BLOCK_ENTRIES, part.info.held - place)
            self._numbers.update(struct.pack(f"<{some}I", *part.numbers(place, some)))
            self._sums.update(part.entry_sums(place, some))

    def digest(self) -> tuple[bytes, bytes, bytes]:
        """Return what tells one account from others."""
        return self._commits.digest(), self._numbers.digest(), self._sums.digest()
