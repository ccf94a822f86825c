"""Injuries of whole pages and sectors: what disks and caches do, whatever stands on the pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from pagewarden.sqlite.btree import PageKind, page_kind, parse_page
from pagewarden.sqlite.record import Malformed
from pagewarden.testing.injuries.closed import Attempt, ClosedCopy

SECTOR = 512
"""Bytes that a disk writes at once, at least."""

_LONGEST_RUN = 8  # pages


def zeroed_page(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Zero a page of a b-tree, as a write of an unmapped block or a sparse copy does."""
    for owner in copy.tree_pages(chance):
        message = f"zeroed page {owner.pgno} ({owner})"
        yield whole_page(copy, owner.pgno, bytes(copy.page_size), message)


def zeroed_sector(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Zero 512 bytes of a page, as a disk does that gives a sector up."""
    for pgno in copy.in_use(chance, first=1):
        old, whose = copy.read(pgno), copy.owner(pgno)
        for begin in chance.sample(range(0, copy.page_size, SECTOR), copy.page_size // SECTOR):
            where = f"bytes {begin} to {begin + SECTOR - 1} of page {pgno}"
            new = old[:begin] + bytes(SECTOR) + old[begin + SECTOR :]
            write = partial(copy.put, {pgno: new})
            yield Attempt(target=where, message=f"zeroed {where}{whose}", write=write)


def zeroed_run(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Zero 2 to 8 pages in a row, as a lost extent does."""
    starts = list(range(2, copy.pages))
    chance.shuffle(starts)
    for first in starts:
        last = min(first + chance.randrange(1, _LONGEST_RUN), copy.pages)
        write = partial(copy.put, {pgno: bytes(copy.page_size) for pgno in range(first, last + 1)})
        where = f"pages {first} to {last}"
        yield Attempt(target=where, message=f"zeroed {where}", write=write)


def torn_page(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Give the second part of a page other content, as a power cut does in the midst of a write."""
    pages = copy.in_use(chance)
    for number, pgno in enumerate(pages):
        cut = SECTOR * chance.randrange(1, copy.page_size // SECTOR) if copy.page_size > SECTOR else SECTOR // 2
        old, other, whose = copy.read(pgno), copy.older_page(pgno), "in the older image"
        if other is None or other[cut:] == old[cut:]:
            donor = pages[number - 1] if len(pages) > 1 else 1
            other, whose = copy.read(donor), f"on page {donor}"
        message = f"page {pgno}{copy.owner(pgno)} holds from byte {cut} on what stands {whose}"
        yield whole_page(copy, pgno, old[:cut] + other[cut:], message)


def swapped_pages(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Let two pages change places, as a controller does that mixes up two writes."""
    pages = copy.in_use(chance)
    for one, two in zip(pages, pages[1:] + pages[:1], strict=True):
        where = f"pages {one}{copy.owner(one)} and {two}{copy.owner(two)}"
        write = partial(copy.put, {one: copy.read(two), two: copy.read(one)})
        yield Attempt(target=where, message=f"swapped {where}", write=write)


def overwritten_page(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put one page over another, as a write to the wrong place does."""
    pages = copy.in_use(chance)
    for pgno, donor in zip(pages, pages[1:] + pages[:1], strict=True):
        message = f"page {pgno}{copy.owner(pgno)} was overwritten by page {donor}{copy.owner(donor)}"
        yield whole_page(copy, pgno, copy.read(donor), message)


def lost_write(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put an older version of one page back, as a disk does that acknowledges a write and drops it.

    Best are leaves that hold the same rows in both, then leaves of tables: what SQLite's checks cannot see.
    """
    differing = [pgno for pgno in range(2, copy.pages + 1) if copy.older_page(pgno) not in (None, copy.read(pgno))]
    chance.shuffle(differing)
    for pgno in sorted(differing, key=partial(_visibility, copy)):
        old = copy.older_page(pgno)
        if copy.older is not None and old is not None:
            message = f"page {pgno}{copy.owner(pgno)} went back to what it holds in {copy.older.path}"
            yield whole_page(copy, pgno, old, message)


def _visibility(copy: ClosedCopy, pgno: int) -> int:
    """Return 0 where both versions of a page are table leaves with the same rowids, 1 where both are leaves, else 2."""
    versions = (copy.read(pgno), copy.older_page(pgno) or b"")
    if any(page_kind(page, pgno) is not PageKind.TABLE_LEAF for page in versions):
        return 2
    try:
        rows = [
            [cell.rowid for cell in parse_page(page, pgno=pgno, usable=copy.layout.usable).cells] for page in versions
        ]
    except Malformed:
        return 2
    return 0 if rows[0] == rows[1] else 1


def whole_page(copy: ClosedCopy, pgno: int, new: bytes, message: str) -> Attempt:
    """Return the attempt that puts `new` in the place of one page."""
    return Attempt(target=f"page {pgno}", message=message, write=partial(copy.put, {pgno: new}))
