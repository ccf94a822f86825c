"""Header, freelist and pointer map derived from the pages: what a database says of itself when its header says nothing.

1. Page 1 as a b-tree page tells the size of pages and their reserved bytes; mostly one shape fits, never more than a
   few. A log with a valid header tells the page size, too.
2. The schema's rows tell the text encoding and all root pages. Each row must hold, or nothing is derived.
3. A walk over all trees notes who uses each page. The first shape whose walk has no flaw is the database's; where none
   is without, nothing is derived: then pages may be lost that no tree knows of, and must not be called free.
4. What no tree uses is free, or holds the pointer map. Whether there is one, the entries say that stand there: they
   agree with the trees, or the header names the largest root page.
5. A freelist that names just those pages is kept as it is; another is made anew.

Nothing here uses SQLite: it works where no connection may be (H1). Every size comes from the files, never from the
header, so that a hostile one costs no more than a walk over the file.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pagewarden.pages import PageSource, WalScan, backend, lock_page
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.survey import MAPPED
from pagewarden.pages.walk import USER_SIZE, WalkPlan
from pagewarden.repair.inferred import MOST_TOUCHED, Inference
from pagewarden.repair.pointermap import agrees, map_page, map_places
from pagewarden.sqlite.btree import PageKind, page_kind
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.infer import Derived, PageShape, build_header, changed_fields, page_shapes, schema_of
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import SCHEMA_NAME, SchemaEntry
from pagewarden.structure import Flaw, Tree

MOST_PAGES = 1 << 25
"""Pages of a file that is gone through: memory is taken for each."""

MOST_SHAPES = 8
"""Shapes of pages that are walked at the most."""

_SCHEMA = SchemaEntry(kind="table", name=SCHEMA_NAME, table=SCHEMA_NAME, root=1, sql="", stated=1)
_STEP = 0.5  # seconds of a walk between two looks at what it saw
_BLOCK = 1 << 20  # bytes
_SUMMED = 64  # pages that are asked whether cksumvfs is in use
_LOOKED = 1000  # free pages that are asked whether they look like pages of a tree


class Underivable(Exception):
    """Nothing can be derived; the message says why, as a clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """All that was derived from one state of the files. The files stay open, and as they are, while it is in use."""

    source: PageSource
    shape: PageShape
    first: bytes  # page 1 as it stands
    header: bytes  # its first 100 bytes as they must be
    pages: int  # size of the database, in pages
    walk: StructureWalk  # of which the users are taken
    trunks: tuple[tuple[int, array[int]], ...] = ()  # of a new freelist: trunk pages and their leaves
    stated_trunks: tuple[int, ...] = ()  # of the freelist that stands there, where it is not kept
    free: int = 0
    orphans: int = 0
    maps: tuple[int, ...] = ()  # ptrmap pages that differ
    entries: tuple[SchemaEntry, ...] = ()
    stamped: bool = False  # whether pages bear the checksum of cksumvfs

    @property
    def written(self) -> tuple[int, ...]:
        """The pages that are to be written, page 1 first."""
        one = () if self.header == self.first[:HEADER_SIZE] else (1,)
        return (*one, *(trunk for trunk, _ in self.trunks), *self.maps)

    @property
    def folded(self) -> bool:
        """Whether a page that is to be written stands in the log."""
        return any(self.source.frame_of(pgno) is not None for pgno in self.written)

    def summary(self) -> Inference:
        """Return what a plan must know."""
        source = self.source
        fields = changed_fields(self.first, self.header)
        return Inference(
            page_size=self.shape.page_size,
            reserved=self.shape.reserved,
            pages=self.pages,
            fields=tuple(name for name in fields if name != "freelist" or not self.trunks),
            free=self.free,
            freelist=bool(self.trunks) or ("freelist" in fields and not self.free),
            orphans=self.orphans if set(fields) <= {"freelist"} else 0,
            maps=self.maps,
            touched=tuple(islice((*self.written, *self.stated_trunks), MOST_TOUCHED)),
            cut=0 if source.wal >= 0 else source.file_size - self.pages * source.page_size,
            logged=source.wal >= 0,
            folded=self.folded,
        )

    def logged_pages(self) -> Iterator[tuple[int, bytes]]:
        """Yield the pages that stand in the log, those aside that are to be written."""
        skip = set(self.written)
        for pgno, _ in struct.iter_unpack("<2I", self.source.frames):
            if pgno <= self.pages and pgno not in skip:
                yield pgno, read_page(self.source, pgno)

    def new_pages(self) -> Iterator[tuple[int, bytes, str]]:
        """Yield each page that must be written, as (number, content, why), page 1 first."""
        if self.header != self.first[:HEADER_SIZE]:
            yield 1, self._stamp(self.header + self.first[HEADER_SIZE:]), "its header did not agree with the pages"
        for place, (trunk, leaves) in enumerate(self.trunks, 1):
            after = self.trunks[place][0] if place < len(self.trunks) else 0
            numbers = struct.pack(f">{len(leaves) + 2}I", after, len(leaves), *leaves)
            stood = read_page(self.source, trunk)
            page = numbers.ljust(self.shape.usable, b"\0") + stood[self.shape.usable :]
            yield trunk, self._stamp(page), "it became a trunk page of the new freelist"
        for number in self.maps:
            stood = read_page(self.source, number)
            page = map_page(self.shape, self.walk.users, number=number, pages=self.pages, stood=stood)
            yield number, self._stamp(page), "the pointer map did not agree with the b-trees"

    def _stamp(self, page: bytes) -> bytes:
        """Return a page with the checksum that cksumvfs keeps in its last 8 bytes, where it does (H10)."""
        if not self.stamped:
            return page
        first = second = 0
        words = struct.unpack(f"<{len(page) // 4}I", page)
        for place in range(0, len(words) - 2, 2):
            first = (first + words[place] + second) & 0xFFFFFFFF
            second = (second + words[place + 1] + first) & 0xFFFFFFFF
        return page[:-8] + struct.pack("<2I", first, second)


