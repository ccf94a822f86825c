"""The page sums of the position that was followed to, in memory that the system may put aside.

They stand in a private, unnamed file that is mapped: the map of a terabyte takes two gigabytes. Room on the disk is
taken beforehand, because a mapping that finds none is a SIGBUS. Nobody else ever sees the file (H36 is about others').
"""

from __future__ import annotations

import mmap
import sys
import tempfile
from array import array
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import PagewardenError
from pagewarden.pages import backend
from pagewarden.repository.blocks import BLOCK_ENTRIES
from pagewarden.repository.pagemap import PageMap

_STEP = 1 << 16  # entries by which the table grows at least
_SUM = 8  # bytes


class SumTable:
    """The sums of pages 1 … `pages`, each a number."""

    def __init__(self, folder: Path, known: PageMap) -> None:
        """Take over what `known` says. The file is made in `folder`. Raises OutOfSpace or TargetFailed."""
        self.pages = known.pages
        self._folder = folder
        try:
            self._file = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._failure(error) from error
        self._map: mmap.mmap | None = None
        self.words = memoryview(b"").cast("Q")  # sums from page 1 on, and room
        try:
            self.reserve(known.pages)
            for first in range(1, known.pages + 1, BLOCK_ENTRIES):
                self._put(first, known.sums(first, BLOCK_ENTRIES))
        except BaseException:
            self.close()
            raise

    def reserve(self, pages: int) -> None:
        """Make room for `pages` pages. Raises OutOfSpace or TargetFailed."""
        if pages > len(self.words):
            room = -(-max(pages, len(self.words) + len(self.words) // 8) // _STEP) * _STEP * _SUM
            try:
                durable.allocate(self._file.fileno(), room)
            except OSError as error:
                raise self._failure(error) from error
            self._unmap()
            self._map = mmap.mmap(self._file.fileno(), room)
            self.words = memoryview(self._map).cast("Q")

    def get(self, first: int, count: int) -> bytes:
        """Return the sums of pages `first` … `first+count-1`, 8 bytes each, little-endian; fewer beyond the last."""
        return self._read(first, min(first - 1 + count, self.pages))

    def fold(self, first: int, past: int) -> int:
        """Return the XOR of the sums of pages `first` … `past-1`, for all of which there is room."""
        folded = 0
        for begin in range(first, past, BLOCK_ENTRIES):
            folded ^= backend().fold(self._read(begin, min(begin - 1 + BLOCK_ENTRIES, past - 1)))
        return folded

    def _read(self, first: int, last: int) -> bytes:
        words = array("Q")
        words.frombytes(self.words[first - 1 : last].tobytes())
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()

    def close(self) -> None:
        """Forget everything; safe to repeat."""
        self._unmap()
        self._file.close()

    def _failure(self, error: OSError) -> PagewardenError:
        return durable.failure(error, f"cannot keep page sums in {self._folder}")

    def _put(self, first: int, sums: bytes) -> None:
        words = array("Q")
        words.frombytes(sums)
        if sys.byteorder == "big":
            words.byteswap()
        self.words[first - 1 : first - 1 + len(words)] = memoryview(words)

    def _unmap(self) -> None:
        self.words.release()
        self.words = memoryview(b"").cast("Q")
        if self._map is not None:
            self._map.close()
            self._map = None
