"""The closed copy that is injured: which of its pages hold something, and how an injury is written to it.

What an injury changes must be something that a reader could notice. Leaves of the freelist and the lock-byte page hold
nothing, and the counters of page 1 say only who wrote last: a change of those alone counts as none.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pagewarden.durable import failure, write_at
from pagewarden.errors import DatabaseNotFound, NotADatabase, RestoreRefused
from pagewarden.pages import lock_page
from pagewarden.sqlite.freelist import Freelist, walk_freelist
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.owner import Owner, find_owners
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema

TRIES = 64
"""Random targets looked at before all are."""

SHOWN = 32
"""Bytes of before and after in a report."""

_CHUNK = 1 << 20
_COUNTERS = (slice(24, 28), slice(40, 44), slice(92, 100))  # what a copy by SQLite's backup may have otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written."""

    path: Path  # of the file that was changed
    pgno: int  # page of the first changed byte
    offset: int  # first changed byte, from the beginning of that page
    length: int  # bytes from the first changed one to the last; to the longer file's end where the size changed
    before: bytes  # at most SHOWN of them
    after: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One target of an injury, before it is known whether anything would change there."""

    target: str  # such as "page 7"
    message: str  # what was done, once it is
    write: Callable[[], Written | None]  # None: nothing in use would change, and nothing was written


class ClosedCopy:
    """The closed copy that is injured. Its pages are those of the one file, without a -wal."""

    def __init__(self, path: Path, *, write: bool = True, with_wal: bool = False) -> None:
        """`with_wal`: the injury is one of the -wal.

        Raises RestoreRefused where a journal would undo the injury, DatabaseNotFound, NotADatabase, TargetFailed.
        """
        for suffix in ("-journal",) if with_wal else ("-wal", "-journal"):
            journal = path.with_name(path.name + suffix)
            if journal.exists() and journal.stat().st_size:
                raise RestoreRefused(
                    f"{journal} is not empty: SQLite would lay it over the injury",
                    hint=f"close every program that uses {path}, or injure a restored copy",
                )
        try:
            self.descriptor = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DatabaseNotFound(f"there is no file {path}") from None
        except OSError as error:
            raise failure(error, f"cannot open {path}") from error
        self.path = path
        self.wal = path.with_name(f"{path.name}-wal")
        self.older: ClosedCopy | None = None
        try:
            self.header = DatabaseHeader.parse(os.pread(self.descriptor, HEADER_SIZE, 0))
        except HeaderInvalid as error:
            os.close(self.descriptor)
            raise NotADatabase(f"{path} cannot be injured: {error}") from error
        self.page_size = self.header.page_size
        self.file_size = os.fstat(self.descriptor).st_size
        present = self.file_size // self.page_size
        self.pages = min(present, self.header.page_count) if self.header.count_valid else present

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    @cached_property
    def layout(self) -> Layout:
        """How its pages are laid out."""
        return Layout.of(self.read(1), page_size=self.page_size, pages=self.pages)

    @cached_property
    def schema(self) -> tuple[SchemaEntry, ...]:
        """Its tables and indexes."""
        return read_schema(self.read, self.layout)

    @cached_property
    def freelist(self) -> Freelist:
        """Its free pages."""
        layout = self.layout
        return walk_freelist(self.read, first=layout.freelist, pages=layout.pages, usable=layout.usable)

    def read(self, pgno: int) -> bytes:
        """Return the bytes of one page."""
        data = os.pread(self.descriptor, self.page_size, (pgno - 1) * self.page_size)
        return data.ljust(self.page_size, b"\0")

    def older_page(self, pgno: int) -> bytes | None:
        """Return what the older image holds in the place of a page; None where there is no such image, or page."""
        return self.older.read(pgno) if self.older is not None and pgno <= self.older.pages else None

    def owner(self, pgno: int) -> str:
        """Return whose page `pgno` is, for a message."""
        owner = find_owners(self.read, [pgno], self.layout, schema=self.schema).get(pgno)
        return f" ({owner})" if owner is not None else ""

    def in_use(self, chance: random.Random, *, first: int = 2) -> list[int]:
        """Return the pages from `first` on that hold something, shuffled."""
        pages = [pgno for pgno in range(first, self.pages + 1) if self._holds(pgno)]
        chance.shuffle(pages)
        return pages

    def tree_pages(self, chance: random.Random) -> Iterator[Owner]:
        """Yield the pages of b-trees but page 1, shuffled: some by chance first, because to know all takes time."""
        everything = list(range(2, self.pages + 1))
        some = chance.sample(everything, min(TRIES, len(everything)))
        rest = chance.sample(everything, len(everything))
        seen: set[int] = set()
        for candidates in (some, rest):
            owners = find_owners(self.read, candidates, self.layout, schema=self.schema, overflow=False)
            for pgno in candidates:
                owner = owners.get(pgno)
                if owner is not None and owner.object and pgno not in seen:
                    seen.add(pgno)
                    yield owner

    def put(self, pages: Mapping[int, bytes]) -> Written | None:
        """Write new versions of pages, durably; None where nothing in use would change.

        The time of the last write stays as it was: what rots on a disk was not written there through the file system.
        """
        changed = [(pgno, old, pages[pgno]) for pgno in sorted(pages) if (old := self.read(pgno)) != pages[pgno]]
        if not any(self.counts(*each) for each in changed):
            return None
        size = self.page_size
        begin = (changed[0][0] - 1) * size + _first_difference(*changed[0][1:])
        last, old, new = changed[-1]
        end = last * size - _first_difference(old[::-1], new[::-1])
        before = os.pread(self.descriptor, min(end - begin, SHOWN), begin)
        found = os.fstat(self.descriptor)
        for pgno, _, content in changed:
            write_at(self.descriptor, content, (pgno - 1) * size)
        os.utime(self.descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(self.descriptor)
        return self._written(begin, end, before)

    def rewrite(self, begin: int, pieces: Iterable[bytes]) -> Written | None:
        """Write `pieces` in place of everything from byte `begin` to the end, durably; None as for `put`.

        The pieces may be read from the file itself: all of them are taken before anything is written.
        """
        with tempfile.TemporaryFile(dir=self.path.parent) as spool:
            for piece in pieces:
                spool.write(piece)
            size = begin + spool.tell()
            first = self._tail_difference(begin, spool)
            if first is None:
                return None
            before = os.pread(self.descriptor, SHOWN, first)
            spool.seek(0)
            offset = begin
            while chunk := spool.read(_CHUNK):
                write_at(self.descriptor, chunk, offset)
                offset += len(chunk)
        os.ftruncate(self.descriptor, size)
        os.fsync(self.descriptor)
        return self._written(first, max(size, self.file_size), before)

    def rest(self, begin: int) -> Iterator[bytes]:
        """Yield the file from byte `begin` on."""
        while chunk := os.pread(self.descriptor, _CHUNK, begin):
            yield chunk
            begin += len(chunk)

    def counts(self, pgno: int, old: bytes, new: bytes) -> bool:
        """Return whether a change of one page changes something in use."""
        return differ(pgno, old, new) and self._holds(pgno)

    def _holds(self, pgno: int) -> bool:
        return pgno <= self.pages and pgno != lock_page(self.page_size) and pgno not in self.freelist.leaves

    def _tail_difference(self, begin: int, spool: IO[bytes]) -> int | None:
        """Return the first byte that a rewritten tail changes; None where nothing in use would change."""
        first = None
        for pgno in range(begin // self.page_size + 1, self.pages + 1):
            start = (pgno - 1) * self.page_size
            old = os.pread(self.descriptor, self.page_size, start)
            kept = max(0, begin - start)
            spool.seek(start + kept - begin)
            new = old[:kept] + spool.read(self.page_size - kept)
            if new == old:
                continue
            first = start + _first_difference(old, new) if first is None else first
            if len(new) < self.page_size or self.counts(pgno, old, new):
                return first
        return None

    def _written(self, begin: int, end: int, before: bytes) -> Written:
        return Written(
            path=self.path,
            pgno=begin // self.page_size + 1,
            offset=begin % self.page_size,
            length=end - begin,
            before=before,
            after=os.pread(self.descriptor, min(end - begin, SHOWN), begin),
        )


def differ(pgno: int, old: bytes, new: bytes) -> bool:
    """Return whether two versions of a page differ, the counters of page 1 aside."""
    return _masked(old) != _masked(new) if pgno == 1 else old != new


def _first_difference(old: bytes, new: bytes) -> int:
    """Return the first byte in which two byte strings differ that are not equal."""
    pairs = zip(old, new, strict=False)
    return next((index for index, (one, two) in enumerate(pairs) if one != two), min(len(old), len(new)))


def _masked(page: bytes) -> bytes:
    """Return page 1 without its counters."""
    data = bytearray(page)
    for place in _COUNTERS:
        data[place] = bytes(place.stop - place.start)
    return bytes(data)