def derive(database: int, wal: int = -1, *, threads: int = 2, schema_format: int = 0) -> Derivation:
    """Derive what can be from the files open as `database` and `wal` (-1: none). Raises Underivable, OSError.

    `schema_format` is what the header is to say, 0: what stands there, where it can be.
    """
    scan = backend().wal_scan(wal, page_size=0, most=MAPPED) if wal >= 0 else None
    log = scan if scan is not None and scan.last_commit else None
    if log is not None and log.map_left_out:
        raise Underivable("its -wal is too large to be gone through")
    size = os.fstat(database).st_size
    first = _page_one(database, wal, log, size)
    shapes = list(page_shapes(first))
    if not shapes:
        raise Underivable("page 1 is damaged behind the database header, too, so that nothing tells the size of a page")
    if log is not None and not (shapes := [shape for shape in shapes if shape.page_size == log.page_size]):
        raise Underivable(f"the pages of its -wal, of {log.page_size} bytes, have another size than page 1 says")
    reasons = []
    for shape in sorted(shapes, key=lambda each: _stated(first) != (each.page_size, each.reserved))[:MOST_SHAPES]:
        pages = size // shape.page_size if log is None else log.pages
        source = PageSource(
            database=database,
            page_size=shape.page_size,
            pages=pages,
            file_size=size,
            wal=wal if log is not None else -1,
            frames=log.map if log is not None else b"",
        )
        try:
            return _derive_with(source, shape, first[: shape.page_size], threads, schema_format)
        except Underivable as no:
            reserved = f" of which {shape.reserved} are reserved" if shape.reserved else ""
            logged = ", those in the -wal among them" if log is not None else ""
            reasons.append(f"with pages of {shape.page_size} bytes{reserved}{logged}, {no}")
    raise Underivable("; ".join(reasons))


def read_page(source: PageSource, pgno: int) -> bytes:
    """Return a page. Raises what `Backend.read` raises."""
    page = bytearray(source.page_size)
    backend().read(source, pgno, 1, page)
    return bytes(page)


def _page_one(database: int, wal: int, log: WalScan | None, size: int) -> bytes:
    """Return page 1 as SQLite would read it; without a log, as much as the largest page 1 can have."""
    if log is None:
        return os.pread(database, 65536, 0)
    source = PageSource(
        database=database, page_size=log.page_size, pages=log.pages, file_size=size, wal=wal, frames=log.map
    )
    return read_page(source, 1)


