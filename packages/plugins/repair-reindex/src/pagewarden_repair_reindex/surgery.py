"""Cuts indexes loose: their b-trees are forgotten, and each gets an empty root page (file format, section 1.6).

SQLite's own REINDEX begins with freeing every page of the old tree. In a damaged one that may be any page, of a table,
too, and a page that cannot be read ends it. So no pointer of a condemned tree is followed here:
1. All other trees are walked. They must be sound, for what none of them uses is free.
2. The root page of a condemned tree becomes an empty leaf where it stands. If another tree uses it, or it is none, the
   tree gets one of the free pages; in a database with ptrmap pages one that has been a root, for those must lie first.
3. The freelist and the pointer map are written anew from the walk.

What was cut loose is empty then, and all else is as SQLite wants it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from itertools import chain, islice

from pagewarden.contracts import RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.pages import PageSource, lock_page
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import USER_SIZE, plan_walk
from pagewarden.repair.pointermap import last_entry, map_page, map_places
from pagewarden.sqlite.btree import PageKind
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.infer import PageShape
from pagewarden.sqlite.schema import Layout, read_schema
from pagewarden.structure import FlawKind, Tree

_WHY = "an index was built anew"
_SECONDS = 0.5  # of walking between two words of progress
_HARMLESS = frozenset({FlawKind.NOT_NULL})
_WAS_ROOT = 1  # type of a ptrmap entry
_UNUSED_SLOTS = 8  # SQLite leaves the last 6 of a trunk page empty, for releases before 3.6 (file format, section 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The bare copy."""

    shape: PageShape
    pages: int
    file_size: int  # bytes
    pointer_maps: bool

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.shape.page_size


def cut_loose(bench: RepairBench, names: Iterable[str]) -> dict[str, int]:
    """Empty the b-trees of the indexes, or tables, `names`; return the root pages that the schema does not name yet.

    Raises RepairRefused where another tree is damaged: then nothing was written.
    """
    file, layout = _open(bench)
    wanted = set(names)
    description = describe_trees(lambda pgno: _page(bench, pgno, file), layout)
    condemned = [tree for tree in description.trees if tree.name in wanted]
    rooted = {tree.name for tree in condemned}
    entries = read_schema(lambda pgno: _page(bench, pgno, file), layout)
    condemned += [
        Tree(name=entry.name, root=0, index=True)
        for entry in entries
        if entry.kind == "index" and entry.name in wanted - rooted
    ]
    if not description.whole or {tree.name for tree in condemned} != wanted:
        raise RepairRefused("the schema cannot be read as it was when the repair was planned")
    kept = [tree for tree in description.trees if tree.name not in wanted]
    walk = _walk(bench, file, layout, kept)
    roots = _roots(bench, file, walk, condemned)
    why = f"{_WHY}: {condemned[0].name}" if len(condemned) == 1 else _WHY
    for tree in condemned:
        bench.write(roots[tree.name], _empty(file, index=tree.index), why)
    taken = sorted(roots.values())
    _write_freelist(bench, _without(walk.unused(), taken), file.shape, why)
    if file.pointer_maps:
        _write_pointer_map(bench, file, walk.users, taken, why)
    return {tree.name: roots[tree.name] for tree in condemned if roots[tree.name] != tree.root}


def _open(bench: RepairBench) -> tuple[_File, Layout]:
    first = bench.read(1, 512)
    try:
        header = DatabaseHeader.parse(first[:HEADER_SIZE])
    except HeaderInvalid as error:
        raise RepairRefused(f"the database has no header: {error}") from error
    size = bench.database.stat().st_size
    pages = header.page_count if header.count_valid else size // header.page_size
    if size < pages * header.page_size:
        raise RepairRefused(f"the file has {size} bytes, and {pages} pages of {header.page_size} do not fit in")
    layout = Layout.of(bench.read(1, header.page_size), page_size=header.page_size, pages=pages)
    file = _File(
        shape=PageShape(page_size=header.page_size, usable=layout.usable),
        pages=pages,
        file_size=size,
        pointer_maps=layout.pointer_maps,
    )
    return file, layout


def _page(bench: RepairBench, pgno: int, file: _File) -> bytes:
    return bench.read(pgno, file.page_size).ljust(file.page_size, b"\0")


