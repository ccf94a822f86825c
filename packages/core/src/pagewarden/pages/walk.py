"""The walk over all b-trees of one commit: what both backends do a part of, and what shares the parts among threads.

Both backends, with one thread, give the same flaws in the same order. A field that is not named below is None; `tree`
is set but for the freelist; `rowid` is that of the row wherever a cell of a table leaf, or its overflow chain, is at
fault.

**Order.** Depth first; the children of a page from left to right, the right-most pointer last. Everything about a page
and the overflow chains of its cells comes before its children. After `MAX_FLAWS` flaws of one visit (a page with its
chains, or a trunk page with its leaves) further ones of that visit are only counted, in `left_out`.

**A pointer** to page n, whoever has it (a parent, a cell or page of an overflow chain, a trunk page, the schema), in
this order; PAGE_NUMBER and TWICE end it, and n is not looked at:
1. n is not one of 1 … pages, or 1 itself but as a root, or the lock-byte page, or a ptrmap page: PAGE_NUMBER with pgno
   = the page that holds the pointer (a root: n itself), seen = n; cell = the cell, or the place among the trunk's
   leaves, that holds it (None: right-most child, next page of a chain, next trunk). The header's first trunk: pgno 1.
   Of a chain's later pages also other = the b-tree page that the chain belongs to.
2. n is used already: TWICE with pgno = n, other = the page that holds the pointer (None for a root). Else n is used
   now.
3. With ptrmap pages, and n > 1, unless users are asked for: another entry than it must be is POINTER_MAP with pgno =
   n, other = the page that holds the pointer (None for a root, 1 for the first trunk), expected, seen = type << 32 |
   parent. The types: 1 root, 0; 2 free, 0; 3 first page of a chain, b-tree page; 4 later page of a chain, the one
   before; 5 b-tree page, parent.
   Then the page is read; where the disk refuses (EIO): UNREADABLE with pgno = n, other as above, seen = the errno.
   Then nothing more is said of it. A ptrmap page that cannot be read judges nothing.

**A b-tree page** (`other` = the parent, None for a root):
1. Deeper than 20 pages: DEPTH, other, expected 20, seen 21; end. (This comes before the page is read.)
2. Its first byte is none of its tree's two: PAGE_TYPE, other, seen = the byte; end.
3. A leaf at another depth than the first leaf of its tree: DEPTH, other, expected, seen (a root is at 1).
4. More cells than (page_size - 8) // 6: PAGE_HEADER, expected = that, seen; end.
5. No cells, unless it is a root and (a leaf or page 1): EMPTY_PAGE, other.
6. The content area (0 means 65536) begins before the pointers end or behind `usable`: PAGE_HEADER, expected = the
   bound that is broken, seen; then the pointers' end counts as its beginning, and 9 is left out.
7. Each cell in order, see below.
8. Index: the last key that could be compared must be below the parents' bound: else KEY_ORDER, cell, other = the page
   that holds the bound.
9. Free blocks: one that begins before the content area or behind usable - 4, is shorter than 4 bytes, ends behind
   `usable`, or is followed by one that begins before its end + 4: FREE_BLOCK, seen = its offset, and the chain ends
   (that block does not count).
10. Bytes used twice: cells in order, then free blocks: each that shares a byte with those before: CELL_OVERLAP, cell
   (None: a free block), seen = the first shared byte; not more than MAX_FLAWS are looked for. (If 6 was broken: cells
   only.)
11. If nothing of 6, 9 and 10 was wrong and every cell held: bytes of the content area in no cell and no free block
   must be as many as the header says: else FRAGMENTS, expected = the header's, seen.
Then the children.

**A cell**:
1. Its offset is before the content area or behind usable - 4: CELL_POINTER, cell, seen; end.
2. It ends behind `usable`: CELL_SIZE, cell, expected = usable, seen = where it would end; usable + 1 where a varint
   runs past the end; a payload of 2**31 bytes or more: seen = its size, at most 2**63 - 1. End. (A cell takes 4 bytes
   at least.)
3. Table: its rowid is not above the one before on the page (the first: the parents' lower bound), or else above the
   parents' upper bound: ROWID_ORDER, cell, rowid, expected = the bound. Interior cells, too.
4. Its overflow chain. A pointer of 0 before the end, or another one at the end, is OVERFLOW_LENGTH: pgno = the b-tree
   page, cell, expected = pages, seen = pages until the 0, or expected + 1. Any flaw of a pointer ends the chain.
5. Its record (not of interior cells of tables; neither this nor 6 once the cells of the page up to this one take more
   than `usable` bytes together). The header's length is not 1 … payload or 1 … 98307, or its own varint
   runs past the payload, or is longer than the length: RECORD_HEADER, cell, expected = payload, seen = the length
   (None where its varint runs past); end. A serial type runs past the header: the same; end. A header that is not all
   on the page is put together; if the chain ends before that, or the header has more than 65536 bytes, the record is
   not judged. Then for each column in order, as far as the tree's columns are known: a reserved type is SERIAL_TYPE,
   cell, column, seen (it takes 0 bytes; also of columns that are not known); NULL where `not_null`, unless `rowid`:
   NOT_NULL, cell, column; another type than `strict` allows: STRICT_TYPE, cell, column, seen. Then: header and values
   are not as long as the payload: RECORD_HEADER, cell, expected = payload, seen, at most 2**63 - 1. Index: fewer
   columns than `keys`: RECORD_HEADER, cell, column = expected = keys, seen = how many.
6. Index with `keys`: unless 5 gave RECORD_HEADER or SERIAL_TYPE the key is compared with the last one on the page that
   could be compared, or, where there is none, with the parents' lower bound. Not above it: KEY_ORDER, cell, other =
   the page that holds the bound (None: this page). What is compared (header and the first `keys` values) may lie in
   the chain: it is put together if that is at most 65536 bytes; a longer one counts in `unordered`, and one whose
   chain ends before that does not count; neither is compared. Text that must be converted and is not valid UTF-16 ends
   the comparison: no flaw.

**Bounds.** For child i the lower bound is the nearest cell before i of its page that held (cell 1 and 2 above), else
the page's own; the upper bound is cell i if it held, else the page's own. A child whose cell did not hold is not
visited. An index's bound is compared only if its cell holds and can be compared, as in cell 6; its chain is followed,
however often its pages are used, until enough is put together; it ends at a pointer that is wrong by rule 1 or a page
that cannot be read.

**The freelist**, after all trees: each trunk page is a pointer (other = the trunk before, or 1), then: more leaves
than usable // 4 - 2: FREELIST_TRUNK, pgno, expected = that, seen; its leaves are left out. Each leaf is a pointer;
leaves are not read. If the chain came to its end and no trunk was wrong, and the count is another: FREELIST_COUNT,
pgno 1, expected = the header's, seen.

**Unused pages** last: UNUSED, pgno = the first of a run, seen = how many.

"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pagewarden.pages.source import MAX_PAGES, PageSource, is_page_size
from pagewarden.structure import Flaw, Tree

MAX_FLAWS = 100
"""Flaws of one visit that are told apart; further ones are counted."""

MAX_DEPTH = 20
"""Pages from a root to its leaves: SQLite's cursors go no deeper (BTCURSOR_MAX_DEPTH)."""

