"""The two files that a database is put together from, in pages: the restore point, and what is left of the damaged one.

Nothing of the damaged file is read through SQLite: whatever it would answer over damage is no evidence (H28).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property

from pagewarden.repair.closed import ClosedFile, differing
from pagewarden.repair.lookups import fold
from pagewarden.repair.rows import chain_pages, lacking, leaf_cells, raw_row
from pagewarden.sqlite.btree import Cell, PageKind, child_pages, parse_page
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.sqlite.record import Malformed
from pagewarden.structure import Flaw, FlawKind, Tree
from pagewarden.values import Finding, Severity

_ALIKE = 0.1  # of a table's rows that must stand in a tree that is taken for its own
_TABLE_KINDS = (PageKind.TABLE_LEAF, PageKind.TABLE_INTERIOR)
_INDEX_KINDS = (PageKind.INDEX_LEAF, PageKind.INDEX_INTERIOR)
_OF_PLACE = (FlawKind.ROWID_ORDER, FlawKind.KEY_ORDER)
_DEEPEST = 32  # pages from a leaf to its root, and more than SQLite follows
_MOST_COMPARED = 100_000  # pages whose contents are looked for elsewhere
_HEAD = 64  # bytes of a page by which it is known elsewhere: its header and pointers to its cells
_DISTINCT = 8  # different ones among these, or they are no sign
_SECTOR = 512  # bytes that a disk loses at once, at the least


def never() -> None:
    """Let everything take its time: the run has a deadline for the repairer as a whole."""


class Image:
    """One of the two files, with who uses its pages."""

    def __init__(self, file: ClosedFile, trees: Sequence[Tree], *, judged: bool = False) -> None:
        """`trees` are all of the schema, the schema's own first; `judged` says whether their records are, too."""
        self.file = file
        self.survey = file.survey(never)
        self.usage = file.usage(trees, never, judged=judged)
        self.trees = tuple(trees)
        self.places = {fold(tree.name): place for place, tree in enumerate(trees)}
        self._by_tree = self.usage.by_tree()

    def pages(self, name: str) -> list[int]:
        """Return the pages of a table on which rows stand; none of one that it does not have."""
        place = self.places.get(name)
        if place is None:
            return []
        kinds = self.survey.kinds
        whole = self.trees[place].index
        return [pgno for pgno in self._by_tree[place] if whole or kinds[pgno - 1] == PageKind.TABLE_LEAF]

    def rows(self, name: str) -> int:
        """Return how many rows the pages of a table say that they hold."""
        return sum(self.survey.cells[pgno - 1] for pgno in self.pages(name))

    def has(self, name: str, pgno: int) -> bool:
        """Whether a page is used by a table."""
        place = self.places.get(name)
        return place is not None and self.usage.belongs(pgno, place)


