"""The damaged database as a diagnosis looks at it: some pages here and there, at the least cost.

With a rollback journal each page of the image costs a lock; there the bare file is the image, and is read as it stands.
That it held still is proved when the case is closed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pagewarden.errors import PagewardenError
from pagewarden.pages import backend, lock_page

if TYPE_CHECKING:
    from pagewarden.contracts import PageImage, RepairCase

MOST_PAGES = 2000
"""Pages that are kept in memory."""


class Sight:
    """The pages of one case."""

    def __init__(self, case: RepairCase) -> None:
        self._case = case
        self._kept: dict[int, bytes] = {}

    @cached_property
    def image(self) -> PageImage | None:
        """The image; None where not even the size of a page is known."""
        try:
            return self._case.image
        except PagewardenError:
            return None

    @property
    def pages(self) -> int:
        """Size of the database, in pages; 0 where there is no image."""
        return 0 if self.image is None else self.image.pages

    @property
    def page_size(self) -> int:
        """Bytes of a page; 0 where there is no image."""
        return 0 if self.image is None else self.image.page_size

    def page(self, pgno: int) -> bytes:
        """Return the bytes of a page, from 1 to `pages`."""
        kept = self._kept.get(pgno)
        if kept is None:
            kept = self._read(pgno)
            if len(self._kept) < MOST_PAGES:
                self._kept[pgno] = kept
        return kept

    def sum(self, pgno: int) -> bytes:
        """Return the sum of a page: 8 bytes, little-endian."""
        value = 0 if pgno == lock_page(self.page_size) else backend().page_sum(pgno, self.page(pgno))
        return value.to_bytes(8, "little")

    def _read(self, pgno: int) -> bytes:
        assert self.image is not None and 1 <= pgno <= self.pages
        if self._case.facts.journal_mode == "wal":
            return self.image.page(pgno)
        size = self.page_size
        return self._case.file((pgno - 1) * size, size).ljust(size, b"\0")
