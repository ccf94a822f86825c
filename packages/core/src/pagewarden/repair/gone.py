"""Which rows of a table could be read before a repair and do not stand after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pagewarden.repair.closed import Tick, differing
from pagewarden.repair.lookups import Covering, Lookup, SqlRow, exactly
from pagewarden.repair.rows import RawRow, lacking, leaf_cells, raw_row
from pagewarden.sqlite.btree import child_pages, parse_page
from pagewarden.sqlite.record import Malformed

if TYPE_CHECKING:
    from pagewarden.repair.compare import Side

_FIRST, _LAST = -(1 << 63), (1 << 63) - 1  # rowids
_DEEPEST = 32  # pages from a leaf to its root, and more than SQLite follows


def suspects(old: Side, new: Side) -> set[int] | None:
    """Return the pages of `old` whose rows may not be those of the same page of `new`; None where any may be.

    Those are pages that differ, those with overflow pages that do, and those on which something is wrong.
    """
    one, other = old.file.layout, new.file.layout
    if (one.page_size, one.usable, one.encoding) != (other.page_size, other.usable, other.encoding):
        return None
    changed = differing(old.survey.sums, new.survey.sums)
    holders = {holder for pgno in changed if (holder := old.usage.holder(pgno)) is not None}
    return changed | holders | old.usage.flawed | new.usage.flawed


def find_gone(old: Side, new: Side, name: str, suspect: set[int] | None, tick: Tick) -> Iterator[tuple[SqlRow, int]]:
    """Yield the rows of table `name` that SQLite could read in `old` and that `new` does not have.

    A row is `Table.named`'s values, and comes with the page that it stood on. `suspect` is what `suspects` returned.
    """
    doubtful, fresh = _pages_to_look_at(old, new, name, suspect)
    if doubtful:
        search = _Search(old, new, name, tick)
        index = old.tables[name].without_rowid
        left = lacking(old.file, doubtful, new.file, fresh, tick, index=index)
        # Where something is wrong with a page, SQLite may find other rows there than its cells show.
        flawed = () if index else [pgno for pgno in doubtful if pgno in old.usage.flawed and pgno not in left]
        for pgno in (*left, *flawed):
            yield from search.gone(pgno, left.get(pgno, ()))


def find_gone_entries(
    old: Side, new: Side, name: str, covering: Covering, suspect: set[int] | None, tick: Tick
) -> Iterator[SqlRow]:
    """Yield the rows that SQLite could read from an index of table `name` alone, and that `new` does not have.

    They are no rows of the table where the index was stale; where the table has lost some, they are all that is left.
    """
    place, other = old.places[covering.key], new.places.get(covering.key)
    pages = list(old.by_tree[place])
    there = [] if other is None else list(new.by_tree[other])
    if suspect is not None and other is not None:
        doubtful = [pgno for pgno in pages if pgno in suspect or not new.usage.belongs(pgno, other)]
        shared = set(pages).difference(doubtful)
        pages, there = doubtful, [pgno for pgno in there if pgno not in shared]
    search = _Search(old, new, name, tick)
    for pgno, cells in lacking(old.file, pages, new.file, there, tick, index=True).items():
        yield from search.gone_entries(pgno, cells, covering)


def _pages_to_look_at(old: Side, new: Side, name: str, suspect: set[int] | None) -> tuple[list[int], list[int]]:
    """Return the pages with rows that may be gone, and those of `new` where they may stand now."""
    other = new.places.get(name)
    pages = list(old.pages(name))
    if other is None:
        return pages, []
    there = list(new.pages(name))
    if suspect is None or old.tables[name].without_rowid != new.tables[name].without_rowid:
        return pages, there
    doubtful = [pgno for pgno in pages if pgno in suspect or not new.usage.belongs(pgno, other)]
    shared = set(pages).difference(doubtful)
    return doubtful, [pgno for pgno in there if pgno not in shared]


class _Search:
    """Looks single rows up, in both files, through SQLite."""

    def __init__(self, old: Side, new: Side, name: str, tick: Tick) -> None:
        self._side = old
        self._table = old.tables[name]
        self._old = Lookup(old.connection, self._table)
        self._new = None
        if name in new.tables and new.tables[name].named == self._table.named:
            self._new = Lookup(new.connection, new.tables[name])
        self._tick = tick

    def gone(self, pgno: int, cells: Sequence[int]) -> Iterator[tuple[SqlRow, int]]:
        """Yield the rows of some cells of a page that could be read and are not there any more."""
        wanted = self._raw(pgno, set(cells))
        if self._table.without_rowid or not self._old.possible:
            yield from ((row, pgno) for row in self._by_key(wanted))
            return
        rowids = {row.rowid for row in wanted if row.rowid is not None}
        seen: set[tuple[int, SqlRow]] = set()
        for rowid in sorted(rowids):
            self._tick()
            if (row := self._old.by_rowid(rowid)) is not None:
                seen.add((rowid, row))
        if {rowid for rowid, _ in seen} != rowids or pgno in self._side.usage.flawed:
            seen |= self._scanned(pgno)
        for rowid, row in sorted(seen, key=lambda each: each[0]):
            if not _equal(row, None if self._new is None else self._new.by_rowid(rowid)):
                yield row, pgno

    def gone_entries(self, pgno: int, cells: Sequence[int], covering: Covering) -> Iterator[SqlRow]:
        """Yield the rows that entries of an index say and that are not there any more."""
        for raw in self._raw(pgno, set(cells), index=True):
            self._tick()
            rowid = raw.values[-1] if len(raw.values) == len(covering.columns) + 1 else None
            if not isinstance(rowid, int) or not self._old.possible:
                continue
            values = {**dict(zip(covering.columns, raw.values, strict=False)), str(self._table.rowid): rowid}
            row = tuple(values.get(column) for column in self._table.named)
            there = None if self._new is None else self._new.by_rowid(rowid)
            # An index stores a REAL as an integer where that is shorter.
            if there is None or row != there:
                yield row

    def _raw(self, pgno: int, cells: set[int], *, index: bool | None = None) -> list[RawRow]:
        index = self._table.without_rowid if index is None else index
        page = leaf_cells(self._side.file, pgno, index=index, only=cells)
        found = []
        for cell in () if page is None else page[1].cells:
            if page is not None:
                try:
                    found.append(raw_row(self._side.file, page[0], cell, self._tick))
                except Malformed:
                    # SQLite takes an empty record for a row of NULLs, and refuses any other that contradicts itself.
                    if cell.rowid is not None or not cell.payload_size:
                        found.append(RawRow(rowid=cell.rowid, values=()))
        return found

    def _by_key(self, wanted: Sequence[RawRow]) -> Iterator[SqlRow]:
        for raw in wanted:
            self._tick()
            row = self._old.by_key(raw.values) if self._table.keys else None
            there = self._new.by_key(raw.values) if self._new is not None and self._table.keys else None
            if row is not None and not _equal(row, there):
                yield row
            if not self._says(raw, row) and not self._says(raw, there):
                # No look-up leads there, but a scan may: taken at its bytes.
                stands = self._as_named(raw)
                if stands is not None:
                    yield stands

    def _says(self, raw: RawRow, row: SqlRow | None) -> bool:
        """Whether a row as it stands on a page is one that SQLite returned: a REAL may be stored as an integer."""
        values = dict(zip(self._table.named, row or (), strict=False))
        stored = zip(self._table.stored, raw.values, strict=False)
        return row is not None and all(values[name] == value for name, value in stored if name in values)

    def _as_named(self, raw: RawRow) -> SqlRow | None:
        values = dict(zip(self._table.stored, raw.values, strict=False))
        if len(raw.values) > len(self._table.stored):
            return None
        return tuple(values.get(column) for column in self._table.named)

    def _scanned(self, pgno: int) -> set[tuple[int, SqlRow]]:
        """Return what scans over a page meet, from its neighbours on either side and from its own ends (H28)."""
        page = leaf_cells(self._side.file, pgno, index=False)
        rowids = [cell.rowid for cell in page[1].cells if cell.rowid is not None] if page else []
        most = self._side.survey.cells[pgno - 1]
        found: set[tuple[int, SqlRow]] = set()
        for start in {_edge(self._side, pgno, -1), *([min(rowids), rowids[0]] if rowids else ())}:
            found.update(self._old.scan(_FIRST if start is None else start, most, backward=False))
        for start in {_edge(self._side, pgno, 1), *([max(rowids), rowids[-1]] if rowids else ())}:
            found.update(self._old.scan(_LAST if start is None else start, most, backward=True))
        self._tick()
        return found


def _edge(side: Side, pgno: int, way: int) -> int | None:
    """Return a rowid of the page before (-1) or behind (1) a leaf, as its parents say; None at the tree's end."""
    usable = side.file.layout.usable
    for _ in range(_DEEPEST):
        parent = side.usage.parent(pgno)
        if not parent:
            return None
        try:
            page = parse_page(side.file.page(parent), pgno=parent, usable=usable)
        except Malformed:
            return None
        ways = [(cell.child, cell.rowid) for cell in page.cells] + [(page.right, None)]
        at = next((place for place, (child, _) in enumerate(ways) if child == pgno), None)
        if at is None:
            return None
        if way < 0 and at > 0:
            return ways[at - 1][1]
        if way > 0 and at + 1 < len(ways):
            return _first_rowid(side, ways[at + 1][0])
        pgno = parent
    return None


def _first_rowid(side: Side, pgno: int | None) -> int | None:
    """Return the first rowid below a page."""
    for _ in range(_DEEPEST):
        if pgno is None or not 1 <= pgno <= side.file.pages:
            return None
        children = child_pages(side.file.page(pgno), pgno, side.file.layout.usable)
        if not children:
            page = leaf_cells(side.file, pgno, index=False)
            return page[1].cells[0].rowid if page and page[1].cells else None
        pgno = children[0]
    return None


def _equal(row: SqlRow, other: SqlRow | None) -> bool:
    return other is not None and exactly(row) == exactly(other)
