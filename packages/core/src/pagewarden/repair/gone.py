"""Which rows of a table could be read before a repair and do not stand after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pagewarden.repair.closed import Tick, differing
from pagewarden.repair.lookups import Lookup, SqlRow, exactly
from pagewarden.repair.rows import RawRow, lacking, leaf_cells, raw_row
from pagewarden.sqlite.record import Malformed

if TYPE_CHECKING:
    from pagewarden.repair.compare import Side


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
        for pgno, cells in lacking(old.file, doubtful, new.file, fresh, tick, index=index).items():
            yield from search.gone(pgno, cells)


def _pages_to_look_at(old: Side, new: Side, name: str, suspect: set[int] | None) -> tuple[list[int], list[int]]:
    """Return the pages with rows that may be gone, and those of `new` where they may stand now."""
    place, other = old.places[name], new.places.get(name)
    pages = [pgno for pgno in old.by_tree[place] if old.holds(name, pgno)]
    if other is None:
        return pages, []
    there = [pgno for pgno in new.by_tree[other] if new.holds(name, pgno)]
    if suspect is None or old.tables[name].without_rowid != new.tables[name].without_rowid:
        return pages, there
    doubtful = [pgno for pgno in pages if pgno in suspect or not new.usage.belongs(pgno, other)]
    unsettled = set(doubtful)
    return doubtful, [pgno for pgno in there if pgno in unsettled or not old.usage.belongs(pgno, place)]


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
            seen |= {row for row in self._scanned(pgno) if row[0] in rowids}
        for rowid, row in sorted(seen, key=lambda each: each[0]):
            if not _equal(row, None if self._new is None else self._new.by_rowid(rowid)):
                yield row, pgno

    def _raw(self, pgno: int, cells: set[int]) -> list[RawRow]:
        page = leaf_cells(self._side.file, pgno, index=self._table.without_rowid, only=cells)
        found = []
        for cell in () if page is None else page[1].cells:
            if page is not None:
                try:
                    found.append(raw_row(self._side.file, page[0], cell, self._tick))
                except Malformed:
                    found.append(RawRow(rowid=cell.rowid, values=()))
        return found

    def _by_key(self, wanted: Sequence[RawRow]) -> Iterator[SqlRow]:
        for raw in wanted:
            self._tick()
            row = self._old.by_key(raw.values) if self._table.keys else None
            there = self._new.by_key(raw.values) if self._new is not None and self._table.keys else None
            if row is None and raw.values:
                row = self._as_named(raw)  # no index of SQLite's leads there: taken at its bytes
            if row is not None and not _equal(row, there):
                yield row

    def _as_named(self, raw: RawRow) -> SqlRow | None:
        values = dict(zip(self._table.stored, raw.values, strict=False))
        if len(raw.values) > len(self._table.stored):
            return None
        return tuple(values.get(column) for column in self._table.named)

    def _scanned(self, pgno: int) -> set[tuple[int, SqlRow]]:
        """Return what scans from both sides, begun at the page's ends, meet (H28)."""
        page = leaf_cells(self._side.file, pgno, index=False)
        rowids = [cell.rowid for cell in page[1].cells if cell.rowid is not None] if page else []
        if not rowids:
            return set()
        found: set[tuple[int, SqlRow]] = set()
        for start in {min(rowids), rowids[0]}:
            found.update(self._old.scan(start, len(rowids), backward=False))
        for start in {max(rowids), rowids[-1]}:
            found.update(self._old.scan(start, len(rowids), backward=True))
        self._tick()
        return found


def _equal(row: SqlRow, other: SqlRow | None) -> bool:
    return other is not None and exactly(row) == exactly(other)
