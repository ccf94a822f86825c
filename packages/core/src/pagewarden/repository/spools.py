"""What waits on the disk while a page set is written, so that memory does not grow with the database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from pagewarden import durable
from pagewarden.pages import PageSource, backend

_SPOOL = 4 << 20  # bytes of a table that stay in memory
_WINDOW = 1 << 16  # entries of a table that are written in one go, where a few of them change
_ASIDE = 1 << 18  # bytes of pages put aside at once; a multiple of every page size


class Table:
    """Entries of a fixed size by their number, in memory while they are few and in an unnamed file beyond."""

    def __init__(self, folder: Path, entry_size: int, *, sparse: bool = False) -> None:
        """The file is made in `folder`, beside what is written: there is room, and the same people may read it.

        A table that is `sparse` is a file from the beginning, because holes cost nothing there. Raises OSError.
        """
        self._file: IO[bytes]  # closed by close()
        if sparse:
            self._file = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115
        else:
            self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=str(folder))  # noqa: SIM115
        self.entry_size = entry_size  # bytes
        self.count = 0  # entries, those never written included

    def put(self, number: int, entries: durable.Buffer) -> None:
        """Write entries from `number` on, from 0."""
        if isinstance(self._file, tempfile.SpooledTemporaryFile) and number * self.entry_size > _SPOOL:
            self._file.rollover()  # else memory is taken up to there, however little stands before it
        self._file.seek(number * self.entry_size)
        self._file.write(entries)
        self.count = max(self.count, number + len(entries) // self.entry_size)

    def put_runs(self, runs: Iterable[tuple[int, int]], entries: bytes) -> None:
        """Write entries that are not consecutive: `runs` of numbers from 0, ascending, each (first, count)."""
        at = 0
        for group in _groups(runs):
            begin, end = group[0][0], sum(group[-1])
            window = bytearray(self.get(begin, end - begin).ljust((end - begin) * self.entry_size, b"\0"))
            for first, count in group:
                place, size = (first - begin) * self.entry_size, count * self.entry_size
                window[place : place + size] = entries[at : at + size]
                at += size
            self.put(begin, window)

    def get(self, number: int, count: int) -> bytes:
        """Return entries, fewer where there are no more; entries that were skipped are zeros."""
        self._file.seek(number * self.entry_size)
        return self._file.read(count * self.entry_size)

    def cut(self, count: int) -> None:
        """Forget entries from `count` on."""
        self._file.truncate(count * self.entry_size)
        self.count = min(self.count, count)

    def close(self) -> None:
        """Forget everything; safe to repeat."""
        self._file.close()


def _groups(runs: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield runs that are near enough to be written in one go, with what stands between them."""
    group: list[tuple[int, int]] = []
    for first, count in runs:
        if group and first + count - group[0][0] > _WINDOW:
            yield group
            group = []
        group.append((first, count))
    if group:
        yield group


class Aside:
    """Pages put aside, as they are, at their places in an unnamed file: to be copied when no lock is held any more."""

    def __init__(self, folder: Path, source: PageSource) -> None:
        """The pages are to be of a database as `source` is."""
        self._file = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115 - closed by close()
        self.source = replace(source, database=self._file.fileno(), wal=-1, frames=b"", file_size=0)
        self._buffer = bytearray(_ASIDE)

    def take(self, source: PageSource, first: int, count: int) -> bytes:
        """Take the pages of a run from `source`; return the sums of what was taken, 8 bytes each."""
        step, sums = len(self._buffer) // source.page_size, []
        for start in range(first, first + count, step):
            some = min(step, first + count - start)
            backend().read(source, start, some, self._buffer)
            data = memoryview(self._buffer)[: some * source.page_size]
            sums.append(backend().buffer_sums(data, source.page_size, start, some))
            self.put(start, data)
        self.source = replace(self.source, pages=max(self.source.pages, source.pages))
        return b"".join(sums)

    def put(self, first: int, pages: durable.Buffer) -> None:
        """Put pages that stand in a buffer; `first` is the first of them."""
        offset = (first - 1) * self.source.page_size
        durable.write_at(self._file.fileno(), pages, offset)
        self.source = replace(self.source, file_size=max(self.source.file_size, offset + len(pages)))

    def close(self) -> None:
        """Forget the pages; safe to repeat."""
        self._file.close()
