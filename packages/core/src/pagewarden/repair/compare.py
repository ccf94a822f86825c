"""Whether a repair lost a row that could be read before: the last word before the repaired copy takes the path.

1. Pages whose sums are equal before and after, that the same table uses and whose overflow pages are equal, hold the
   same rows: they are not looked at. Every row on the others is.
2. A row stands after if some page of the table there holds it byte for byte, or else if exact look-ups through SQLite
   give the same values before and after: it may have been written anew.
3. What is left could be read before if SQLite gives it for an exact look-up, or in a scan of its page from either
   side; a page is never taken at the word of one scan over damage (H28).
4. Such a row must be in the quarantine. Where its page, or one above it, was cut out, or the file was put together anew
   as a whole, it is put there now. From anywhere else it must not be gone: the repair is refused.

What cannot be judged, for its time or its damage, refuses the repair, too.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.errors import DatabaseUnreadable, NotADatabase, RepairRefused
from pagewarden.live.connection import open_copy, open_still
from pagewarden.repair.closed import ClosedFile, Survey, TooDamaged, Usage
from pagewarden.repair.cutouts import Cutouts, CutRow, read_cutouts
from pagewarden.repair.gone import find_gone, find_gone_entries, suspects
from pagewarden.repair.lookups import SqlRow, Table, derived_tables, exactly, fold, read_tables, with_covering
from pagewarden.repair.moving import stored_text
from pagewarden.repair.reports import RepairedTable
from pagewarden.sqlite.btree import PageKind
from pagewarden.sqlite.refusals import refusal_or_raise

REPAIRER = "compare"
"""What rows that the comparison itself puts into the quarantine name as their repairer."""

SECONDS = 900.0
"""How long a comparison may take; a repair whose rows were not all compared by then is refused."""

WHY = "could be read before the repair"

_OPCODES = 20_000  # of SQLite's machine between two looks at the clock

_SHOWN = 50  # characters of a key
_DEEPEST = 32  # pages from a leaf to its root, and more than SQLite follows

Progress = Callable[[int, int], None]
"""Told how many pages are compared, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The database as it stood before the repair."""

    path: Path  # a private copy of its file, with its -wal or -journal; SQLite settles it, so it does not stay as it is
    still: bool = False  # whether that is the database itself instead, locked, without log or journal: only read then
    proven: bool = False  # whether the repaired copy is proven to be what was committed last (Loss.PROVEN)
    replaced: bool = False  # whether it was put together anew as a whole (RepairBench.replace, or a log was set aside)


class Side:
    """One of the two files: its pages, who uses them, and a connection."""

    def __init__(self, path: Path, stack: ExitStack, late: Callable[[], bool], *, still: bool = False) -> None:
        """Open both; `stack` closes them. `late` says whether the time is over. Raises sqlite3.Error, TooDamaged."""
        # The connection is closed first: to close a file takes the locks of a connection on it away (H1).
        self.file = stack.enter_context(ClosedFile(path))
        self.connection = stack.enter_context(closing(_opened(path, still=still)))
        self.connection.text_factory = stored_text
        self.connection.execute("PRAGMA cell_size_check=0")  # with it, SQLite would not read what others could
        self.connection.set_progress_handler(late, _OPCODES)
        self.tables = {
            name: with_covering(self.connection, table) for name, table in read_tables(self.connection).items()
        }
        self.derived = derived_tables(self.connection)
        trees = {name: table.tree for name, table in self.tables.items()}
        trees |= {index.key: index.tree for table in self.tables.values() for index in table.covering}
        self.places = {name: place for place, name in enumerate(trees)}
        self._trees = tuple(trees.values())
        self.survey: Survey
        self.usage: Usage
        self.by_tree: list[array[int]]

    def look(self, tick: Callable[[], None]) -> None:
        """Read every page, and see who uses it. Raises TooDamaged, and what `tick` raises."""
        self.survey = self.file.survey(tick)
        self.usage = self.file.usage(self._trees, tick)
        self.by_tree = self.usage.by_tree()

    def rows(self, name: str) -> int:
        """Return how many rows the pages of a table say that they hold."""
        cells = self.survey.cells
        return sum(cells[pgno - 1] for pgno in self.pages(name))

    def pages(self, name: str) -> Sequence[int]:
        """Return the pages of a table on which rows stand, and not only the way to them."""
        pages, kinds = self.by_tree[self.places[name]], self.survey.kinds
        if self.tables[name].without_rowid:
            return pages
        return [pgno for pgno in pages if kinds[pgno - 1] == PageKind.TABLE_LEAF]


def compare(
    before: Before,
    after: Path,
    cutouts: Cutouts,
    *,
    notes: Mapping[str, Mapping[str, int]] | None = None,
    progress: Progress | None = None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[RepairedTable, ...]:
    """Return what became of the rows of each table, by name; `after` is the repaired copy, sound and closed.

    What is gone and may be is put into `cutouts`, which is left open; what was cut out before must stand in its folder.
    `notes` are the counts of `RepairBench.note`. Both files are this process's alone. Raises RepairRefused for a row
    that is gone and may not be, and where that cannot be judged in `seconds`.
    """
    end = clock() + seconds

    def late() -> bool:
        return clock() > end

    def tick() -> None:
        if late():
            raise RepairRefused(
                f"whether a row was lost could not be judged in {seconds:g} seconds",
                hint="the original is untouched; let the repair have more time on a machine with less to do",
            )

    try:
        with ExitStack() as stack:
            new = Side(after, stack, late)
            old = Side(before.path, stack, late, still=before.still) if _settle(before) else None
            with ThreadPoolExecutor(2) as threads:  # the page scanner works outside Python's lock
                for done in [threads.submit(side.look, tick) for side in (new, old) if side is not None]:
                    done.result()
            run = _Comparison(before, old, new, cutouts, tick, progress)
            return run.tables(notes or {})
    except TooDamaged as error:
        raise RepairRefused(
            f"whether a row was lost cannot be judged: {error}",
            hint="the original is untouched; pagewarden restore brings a backup back",
        ) from error
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            tick()
        raise


def _opened(path: Path, *, still: bool) -> sqlite3.Connection:
    return open_still(str(path)) if still else open_copy(str(path))


def _settle(before: Before) -> bool:
    """Let SQLite take log and journal into a private file; return whether it can read any of a schema."""
    try:
        with closing(_opened(before.path, still=before.still)) as connection:
            connection.text_factory = stored_text
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            if not before.still:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before.path.stat().st_size > 0  # to SQLite no byte at all is a database, too
    except NotADatabase:
        return False
    except DatabaseUnreadable as error:
        if str(error.fields.get("sqlite", "")).startswith("SQLITE_CORRUPT"):
            return False
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not refusal_or_raise(error).damage:
            raise
        return False


class _Comparison:
    """One comparison: what is gone is judged and kept table by table."""

    def __init__(
        self, before: Before, old: Side | None, new: Side, cutouts: Cutouts, tick: Callable[[], None],
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self._before = before
        self._old = old
        self._new = new
        self._cutouts = cutouts
        self._tick = tick
        self._progress = progress
        self._suspect = None if old is None else suspects(old, new)
        self._cut: set[int] = set()  # pages that a repairer wrote over, and those whose overflow pages it did
        self._kept: dict[str, set[bytes]] = {}  # digests of rows that repairers put into the quarantine
        with read_cutouts(cutouts.folder) as view:
            pages = [(page.pgno, page.page_size) for page in view.pages()]
            for name, _ in view.tables():
                if old is not None and (table := old.tables.get(fold(name))) is not None:
                    self._kept.setdefault(fold(name), set()).update(
                        map(exactly, self._as_named(table, view.rows(name)))
                    )
        self._any_cut = bool(pages)
        if old is not None:
            self._cut = {pgno for pgno, size in pages if size == old.file.page_size}
            self._cut |= {holder for pgno in self._cut if (holder := old.usage.holder(pgno)) is not None}

    def tables(self, notes: Mapping[str, Mapping[str, int]]) -> tuple[RepairedTable, ...]:
        """Compare all tables; return their report."""
        old, new = self._old, self._new
        counts = {fold(name): dict(count) for name, count in notes.items()}
        quarantined: dict[str, int] = {}
        entries_kept: dict[str, int] = {}  # that no table had; so they are none of its rows that are expected
        if old is not None:
            total, done = sum(map(len, old.by_tree)), 0
            for name, table in old.tables.items():
                if name not in old.derived:
                    gone = self._not_kept(old, table, find_gone(old, new, name, self._suspect, self._tick))
                    quarantined[name] = self._cutouts.rows(table.name, table.named, gone, WHY, REPAIRER)
                    for index in table.covering:
                        entries = find_gone_entries(old, new, name, index, self._suspect, self._tick)
                        unknown = (row for row in entries if exactly(row) not in self._kept.get(name, ()))
                        why = f"index {index.name} said so, {WHY}"
                        entries_kept[name] = entries_kept.get(name, 0) + self._cutouts.rows(
                            table.name, table.named, unknown, why, REPAIRER
                        )
                done += len(old.by_tree[old.places[name]])
                if self._progress is not None:
                    self._progress(done, total)
            self._compare_objects(old)
            self._compare_sequences(old)
        names = {**({} if old is None else old.tables), **new.tables}
        return tuple(
            self._report(name, names[name], counts.get(name, {}), quarantined.get(name, 0), entries_kept.get(name, 0))
            for name in sorted(names)
        )

    def _not_kept(self, old: Side, table: Table, gone: Iterable[tuple[SqlRow, int]]) -> Iterator[SqlRow]:
        """Yield the rows that must go into the quarantine: those that are not there yet. Raises RepairRefused."""
        kept = self._kept.get(fold(table.name), ())
        for row, pgno in gone:
            if exactly(row) in kept:
                continue
            if not self._licensed(old, pgno):
                raise RepairRefused(
                    f"table {table.name} would lose a row that could be read before, from page {pgno}, which no "
                    f"repair had to touch: {_shown(table, row)}",
                    hint="the original is untouched; pagewarden repair DB shows the plan",
                )
            yield row

    def _as_named(self, table: Table, rows: Iterable[CutRow]) -> Iterator[SqlRow]:
        """Yield those rows of the quarantine that have all columns of a table."""
        for row in rows:
            self._tick()
            values = dict(zip(map(fold, row.columns), row.values, strict=True))
            if all(fold(column) in values for column in table.named):
                yield tuple(values[fold(column)] for column in table.named)

    def _licensed(self, old: Side, pgno: int) -> bool:
        """Whether rows of a page of the old file may be gone from the database."""
        if self._before.proven or self._before.replaced:
            return True
        if not self._any_cut:
            return False
        if self._suspect is None or pgno in old.usage.flawed:  # the same bytes mean something else now, or did
            return True
        for _ in range(_DEEPEST):
            if pgno in self._cut:
                return True
            pgno = old.usage.parent(pgno)
        return False

    def _compare_objects(self, old: Side) -> None:
        """See that every index, trigger and view is still there. Raises RepairRefused."""
        sql = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        there = {(kind, fold(str(name))): text for kind, name, _, text in self._new.connection.execute(sql)}
        gone = [row for row in old.connection.execute(sql) if there.get((row[0], fold(str(row[1])))) != row[3]]
        self._keep_other("sqlite_schema", ("type", "name", "tbl_name", "sql"), gone)

    def _compare_sequences(self, old: Side) -> None:
        """See that no AUTOINCREMENT goes back: it would give a rowid that was used. Raises RepairRefused."""
        there = dict(_sequences(self._new))
        gone = [(name, seq) for name, seq in _sequences(old) if there.get(name, -1) < seq]
        self._keep_other("sqlite_sequence", ("name", "seq"), gone)

    def _keep_other(self, table: str, columns: Sequence[str], gone: Sequence[SqlRow]) -> None:
        if gone and not (self._before.proven or self._before.replaced or self._any_cut):
            raise RepairRefused(f"{table} would lose what could be read before: {gone[0]}")
        if gone:
            self._cutouts.rows(table, columns, gone, WHY, REPAIRER)

    def _report(
        self, name: str, table: Table, counts: Mapping[str, int], quarantined: int, entries: int
    ) -> RepairedTable:
        old, kept = self._old, self._new.rows(name) if name in self._new.tables else 0
        quarantined += counts.get("rows_quarantined", 0)
        expected = None
        if self._before.proven or (old is not None and name in old.derived):
            expected = kept  # of an index of full text, what its rows give
        elif old is not None and name in old.tables and old.places[name] not in old.usage.broken:
            expected = old.rows(name)
        lost = counts.get("rows_lost", 0)
        if expected is not None:
            lost = max(0, expected - kept - quarantined)
        return RepairedTable(
            name=table.name,
            rows_expected=expected,
            rows_kept=kept,
            rows_salvaged=counts.get("rows_salvaged", 0),
            rows_from_backup=counts.get("rows_from_backup", 0),
            rows_lost=lost,
            rows_quarantined=quarantined + entries,
        )


def _sequences(side: Side) -> list[tuple[str, int]]:
    """Return how far the AUTOINCREMENT of each table is that is still there, as far as it can be read."""
    try:
        rows = side.connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        refusal_or_raise(error)  # there is no such table, or it cannot be read
        return []
    return [(name, seq) for name, seq in rows if isinstance(name, str) and isinstance(seq, int)]


def _shown(table: Table, row: SqlRow) -> str:
    """Return what names a row: its rowid, or its primary key."""
    names = table.keys or table.named[:1] if table.alias is None else (table.alias,)
    values = dict(zip(table.named, row, strict=True))
    text = ", ".join(f"{name} {str(values[name])[:_SHOWN]!r}" for name in names)
    return text[: 4 * _SHOWN]
