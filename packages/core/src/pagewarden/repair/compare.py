"""Whether a repair lost a row that could be read before: the last word before the repaired copy takes the path.

Every row that SQLite could read before must be there after, or in the quarantine. Rows that are gone because their page
was cut out, or because the whole file was put together anew, are put into the quarantine here; a row that is gone from
anywhere else refuses the repair.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.contracts import SqlValue
from pagewarden.errors import PagewardenError, RepairRefused
from pagewarden.live.connection import open_copy
from pagewarden.repair.cutouts import Cutouts
from pagewarden.repair.reports import RepairedTable
from pagewarden.sqlite.names import quote

REPAIRER = "compare"
"""What rows that the comparison itself puts into the quarantine name as their repairer."""

SqlRow = tuple[SqlValue, ...]

Progress = Callable[[int, int], None]
"""Told how much is compared, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The database as it stood before the repair."""

    path: (
        Path  # a private copy of its file, its -wal or -journal beside it; it is settled, so it does not stay as it is
    )
    proven: bool = False  # whether the repaired copy is proven to be what was committed last (Loss.PROVEN)
    replaced: bool = False  # whether it was put together anew as a whole (RepairBench.replace, or a log was set aside)


def compare(
    before: Before,
    after: Path,
    cutouts: Cutouts,
    *,
    notes: Mapping[str, Mapping[str, int]] | None = None,
    progress: Progress | None = None,
) -> tuple[RepairedTable, ...]:
    """Return what became of the rows of each table of the closed private file `after`, by name.

    What is gone and may be is put into `cutouts`, which is left open. `notes` are the counts of `RepairBench.note`.
    Raises RepairRefused for a row that is gone and may not be.
    """
    noted = notes or {}
    with closing(open_copy(str(after))) as repaired:
        names = _tables(repaired)
        try:
            with closing(open_copy(str(before.path))) as old:
                readable = _tables(old)
                gone = {name: _gone(old, repaired if name in names else None, name) for name in readable}
        except (PagewardenError, sqlite3.Error):  # SQLite could read nothing of it
            gone = {}
        report = []
        for number, name in enumerate(sorted({*names, *gone})):
            if progress is not None:
                progress(number, len(gone))
            columns, rows = gone.get(name, ((), []))
            if rows and not (before.proven or before.replaced or cutouts.folder):
                raise RepairRefused(f"table {name} would lose {len(rows)} rows that could be read before")
            kept = cutouts.rows(name, columns, rows, "was readable before the repair", REPAIRER) if rows else 0
            count = repaired.execute(f"SELECT count(*) FROM {quote(name)}").fetchone()[0] if name in names else 0
            counts = dict(noted.get(name, {}))
            counts["rows_quarantined"] = counts.get("rows_quarantined", 0) + kept
            report.append(RepairedTable(name=name, rows_expected=None, rows_kept=count, **counts))
    return tuple(report)


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type='table' AND rootpage>0").fetchall()
    return [str(name) for (name,) in rows if not str(name).lower().startswith("sqlite_")]


def _gone(
    old: sqlite3.Connection, repaired: sqlite3.Connection | None, name: str
) -> tuple[tuple[str, ...], list[SqlRow]]:
    before, after = _rows(old, name), set() if repaired is None else set(_rows(repaired, name)[1])
    return before[0], [row for row in before[1] if row not in after]


def _rows(connection: sqlite3.Connection, name: str) -> tuple[tuple[str, ...], list[SqlRow]]:
    cursor = connection.execute(f"SELECT * FROM {quote(name)}")
    rows = []
    try:
        for row in cursor:
            rows.append(row)
    except sqlite3.Error:  # what follows cannot be read
        pass
    return tuple(column[0] for column in cursor.description), rows