class Damaged(Image):
    """The damaged file."""

    def __init__(
        self, file: ClosedFile, base: Image, trees: Sequence[Tree], findings: Sequence[Finding], tables: dict[str, str],
        *, mangled: bool = False,
    ) -> None:  # fmt: skip
        """`base` is the restore point; `tables` says which table an index is of. Names are folded.

        `mangled` says that the file was transferred as text: then every page that differs is moved.
        """
        super().__init__(file, trees, judged=True)
        self.bad_trees: set[int] = set()
        self._bad: set[tuple[int | None, int]] = set()  # tree, or None for any, and page on which something is wrong
        self._bad_cells: set[tuple[int, int]] = set()  # page and cell of rows whose overflow chain is wrong
        self._bad_overflow: set[int] = set()  # overflow pages on which something is wrong
        self._contested: set[int] = set()  # pages that are used twice, or lie below such a one
        self._rightful: dict[int, int] = {}  # by page: which of the trees that use it is the right one
        self._cut_short: set[int] = set()  # pages with rows whose overflow chain is shorter or longer than they need
        self._doubled: set[int] = set()  # pages that one tree has twice
        self._lost: set[int] = set()  # trees of which a part cannot be reached
        self._base = base
        self.suspect = suspects(self, base)
        self._judge(findings, tables)
        self._accuse_from(2 if mangled else self._shifted_from(base))
        self._find_lost_sectors(base)
        self._find_misplaced(base)

    def sound(self, name: str) -> bool:
        """Whether a table is there, and nothing is known to be wrong with it."""
        place = self.places.get(name)
        return place is not None and place not in self.bad_trees

    def believed(self, name: str, pgno: int, cell: Cell) -> bool:
        """Whether a row of a page may be taken for one of a table.

        A page that two trees use is right for one of them: for that which had it in the restore point.
        """
        place = self.places[name]
        if not self._bad.isdisjoint({(place, pgno), (None, pgno)}) or (pgno, cell.index) in self._bad_cells:
            return False
        contested = pgno in self._contested or self.usage.shared(pgno, place)
        if contested and not self._base.has(name, pgno) and self._rightful.get(pgno) != place:
            return False
        if cell.overflow is None or not (self._bad_overflow or self._contested):
            return True
        for page, _ in chain_pages(self.file, cell, never):
            ours = self._base.usage.holder(page) == pgno or self._rightful.get(page) == place
            if page in self._bad_overflow or (page in self._contested and not ours):
                return False
        return True

    def lost_a_part(self, name: str) -> bool:
        """Whether pages of a table cannot be reached."""
        return self.places.get(name, -1) in self._lost

    def resembles(self, base: Image, name: str) -> bool:
        """Whether a table is that of the restore point, grown older: both share pages, or some of their rows."""
        place = self.places.get(name)
        if place is None:
            return False
        pages, known = self.pages(name), base.pages(name)
        if self.suspect is not None and any(pgno not in self.suspect and base.has(name, pgno) for pgno in pages):
            return True
        rows = base.rows(name)
        left = lacking(base.file, known, self.file, pages, never, index=self.trees[place].index)
        return rows > 0 and rows - sum(map(len, left.values())) >= rows * _ALIKE

    def _judge(self, findings: Sequence[Finding], tables: dict[str, str]) -> None:
        strange = {flaw.pgno for flaw in self.usage.flaws if flaw.kind is FlawKind.PAGE_TYPE}
        strange |= {flaw.pgno for flaw in self.usage.flaws if flaw.kind is FlawKind.ROWID_ORDER}
        self._cut_short = {flaw.pgno for flaw in self.usage.flaws if flaw.kind is FlawKind.OVERFLOW_LENGTH}
        places: list[Flaw] = []
        for flaw in self.usage.flaws:
            self._blame(flaw.tree)
            overflow = self.usage.holder(flaw.pgno) is not None
            if flaw.kind is FlawKind.TWICE:
                self._contest(flaw, strange)
            elif overflow:
                self._bad_overflow.add(flaw.pgno)
            elif flaw.kind is FlawKind.OVERFLOW_LENGTH and flaw.cell is not None:
                self._bad_cells.add((flaw.pgno, flaw.cell))
            elif flaw.kind in _OF_PLACE:
                places.append(flaw)
            elif flaw.kind is not FlawKind.DEPTH:  # that is told of all leaves if the first one is wrong
                self._bad.add((flaw.tree, flaw.pgno))
                if flaw.tree is not None:
                    self._lost.add(flaw.tree)
        # A page that its tree has twice is met first at a place that may be wrong; that says nothing against the page.
        self._bad |= {(flaw.tree, flaw.pgno) for flaw in places if not self._below(flaw.pgno, self._doubled)}
        if self.file.torn:
            self._accuse(self.file.pages)
        structural = set(self.bad_trees)
        for finding in findings:
            if finding.severity is not Severity.DAMAGE:
                continue
            if finding.pgno is not None:
                self._accuse(finding.pgno)
            elif finding.object is not None:
                name = fold(finding.object)
                # An index whose pages are sound accuses its table.
                if name in tables and self.places.get(name) not in structural:
                    name = tables[name]
                self._blame(self.places.get(name))

    def _may_be_node(self, pgno: int, tree: int) -> bool:
        """Whether a page says that it is of a b-tree of the kind of `tree`."""
        return self.survey.kinds[pgno - 1] in (_INDEX_KINDS if self.trees[tree].index else _TABLE_KINDS)

    def _contest(self, flaw: Flaw, strange: Collection[int]) -> None:
        """Note that a page is used by a second tree: whoever was first may be the wrong one.

        `strange` are pages of a wrong kind for the tree that used them first.
        """
        first = self._user(flaw.pgno)
        self._blame(first)
        self._contested.add(flaw.pgno)
        if flaw.tree is None:
            return
        child = self._names(flaw.other, flaw.pgno)
        right = self._right(flaw, flaw.tree, first, child=child, strange=flaw.pgno in strange)
        if right is not None:
            self._rightful.setdefault(flaw.pgno, right)
        if child:
            known = right == flaw.tree or (right is None and self._base.has(self._name(flaw.tree), flaw.pgno))
            self._lost.add(first if known and first is not None else flaw.tree)

    def _right(self, flaw: Flaw, tree: int, first: int | None, *, child: bool, strange: bool) -> int | None:
        """Return which of its two users a page belongs to, where that is sure."""
        overflow = self.usage.holder(flaw.pgno) is not None
        if child and not self._may_be_node(flaw.pgno, tree):
            return first
        if child and overflow:  # what says that it is a b-tree page begins with no number of an overflow page
            return tree
        if child and first == tree:
            self._doubled.add(flaw.pgno)
            return tree
        if self.trees[tree].root == flaw.pgno:
            return tree
        if first is not None and self.trees[first].root == flaw.pgno:
            return first
        if child and flaw.other is not None:
            if not (self._within(flaw.other, flaw.pgno) and self._as_wide(flaw.pgno, tree)):
                return first
            strange = strange or (first is not None and not self._as_wide(flaw.pgno, first))
        if not child and overflow and self.usage.holder(flaw.pgno) in self._cut_short:
            return tree
        return tree if strange else None

    def _within(self, parent: int, pgno: int) -> bool:
        """Whether the rowids of a page are such as its place in its parent allows; True where it has none."""
        size, above = self.file.layout.usable, leaf_cells(self.file, pgno, index=False)
        if above is None or self.survey.kinds[parent - 1] != PageKind.TABLE_INTERIOR:
            return True
        rowids = [cell.rowid for cell in above[1].cells if cell.rowid is not None]
        lower: int | None = None
        for cell in parse_page(self.file.page(parent), pgno=parent, usable=size).cells:
            if cell.child == pgno:
                upper = cell.rowid
                break
            lower = cell.rowid
        else:
            upper = None
        return all((lower is None or lower < rowid) and (upper is None or rowid <= upper) for rowid in rowids)

    def _as_wide(self, pgno: int, tree: int) -> bool:
        """Whether no row of a page has more columns than a tree's; True for a page without rows."""
        page = leaf_cells(self.file, pgno, index=self.trees[tree].index)
        most = len(self.trees[tree].columns)
        for cell in () if page is None else page[1].cells:
            with suppress(Malformed):
                if page is not None and most < len(raw_row(self.file, page[0], cell, never).values):
                    return False
        return True

    def _below(self, pgno: int, pages: Collection[int]) -> bool:
        for _ in range(_DEEPEST):
            if pgno in pages:
                return True
            pgno = self.usage.parent(pgno)
        return False

    def _name(self, tree: int) -> str:
        return fold(self.trees[tree].name)

    def _names(self, holder: int | None, pgno: int) -> bool:
        """Whether a page is a root, or the child of `holder`; else it is used as an overflow page."""
        if holder is None:
            return True
        return pgno in child_pages(self.file.page(holder), holder, self.file.layout.usable)

    def _accuse(self, pgno: int) -> None:
        """Note that something is wrong with a page, whatever it is used for."""
        self._blame(self._user(pgno))
        overflow = 1 <= pgno <= self.file.pages and self.usage.holder(pgno) is not None
        if overflow:
            self._bad_overflow.add(pgno)
        else:
            self._bad.add((None, pgno))

    def _blame(self, place: int | None) -> None:
        if place is not None:
            self.bad_trees.add(place)

    def _user(self, pgno: int) -> int | None:
        if not 1 <= pgno <= self.file.pages:
            return None
        return self.usage.tree_of(self.usage.holder(pgno) or pgno)

    def _shifted_from(self, base: Image) -> int | None:
        """Return the page within which bytes were put in or taken out, None where nothing shows that.

        It begins where it should, and ends moved; all pages that follow are moved, whatever they look like.
        """
        suspect = (self.suspect or ()) if self.file.torn else ()  # one of whole pages tells nothing
        first = next((pgno for pgno in sorted(suspect) if stands_moved(self.file, base.file, pgno)), None)
        if first is None:
            return None
        bad = {pgno for _, pgno in self._bad} | self._bad_overflow
        for pgno in range(first - 1, 0, -1):
            if pgno not in suspect and any(self.file.page(pgno)):
                break  # it is whole
            first = pgno
            node = self.usage.holder(pgno) is None and self.survey.kinds[pgno - 1] in (*_TABLE_KINDS, *_INDEX_KINDS)
            if node and pgno not in bad:
                break  # its header says that it begins where it should
        return first

    def _accuse_from(self, first: int | None) -> None:
        """Note that every page from `first` on is moved that is not as the restore point has it."""
        for pgno in self.suspect or ():
            if first is not None and pgno >= first:
                self._accuse(pgno)
                self._bad_overflow.add(pgno)  # it may be one of a row that no tree leads to

    def _find_lost_sectors(self, base: Image) -> None:
        """Look for pages that are the restore point's but for sectors that are all zeros now: no commit does that."""
        zeros = bytes(_SECTOR)
        for pgno in sorted(self.suspect or ()):
            if pgno > base.file.pages:
                break
            if not self.usage.used(pgno):
                continue
            now, then = self.file.page(pgno), base.file.page(pgno)
            changed = [at for at in range(0, len(now), _SECTOR) if now[at : at + _SECTOR] != then[at : at + _SECTOR]]
            if changed and all(now[at : at + _SECTOR] == zeros for at in changed):
                self._accuse(pgno)

    def _find_misplaced(self, base: Image) -> None:
        """Look for pages of a table that hold what is another table's page in the restore point: misdirected writes."""
        known = [pgno for pgno in self.suspect or () if self._tree_in(base, pgno) == self._tree_in(self, pgno) != ""]
        if not 0 < len(known) <= _MOST_COMPARED:
            return
        alike: dict[bytes, list[int]] = {}
        for pgno in known:
            alike.setdefault(self.file.mark(pgno), []).append(pgno)
        for other, mark in base.file.marks():
            for pgno in alike.get(mark, ()):
                if pgno == other or self._tree_in(base, other) in ("", self._tree_in(base, pgno)):
                    continue
                if self.file.page(pgno) == base.file.page(other):
                    self._accuse(pgno)

    @staticmethod
    def _tree_in(image: Image, pgno: int) -> str:
        place = image.usage.tree_of(pgno)
        return "" if place is None else fold(image.trees[place].name)

    @cached_property
    def strays(self) -> tuple[int, ...]:
        """Return pages with rows that no tree leads to: not free, and sound by themselves.

        None where the freelist is not sound: then they may be free, and what stands there deleted long ago.
        """
        first = self.file.page(1)
        trunk, count = struct.unpack_from(">II", first, 32)
        free = walk_freelist(self.file.page, first=trunk, pages=self.file.pages, usable=self.file.layout.usable)
        if free.problem or free.size != count:
            return ()
        not_used = free.leaves.union(free.trunks)
        kinds = (PageKind.TABLE_LEAF, PageKind.INDEX_LEAF, PageKind.INDEX_INTERIOR)
        return tuple(
            pgno
            for pgno in range(2, self.file.pages + 1)
            if self.survey.kinds[pgno - 1] in kinds
            and not self.usage.used(pgno)
            and pgno not in not_used
            and not any(self.usage.belongs(pgno, place) for place in self.bad_trees)
        )