def _walk(bench: RepairBench, file: _File, layout: Layout, kept: Sequence[Tree]) -> StructureWalk:
    """Walk the trees that stay. Raises RepairRefused where one is damaged."""
    first = _page(bench, 1, file)
    plan = plan_walk(first, page_size=layout.page_size, pages=layout.pages, trees=kept, users=True)
    walk = StructureWalk(plan)
    with closing(FileIO(os.open(bench.database, os.O_RDONLY | os.O_CLOEXEC))) as opened:
        source = PageSource(
            database=opened.fileno(), page_size=file.page_size, pages=file.pages, file_size=file.file_size
        )
        done = False
        while not done:
            step = walk.step(source, _SECONDS)
            for flaw in step.flaws:
                if flaw.kind not in _HARMLESS:
                    name = "the schema" if flaw.tree is None else kept[flaw.tree].name
                    raise RepairRefused(
                        f"{name} is damaged on page {flaw.pgno} ({flaw.kind.name.lower()}), "
                        "so that nobody can tell which pages are free"
                    )
            bench.progress(step.pages, file.pages)
            done = step.done
    return walk


def _roots(bench: RepairBench, file: _File, walk: StructureWalk, condemned: Sequence[Tree]) -> dict[str, int]:
    """Return a root page for each condemned tree, its own wherever that can be."""
    users = walk.users
    taken = {lock_page(file.page_size)}
    if file.pointer_maps:
        taken.update(map_places(file.shape, file.pages))

    def take(pgno: int) -> bool:
        free = 1 < pgno <= file.pages and not users[USER_SIZE * (pgno - 1)] and pgno not in taken
        if free:
            taken.add(pgno)
        return free

    roots = {tree.name: tree.root for tree in condemned if take(tree.root)}
    homeless = [tree for tree in condemned if tree.name not in roots]
    if homeless:
        others = filter(take, _former_roots(bench, file) if file.pointer_maps else _pages(walk.unused()))
        for tree in homeless:
            root = next(others, None)
            if root is None:
                raise RepairRefused(f"there is no page that could be the root page of {tree.name}")
            roots[tree.name] = root
    return roots


def _pages(runs: Iterable[tuple[int, int]]) -> Iterator[int]:
    for first, count in runs:
        yield from range(first, first + count)


def _former_roots(bench: RepairBench, file: _File) -> Iterator[int]:
    """Yield the pages that the pointer map, as it stands, calls root pages."""
    for pgno in map_places(file.shape, file.pages):
        last = last_entry(file.shape, pgno, file.pages)
        types = _page(bench, pgno, file)[: USER_SIZE * (last - pgno) : USER_SIZE]
        yield from (pgno + 1 + place for place, kind in enumerate(types) if kind == _WAS_ROOT)


def _without(runs: Iterable[tuple[int, int]], taken: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs without the pages `taken`, which are in ascending order."""
    waiting = iter(taken)
    cut = next(waiting, 0)
    for first, count in runs:
        start, end = first, first + count
        while cut and cut < end:
            if cut > start:
                yield start, cut - start
            start, cut = max(start, cut + 1), next(waiting, 0)
        if start < end:
            yield start, end - start


def _empty(file: _File, *, index: bool) -> bytes:
    """Return a leaf without cells."""
    kind = PageKind.INDEX_LEAF if index else PageKind.TABLE_LEAF
    content = (file.shape.usable & 0xFFFF).to_bytes(2, "big")  # 65536 is written as 0
    return (bytes((kind, 0, 0, 0, 0)) + content).ljust(file.page_size, b"\0")


def _write_freelist(bench: RepairBench, runs: Iterable[tuple[int, int]], shape: PageShape, why: str) -> None:
    """Let the pages of `runs`, (first, count) in ascending order, be all of the freelist; page 1 is written last."""
    pages = chain.from_iterable(range(first, first + count) for first, count in runs)
    head = trunk = next(pages, 0)
    total = 0
    while trunk:
        leaves = tuple(islice(pages, shape.usable // 4 - _UNUSED_SLOTS))
        following = next(pages, 0)
        words = (following, len(leaves), *leaves)
        page = b"".join(word.to_bytes(4, "big") for word in words)
        bench.write(trunk, page.ljust(shape.page_size, b"\0"), why)
        total += 1 + len(leaves)
        trunk = following
    first_page = bytearray(bench.read(1, shape.page_size))
    first_page[32:40] = head.to_bytes(4, "big") + total.to_bytes(4, "big")
    bench.write(1, bytes(first_page), why)


def _write_pointer_map(bench: RepairBench, file: _File, users: memoryview, roots: Iterable[int], why: str) -> None:
    """Write the ptrmap pages that are not as the walk and the new `roots` want them."""
    wanted = bytearray(users)
    for root in roots:
        wanted[USER_SIZE * (root - 1) : USER_SIZE * root] = bytes((_WAS_ROOT, 0, 0, 0, 0))
    for number in map_places(file.shape, file.pages):
        stood = _page(bench, number, file)
        page = map_page(file.shape, memoryview(wanted), number=number, pages=file.pages, stood=stood)
        if page != stood:
            bench.write(number, page, why)
