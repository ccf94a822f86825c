"""Where does content belong that stands on the wrong page? Among the page sums of the baseline and of older images.

A page sum is bound to its page number, so the content is hashed once for each page that it may belong to: at the speed
of a scan, with a bound on all searches of one check together. Sectors have no sums: those of the pages that differ, and
of the pages around them, are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pagewarden.contracts import PageImage
from pagewarden.errors import PagewardenError
from pagewarden.pages import backend, lock_page
from pagewarden_check_pages.patterns import SECTOR

_HASHED = {"native": 8 << 30, "twin": 8 << 20}  # bytes hashed in all searches of one check
_AT_ONCE = 1 << 20  # bytes hashed in one call
_SUMS_AT_ONCE = 16384  # of an image
_INDEXED = 8 << 20  # bytes of pages whose sectors are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where content belongs."""

    pgno: int
    image: int  # 0: the baseline, else the number of the older image, from 1


class Elsewhere:
    """The searches of one check."""

    def __init__(self, images: Sequence[PageImage], page_size: int, told: Callable[[], None]) -> None:
        """`images` are the baseline and then older ones, newest first; `told` is called for every chunk of work."""
        self._images = images
        self._size = page_size
        self._told = told
        self._left = _HASHED[backend().name]
        self._sectors: dict[bytes, tuple[int, int]] = {}  # content: page and byte where it belongs first
        self._indexed: set[int] = set()

    def page(self, seen: bytes, pgno: int) -> Home | None:
        """Return to which other page the content of page `pgno` belongs; None where that was not found."""
        for number, image in enumerate(self._images):
            try:
                found = self._search(image, seen, pgno)
            except PagewardenError:  # an image that cannot be read is no evidence
                continue
            if found is not None:
                return Home(pgno=found, image=number)
        return None

    def _search(self, image: PageImage, seen: bytes, pgno: int) -> int | None:
        if image.page_size != self._size:
            return None
        step = max(1, _AT_ONCE // self._size)
        copies = seen * step
        for begin in range(1, image.pages + 1, _SUMS_AT_ONCE):
            count = min(_SUMS_AT_ONCE, image.pages - begin + 1)
            known = image.sums(begin, count)
            for first in range(begin, begin + count, step):
                some = min(step, begin + count - first)
                self._left -= some * self._size
                if self._left < 0:
                    return None
                self._told()
                sums = backend().buffer_sums(copies, self._size, first, some)
                place = 8 * (first - begin)
                for found in _equal(sums, known[place : place + 8 * some]):
                    if first + found not in (pgno, lock_page(self._size)):
                        return first + found
        return None

    def sectors(self, seen: bytes, sectors: Sequence[int], pgno: int, around: Iterable[int]) -> Home | None:
        """Return to which page all these sectors of page `pgno` belong, at the same places; None if not to one.

        The pages `around` are looked at beside those of earlier searches, the first ones first.
        """
        self._index(around)
        found = (self._sectors.get(seen[place : place + SECTOR]) for place in sectors)
        pgnos = {home[0] for home in found if home is not None and home[0] != pgno}
        for other in sorted(pgnos):
            page = self._images[0].page(other)  # it could be read a moment ago
            if all(seen[place : place + SECTOR] == page[place : place + SECTOR] for place in sectors):
                return Home(pgno=other, image=0)
        return None

    def _index(self, around: Iterable[int]) -> None:
        baseline = self._images[0]
        for pgno in around:
            if pgno in self._indexed or not 1 <= pgno <= baseline.pages:
                continue
            if (len(self._indexed) + 1) * self._size > _INDEXED:
                return
            self._indexed.add(pgno)
            self._told()
            try:
                page = baseline.page(pgno)
            except PagewardenError:  # the baseline itself is damaged there
                continue
            for place in range(0, self._size, SECTOR):
                sector = page[place : place + SECTOR]
                if len(set(sector)) > 1:
                    self._sectors.setdefault(sector, (pgno, place))


def _equal(one: bytes, two: bytes) -> Iterator[int]:
    pairs = zip(memoryview(one).cast("Q"), memoryview(two).cast("Q"), strict=True)
    return (index for index, (a, b) in enumerate(pairs) if a == b)


def outwards(pgno: int, pages: int) -> Iterator[int]:
    """Yield the pages around one, nearest first."""
    for distance in range(1, pages):
        yield from (near for near in (pgno - distance, pgno + distance) if 1 <= near <= pages)
