"""Plain commits in pure Python: what a run of frames changes in the page sums of a database. See native/c/follow.c."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import lt

from pagewarden.pages.source import Followed


def follow_plain(
    numbers: array[int],
    sizes: array[int],
    sums: Sequence[int],
    table: memoryview,
    lock: int,
    place: int,
    pages: int,
    database_sum: int,
) -> Followed:
    """Go through plain commits; see `Backend.follow`. `lock` is the page of the lock bytes."""
    rows: list[tuple[int, int, int]] = []
    old = array("Q")
    while past := _plain(numbers, sizes, lock, place, pages, len(table)):
        for at in range(place, past):
            pgno, value = numbers[at], sums[at]
            old.append(table[pgno - 1])
            database_sum ^= value ^ (table[pgno - 1] if pgno <= pages else 0)
            table[pgno - 1] = value
        pages = sizes[past - 1]
        rows.append((pages, past - place, database_sum))
        place = past
    return Followed(rows=rows, place=place, old=old, pages=pages, database_sum=database_sum)


def _plain(numbers: array[int], sizes: array[int], lock: int, first: int, pages: int, room: int) -> int:
    """Return the frame behind the commit that begins at frame `first`, 0 where it is not plain or there is none."""
    last = next((at for at in range(first, len(sizes)) if sizes[at]), -1)
    if last < 0:
        return 0
    size, some = sizes[last], numbers[first : last + 1]
    if lock in some or not some[0] or not all(map(lt, some, some[1:])) or not some[-1] <= size <= room or size < pages:
        return 0
    fresh = sum(pgno > pages for pgno in some)
    return last + 1 if fresh == size - pages - (pages < lock <= size) else 0
