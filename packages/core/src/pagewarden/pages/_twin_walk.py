"""The structure walk in Python: the same promises as the native one, and the reference that it is tested against.

What is looked at, in which order, and what is said of it stands in `pagewarden.pages.walk`; the numbers of rules here
are those there.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable, Iterator
from heapq import merge
from typing import Any

from pagewarden.pages._twin_keys import (
    Key,
    Payload,
    Record,
    Shape,
    header_size,
    in_order,
    judge_record,
    key_of,
    key_size,
)
from pagewarden.pages._twin_page import TreeCell, TreePage, judge_bytes, read_cell, read_page
from pagewarden.pages._twin_parts import Frame, Free, Root, TwinParts
from pagewarden.pages.source import PageSource, lock_page
from pagewarden.pages.walk import MAX_DEPTH, MAX_FLAWS, MAX_KEY, USER_SIZE, Parts, Seen, WalkPlan
from pagewarden.structure import Flaw, FlawKind

ReadPage = Callable[[PageSource, int], bytes]

_CHUNK_BITS = 12
_CHUNK = 1 << _CHUNK_BITS  # pages that are noted together
_KEPT_MAPS = 4  # ptrmap pages that one thread keeps
_ROOT, _FREE, _FIRST_OVERFLOW, _LATER_OVERFLOW, _CHILD = 1, 2, 3, 4, 5  # types of ptrmap entries


class TwinWalker:
    """See `Walker`."""

    def __init__(self, plan: WalkPlan, read: ReadPage) -> None:
        """`read` returns a page of a source."""
        self.plan = plan
        self.read = read
        self.shapes = tuple(map(Shape.of, plan.trees))
        self.leaf_depths: dict[int, int] = {}
        self._lock_page = lock_page(plan.page_size)
        self._used: dict[int, bytearray] = {}  # a byte for each page, where any is used: sizes may be hostile
        self._lock = threading.Lock()
        self._users = bytearray(USER_SIZE * plan.pages if plan.users else 0)

    def parts(self) -> TwinParts:
        """Return an empty stack for one thread."""
        return TwinParts()

    def walk(self, source: PageSource, parts: Parts, budget: int) -> Seen:
        """Look at pages of `parts` until `budget` were looked at."""
        assert isinstance(parts, TwinParts)
        call = _Call(self, source, parts)
        while parts.stack and call.pages < budget:
            call.visit()
        return Seen(flaws=tuple(call.flaws), pages=call.pages, unordered=call.unordered, left_out=call.left_out)

    def users(self) -> memoryview:
        """Return what each page's ptrmap entry must be."""
        return memoryview(self._users).toreadonly()

    def note_user(self, pgno: int, kind: int, parent: int) -> None:
        """Note who uses a page."""
        struct.pack_into(">BI", self._users, USER_SIZE * (pgno - 1), kind, parent)

    def unused(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that were not looked at."""
        for first, last in self._untouched():
            start = first
            for barrier in self._barriers(first, last):
                if barrier > start:
                    yield start, barrier - start
                start = barrier + 1
            if start <= last:
                yield start, last - start + 1

    def _untouched(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that are not claimed, as (first, last)."""
        first = 0
        for number in range((self.plan.pages >> _CHUNK_BITS) + 1):
            chunk = self._used.get(number)
            start = max(1, number << _CHUNK_BITS)
            if chunk is None:
                first = first or start
                continue
            if not first and 0 not in chunk[1 if start == 1 else 0 :]:
                continue
            for pgno in range(start, min(self.plan.pages, start | _CHUNK - 1) + 1):
                if not chunk[pgno & _CHUNK - 1]:
                    first = first or pgno
                elif first:
                    yield first, pgno - 1
                    first = 0
        if first and first <= self.plan.pages:
            yield first, self.plan.pages

    def _barriers(self, first: int, last: int) -> Iterator[int]:
        """Yield the pages from `first` to `last` that may not be used, in order."""
        span = self.plan.usable // 5 + 1
        places = range(2 + max(0, first - 2) // span * span, last + 1, span) if self.plan.pointer_map else ()
        maps = (place + 1 if place == self._lock_page else place for place in places)
        return (pgno for pgno in merge(maps, (self._lock_page,)) if first <= pgno <= last)

    def may_be_used(self, pgno: int) -> bool:
        """Return whether a page of the database may be used: not the lock-byte page, nor a ptrmap page."""
        return pgno != self._lock_page and (pgno == 1 or self.map_page(pgno) != pgno)

    def map_page(self, pgno: int) -> int:
        """Return the ptrmap page that has the entry of a page, or is that page; 0 where there are none (1.8)."""
        if not self.plan.pointer_map:
            return 0
        span = self.plan.usable // 5 + 1
        page = (pgno - 2) // span * span + 2
        return page + 1 if page == self._lock_page else page

    def claim(self, pgno: int) -> bool:
        """Note that a page is used; return whether it was not before."""
        with self._lock:
            chunk = self._used.setdefault(pgno >> _CHUNK_BITS, bytearray(_CHUNK))
            unused = not chunk[pgno & _CHUNK - 1]
            chunk[pgno & _CHUNK - 1] = 1
        return unused


class _Call:
    """One call of `TwinWalker.walk`; it goes from one visit to the next."""

    def __init__(self, walker: TwinWalker, source: PageSource, parts: TwinParts) -> None:
        self.flaws: list[Flaw] = []
        self.pages = 0
        self.unordered = 0
        self.left_out = 0
        self._walker = walker
        self._plan = walker.plan
        self._source = source
        self._parts = parts
        self._tree: int | None = None  # of this visit
        self._pgno = 0  # the page that flaws are of, unless they say another
        self._rowid: int | None = None  # of the cell that is looked at
        self._count = 0  # flaws of this visit

    def visit(self) -> None:
        """Look at one page with its chains, or at one trunk page with its leaves."""
        stack = self._parts.stack
        item = stack.pop()
        self._count, self._rowid = 0, None
        if isinstance(item, Free):
            self._tree = None
            self._trunk(item)
        elif isinstance(item, Root):
            self._tree = item.tree
            self._root(self._plan.trees[item.tree].root)
        else:
            number = item.following
            item.following += 1
            if item.following < item.end:
                stack.append(item)
            self._tree = item.tree
            self._child(item, number)

    def _found(self, kind: FlawKind, pgno: int | None = None, **fields: int | None) -> None:
        self._count += 1
        if self._count > MAX_FLAWS:
            self.left_out += 1
            return
        place: dict[str, Any] = {"tree": self._tree, "rowid": self._rowid} | fields
        self.flaws.append(Flaw(kind=kind, pgno=self._pgno if pgno is None else pgno, **place))

    # Pointers

    def _claim(
        self,
        pgno: int,
        holder: int,
        kind: int,
        *,
        parent: int = 0,
        cell: int | None = None,
        chain: int | None = None,
        root: bool = False,
    ) -> bool:
        """Judge a pointer by its three rules; `kind` and `parent` are what the ptrmap must say."""
        plan, walker = self._plan, self._walker
        if not 1 <= pgno <= plan.pages or (pgno == 1 and not root) or not walker.may_be_used(pgno):
            self._found(FlawKind.PAGE_NUMBER, holder, cell=cell, other=chain, seen=pgno)
            return False
        other = None if root else holder
        if not walker.claim(pgno):
            self._found(FlawKind.TWICE, pgno, other=other)
            return False
        self.pages += 1
        if plan.users:
            walker.note_user(pgno, kind, parent)
            return True
        entry = self._map_entry(pgno)
        if entry is not None and entry != kind << 32 | parent:
            self._found(FlawKind.POINTER_MAP, pgno, other=other, expected=kind << 32 | parent, seen=entry)
        return True

    def _map_entry(self, pgno: int) -> int | None:
        """Return what the ptrmap says of a page; None where it says nothing, or cannot be read."""
        map_page = self._walker.map_page(pgno)
        if not map_page or pgno == 1:
            return None
        maps = self._parts.maps
        if map_page not in maps:
            if len(maps) >= _KEPT_MAPS:
                del maps[next(iter(maps))]
            maps[map_page] = self._read(map_page)
        data = maps[map_page]
        if data is None:
            return None
        kind, parent = struct.unpack_from(">BI", data, 5 * (pgno - map_page - 1))
        return int(kind << 32 | parent)

    def _read(self, pgno: int) -> bytes | None:
        """Return a page; None where the disk refuses it."""
        try:
            return self._walker.read(self._source, pgno)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None

    def _take(self, pgno: int, other: int | None) -> bytes | None:
        """Read a page that was claimed."""
        data = self._read(pgno)
        if data is None:
            self._found(FlawKind.UNREADABLE, pgno, other=other, seen=errno.EIO)
        return data

    # B-tree pages

    def _root(self, pgno: int) -> None:
        if self._claim(pgno, pgno, _ROOT, root=True):
            self._page(pgno, None, depth=1, low=None, high=None, path=())

    def _child(self, frame: Frame, number: int) -> None:
        """Look at child `number` of a page, if its cell held."""
        right = number == frame.page.count
        if not right and number not in frame.cells:
            return
        child = frame.page.right if right else frame.cells[number].child
        if not self._claim(child, frame.pgno, _CHILD, parent=frame.pgno, cell=None if right else number):
            return
        below = next((i for i in range(number - 1, -1, -1) if i in frame.cells), None)
        self._page(
            child,
            frame.pgno,
            depth=frame.depth + 1,
            low=frame.low if below is None else (frame, below),
            high=frame.high if right else (frame, number),
            path=(*frame.path, number),
        )

    def _page(
        self,
        pgno: int,
        parent: int | None,
        *,
        depth: int,
        low: tuple[Frame, int] | None,
        high: tuple[Frame, int] | None,
        path: tuple[int, ...],
    ) -> None:
        """Look at one page, which is claimed, and put it on the stack for its children's sake."""
        assert self._tree is not None
        self._pgno = pgno
        if depth > MAX_DEPTH:
            self._found(FlawKind.DEPTH, other=parent, expected=MAX_DEPTH, seen=depth)
            return
        data = self._take(pgno, parent)
        page = None if data is None else self._header(data, parent, depth)
        if page is None:
            return
        frame = Frame(self._tree, pgno, depth, page, low, high, path, {}, 0, 0 if page.leaf else page.count + 1)
        self._cells(frame)
        judge_bytes(page, list(frame.cells.values()), self._found)
        if frame.end:
            self._parts.stack.append(frame)

    def _header(self, data: bytes, parent: int | None, depth: int) -> TreePage | None:
        """Judge rules 2 to 6 of a page."""
        assert self._tree is not None
        first = data[100 if self._pgno == 1 else 0]
        if first not in ((2, 10) if self._plan.trees[self._tree].index else (5, 13)):
            self._found(FlawKind.PAGE_TYPE, other=parent, seen=first)
            return None
        if first & 8:
            expected = self._walker.leaf_depths.setdefault(self._tree, depth)
            if depth != expected:
                self._found(FlawKind.DEPTH, other=parent, expected=expected, seen=depth)
        return read_page(
            data[: self._plan.usable],
            pgno=self._pgno,
            parent=parent,
            page_size=self._plan.page_size,
            found=self._found,
        )

    def _cells(self, frame: Frame) -> None:
        """Judge all cells of a page, rules 7 and 8."""
        page = frame.page
        shape = self._walker.shapes[frame.tree]
        last: tuple[Key, int] | None = None  # the key that could be compared last, and its cell
        before, most = self._rowid_bounds(frame) if page.table else (None, None)
        taken = 0
        for number in range(page.count):
            cell = read_cell(page, number, self._found)
            if cell is None:
                continue
            frame.cells[number] = cell
            taken += cell.end - cell.offset
            if page.table:
                self._rowid = cell.rowid
                if before is not None and cell.rowid <= before:
                    self._found(FlawKind.ROWID_ORDER, cell=number, expected=before)
                elif most is not None and cell.rowid > most:
                    self._found(FlawKind.ROWID_ORDER, cell=number, expected=most)
                before = cell.rowid
                if not page.leaf:
                    self._rowid = None
                    continue
            payload = self._chain(frame, cell, shape)
            if taken <= self._plan.usable:
                key = self._record(payload, shape, number)
                if key is not None:
                    self._order(frame, key, number, last, shape)
                    last = key, number
            self._rowid = None
        if last is not None and frame.high is not None:
            bound = self._bound(frame.high, shape)
            if bound is not None and not in_order(last[0], bound, shape):
                self._found(FlawKind.KEY_ORDER, cell=last[1], other=frame.high[0].pgno)

    def _rowid_bounds(self, frame: Frame) -> tuple[int | None, int | None]:
        low, high = (None if at is None else at[0].cells[at[1]].rowid for at in (frame.low, frame.high))
        return low, high

    # Records and keys

    def _chain(self, frame: Frame, cell: TreeCell, shape: Shape) -> Payload:
        """Follow the overflow chain of a cell; return of its payload what may be needed, if it is there."""
        local = frame.page.data[cell.payload : cell.payload + cell.local]
        payload = Payload(cell.size, local)
        if cell.local == cell.size:
            return payload
        wanted = min(cell.size, MAX_KEY) if shape.keys else min(header_size(payload), cell.size, MAX_KEY)
        parts, have, room = [local], cell.local, self._plan.usable - 4
        expected = -(-(cell.size - cell.local) // room)
        holder, following = frame.pgno, cell.overflow
        for count in range(expected):
            if not following:
                self._found(FlawKind.OVERFLOW_LENGTH, cell=cell.number, expected=expected, seen=count)
                break
            kind, number, chain = (_LATER_OVERFLOW, None, frame.pgno) if count else (_FIRST_OVERFLOW, cell.number, None)
            if not self._claim(following, holder, kind, parent=holder, cell=number, chain=chain):
                break
            data = self._take(following, holder)
            if data is None:
                break
            if have < wanted:
                parts.append(data[4 : 4 + min(room, cell.size - have)])
                have += len(parts[-1])
            holder, following = following, int.from_bytes(data[:4], "big")
        else:
            if following:
                self._found(FlawKind.OVERFLOW_LENGTH, cell=cell.number, expected=expected, seen=expected + 1)
        payload.data = b"".join(parts)
        return payload

    def _record(self, payload: Payload, shape: Shape, number: int) -> Key | None:
        """Judge the record of a cell; return its key if it can be compared."""

        def found(kind: FlawKind, **fields: int | None) -> None:
            self._found(kind, cell=number, **fields)

        record = judge_record(payload, shape, found)
        if not shape.keys:
            return None
        if _too_long(payload, record, shape):
            self.unordered += 1
            return None
        return self._key(payload, record, shape)

    def _key(self, payload: Payload, record: Record | None, shape: Shape) -> Key | None:
        if record is None or not record.sound or key_size(record, shape) > len(payload.data):
            return None
        return key_of(payload, record, shape, self._plan.encoding)

    def _order(self, frame: Frame, key: Key, number: int, last: tuple[Key, int] | None, shape: Shape) -> None:
        """Judge rule 6 of a cell."""
        before: Key | None = None
        other: int | None = None
        if last is not None:
            before = last[0]
        elif frame.low is not None:
            before, other = self._bound(frame.low, shape), frame.low[0].pgno
        if before is not None and not in_order(before, key, shape):
            self._found(FlawKind.KEY_ORDER, cell=number, other=other)

    def _bound(self, at: tuple[Frame, int], shape: Shape) -> Key | None:
        """Return the key of an ancestor's cell, if it can be compared. Its chain is used by it already."""
        frame, number = at
        cell = frame.cells[number]
        parts = [frame.page.data[cell.payload : cell.payload + cell.local]]
        wanted, have, room = min(cell.size, MAX_KEY), cell.local, self._plan.usable - 4
        following = cell.overflow
        while have < wanted:
            if not 1 < following <= self._plan.pages or not self._walker.may_be_used(following):
                break
            data = self._read(following)
            if data is None:
                break
            parts.append(data[4 : 4 + min(room, cell.size - have)])
            have += len(parts[-1])
            following = int.from_bytes(data[:4], "big")
        payload = Payload(cell.size, b"".join(parts))
        record = judge_record(payload, shape, _ignore)
        return None if _too_long(payload, record, shape) else self._key(payload, record, shape)

    # The freelist

    def _trunk(self, free: Free) -> None:
        """Look at the next trunk page and its leaves; after the last one, at their number."""
        if not free.following:
            if free.sound and free.count != free.expected:
                self._found(FlawKind.FREELIST_COUNT, 1, expected=free.expected, seen=free.count)
            return
        trunk, usable = free.following, self._plan.usable
        if not self._claim(trunk, free.before, _FREE):
            return
        data = self._take(trunk, free.before)
        if data is None:
            return
        following, count = struct.unpack_from(">II", data)
        most = usable // 4 - 2
        free.count += 1
        if count > most:
            self._found(FlawKind.FREELIST_TRUNK, trunk, expected=most, seen=count)
            free.sound = False
        else:
            free.count += count
            for number, leaf in enumerate(struct.unpack_from(f">{count}I", data, 8)):
                self._claim(leaf, trunk, _FREE, cell=number)
        free.following, free.before = following, trunk
        self._parts.stack.append(free)


def _too_long(payload: Payload, record: Record | None, shape: Shape) -> bool:
    """Return whether a key is longer than what is put together."""
    if record is None:
        return MAX_KEY < header_size(payload) <= min(payload.size, 98307)
    return record.sound and key_size(record, shape) > MAX_KEY


def _ignore(kind: FlawKind, **fields: int | None) -> None:
    """Tell nobody: what is wrong with a bound was told when its page was looked at."""