USER_SIZE = 5
"""Bytes of a page's user: a ptrmap entry, the type and the parent's number (big-endian; file format, section 1.8)."""

MAX_KEY = 65536
"""Bytes of a key, or of a record header, that are put together from overflow pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkPlan:
    """What is walked; the pages come from a source that is given with each step, and all sources show one commit."""

    page_size: int  # bytes
    usable: int  # bytes of a page without the reserved ones
    pages: int  # size of the database, in pages
    encoding: int  # of texts: 1 UTF-8, 2 UTF-16le, 3 UTF-16be
    pointer_map: bool  # whether there are ptrmap pages
    trees: tuple[Tree, ...]
    users: bool = False  # whether it is noted who uses each page; then ptrmap entries are not judged

    def __post_init__(self) -> None:
        """Refuse what no database can be: ValueError."""
        if not is_page_size(self.page_size) or not 480 <= self.usable <= self.page_size:
            raise ValueError(f"no page has {self.usable} usable bytes of {self.page_size}")
        if not 0 <= self.pages <= MAX_PAGES or self.encoding not in (1, 2, 3):
            raise ValueError(f"a database cannot have {self.pages} pages in encoding {self.encoding}")
        for tree in self.trees:
            if not 0 <= tree.root < 1 << 32 or not 0 <= tree.keys <= len(tree.columns):
                raise ValueError(f"no tree at page {tree.root} has {tree.keys} keys in {len(tree.columns)} columns")


def plan_walk(first: bytes, *, page_size: int, pages: int, trees: Sequence[Tree], users: bool = False) -> WalkPlan:
    """Return the plan that page 1, `first`, asks for; values that no database has are replaced by the usual ones."""
    usable = page_size - first[20]
    return WalkPlan(
        page_size=page_size,
        usable=usable if usable >= 480 else page_size,
        pages=pages,
        encoding=first[59] & 3 or 1,  # SQLite, too, looks at two bits only
        pointer_map=first[52:56] != bytes(4),
        trees=tuple(trees),
        users=users,
    )


class Parts(Protocol):
    """Parts of trees that one thread still has to look at: a stack, the next one on top."""

    def push_root(self, tree: int) -> None:
        """Put a whole tree on top."""

    def push_freelist(self, first: int, count: int) -> None:
        """Put the freelist on top; it begins at trunk page `first` (0: none), and the header counts `count` pages."""

    def cut(self, child: int) -> Parts | None:
        """Give away the children before child `child` of an interior page, right after that page was looked at.

        Called when a `walk` with a budget of 1 has looked at it. None where there are no such children.
        """

    def split(self) -> Parts | None:
        """Give away about half of what is largest, at the bottom; None where there is too little to share."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to look at."""

    @property
    def place(self) -> tuple[int, ...] | None:
        """The tree that comes next and which child, from 0, of its root, of that child, and so on, leads to what does.

        None for the freelist, or for nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one call saw."""

    flaws: tuple[Flaw, ...] = ()
    pages: int = 0  # pages looked at: of overflow chains, trunks and their leaves, too
    unordered: int = 0  # keys too long for their order to be judged
    left_out: int = 0  # flaws beyond MAX_FLAWS of one visit


class Walker(Protocol):
    """One walk: it knows which pages are used already. Safe for many threads at once, each with its own parts."""

    def parts(self) -> Parts:
        """Return an empty stack for one thread."""

    def walk(self, source: PageSource, parts: Parts, budget: int) -> Seen:
        """Look at pages of `parts` and take them off, until `budget` or a few more were looked at, or none is left.

        A page and all overflow chains of its cells are looked at together. Raises what `Backend.read` raises, but for
        EIO, which is a flaw; then the walk is of no more use.
        """

    def users(self) -> memoryview:
        """Return for each page in order what its ptrmap entry must be, USER_SIZE bytes; zeros where nothing uses it.

        Empty unless the plan asks for them. That of page 1, which has no entry, is of no meaning.
        """

    def unused(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that were not looked at, (first, count), in order.

        The lock-byte page and ptrmap pages are in none.
        """
