"""How many rows of which table came back with the pages that were put back: for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pagewarden.contracts import RepairBench
from pagewarden.sqlite.btree import PageKind, page_kind, parse_page
from pagewarden.sqlite.owner import find_owners
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import SCHEMA_NAME, Layout

_SECONDS = 2.0  # for finding whose pages they are; what is not found by then is not counted

_Row = tuple[int | None, bytes, int | None]


class Returned:
    """The rows of pages that were put back."""

    def __init__(self, layout: Layout) -> None:
        """`layout` is that of the recorded position."""
        self._layout = layout
        self._rows: dict[int, int] = {}  # by page

    def add(self, pgno: int, data: bytes, stood: bytes) -> None:
        """Count the rows of a recorded page that did not stand there before."""
        self._rows[pgno] = len(self._cells(pgno, data) - self._cells(pgno, stood))

    def add_all(self, bench: RepairBench, runs: Iterable[tuple[int, int]]) -> None:
        """Count all rows of pages that stand in the copy now."""
        for first, count in runs:
            for pgno in range(first, first + count):
                page = bench.read(pgno, self._layout.page_size)
                start = 103 if pgno == 1 else 3
                holds = _holds_rows(page_kind(page, pgno))
                self._rows[pgno] = int.from_bytes(page[start : start + 2], "big") if holds else 0

    def note(self, bench: RepairBench) -> None:
        """Tell the report. The copy must be the recorded position by now. A row that only goes on there counts, too."""
        layout = self._layout
        wanted = [pgno for pgno in self._rows if pgno <= layout.pages]
        owners = find_owners(lambda pgno: bench.read(pgno, layout.page_size), wanted, layout, seconds=_SECONDS)
        found: Counter[str] = Counter()
        longer: set[tuple[str, int]] = set()
        for pgno, owner in owners.items():
            if owner.kind != "table" or owner.object is None or owner.object == SCHEMA_NAME:
                continue
            if owner.role != "overflow":
                found[owner.object] += self._rows[pgno]
            elif owner.rowid is not None and owner.head is not None and not self._rows.get(owner.head[0]):
                longer.add((owner.object, owner.rowid))
        found.update(name for name, _ in longer)
        for name, rows in found.items():
            if rows:
                bench.note(name, rows_from_backup=rows)

    def _cells(self, pgno: int, data: bytes) -> set[_Row]:
        if not _holds_rows(page_kind(data, pgno)):
            return set()
        try:
            page = parse_page(data, pgno=pgno, usable=self._layout.usable)
        except Malformed:
            return set()
        return {
            (cell.rowid, bytes(data[cell.payload : cell.payload + cell.local]), cell.overflow) for cell in page.cells
        }


def _holds_rows(kind: PageKind | None) -> bool:
    """Whether a page of this kind can hold rows: one of a table WITHOUT ROWID is of the index kind."""
    return kind is not None and (kind.is_leaf or not kind.is_table)