def stands_moved(damaged: ClosedFile, base: ClosedFile, pgno: int) -> bool:
    """Whether a page of the restore point stands in the damaged file as many bytes off as this has beyond whole pages.

    Bytes that were put in or taken out are no multiple of a page, or nothing but whole pages would have moved.
    """
    size, beyond = damaged.page_size, damaged.source.file_size % damaged.page_size
    if not beyond or size != base.page_size or not 1 < pgno <= base.pages:
        return False
    head = base.page(pgno)[:_HEAD]
    around = b"".join(damaged.page(number) for number in (pgno - 1, pgno, pgno + 1))
    places = (size + beyond, beyond)  # so many were put in, or so many less than a page were taken out
    return len(set(head)) >= _DISTINCT and any(around[at : at + _HEAD] == head for at in places)


def suspects(damaged: Image, base: Image) -> set[int] | None:
    """Return the pages of the damaged file whose rows may not be those of the same page of the restore point.

    None where no page of the one can be compared with that of the other.
    """
    one, other = damaged.file.layout, base.file.layout
    if (one.page_size, one.usable, one.encoding) != (other.page_size, other.usable, other.encoding):
        return None
    changed = differing(damaged.survey.sums, base.survey.sums)
    holders = {holder for pgno in changed if (holder := damaged.usage.holder(pgno)) is not None}
    return changed | holders | damaged.usage.flawed


def unshared(damaged: Image, base: Image, name: str, suspect: Collection[int] | None) -> tuple[list[int], list[int]]:
    """Return the pages of a table in either file whose rows may not be in the other."""
    pages, known = damaged.pages(name), base.pages(name)
    if suspect is None:
        return pages, known
    newer = [pgno for pgno in pages if pgno in suspect or not base.has(name, pgno)]
    shared = set(pages).difference(newer)
    return newer, [pgno for pgno in known if pgno not in shared]
