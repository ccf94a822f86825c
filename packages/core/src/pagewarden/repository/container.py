"""The file of a page set while it is written: created, appended to and hashed, finished with blocks and trailer.

What stands in the frames, and in which order they come, is for the writers of snapshots and segments.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.pages import Behind, PageSource, Progress
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
        checks = bytearray()
        for number, start in enumerate(range(0, entries, blocks.BLOCK_ENTRIES)):
            data = table.get(start, min(blocks.BLOCK_ENTRIES, entries - start))
            block = blocks.encode_block(tag, number, data, table.entry_size)
            self._append(block)
            checks += block[-8:]
        return hash64(checks)

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
