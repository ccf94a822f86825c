"""A raw copy of a database: what a snapshot is to a repository, for checks that would hold a lock for too long.

Runs in the page reader. It has the verbs of `SnapshotWriter`, so that one protocol settles both.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pagewarden import durable
from pagewarden.pages import PageSource, backend
from pagewarden.pages.scan import Progress, differing_runs

_CHUNK = 4 << 20  # bytes of pages that are in memory at once
_SUM = 8  # bytes of a page sum


class RawImage:
    """Writes one database file: `copy` and `recopy_changed` until every page is there, then `seal`."""

    def __init__(self, path: str | Path, page_size: int) -> None:
        """Create the file `path`, which must not exist. Raises OutOfSpace or TargetFailed."""
        self.path = Path(path)
        self._page_size = page_size
        self._descriptor = -1
        self.pages_copied = 0  # those that were copied again count again
        # Eight bytes for each page, on disk: memory must not grow with the database.
        try:
            self._sums = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed by _close()
        except OSError as error:
            raise durable.failure(error, f"cannot write beside {self.path}") from error
        try:
            self._descriptor = durable.create(self.path, readable=True)
        except OSError as error:
            self._close()
            raise durable.failure(error, f"cannot write {self.path}") from error

    def copy(self, source: PageSource, first: int, count: int, progress: Progress | None = None) -> None:
        """Copy pages `first` … `first+count-1` as they are."""
        self._walk(source, first, count, progress, again=False)

    def recopy_changed(
        self,
        source: PageSource,
        progress: Progress | None = None,
        *,
        first: int = 1,
        count: int | None = None,
        later: bool = False,  # noqa: ARG002 - see SnapshotWriter, which it stands in for
    ) -> int:
        """Copy those pages again that differ from what was copied before; return how many did.

        At once, also if `later` would do: putting them aside would cost no less.
        """
        before = self.pages_copied
        self._walk(source, first, source.pages - first + 1 if count is None else count, progress, again=True)
        return self.pages_copied - before

    def seal(self, *, pages: int) -> None:
        """Cut the file to `pages` pages and close it. It is not made durable: it is thrown away after the check."""
        try:
            os.ftruncate(self._descriptor, pages * self._page_size)
        except OSError as error:
            self.abandon()
            raise durable.failure(error, f"cannot write {self.path}") from error
        self._close()

    def abandon(self) -> None:
        """Remove what was written. Safe at any time; after `seal` it does nothing."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
        self._close()

    def _walk(self, source: PageSource, first: int, count: int, progress: Progress | None, *, again: bool) -> None:
        """Write the pages of a range, or those of them that differ from what was written before."""
        size, step = self._page_size, max(1, _CHUNK // self._page_size)
        if source.page_size != size:
            raise ValueError(f"pages of {source.page_size} bytes do not fit an image of {size}")
        pages = bytearray(min(step, count) * size)
        zeros = bytes(len(pages))
        for start in range(first, first + count, step):
            some = min(step, first + count - start)
            backend().read(source, start, some, pages)
            sums = backend().buffer_sums(pages, size, start, some)
            known = os.pread(self._sums.fileno(), some * _SUM, (start - 1) * _SUM) if again else b""
            # Zeros stay a hole where nothing was written yet: a sparse database must not fill the disk of its check.
            hole = not again and pages == zeros
            for place, run in () if hole else differing_runs(sums, known):
                self._write(start + place, memoryview(pages)[place * size : (place + run) * size])
            self._write_sums(start, sums)
            if progress is not None:
                progress(start - first + some, count)

    def _write(self, first: int, pages: memoryview) -> None:
        try:
            durable.write_at(self._descriptor, pages, (first - 1) * self._page_size)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.path}") from error
        self.pages_copied += len(pages) // self._page_size

    def _write_sums(self, first: int, sums: bytes) -> None:
        try:
            durable.write_at(self._sums.fileno(), sums, (first - 1) * _SUM)
        except OSError as error:
            raise durable.failure(error, f"cannot write beside {self.path}") from error

    def _close(self) -> None:
        self._sums.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
