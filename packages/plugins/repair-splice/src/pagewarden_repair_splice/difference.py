"""Which pages differ from those of a recorded position, found by page sums in large steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pagewarden.contracts import PageImage, RepairCase
from pagewarden.errors import PagewardenError
from pagewarden.pages import backend, database_sum, differing_runs

_STEP = 1 << 16  # pages whose sums are compared at once
_READ = 16 << 20  # bytes of a file that are read at once
_MOST_RUNS = 4096  # runs that are remembered

Sums = Callable[[int, int], bytes]
"""Returns the sums of pages `first` … `first+count-1`; fewer where there are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs."""

    runs: tuple[tuple[int, int], ...]  # first page and count, ascending
    pages: int  # that differ, those of runs that are left out included
    whole: bool  # whether no run was left out
    bytes_over: int = 0  # that the file has behind the recorded end
    bytes_missing: int = 0  # that it lacks before it; they may be zeros, so that no page differs

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.pages or self.bytes_over or self.bytes_missing)


def compare(case: RepairCase, present: PageImage) -> Difference:
    """Compare what SQLite sees, or the bare file where it sees nothing, with the recorded pages."""
    image = _seen(case)
    # While pages stand in the log, the size of the file says nothing.
    over = 0 if case.facts.wal_in_use else case.facts.file_size - present.pages * present.page_size
    if image is None or image.page_size != present.page_size:
        return difference(_of_file(case, present.page_size), present, over=over)
    seen, page_size = image, image.page_size

    def sums(first: int, count: int) -> bytes:
        count = min(count, seen.pages + 1 - first)
        return seen.sums(first, count) if count > 0 else b""

    return difference(sums, present, over=max(over, (seen.pages - present.pages) * page_size) if over >= 0 else over)


def difference(sums: Sums, present: PageImage, *, over: int = 0) -> Difference:
    """Compare sums with the recorded ones. `over` is by how many bytes a file is too long, or, below 0, too short."""
    runs: list[tuple[int, int]] = []
    pages = 0
    whole = True
    for start in range(1, present.pages + 1, _STEP):
        count = min(_STEP, present.pages + 1 - start)
        for place, length in differing_runs(present.sums(start, count), sums(start, count)):
            pages += length
            first = start + place
            if runs and sum(runs[-1]) == first:
                runs[-1] = (runs[-1][0], runs[-1][1] + length)
            elif len(runs) < _MOST_RUNS:
                runs.append((first, length))
            else:
                whole = False
    return Difference(runs=tuple(runs), pages=pages, whole=whole, bytes_over=max(0, over), bytes_missing=max(0, -over))


def pages_of(case: RepairCase, present: PageImage, difference: Difference) -> Callable[[int], bytes]:
    """Return what reads the recorded pages: those that do not differ from the database itself, which is far faster."""
    image = _seen(case)
    firsts = [first for first, _ in difference.runs]

    def page(pgno: int) -> bytes:
        place = bisect_right(firsts, pgno) - 1
        differs = not difference.whole or (place >= 0 and pgno < sum(difference.runs[place]))
        if image is None or image.page_size != present.page_size or pgno > image.pages or differs:
            return present.page(pgno)
        return image.page(pgno)

    return page


def sums_of(image: PageImage) -> int:
    """Return the database sum of an image."""
    return database_sum(_chunks(image))


def _seen(case: RepairCase) -> PageImage | None:
    """Return the pages as SQLite sees them; None where not even the size of a page is known from the file itself."""
    try:
        return case.image
    except PagewardenError:
        return None


def _chunks(image: PageImage) -> Iterable[bytes]:
    for start in range(1, image.pages + 1, _STEP):
        yield image.sums(start, min(_STEP, image.pages + 1 - start))


def _of_file(case: RepairCase, page_size: int) -> Sums:
    """Return what gives the sums of the bare file's whole pages."""

    def sums(first: int, count: int) -> bytes:
        parts = []
        for start in range(first, first + count, _READ // page_size):
            wanted = min(_READ // page_size, first + count - start)
            data = case.file((start - 1) * page_size, wanted * page_size)
            pages = len(data) // page_size
            if pages:
                parts.append(backend().buffer_sums(data[: pages * page_size], page_size, start, pages))
            if pages < wanted:
                break
        return b"".join(parts)

    return sums
