"""The file of a page set while it is written: created, appended to and hashed, finished with blocks and trailer.

What stands in the frames, and in which order they come, is for the writers of each kind.
"""

from __future__ import annotations

import hashlib
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.pages import Behind, Gathered, PageSource, Progress, StoredFrame, frames_of, gather_out
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer, hash64
from pagewarden.repository.format import HEADER_SIZE, PageSetHeader, PageSetInfo
from pagewarden.repository.spools import Aside, Table


class PageSetContainer:
    """The file of one page set, and its tables, as all its writers use it.

    Leaving it as a context manager before it was sealed abandons it: the file is removed. Errors of the file that is
    written are OutOfSpace or TargetFailed. Not for two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader) -> None:
        """Create the file `path`, which must not exist."""
        self.path = Path(path)
        self.header = header
        self.pages_copied = 0  # those that were copied again, or put aside, count again
        self._fd = -1
        self._end = HEADER_SIZE  # of the file so far, bytes
        self._sha = hashlib.sha256()  # of the file so far, without the header
        self._aside: Aside | None = None
        self._tables: list[Table] = []
        self._index = self._table(blocks.INDEX_ENTRY)
        with self._errors():
            self._fd = durable.create(self.path, readable=True)
            self._behind = Behind(self._fd)
            durable.write_at(self._fd, blocks.encode_header(header), 0)

    def abandon(self) -> None:
        """Remove what was written. Safe at any time; after it was sealed it does nothing."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Give what was written up where the file cannot be written."""
        try:
            yield
        except OSError as error:
            self.abandon()
            raise durable.failure(error, f"cannot write {self.path}") from error

    def _table(self, entry_size: int, *, sparse: bool = False) -> Table:
        """Return a table that is closed with the file."""
        with self._errors():
            table = Table(self.path.parent, entry_size, sparse=sparse)
        self._tables.append(table)
        return table

    def _set_aside(self, source: PageSource) -> Aside:
        """Return the place for pages that are copied later."""
        if self._aside is None:
            self._aside = Aside(self.path.parent, source)
        return self._aside

    def _forget_aside(self) -> None:
        if self._aside is not None:
            self._aside.close()
            self._aside = None

    def _close(self) -> None:
        self._forget_aside()
        for table in self._tables:
            table.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: durable.Buffer) -> None:
        durable.write_at(self._fd, data, self._end)
        self._sha.update(data)
        self._end += len(data)

    def _write_anew(self, frames: Callable[[int], None]) -> None:
        """Let `frames` write all frames again, in order, to a new file under the same name.

        It gets the descriptor of the old file, and appends.
        """
        ordered, old = self.path.with_name(f"{self.path.name}.ordered"), self._fd
        self._fd = durable.create(ordered, readable=True)
        self._behind = Behind(self._fd)
        self._sha, self._end = hashlib.sha256(), HEADER_SIZE
        try:
            frames(old)
            ordered.replace(self.path)
        except BaseException:
            ordered.unlink(missing_ok=True)
            raise
        finally:
            os.close(old)

    def _append_blocks(self, tag: bytes, table: Table, entries: int) -> int:
        """Append all blocks of one kind; return the XXH64 over their checksums."""
        return hash64(self._append_checked(tag, table, entries))

    def _append_checked(self, tag: bytes, table: Table, entries: int) -> bytes:
        """Append all blocks of one kind; return their checksums."""
        checks = bytearray()
        for number, start in enumerate(range(0, entries, blocks.BLOCK_ENTRIES)):
            data = table.get(start, min(blocks.BLOCK_ENTRIES, entries - start))
            block = blocks.encode_block(tag, number, data, table.entry_size)
            self._append(block)
            checks += block[-8:]
        return bytes(checks)

    def _finish(self, header: PageSetHeader, trailer: Trailer) -> PageSetInfo:
        """Write the trailer and the header; return what the file is, which is durable then, and closed."""
        self.header = header
        head = blocks.encode_header(header)
        trailer = replace(trailer, header_check=int.from_bytes(head[-8:], "little"))
        self._append(blocks.encode_trailer(trailer))
        self._sha.update(head)
        digest = self._sha.digest()
        durable.write_at(self._fd, blocks.close(digest), self._end)
        durable.write_at(self._fd, head, 0)
        os.fsync(self._fd)
        self._close()
        return blocks.info_of(header, replace(trailer, sha256=digest))