def _stated(first: bytes) -> tuple[int, int]:
    """Return the page size and the reserved bytes that the header names."""
    size = int.from_bytes(first[16:18], "big")
    return (65536 if size == 1 else size), first[20]


def _derive_with(source: PageSource, shape: PageShape, first: bytes, threads: int, schema_format: int) -> Derivation:
    """Derive all with pages of one shape. Raises Underivable."""
    if not source.pages:
        raise Underivable("the file has not one page")
    if source.pages > MOST_PAGES:
        raise Underivable(f"{source.pages} are more than can be gone through")

    def read(pgno: int) -> bytes:
        return read_page(source, pgno)

    # First the schema's tree alone: where it holds, no page of it is read twice for the rows, however they are made.
    _walk(source, shape, 1, (_SCHEMA,), threads)
    (number,) = struct.unpack_from(">I", first, 56)
    try:
        encoding, entries = schema_of(read, shape, pages=source.pages, stated=number)
    except Malformed as error:
        raise Underivable(str(error)) from error
    walk = _walk(source, shape, encoding, entries, threads)
    users = walk.users
    largest = max(entry.stated for entry in entries)
    maps = tuple(map_places(shape, source.pages))
    (stated_root,) = struct.unpack_from(">I", first, 52)
    # Nothing of a database of one page depends on the pointer map, and nothing tells whether there is to be one.
    mapped = not any(users[USER_SIZE * (number - 1)] for number in maps) and (
        stated_root == largest or (maps != () and agrees(read, shape, users, maps))
    )
    stated = _stated_freelist(source, shape, first, users, maps if mapped else ())
    pages = _size(source, first, _highest(users), stated, maps if mapped else ())
    maps = tuple(number for number in maps if number <= pages) if mapped else ()
    free = array("I", _free_pages(walk, pages, frozenset(maps)))
    kept = stated.whole and stated.size == len(free)
    trunks = () if kept else _new_trunks(free, shape.usable)
    # A freelist that agrees with itself is not what broke: what it does not name may be what a tree has lost.
    innocent = stated.whole and stated.size == struct.unpack_from(">I", first, 36)[0]
    derived = Derived(
        shape=shape,
        pages=pages,
        encoding=encoding,
        trunk=(stated.trunks or [0])[0] if kept else trunks[0][0] if trunks else 0,
        free=len(free),
        largest_root=largest if mapped else 0,
        logged=source.wal >= 0,
        schema_format=schema_format,
    )
    return Derivation(
        source=source,
        shape=shape,
        first=first,
        header=build_header(first, derived),
        pages=pages,
        walk=walk,
        trunks=trunks,
        stated_trunks=() if kept else tuple(stated.trunks),
        free=len(free),
        orphans=_orphans(source, free, stated.marks) if innocent and not kept else 0,
        entries=entries,
        maps=tuple(
            number
            for number in maps
            if map_page(shape, users, number=number, pages=pages, stood=(page := read(number))) != page
        ),
        stamped=_stamped(source, shape, users),
    )


def _walk(
    source: PageSource, shape: PageShape, encoding: int, entries: tuple[SchemaEntry, ...], threads: int
) -> StructureWalk:
    """Walk all trees. Raises Underivable at the first flaw."""
    trees = []
    for entry in entries:
        if entry.stated:
            kind = page_kind(read_page(source, entry.stated), entry.stated)
            index = entry.kind == "index" or (kind is not None and not kind.is_table)
            trees.append(Tree(name=entry.name, root=entry.stated, index=index))
    plan = WalkPlan(
        page_size=shape.page_size,
        usable=shape.usable,
        pages=source.pages,
        encoding=encoding or 1,
        pointer_map=False,
        trees=tuple(trees),
        users=True,
    )
    walk = StructureWalk(plan, threads=threads)
    while True:
        step = walk.step(source, _STEP)
        if step.flaws:
            flaw = step.flaws[0]
            raise Underivable(f"page {flaw.pgno}{_of(flaw, trees)} does not hold ({_word(flaw)})")
        if step.done:
            return walk


def _of(flaw: Flaw, trees: list[Tree]) -> str:
    return "" if flaw.tree is None else f" of {trees[flaw.tree].name}"


