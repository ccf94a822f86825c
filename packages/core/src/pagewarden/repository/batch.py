"""Writing a segment of pages that are known to be those that changed. Runs in the page reader.

`segment` finds out by comparison what changed; here whoever calls knows: from the frames of a log, or from page sets.
The sums are of the very bytes that are stored. What they must be, and whether they make the database sum, is for
whoever calls to judge; and what was written is read back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pagewarden.pages import PageSource, backend
from pagewarden.repository import blocks
from pagewarden.repository.container import SegmentContainer
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.spools import Table


class BatchWriter(SegmentContainer):
    """Writes one segment to a new file: `gather` all its pages, judge their sums, then `seal`.

    Leaving it as a context manager without `seal` abandons it: the file is removed. Errors of the file that is written
    are OutOfSpace or TargetFailed; those of the pages that are read are left as `pagewarden.pages` raises them. Not for
    two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader, *, level: int, threads: int) -> None:
        """Create the file `path`, which must not exist. `level` is zstd's. Pages and time may be settled by `seal`."""
        if header.kind is not Kind.SEGMENT:
            raise ValueError(f"a segment cannot be of the kind {header.kind.name}")
        super().__init__(path, header, level=level, threads=threads)

    def gather(self, source: PageSource, runs: Iterable[tuple[int, int]]) -> None:
        """Store pages of `source`: `runs` of (first page, count), ascending, without the page of the lock bytes (H12).

        Once, because only the last frame may hold fewer pages than the others. Where none is stored, the database only
        shrank.
        """
        if source.page_size != self.header.page_size:
            raise ValueError(f"pages of {source.page_size} bytes do not fit a segment of {self.header.page_size}")
        if self._index.count:
            raise ValueError("the pages were gathered already")
        self._gather(source, runs)

    @property
    def numbers(self) -> Table:
        """The numbers of the pages that were gathered, 4 bytes each, little-endian."""
        return self._numbers

    @property
    def sums(self) -> Table:
        """The sums of the pages that were gathered, 8 bytes each, little-endian: of the very bytes that are stored."""
        return self._sums

    def entries(self) -> Iterator[tuple[tuple[int, ...], bytes]]:
        """Yield page numbers and sums of what was gathered, some at a time."""
        for place in range(0, self._numbers.count, blocks.BLOCK_ENTRIES):
            numbers = self._numbers.get(place, blocks.BLOCK_ENTRIES)
            count = len(numbers) // blocks.NUMBERS_ENTRY
            yield struct.unpack(f"<{count}I", numbers), self._sums.get(place, count)

    def folded(self) -> int:
        """Return the XOR of the sums of all pages that were gathered."""
        fold, total = backend().fold, 0
        for place in range(0, self._sums.count, blocks.BLOCK_ENTRIES):
            total ^= fold(self._sums.get(place, blocks.BLOCK_ENTRIES))
        return total

    def seal(self, pages: int, database_sum_from: int, database_sum: int, time: datetime | None = None) -> PageSetInfo:
        """Finish the file as the segment to a database of `pages` pages and return what it is; it is durable then.

        The database sums are those of the two positions. `time` replaces the header's.
        """
        header = replace(self.header, pages=pages, time=time or self.header.time)
        with self._errors():
            return self._finish(header, self._trailer(database_sum_from, database_sum))
