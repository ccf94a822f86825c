"""The binding of the native walk over b-trees, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pagewarden.pages._native import _Image, _raise, ffi, lib
from pagewarden.pages.source import PageSource
from pagewarden.pages.walk import USER_SIZE, Parts, Seen, WalkPlan
from pagewarden.structure import Column, Flaw, FlawKind, StrictType

_ROOM = 1024  # flaws of one call
_RUNS = 256  # runs of unused pages of one call

_EVERY = lib.PW_CLASS_NULL | lib.PW_CLASS_INTEGER | lib.PW_CLASS_REAL | lib.PW_CLASS_TEXT | lib.PW_CLASS_BLOB

_STRICT = {
    StrictType.ANY: _EVERY,
    StrictType.INTEGER: lib.PW_CLASS_NULL | lib.PW_CLASS_INTEGER,
    StrictType.REAL: lib.PW_CLASS_NULL | lib.PW_CLASS_INTEGER | lib.PW_CLASS_REAL,
    StrictType.TEXT: lib.PW_CLASS_NULL | lib.PW_CLASS_TEXT,
    StrictType.BLOB: lib.PW_CLASS_NULL | lib.PW_CLASS_BLOB,
}


def _allowed(column: Column) -> int:
    if column.rowid:  # stored as NULL; what else stands there is never read
        return int(_EVERY)
    return int(_STRICT[column.strict] & ~(lib.PW_CLASS_NULL if column.not_null else 0))


def _order(column: Column) -> int:
    return int(column.collation) | (int(lib.PW_ORDER_DESCENDING) if column.descending else 0)


class NativeParts:
    """See `Parts`: a stack, and the work buffer that it describes."""

    __slots__ = ("c", "work")

    def __init__(self, work: int) -> None:
        """`work` is the size of the work buffer in bytes."""
        self.c = ffi.new("pw_parts *")
        self.work = ffi.new("uint8_t[]", work)

    def push_root(self, tree: int) -> None:
        """Put a whole tree on the empty stack."""
        lib.pw_parts_root(self.c, tree)

    def push_freelist(self, first: int, count: int) -> None:
        """Put the freelist on the empty stack."""
        lib.pw_parts_freelist(self.c, first, count)

    def cut(self, child: int) -> NativeParts | None:
        """Give away the children before child `child` of the page looked at last."""
        given = NativeParts(len(self.work))
        return given if lib.pw_parts_cut(self.c, child, given.c) else None

    def split(self) -> NativeParts | None:
        """Give away about half of what is largest."""
        given = NativeParts(len(self.work))
        return given if lib.pw_parts_split(self.c, given.c) else None

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to look at."""
        return not self.c.count

    @property
    def place(self) -> tuple[int, ...] | None:
        """The tree that comes next and the children that lead to what does."""
        bottom, count = self.c.parts[0], self.c.count
        if not count or bottom.kind == lib.PW_PART_FREELIST:
            return None
        if bottom.kind == lib.PW_PART_ROOT:
            return (bottom.tree,)
        below = [part.next - 1 for part in self.c.parts[0 : count - 1]]
        return bottom.tree, *self.c.path[0 : bottom.depth - 1], *below, self.c.parts[count - 1].next


def _flaw(found: Any) -> Flaw:
    fields = found.fields
    return Flaw(
        kind=FlawKind(found.kind),
        pgno=found.pgno,
        tree=None if found.tree == lib.PW_NO_TREE else found.tree,
        cell=found.cell if fields & lib.PW_HAS_CELL else None,
        column=found.column if fields & lib.PW_HAS_COLUMN else None,
        other=found.other if fields & lib.PW_HAS_OTHER else None,
        rowid=found.rowid if fields & lib.PW_HAS_ROWID else None,
        expected=found.expected if fields & lib.PW_HAS_EXPECTED else None,
        seen=found.seen if fields & lib.PW_HAS_SEEN else None,
    )


class NativeWalker:
    """See `Walker`."""

    def __init__(self, plan: WalkPlan) -> None:
        """Lay out what all threads share."""
        self._work = lib.pw_walk_work(plan.page_size)
        trees: list[tuple[int, int, int, int, bool]] = []
        columns: list[Column] = []
        for tree in plan.trees:
            keys = tree.keys if tree.index else 0
            trees.append((tree.root, len(tree.columns), len(columns), keys, tree.index))
            columns += tree.columns
        self._trees = ffi.new("pw_tree[]", trees or 1)
        self._allowed = ffi.new("uint8_t[]", list(map(_allowed, columns)) or 1)
        self._orders = ffi.new("uint8_t[]", list(map(_order, columns)) or 1)
        self._used = ffi.new("uint8_t[]", plan.pages // 8 + 1)
        self._depths = ffi.new("uint32_t[]", len(trees) or 1)
        self._walk = ffi.new("pw_walk *")
        walk = self._walk
        walk.page_size, walk.usable, walk.pages, walk.encoding = plan.page_size, plan.usable, plan.pages, plan.encoding
        walk.pointer_map, walk.tree_count, walk.column_count = plan.pointer_map, len(trees), len(columns)
        walk.trees, walk.allowed, walk.orders = self._trees, self._allowed, self._orders
        walk.used, walk.depths = self._used, self._depths
        self._users = ffi.new("uint8_t[]", USER_SIZE * plan.pages) if plan.users and plan.pages else ffi.NULL
        walk.users = self._users

    def parts(self) -> NativeParts:
        """Return an empty stack."""
        return NativeParts(self._work)

    def walk(self, source: PageSource, parts: Parts, budget: int) -> Seen:
        """Look at pages, and take them off."""
        assert isinstance(parts, NativeParts)
        flaws, seen, fault = ffi.new("pw_flaw[]", _ROOM), ffi.new("pw_seen *"), ffi.new("pw_fault *")
        image = _Image(source)
        found: list[Flaw] = []
        pages = unordered = left_out = 0
        while not parts.empty and pages < budget:
            if lib.pw_walk_step(
                self._walk, image.c, parts.c, parts.work, len(parts.work), budget - pages, flaws, _ROOM, seen, fault
            ):
                _raise(fault)
            found += map(_flaw, flaws[0 : seen.flaws])
            pages, unordered, left_out = pages + seen.pages, unordered + seen.unordered, left_out + seen.left_out
        return Seen(flaws=tuple(found), pages=pages, unordered=unordered, left_out=left_out)

    def users(self) -> memoryview:
        """Return what each page's ptrmap entry must be."""
        return memoryview(b"") if self._users == ffi.NULL else memoryview(ffi.buffer(self._users)).toreadonly()

    def unused(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that were not looked at."""
        start, used, runs = ffi.new("uint32_t *", 1), ffi.new("uint32_t *"), ffi.new("uint32_t[]", 2 * _RUNS)
        while start[0]:
            lib.pw_unused(self._walk, start, runs, _RUNS, used)
            for run in range(used[0]):
                yield runs[2 * run], runs[2 * run + 1]
