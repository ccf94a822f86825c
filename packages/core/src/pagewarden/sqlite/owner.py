"""Whose page is this? Which table or index a page belongs to, and which row and column a byte of it.

1. Pages that no tree holds are named by their place: page 1's header, the lock-byte page, ptrmap pages, the freelist.
2. B-tree pages: every tree is walked from its root through its interior pages. Leaves are at one depth, so they are
   named without being read: a database of a GiB has some two thousand interior pages.
3. Overflow pages: chains usually lie in ascending order, so the walk goes back from the page while the page before it
   points at it; then the leaves are searched, nearest first, for the cell that starts the chain.

Hostile input: circles end, every walk counts its pages against a budget, and what cannot be said is not said.
"""

from __future__ import annotations

import math
import struct
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from pagewarden.pages import lock_page
from pagewarden.sqlite.btree import BTreePage, Cell, child_pages, page_kind, parse_page
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import Layout, ReadPage, SchemaEntry, read_schema

BUDGET = 50_000
"""How many pages one search may read: a few seconds of an intact database, and an end for a hostile one."""

SECONDS = 2.0
"""How long one search may take where every page costs a lock."""

_KEPT = 8 << 20  # bytes of pages that one search remembers: damaged trees lead to the same pages again and again
_MAX_DEPTH = 20  # SQLite's BTCURSOR_MAX_DEPTH
_MAX_CHAIN = 70_000  # pages of an overflow chain that are followed: a value of 256 MiB in pages of 4 KiB
_MAX_HOLDERS = 200_000  # pages of one tree remembered for the search of step 3
_MAX_CHAINS = 32  # overflow chains looked for at once
_MAX_HEADS = 20_000  # pages read for one chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a page is used for."""

    pgno: int
    role: str  # "table leaf", "index interior", "overflow", "freelist leaf", "freelist trunk", "ptrmap", "lock-byte"
    kind: str = ""  # "table" or "index"
    object: str | None = None  # by name
    root: int | None = None  # root page of the object's b-tree
    rowid: int | None = None  # of the row whose overflow page it is
    payload: int | None = None  # for an overflow page: where its first payload byte stands in the payload
    head: tuple[int, int] | None = None  # for an overflow page: the b-tree page and the cell where its payload begins

    def __str__(self) -> str:
        where = f"{self.kind} {self.object}, " if self.object else ""
        row = "" if self.rowid is None else f", rowid {self.rowid}"
        return f"{where}{self.role} page{row}"


class OutOfBudget(Exception):
    """The search has read as many pages as it may."""


@dataclass(slots=True)
class _Search:
    """One search: what is left to find, and how many pages it may still read."""

    read_page: ReadPage
    layout: Layout
    budget: int
    wanted: set[int]
    found: dict[int, Owner]
    end: float  # reading of `clock`
    clock: Callable[[], float]
    kept: dict[int, bytes] = field(default_factory=dict)

    def read(self, pgno: int) -> bytes:
        if self.budget <= 0:
            raise OutOfBudget
        self.budget -= 1
        page = self.kept.pop(pgno, None)
        if page is None:
            if self.clock() > self.end:
                raise OutOfBudget
            page = self.read_page(pgno)
        self.kept[pgno] = page  # the newest stands last
        if len(self.kept) * self.layout.page_size > _KEPT:
            del self.kept[next(iter(self.kept))]
        return page

    def claim(self, owner: Owner) -> None:
        if owner.pgno in self.wanted:
            self.wanted.discard(owner.pgno)
            self.found[owner.pgno] = owner


