"""A bite of the database file, compared with the page sums of the position that was followed to.

1. A page whose last frame in the log is not copied back yet may be anything in the file. Any other page is in the file
   as it was at the position, for as long as the log is pinned: what is written to the file comes out of a frame first.
2. What differs is read again, from the disk where the system allows.
3. What differs still counts only if no frame has come for the page meanwhile, and if the database was never so small
   since the page's last frame that the page was beyond its end: a checkpoint passes over the frames of such pages
   (walCheckpoint in wal.c), counts them as copied back, and cuts the file off. Then no write explains it: it is rot.
"""

from __future__ import annotations

import os
from array import array

from pagewarden.following.log import Broken, OpenLog
from pagewarden.following.sums import SumTable
from pagewarden.following.values import Cursor
from pagewarden.pages import MAX_PAGES, PageSource, ShortRead, backend, differing_runs, lock_page, read_again


def scrub(
    log: OpenLog, page_size: int, cursor: Cursor, numbers: array[int], known: SumTable, first: int, count: int
) -> tuple[int, ...]:
    """Return those of pages `first` … `first+count-1` that are not in the file what `known` says; see above.

    `numbers` are the pages of the log's frames up to `cursor`. Nothing is found where the log began anew and what came
    since was not taken: look again after that.
    """
    count = min(count, known.pages - first + 1)
    copied = _copied_back(log, cursor)
    if copied is None or count < 1:
        return ()
    size = os.fstat(log.database).st_size
    source = PageSource(database=log.database, page_size=page_size, pages=known.pages, file_size=size)
    odd = _differing(source, known, first, count)
    newest: dict[int, int] = {}  # the last frame of each page
    if odd:
        newest = dict(zip(numbers, range(1, len(numbers) + 1), strict=True))
        odd = [pgno for pgno in odd if newest.get(pgno, 0) <= copied]
    odd = [pgno for pgno in odd if _is_odd(source, known, pgno)]
    if odd:
        came = _came_since(log, cursor)
        odd = [] if came is None else [pgno for pgno in odd if pgno not in came]
    if odd:
        cut = _cut_off(log, {pgno: newest.get(pgno, 0) for pgno in odd})
        odd = [pgno for pgno in odd if pgno not in cut]
    return tuple(odd)


def _copied_back(log: OpenLog, cursor: Cursor) -> int | None:
    """Return up to which frame the log is in the file, None where that cannot be told."""
    index = log.index
    if index.salts == cursor.salts:
        return min(index.backfilled, cursor.frame)
    # It began anew, which it does only when all of it was copied back; and nothing has come since.
    return cursor.frame if not index.frames and index.change == cursor.change else None


def _differing(source: PageSource, known: SumTable, first: int, count: int) -> list[int]:
    sums = backend().sums(source, first, count)
    return [
        pgno
        for place, some in differing_runs(sums, known.get(first, count))
        for pgno in range(first + place, first + place + some)
        if pgno != lock_page(source.page_size)
    ]


def _is_odd(source: PageSource, known: SumTable, pgno: int) -> bool:
    """Whether a page differs when it is read again."""
    try:
        page = read_again(source, pgno)
    except ShortRead:  # the file became shorter: SQLite cuts it where a commit did
        return False
    return backend().page_sum(pgno, page) != int.from_bytes(known.get(pgno, 1), "little")


def _came_since(log: OpenLog, cursor: Cursor) -> set[int] | None:
    """Return the pages of frames that came since, None where the log began anew meanwhile."""
    index = log.renew()
    if index.salts != cursor.salts:
        return set() if not index.frames and index.change == cursor.change else None
    if index.frames < cursor.frame:
        return None
    try:
        return set(log.numbers(index.frames)[cursor.frame :])
    except Broken:
        return None


def _cut_off(log: OpenLog, frames: dict[int, int]) -> set[int]:
    """Return those pages that a commit of the log has left beyond the database's end since their last frame.

    `frames` has the last frame of each page, 0 for none in this generation. All of them where the log cannot be read.
    """
    if not log.index.frames:
        return set()
    sizes = array("I")
    try:
        for tail in log.tails(log.start()):
            sizes += tail.sizes
    except Broken:
        return set(frames)
    found: set[int] = set()
    least, waiting = MAX_PAGES, sorted(frames, key=frames.__getitem__)  # the one with the newest frame last
    for frame in range(len(sizes), 0, -1):
        least = min(least, sizes[frame - 1] or least)
        while waiting and frames[waiting[-1]] >= frame:
            pgno = waiting.pop()
            if pgno > least:
                found.add(pgno)
    return found | {pgno for pgno in waiting if pgno > least}
