"""A closed private file, read in pages, and who uses each of them: which tree, and which page's overflow chains.

The file may be damaged and hostile. What a walk over the trees concludes of its sound part comes from the scanner; what
is wrong with the rest is followed here as far as SQLite would go: a page that is used twice belongs to both trees, and
the children of a damaged page count as long as it names them. Every page is visited once for each tree at the most.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from pagewarden.errors import DatabaseUnreadable, NotADatabase
from pagewarden.pages import PageSource, backend, lock_page
from pagewarden.pages.walk import plan_walk
from pagewarden.sqlite.btree import child_pages
from pagewarden.sqlite.header import HEADER_SIZE, page_size_of
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Flaw, FlawKind, Tree

CHUNK = 8 << 20
"""Bytes that are read at once where all pages are."""

MOST_FLAWS = 1_000_000
"""Flaws of one walk; a file with more cannot be judged page by page."""

_STEP = 4096  # pages of one call of the walk
_ROOT, _FIRST_OVERFLOW, _LATER_OVERFLOW, _NODE = 1, 3, 4, 5  # file format, section 1.8

Tick = Callable[[], None]
"""Called now and then by whatever may take long; it raises where there is no more time."""


class TooDamaged(Exception):
    """There is more damage than can be followed within bounds; the message says of what."""


class ClosedFile:
    """The pages of a private file that nobody writes to. A context manager."""

    def __init__(self, path: Path, *, header: bytes | None = None) -> None:
        """Open the file, whose pages are as `header`, 100 bytes, says: its own where that is left out.

        Raises NotADatabase where that names no page size, DatabaseUnreadable where the file cannot be read.
        """
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise DatabaseUnreadable(f"{path} cannot be read: {error.strerror}") from error
        size = os.fstat(self._descriptor).st_size
        first = header or os.pread(self._descriptor, HEADER_SIZE, 0).ljust(HEADER_SIZE, b"\0")
        self.page_size = page_size_of(first)
        if not self.page_size:
            self.close()
            raise NotADatabase(f"{path} has no header that names the size of its pages")
        self.pages = -(-size // self.page_size)
        self.torn = size % self.page_size != 0  # whether the file ends within its last page
        self.source = PageSource(database=self._descriptor, page_size=self.page_size, pages=self.pages, file_size=size)
        self.header = first
        self.layout = Layout.of(first, page_size=self.page_size, pages=self.pages)

    def page(self, pgno: int) -> bytes:
        """Return a page, filled up with zeros where the file ends within it."""
        data = os.pread(self._descriptor, self.page_size, (pgno - 1) * self.page_size)
        return data if len(data) == self.page_size else data.ljust(self.page_size, b"\0")

    def mark(self, pgno: int) -> bytes:
        """Return some bytes of a page by which it is told from most others."""
        page = self.page(pgno)
        return bytes(page[at] for at in self._marked())

    def marks(self) -> Iterator[tuple[int, bytes]]:
        """Yield every page's number and `mark`."""
        size, step = self.page_size, max(1, CHUNK // self.page_size)
        for first in range(1, self.pages + 1, step):
            count = min(step, self.pages + 1 - first)
            data = os.pread(self._descriptor, count * size, (first - 1) * size).ljust(count * size, b"\0")
            yield from enumerate(map(bytes, zip(*(data[at::size] for at in self._marked()), strict=True)), start=first)

    def _marked(self) -> tuple[int, ...]:
        """Where the bytes of a mark stand: in the b-tree header, the first pointers, the first cell on the page."""
        return (*range(3, 12), *range(self.page_size - 20, self.page_size, 4))

    def survey(self, tick: Tick) -> Survey:
        """Read every page once, and return what is remembered of each."""
        size, step = self.page_size, max(1, CHUNK // self.page_size)
        sums, kinds, high, low = bytearray(), bytearray(), bytearray(), bytearray()
        using = backend()
        for first in range(1, self.pages + 1, step):
            tick()
            count = min(step, self.pages + 1 - first)
            data = os.pread(self._descriptor, count * size, (first - 1) * size).ljust(count * size, b"\0")
            sums += using.buffer_sums(data, size, first, count)
            kinds += data[::size]
            high += data[3::size]
            low += data[4::size]
            if first == 1:
                kinds[0], high[0], low[0] = data[HEADER_SIZE], data[HEADER_SIZE + 3], data[HEADER_SIZE + 4]
        return Survey(sums=bytes(sums), kinds=bytes(kinds), cells=_numbers("H", high, low))

    def usage(self, trees: Sequence[Tree], tick: Tick, *, judged: bool = False) -> Usage:
        """Walk `trees` and return who uses each page; with `judged`, judge records and orders by their columns, too.

        Raises TooDamaged.
        """
        return Usage(self, trees if judged else tuple(map(_bare, trees)), tick)

    def close(self) -> None:
        """Close the file; in this process nobody may have it open through SQLite (H1)."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _numbers(kind: str, *columns: Sequence[int]) -> array[int]:
    """Return the numbers whose bytes, from the most significant one on, stand in `columns`."""
    data = bytearray(len(columns) * len(columns[0]))
    for place, column in enumerate(columns):
        data[place :: len(columns)] = bytes(column)
    numbers = array(kind, bytes(data))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


class Survey:
    """What is remembered of each page of a file."""

    __slots__ = ("cells", "kinds", "sums")

    def __init__(self, *, sums: bytes, kinds: bytes, cells: array[int]) -> None:
        self.sums = sums  # page sums, 8 bytes each
        self.kinds = kinds  # the byte that says which kind of b-tree page each is, if it is any
        self.cells = cells  # what each page, if it is of a b-tree, says of the number of its cells


def differing(one: bytes, other: bytes) -> set[int]:
    """Return the numbers of the pages of `one` whose sums differ from those of `other`, or that it has not."""
    from pagewarden.pages.scan import differing_runs

    return {
        pgno
        for place, count in differing_runs(one, other.ljust(len(one), b"\0")[: len(one)])
        for pgno in range(place + 1, place + count + 1)
    } | set(range(len(other) // 8 + 1, len(one) // 8 + 1))


class Usage:
    """Who uses each page of a file; made by `ClosedFile.usage`."""

    def __init__(self, file: ClosedFile, trees: Sequence[Tree], tick: Tick) -> None:
        self.trees = tuple(trees)
        self.flaws: list[Flaw] = []
        self._file = file
        self._tick = tick
        self._kinds, self._parents = self._walk()
        self._tree_of = self._climb_all()
        self._heads: dict[int, int] = {}  # of overflow pages that were asked for
        self._extra: dict[int, dict[int, None]] = {}  # by tree: pages that another one uses, too
        self._left = 4 * file.pages + 10_000  # visits that damage may still cost
        self.flawed: set[int] = set()  # b-tree pages on which something is wrong, or in whose overflow chains
        self.broken: set[int] = set()  # trees of which a part cannot be reached, by their place
        self._follow_damage()

    def tree_of(self, pgno: int) -> int | None:
        """Return the place of the tree whose b-tree page this is; None where no tree's."""
        place = self._tree_of[pgno] if pgno < len(self._tree_of) else -1
        return place if place >= 0 else None

    def belongs(self, pgno: int, tree: int) -> bool:
        """Whether a b-tree page is used by a tree, whoever else uses it."""
        return self.tree_of(pgno) == tree or pgno in self._extra.get(tree, ())

    def shared(self, pgno: int, tree: int) -> bool:
        """Whether another tree uses a page of this one, too."""
        first = self.tree_of(pgno)
        if first is None and self.used(pgno):
            return True  # as an overflow page
        others = [place for place, pages in self._extra.items() if place != tree and pgno in pages]
        return bool(others) or first not in (None, tree)

    def by_tree(self) -> list[array[int]]:
        """Return the b-tree pages of each tree, ascending, with those that it should not have at the end."""
        found = [array("I") for _ in self.trees]
        for pgno, place in enumerate(self._tree_of):
            if place >= 0:
                found[place].append(pgno)
        for place, pages in self._extra.items():
            found[place].extend(pages)
        return found

    def parent(self, pgno: int) -> int:
        """Return the parent of a b-tree page; 0 for a root, or where it is not known."""
        return self._parents[pgno - 1] if self._kinds[pgno - 1] == _NODE else 0

    def holder(self, pgno: int) -> int | None:
        """Return the b-tree page whose cell an overflow page belongs to; None where it is no overflow page."""
        way: list[int] = []
        found = None
        while 1 <= pgno <= len(self._kinds):
            if pgno in self._heads:
                found = self._heads[pgno]
                break
            kind = self._kinds[pgno - 1]
            if kind not in (_FIRST_OVERFLOW, _LATER_OVERFLOW) or len(way) > len(self._kinds):
                break
            way.append(pgno)
            pgno = self._parents[pgno - 1]
            if kind == _FIRST_OVERFLOW:
                found = pgno
                break
        if found is not None:
            self._heads.update(dict.fromkeys(way, found))
        return found

    def used(self, pgno: int) -> bool:
        """Whether any of the trees uses a page, for whatever."""
        return 1 <= pgno <= len(self._kinds) and self._kinds[pgno - 1] != 0

    def _walk(self) -> tuple[bytes, array[int]]:
        file, count = self._file, self._file.pages
        if not count:
            return b"", array("I")
        plan = plan_walk(file.header, page_size=file.page_size, pages=count, trees=self.trees, users=True)
        walker = backend().walker(plan)
        for place in range(len(self.trees)):
            parts = walker.parts()
            parts.push_root(place)
            while not parts.empty:
                self._tick()
                seen = walker.walk(file.source, parts, _STEP)
                self.flaws += seen.flaws
                # What a visit leaves out is of a page that has flaws enough to be followed by hand.
                if len(self.flaws) > MOST_FLAWS:
                    raise TooDamaged(f"more than {len(self.flaws)} flaws in the pages of {file.path.name}")
        users = bytes(walker.users())
        parents = _numbers("I", users[1::5], users[2::5], users[3::5], users[4::5])
        return users[0::5], parents

    def _climb_all(self) -> array[int]:
        """Return for each page, from 0, the place of its tree, -1 for none."""
        kinds, parents = self._kinds, self._parents
        found = array("i", [-1]) * (len(kinds) + 1)
        for place in reversed(range(len(self.trees))):
            root = self.trees[place].root
            if 1 <= root <= len(kinds) and (kinds[root - 1] == _ROOT or root == 1):
                found[root] = place
        for pgno in range(2, len(kinds) + 1):
            if kinds[pgno - 1] != _NODE or found[pgno] >= 0:
                continue
            way = [pgno]
            above = parents[pgno - 1]
            while found[above] < 0 and kinds[above - 1] == _NODE and len(way) < 64:
                way.append(above)
                above = parents[above - 1]
            for each in way:
                found[each] = found[above]
        return found

    def _follow_damage(self) -> None:
        lost = (
            FlawKind.PAGE_TYPE, FlawKind.PAGE_NUMBER, FlawKind.PAGE_HEADER, FlawKind.CELL_POINTER, FlawKind.CELL_SIZE,
            FlawKind.DEPTH, FlawKind.TWICE, FlawKind.UNREADABLE, FlawKind.OVERFLOW_LENGTH, FlawKind.RECORD_HEADER,
            FlawKind.SERIAL_TYPE, FlawKind.ROWID_ORDER, FlawKind.KEY_ORDER, FlawKind.CELL_OVERLAP, FlawKind.EMPTY_PAGE,
        )  # fmt: skip
        by_hand: dict[tuple[int, int], None] = {}
        for flaw in self.flaws:
            if flaw.tree is None:
                continue
            if flaw.kind in lost:
                self.broken.add(flaw.tree)
            for pgno in (flaw.pgno, flaw.other):
                if pgno is not None and self.used(pgno):
                    self.flawed.add(self.holder(pgno) or pgno)
                    by_hand[flaw.tree, pgno] = None
            if flaw.kind is FlawKind.TWICE:
                self._claim(flaw.tree, flaw.pgno)
        for tree, pgno in by_hand:
            if self.belongs(pgno, tree):
                for child in child_pages(self._file.page(pgno), pgno, self._file.layout.usable):
                    self._claim(tree, child)

    def _claim(self, tree: int, pgno: int) -> None:
        """Let a page, and all below it, belong to a tree that is not the first to use it."""
        claimed = self._extra.setdefault(tree, {})
        stack = [pgno]
        while stack:
            pgno = stack.pop()
            if not 1 < pgno <= self._file.pages or pgno in claimed or self.tree_of(pgno) == tree:
                continue
            if pgno == lock_page(self._file.page_size):
                continue
            self._left -= 1
            if self._left < 0:
                raise TooDamaged(f"pages of {self._file.path.name} are used again and again")
            self._tick()
            claimed[pgno] = None
            self.flawed.add(pgno)
            stack += child_pages(self._file.page(pgno), pgno, self._file.layout.usable)


def _bare(tree: Tree) -> Tree:
    """Return a tree without what is known of its columns: the walk has less to judge."""
    return Tree(name=tree.name, root=tree.root, index=tree.index)