def find_owners(
    read: ReadPage,
    pgnos: Collection[int],
    layout: Layout,
    *,
    schema: tuple[SchemaEntry, ...] | None = None,
    overflow: bool = True,
    budget: int = BUDGET,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> dict[int, Owner]:
    """Return the owner of each page of `pgnos` that could be found.

    `schema` saves reading it again; `overflow` false leaves step 3, the slow one, out. At most `budget` pages are
    looked at, and none is read through `read` after `seconds`; what it raises is passed on.
    """
    search = _Search(
        read_page=read,
        layout=layout,
        budget=budget,
        wanted={pgno for pgno in pgnos if 1 <= pgno <= layout.pages},
        found={},
        end=clock() + seconds,
        clock=clock,
    )
    try:
        _claim_fixed(search)
        entries = read_schema(search.read, layout) if schema is None else schema
        holders = {entry.root: array("I") for entry in entries if entry.root}
        for entry in entries:
            if entry.root and search.wanted:
                _walk_tree(search, entry, holders[entry.root])
        if search.wanted:
            _claim_free(search)
        if search.wanted and overflow:
            _claim_overflow(search, entries, holders)
    except OutOfBudget:
        pass
    return search.found


def _claim_fixed(search: _Search) -> None:
    """Name the lock-byte page and the ptrmap pages (file format, sections 1.4 and 1.8)."""
    layout = search.layout
    lock = lock_page(layout.page_size)
    search.claim(Owner(pgno=lock, role="lock-byte"))
    if layout.pointer_maps:
        span = layout.usable // 5 + 1
        for pgno in tuple(search.wanted):
            map_page = (pgno - 2) // span * span + 2
            if pgno > 1 and pgno == (map_page + 1 if map_page == lock else map_page):
                search.claim(Owner(pgno=pgno, role="ptrmap"))


def _claim_free(search: _Search) -> None:
    layout = search.layout
    freelist = walk_freelist(search.read, first=layout.freelist, pages=layout.pages, usable=layout.usable)
    for pgno in freelist.trunks:
        search.claim(Owner(pgno=pgno, role="freelist trunk"))
    for pgno in tuple(search.wanted & freelist.leaves):
        search.claim(Owner(pgno=pgno, role="freelist leaf"))


def _height(search: _Search, root: int) -> int:
    """Return how many levels the tree under `root` has, by its left-most or right-most path, whichever is longer."""
    heights = []
    for end in (0, -1):
        pgno, height = root, 1
        while height < _MAX_DEPTH:
            children = _children(search, pgno)
            if not children:
                break
            pgno, height = children[end], height + 1
        heights.append(height)
    return max(heights)


def _children(search: _Search, pgno: int) -> tuple[int, ...]:
    """Return the children of an interior page that lie in the file; none for any other page."""
    children, last = child_pages(search.read(pgno), pgno, search.layout.usable), search.layout.pages
    if children and min(children) > 1 and max(children) <= last:
        return children
    return tuple(child for child in children if 1 < child <= last)


def _walk_tree(search: _Search, entry: SchemaEntry, holders: array[int]) -> None:
    """Name the wanted pages of one tree, and note in `holders` its pages that may begin an overflow chain."""
    height = _height(search, entry.root)
    # A table WITHOUT ROWID is kept in a b-tree of the index kind, whose interior pages hold payload, too.
    first = page_kind(search.read(entry.root), entry.root)
    shape = "table" if first is None or first.is_table else "index"
    kind = "index" if entry.kind == "index" else "table"

    def claim(pgnos: Collection[int], role: str) -> None:
        for pgno in search.wanted.intersection(pgnos):
            search.claim(Owner(pgno=pgno, role=f"{shape} {role}", kind=kind, object=entry.name, root=entry.root))

    if height == 1:
        claim((entry.root,), "leaf")
        holders.append(entry.root)
        return
    seen: set[int] = set()
    stack = [(entry.root, 1)]
    while stack:
        pgno, level = stack.pop()
        if pgno in seen:
            continue
        seen.add(pgno)
        children = _children(search, pgno)
        claim((pgno,), "interior")
        if shape == "index" and len(holders) < _MAX_HOLDERS:
            holders.append(pgno)
        if level + 1 < height:
            stack.extend((child, level + 1) for child in reversed(children))
        else:  # most pages of a tree are leaves, so they are not looked at one by one
            claim(children, "leaf")
            holders.extend(children[: _MAX_HOLDERS - len(holders)])


def _claim_overflow(search: _Search, entries: tuple[SchemaEntry, ...], holders: dict[int, array[int]]) -> None:
    """Name the wanted overflow pages by the row that their chain belongs to."""
    chains: dict[int, set[int]] = {}
    for pgno in sorted(search.wanted):
        chains.setdefault(_chain_start(search, pgno), set()).add(pgno)
    every = sorted((pgno, entry.name, entry) for entry in entries if entry.root for pgno in holders[entry.root])
    for head, members in list(chains.items())[:_MAX_CHAINS]:
        for pgno, entry in islice(_nearest(every, head), _MAX_HEADS):
            if not search.wanted & members:
                break
            _claim_chains(search, entry, pgno, members | {head})
    # What is left lies in chains that are scattered, or in too many of them to be looked for one by one.
    anywhere = range(1, search.layout.pages + 1)
    for pgno, entry in _nearest(every, min(search.wanted, default=0)):
        if not search.wanted:
            break
        _claim_chains(search, entry, pgno, anywhere)


def _nearest(every: list[tuple[int, str, SchemaEntry]], pgno: int) -> Iterator[tuple[int, SchemaEntry]]:
    """Yield the pages of `every`, which is sorted, by their distance from `pgno`."""
    after = bisect_left(every, (pgno,))
    before = after - 1
    while before >= 0 or after < len(every):
        if after == len(every) or (before >= 0 and pgno - every[before][0] <= every[after][0] - pgno):
            yield every[before][0], every[before][2]
            before -= 1
        else:
            yield every[after][0], every[after][2]
            after += 1


def _chain_start(search: _Search, pgno: int) -> int:
    """Go back from an overflow page for as long as the page before it points at it."""
    while pgno > 2:
        (following,) = struct.unpack_from(">I", search.read(pgno - 1))
        if following != pgno:
            break
        pgno -= 1
    return pgno


def _claim_chains(search: _Search, entry: SchemaEntry, pgno: int, heads: Container[int]) -> None:
    """Follow the overflow chains that go from page `pgno` to one of `heads`; name the wanted pages on them."""
    try:
        page = parse_page(search.read(pgno), pgno=pgno, usable=search.layout.usable)
    except Malformed:
        return
    for cell in page.cells:
        if cell.overflow is None or cell.overflow not in heads:
            continue
        owner = Owner(
            pgno=0,
            role="overflow",
            kind="index" if entry.kind == "index" else "table",
            object=entry.name,
            root=entry.root,
            rowid=cell.rowid,
            head=(pgno, cell.index),
        )
        for follower, payload in chain(search.read, cell, search.layout):
            search.claim(replace(owner, pgno=follower, payload=payload))


def chain(read: ReadPage, cell: Cell, layout: Layout) -> Iterator[tuple[int, int]]:
    """Yield the overflow pages of `cell`, each with the place of its first payload byte in the payload.

    Ends at the payload's end, and where the chain leaves the file.
    """
    pgno, payload = cell.overflow or 0, cell.local
    for _ in range(_MAX_CHAIN):
        if payload >= cell.payload_size or not 1 < pgno <= layout.pages:
            return
        yield pgno, payload
        (pgno,) = struct.unpack_from(">I", read(pgno))
        payload += layout.usable - 4


def leaf_pages(read: ReadPage, entry: SchemaEntry, layout: Layout) -> Iterator[BTreePage]:
    """Yield the leaf pages of one tree in key order, taken apart; pages that are no b-tree pages are left out."""
    stack, seen = [entry.root], {entry.root}
    while stack:
        pgno = stack.pop()
        data = read(pgno)
        kind = page_kind(data, pgno)
        if kind is not None and kind.is_leaf:
            try:
                yield parse_page(data, pgno=pgno, usable=layout.usable)
            except Malformed:
                continue
        fresh = [child for child in child_pages(data, pgno, layout.usable) if 1 < child <= layout.pages]
        fresh = [child for child in dict.fromkeys(fresh) if child not in seen]
        seen.update(fresh)
        stack.extend(reversed(fresh))
