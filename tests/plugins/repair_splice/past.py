"""A repository that does not store what it recorded."""

from __future__ import annotations

from pathlib import Path

from tests.support.recorded import Recorded


class Lying(Recorded):
    """A recorded position of which some pages are stored as they were earlier."""

    def __init__(self, path: Path, older: Path) -> None:
        super().__init__(path)
        self._sums = Recorded(path).sums(1, self.pages)
        self._older = Recorded(older)

    def sums(self, first: int, count: int) -> bytes:
        """Return the recorded sums."""
        return self._sums[8 * (first - 1) : 8 * (first - 1 + count)]

    def page(self, pgno: int) -> bytes:
        """Return the older page."""
        return self._older.page(pgno)
