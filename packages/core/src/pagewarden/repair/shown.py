"""One entry of a quarantine, with a look at the pages and rows that were cut out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pagewarden.contracts import SqlValue
from pagewarden.errors import RestoreRefused
from pagewarden.repair.cutouts import CutoutsView, read_cutouts
from pagewarden.repair.kept import KeptEntry, entry_of
from pagewarden.repair.literals import sql_literal

MOST_VALUE = 1000
"""Characters of a value that are shown."""

MOST_GROUPS = 100
MOST_PAGES = 10_000
"""Reasons for which pages were cut out, and pages of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRequest:
    """Which entry to show, and how many rows of each table."""

    database: str  # path
    number: int | None = None  # of the entry; None: the newest
    tables: tuple[str, ...] = ()  # only these; (): all
    rows: int = 10  # of each table


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row that was cut out; its values as SQL literals, cut short where they are long."""

    table: str
    columns: tuple[str, ...]
    values: tuple[str, ...]
    why: str
    repairer: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPages:
    """Pages that one repairer cut out for one reason."""

    why: str
    repairer: str
    pages: tuple[int, ...]  # ascending; of very many, the first ones
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowReport:
    """One entry, with a look at what was cut out."""

    entry: KeptEntry
    pages: tuple[ShownPages, ...]
    rows: tuple[ShownRow, ...]


def run_show(request: ShowRequest) -> ShowReport:
    """Show one entry. Raises RestoreRefused where there is none, DatabaseUnreadable."""
    entry = entry_of(Path(os.path.realpath(request.database)), request.number)
    if entry.cut is None:
        return ShowReport(entry=entry, pages=(), rows=())
    with read_cutouts(Path(entry.folder)) as view:
        chosen = chosen_tables(view, request.tables, entry)
        rows = tuple(row for table in chosen for row in _first(view, table, request.rows))
        return ShowReport(entry=entry, pages=_grouped(view), rows=rows)


def chosen_tables(view: CutoutsView, wanted: tuple[str, ...], entry: KeptEntry) -> tuple[str, ...]:
    """Return the `wanted` tables, or all that rows were cut out of. Raises RestoreRefused for one that none were of."""
    there = tuple(name for name, _ in view.tables())
    for name in wanted:
        if name not in there:
            raise RestoreRefused(
                f"no row of {name} was cut out of {entry.database} then",
                hint=shlex.join(["pagewarden", "quarantine", "show", entry.database, str(entry.number)]),
            )
    return wanted or there


def _first(view: CutoutsView, table: str, most: int) -> Iterator[ShownRow]:
    for place, row in enumerate(view.rows(table)):
        if place == most:
            return
        yield ShownRow(
            table=row.table,
            columns=row.columns,
            values=tuple(map(_short, row.values)),
            why=row.why,
            repairer=row.repairer,
            source=row.source,
        )


def _short(value: SqlValue) -> str:
    long = isinstance(value, str | bytes) and len(value) > MOST_VALUE
    text = sql_literal(value[:MOST_VALUE] if long and isinstance(value, str | bytes) else value)
    return f"{text[:MOST_VALUE]}…" if long else text


def _grouped(view: CutoutsView) -> tuple[ShownPages, ...]:
    groups: dict[tuple[str, str], set[int]] = {}
    for page in view.pages():
        key = (page.why, page.repairer)
        if key in groups or len(groups) < MOST_GROUPS:
            groups.setdefault(key, set()).add(page.pgno)
    return tuple(
        ShownPages(why=why, repairer=repairer, pages=tuple(sorted(pages)[:MOST_PAGES]), count=len(pages))
        for (why, repairer), pages in groups.items()
    )