class ListedContainer(PageSetContainer):
    """The file of a page set whose pages are listed by their numbers: not of a snapshot."""

    def __init__(self, path: str | Path, header: PageSetHeader) -> None:
        """Create the file `path`, which must not exist."""
        super().__init__(path, header)
        self._numbers = self._table(blocks.NUMBERS_ENTRY)  # of the pages in the file's frames
        self._sums = self._table(blocks.SUMS_ENTRY)  # likewise

    def _store(self, numbers: bytes, sums: bytes, data: durable.Buffer) -> None:
        """Append one frame of pages: `numbers` are theirs, 4 bytes each."""
        count = len(sums) // blocks.SUMS_ENTRY
        (first,) = struct.unpack_from("<I", numbers)
        with self._errors():
            entry = StoredFrame(offset=self._end, csize=len(data), first=first, count=count)
            self._index.put(self._index.count, blocks.encode_entry(entry))
            self._numbers.put(self._numbers.count, numbers)
            self._sums.put(self._sums.count, sums)
            self._append(data)
            self._behind.advance(self._end)
        self.pages_copied += count

    def _trailer(self, database_sum_from: int, database_sum: int, commits: Table | None = None) -> Trailer:
        """Append all blocks; return what the trailer says, but for what is known last."""
        data_bytes, held, frames = self._end - HEADER_SIZE, self._numbers.count, self._index.count
        numbers_check = self._append_blocks(blocks.NUMBERS_TAG, self._numbers, held)
        index_check = self._append_blocks(blocks.INDEX_TAG, self._index, frames)
        checks = self._append_checked(blocks.SUMS_TAG, self._sums, held)
        if commits is not None:
            checks += self._append_checked(blocks.COMMITS_TAG, commits, commits.count)
        return Trailer(
            kind=self.header.kind,
            data_bytes=data_bytes,
            frames=frames,
            pages=held,
            commits=0 if commits is None else commits.count,
            header_check=0,
            numbers_check=numbers_check,
            index_check=index_check,
            sums_check=hash64(checks),
            database_sum=database_sum,
            database_sum_from=database_sum_from,
            sha256=b"",
        )


class SegmentContainer(ListedContainer):
    """The file of a segment, whose frames are gathered from the pages of a commit."""

    def __init__(self, path: str | Path, header: PageSetHeader, *, level: int, threads: int) -> None:
        """Create the file `path`, which must not exist. `level` is zstd's; so many `threads` compress."""
        super().__init__(path, header)
        self._level = level
        self._threads = threads

    def _gather(self, source: PageSource, runs: Iterable[tuple[int, int]]) -> None:
        """Append the frames of pages of `source`: `runs` of (first page, count), ascending."""
        gather_out(
            source,
            frames_of(runs, self.header.pages_per_frame),
            level=self._level,
            threads=self._threads,
            sink=self._take,
        )

    def _take(self, frame: Gathered) -> None:
        """Append one frame."""
        self._store(pack_runs(frame.runs), frame.sums, frame.data)


def pack_runs(runs: Iterable[tuple[int, int]]) -> bytes:
    """Return the page numbers of runs, 4 bytes each, little-endian."""
    return b"".join(struct.pack(f"<{some}I", *range(first, first + some)) for first, some in runs)


class PageSetWriter(PageSetContainer, ABC):
    """What a backup needs of either kind of writer: pages of a database that may change while it is read."""

    @abstractmethod
    def copy(self, source: PageSource, first: int, count: int, progress: Progress | None = None) -> None:
        """Copy pages of a range."""

    @abstractmethod
    def recopy_changed(
        self,
        source: PageSource,
        progress: Progress | None = None,
        *,
        first: int = 1,
        count: int | None = None,
        later: bool = False,
    ) -> int:
        """Hash pages of a range and copy those again that differ; return how many did."""

    @abstractmethod
    def seal(self, *, pages: int, time: datetime | None = None) -> PageSetInfo:
        """Finish the file as that of a database of `pages` pages."""