def _word(flaw: Flaw) -> str:
    return flaw.kind.name.lower().replace("_", " ")


def _highest(users: memoryview) -> int:
    """Return the last page that a tree uses."""
    end = len(users)
    while end:
        start = max(0, end - _BLOCK)
        if used := bytes(users[start:end]).rstrip(b"\0"):
            return (start + len(used) - 1) // USER_SIZE + 1
        end = start
    return 0


def _size(source: PageSource, first: bytes, highest: int, stated: Freelist, maps: tuple[int, ...]) -> int:
    """Return the size of the database in pages: what the header counts, if trees and freelist end before it.

    Else what the file holds, and the log's last commit in any case.
    """
    pages = source.pages
    if source.wal >= 0:
        return pages
    (claimed,) = struct.unpack_from(">I", first, 28)
    if first[24:28] == first[92:96] and stated.whole and max(highest, stated.highest) <= claimed <= pages:
        pages = claimed
    barriers = {*maps, lock_page(source.page_size)}
    while pages > highest and pages in barriers:
        pages -= 1
    return pages


@dataclass(slots=True)
class Freelist:
    """The freelist as it stands, as far as no rule is broken: each page is there, unused by trees, and named once."""

    marks: bytearray  # for each page from page 0 on: 1 where it is named, 2 where it must not be
    trunks: list[int]
    whole: bool = False

    @property
    def highest(self) -> int:
        """The last page that is named, 0 for none."""
        return max(0, self.marks.rfind(1))

    @property
    def size(self) -> int:
        """How many pages are named."""
        return self.marks.count(1)


def _stated_freelist(
    source: PageSource, shape: PageShape, first: bytes, users: memoryview, maps: tuple[int, ...]
) -> Freelist:
    marks = bytearray(source.pages + 1)
    for number in (0, 1, lock_page(source.page_size), *maps):
        if number <= source.pages:
            marks[number] = 2
    (trunk,) = struct.unpack_from(">I", first, 32)
    found = Freelist(marks, [])

    def name(pgno: int) -> bool:
        if pgno > source.pages or marks[pgno] or users[USER_SIZE * (pgno - 1)]:
            return False
        marks[pgno] = 1
        return True

    while trunk:
        if not name(trunk):
            return found
        found.trunks.append(trunk)
        page = read_page(source, trunk)
        trunk, count = struct.unpack_from(">II", page)
        if count > shape.usable // 4 - 2 or not all(map(name, struct.unpack_from(f">{count}I", page, 8))):
            return found
    found.whole = True
    return found


def _free_pages(walk: StructureWalk, pages: int, maps: frozenset[int]) -> Iterator[int]:
    for start, count in walk.unused():
        for pgno in range(start, min(start + count, pages + 1)):
            if pgno not in maps:
                yield pgno


def _new_trunks(free: array[int], usable: int) -> tuple[tuple[int, array[int]], ...]:
    """Share free pages among trunk pages. SQLite before 3.6.0 could not read the last 6 entries of a full one."""
    each = usable // 4 - 8 + 1
    return tuple((free[place], free[place + 1 : place + each]) for place in range(0, len(free), each))


def _orphans(source: PageSource, free: array[int], marks: bytearray) -> int:
    """Count the free pages that the freelist did not name and that look like pages of a tree, _LOOKED at the most."""
    unnamed = (pgno for pgno in free if marks[pgno] != 1)
    return sum(_looks_used(read_page(source, pgno), pgno) for pgno in islice(unnamed, _LOOKED))


def _looks_used(page: bytes, pgno: int) -> bool:
    return isinstance(page_kind(page, pgno), PageKind) and page[3:5] != b"\0\0"


def _stamped(source: PageSource, shape: PageShape, users: memoryview) -> bool:
    """Return whether cksumvfs keeps checksums in the reserved bytes: most pages of trees hold to theirs."""
    if shape.reserved != 8:
        return False
    used = (pgno for pgno in range(2, source.pages + 1) if users[USER_SIZE * (pgno - 1)])
    sums = [backend().reserved_sums(source, pgno, 1) for pgno in islice(used, _SUMMED)]
    return 2 * sums.count(b"\1") > len(sums)
