"""The freelist and the pointer map, derived from the trees: what no tree uses is free (file format, 1.5 and 1.8).

Both say nothing that the trees do not say, so where the trees are sound they can be written anew, whatever stood there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from pagewarden.pages.source import lock_page
from pagewarden.pages.walk import USER_SIZE

if TYPE_CHECKING:
    from pagewarden.contracts import RepairBench

_ROOT = bytes((1, 0, 0, 0, 0))  # ptrmap entries
_FREE = bytes((2, 0, 0, 0, 0))
_UNUSED_SLOTS = 8  # SQLite leaves the last 6 of a trunk page empty, for releases before 3.6 (file format, section 1.5)


def write_freelist(
    bench: RepairBench, runs: Iterable[tuple[int, int]], *, page_size: int, usable: int, why: str
) -> int:
    """Let the pages of `runs`, (first, count) in ascending order, be the freelist of the bare copy; return how many.

    Page 1 is written last. What the freelist was before is forgotten, so `runs` must be all free pages.
    """
    pages = chain.from_iterable(range(first, first + count) for first, count in runs)
    head = trunk = next(pages, 0)
    total = 0
    while trunk:
        leaves = tuple(islice(pages, usable // 4 - _UNUSED_SLOTS))
        following = next(pages, 0)
        words = (following, len(leaves), *leaves)
        bench.write(trunk, b"".join(word.to_bytes(4, "big") for word in words).ljust(page_size, b"\0"), why)
        total += 1 + len(leaves)
        trunk = following
    first_page = bytearray(bench.read(1, page_size))
    first_page[32:40] = head.to_bytes(4, "big") + total.to_bytes(4, "big")
    bench.write(1, bytes(first_page), why)
    return total


def write_pointer_map(
    bench: RepairBench,
    users: memoryview,
    *,
    page_size: int,
    usable: int,
    pages: int,
    why: str,
    roots: Collection[int] = (),
) -> int:
    """Write the ptrmap pages of a database of `pages` pages that differ from what they must be; return how many did.

    `users` is what a walk over all trees gave, see `Walker.users`; pages that nothing uses become free, but for those
    of `roots`, which are going to be root pages.
    """
    written = 0
    lock = lock_page(page_size)
    for pgno, last in pointer_map_pages(page_size=page_size, usable=usable, pages=pages):
        stood = bench.read(pgno, page_size).ljust(page_size, b"\0")
        entries = bytearray(users[USER_SIZE * pgno : USER_SIZE * last])
        types, place = entries[::USER_SIZE], -1
        while (place := types.find(0, place + 1)) >= 0:
            other = pgno + 1 + place
            entry = _ROOT if other in roots else _FREE
            if other == lock:
                entry = stood[USER_SIZE * place : USER_SIZE * (place + 1)]
            entries[USER_SIZE * place : USER_SIZE * (place + 1)] = entry
        page = bytes(entries) + stood[len(entries) :]
        if page != stood:
            bench.write(pgno, page, why)
            written += 1
    return written


def pointer_map_pages(*, page_size: int, usable: int, pages: int) -> Iterator[tuple[int, int]]:
    """Yield each ptrmap page, and the last page that it has an entry for; its entries are for the pages behind it."""
    span = usable // USER_SIZE + 1
    for place in range(2, pages + 1, span):
        pgno = place + 1 if place == lock_page(page_size) else place
        if pgno <= pages:
            yield pgno, min(place + span - 1, pages)
