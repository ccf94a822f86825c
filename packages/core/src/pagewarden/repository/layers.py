"""A chain of page sets read as one image: a page by its last version, page sums likewise. Runs in the page reader.

Opening it proves the structure of every page set, and that the recorded sums of the last versions make the recorded
database sum. What it keeps in memory grows with the pages that segments hold, not with the database.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import backend, lock_page
from pagewarden.repository.assemble import Claims
from pagewarden.repository.blocks import SUMS_ENTRY
from pagewarden.repository.format import PageSetInfo, grown
from pagewarden.repository.pageset import PageSetFile

_AT_ONCE = 1 << 16  # entries read at once


class Layers:
    """The pages of one restore point. Files are opened by `opened`, which may keep some of them open."""

    def __init__(self, paths: Sequence[str | Path], opened: Callable[[str], PageSetFile]) -> None:
        """`paths` are those of the whole chain, from the newest down to the snapshot.

        Raises RepositoryDamaged where they are not a chain, or one of them is not whole; TargetFailed.
        """
        self._paths = [str(path) for path in paths]
        self._opened = opened
        self.infos: list[PageSetInfo] = []  # of the page sets, in the order of their paths
        claims = Claims()
        numbers, sums, layers = array("I"), array("Q"), array("I")
        for layer, path in enumerate(self._paths):
            file = opened(path)
            self.infos.append(file.info)
            header = self.infos[0].header
            if file.page_size != header.page_size or file.is_segment != (layer < len(self._paths) - 1):
                raise RepositoryDamaged(f"{path} is not what the page sets above it continue")
            if not file.is_segment:
                break
            for place in range(0, file.info.held, _AT_ONCE):
                count = min(_AT_ONCE, file.info.held - place)
                given = file.entry_sums(place, count)
                for at, first, some in claims.take_all(file.runs(place, count), header.pages):
                    numbers.extend(range(first, first + some))
                    sums.extend(struct.unpack_from(f"<{some}Q", given, at * SUMS_ENTRY))
                    layers.extend([layer] * some)
        for path, above, below in zip(self._paths, self.infos, self.infos[1:], strict=False):
            if above.held < grown(above.header.page_size, below.header.pages, above.header.pages):
                raise RepositoryDamaged(f"{path} lacks pages by which the database grew")
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        self._numbers = array("I", (numbers[at] for at in order))
        self._sums = array("Q", (sums[at] for at in order))
        self._layers = array("I", (layers[at] for at in order))
        self._prove()

    @property
    def info(self) -> PageSetInfo:
        """What the newest page set is."""
        return self.infos[0]

    def sums(self, first: int, count: int) -> bytes:
        """Return the page sums of pages `first` … `first+count-1`: 8 bytes each, little-endian."""
        pages = self.info.header.pages
        if first < 1 or count < 0 or first + count - 1 > pages:
            raise ValueError(f"pages {first} to {first + count - 1} are not all within a database of {pages}")
        base = self._opened(self._paths[-1])
        some = max(0, min(count, base.pages - first + 1))
        found = bytearray(base.sums(first, some) if some else b"") + bytes((count - some) * SUMS_ENTRY)
        begin, end = bisect_left(self._numbers, first), bisect_left(self._numbers, first + count)
        for at in range(begin, end):
            place = (self._numbers[at] - first) * SUMS_ENTRY
            found[place : place + SUMS_ENTRY] = self._sums[at].to_bytes(SUMS_ENTRY, "little")
        return bytes(found)

    def page(self, pgno: int) -> bytes:
        """Return the last version of one page, proved by its sum; zeros for the page of the lock bytes (H12)."""
        at = bisect_left(self._numbers, pgno)
        if at < len(self._numbers) and self._numbers[at] == pgno:
            return self._opened(self._paths[self._layers[at]]).page(pgno)
        base, header = self._opened(self._paths[-1]), self.info.header
        if pgno > base.pages and pgno == lock_page(header.page_size):  # it came with a segment, which never holds it
            return bytes(header.page_size)
        if not 1 <= pgno <= header.pages:
            raise ValueError(f"page {pgno} is not within a database of {header.pages}")
        return base.page(pgno)

    def _prove(self) -> None:
        database_sum, pages = 0, self.info.header.pages
        for first in range(1, pages + 1, _AT_ONCE):
            database_sum ^= backend().fold(self.sums(first, min(_AT_ONCE, pages - first + 1)))
        if database_sum != self.info.database_sum:
            raise RepositoryDamaged(
                f"the page sums of {self._paths[0]} and what it continues do not add up to its database sum"
            )
