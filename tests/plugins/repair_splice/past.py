"""What a repository would say of a database: its recorded positions, from closed files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.testing.subjects import FileImage
from pagewarden.values import Position

POSITION = Position(timeline="c" * 32, txid=7, time=datetime(2026, 3, 4, tzinfo=UTC))


class Recorded(FileImage):
    """A recorded position: the pages of a file as it was when this was made."""

    position: Position

    def __init__(self, path: Path, *, position: Position = POSITION) -> None:
        super().__init__(path, position=position)
        self._sums = super().sums(1, self.pages)

    def sums(self, first: int, count: int) -> bytes:
        """Return the recorded sums."""
        return self._sums[8 * (first - 1) : 8 * (first - 1 + count)]


class Lying(Recorded):
    """A recorded position of which some pages are stored as they were earlier."""

    def __init__(self, path: Path, older: Path) -> None:
        self._older: Recorded | None = None
        super().__init__(path)
        self._older = Recorded(older)

    def page(self, pgno: int) -> bytes:
        """Return the older page."""
        return super().page(pgno) if self._older is None else self._older.page(pgno)


class History:
    """A repository's history with one restore point, which is the present one where `proven`."""

    def __init__(self, newest: Recorded, *, proven: bool = True, fetched: Recorded | None = None) -> None:
        """`fetched` is what `fetch` gives instead of what is asked for."""
        self.newest = newest
        self.present = newest if proven else None
        self.why = "the log ends where the recorded one does" if proven else "commits may have been made since"
        self.older: Sequence[Recorded] = ()
        self._fetched = fetched

    def fetch(self, image: object, to: Path) -> None:
        """Write a restore point."""
        fetched = self._fetched or image
        assert isinstance(fetched, Recorded)
        fetched.write(to)
