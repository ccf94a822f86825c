"""Versions of SQLite that are known to damage databases, and whether the linked library is one of them.

The facts are SQLite's own (its release history, and "The WAL-Reset Bug" in its document on write-ahead logging). What
counts is the library that is linked into this process, not the version of a command-line shell beside it.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

Release = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Releases from `first` to `last`, both included."""

    first: Release
    last: Release

    def __contains__(self, release: Release) -> bool:
        return self.first <= release <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBug:
    """One bug of SQLite that can damage a database."""

    name: str  # stable, such as "wal-reset"
    what: str  # when it strikes and what it does
    affected: tuple[Span, ...]
    mended: tuple[Span, ...] = ()  # releases inside `affected` that carry the fix
    fixed: str  # releases with the fix, for people; empty where no release mends it
    advice: str  # what to do meanwhile

    def affects(self, release: Release) -> bool:
        """Return whether the bug is in SQLite as its authors released `release`."""
        return any(release in span for span in self.affected) and not any(release in span for span in self.mended)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedSQLite:
    """The SQLite library of this process."""

    release: Release
    source_id: str  # date, time and hash of its sources; ends in "alt1" or the like where they were changed

    @property
    def version(self) -> str:
        """The release as people write it, such as "3.40.1"."""
        return ".".join(map(str, self.release))

    @property
    def patched(self) -> bool:
        """Whether somebody changed SQLite's sources before building: fixes may have been brought in, or not.

        SQLite's build replaces the last four digits of the hash by "alt1", "alt2"… when a source file was edited.
        """
        return re.search(r"alt\d$", self.source_id) is not None

    @property
    def withdrawn(self) -> bool:
        """Whether SQLite's authors took the release back (3.52.0, for incompatible features)."""
        return self.release == (3, 52, 0)

    def bugs(self) -> tuple[KnownBug, ...]:
        """Return the known bugs of this release, those that no release mends left out."""
        return tuple(bug for bug in KNOWN_BUGS if bug.fixed and bug.affects(self.release))


_FIRST: Release = (3, 0, 0)
_LATEST: Release = (3, 999, 999)

KNOWN_BUGS: tuple[KnownBug, ...] = (
    KnownBug(
        name="wal-reset",
        what="two connections that write and checkpoint a WAL database at one instant can make a later checkpoint skip "
        "committed pages",
        affected=(Span(first=(3, 7, 0), last=(3, 51, 2)),),
        mended=(Span(first=(3, 50, 7), last=(3, 50, 999)), Span(first=(3, 44, 6), last=(3, 44, 999))),
        fixed="3.51.3, 3.53.0, and 3.50.7 and 3.44.6 of the older lines",
        advice="use one connection for checkpoints, or link SQLite 3.51.3 or later",
    ),
    KnownBug(
        name="stale-expression-indexes",
        what="an index on an expression over floating-point values can go stale when the processor, the system or "
        "SQLite changes",
        affected=(Span(first=(3, 9, 0), last=_LATEST),),
        fixed="",
        advice="rebuild such indexes after a move: REINDEX, or REINDEX EXPRESSIONS from 3.53",
    ),
    KnownBug(
        name="balance-page-cache",
        what="balancing a b-tree with a page cache of the application's own can damage the tree",
        affected=(Span(first=_FIRST, last=(3, 39, 3)),),
        fixed="3.39.4",
        advice="link SQLite 3.39.4 or later",
    ),
    KnownBug(
        name="savepoint-temp-store",
        what="rolling back a SAVEPOINT with temp_store=MEMORY can damage the database",
        affected=(Span(first=(3, 35, 0), last=(3, 37, 1)),),
        fixed="3.37.2",
        advice="keep temp_store at its default, or link SQLite 3.37.2 or later",
    ),
    KnownBug(
        name="drop-column",
        what="ALTER TABLE DROP COLUMN can damage the table",
        affected=(Span(first=(3, 35, 0), last=(3, 35, 4)),),
        fixed="3.35.5",
        advice="do not drop columns, or link SQLite 3.35.5 or later",
    ),
    KnownBug(
        name="expression-index-conversion",
        what="an automatic type conversion can leave an index on an expression at odds with its table",
        affected=(Span(first=_FIRST, last=(3, 22, 999)),),
        fixed="3.23.0",
        advice="link SQLite 3.23.0 or later",
    ),
    KnownBug(
        name="auto-vacuum",
        what="auto_vacuum can damage the database",
        affected=(Span(first=(3, 16, 0), last=(3, 18, 0)), Span(first=(3, 19, 0), last=(3, 19, 2))),
        fixed="3.18.1, 3.19.3",
        advice="switch auto_vacuum off, or link SQLite 3.19.3 or later",
    ),
    KnownBug(
        name="replace-rowid",
        what="REPLACE can give two rows of a table the same rowid",
        affected=(Span(first=_FIRST, last=(3, 18, 999)),),
        fixed="3.19.0",
        advice="link SQLite 3.19.0 or later",
    ),
    KnownBug(
        name="wal-restart-sync",
        what="a sync is missing when the WAL is restarted, so that a power failure can damage the database",
        affected=(Span(first=(3, 7, 0), last=(3, 7, 9)),),
        fixed="3.7.10",
        advice="link SQLite 3.7.10 or later",
    ),
)


def linked_sqlite() -> LinkedSQLite:
    """Return the SQLite library that the standard library's sqlite3 is linked with."""
    connection = sqlite3.connect(":memory:")
    try:
        source_id = str(connection.execute("SELECT sqlite_source_id()").fetchone()[0])
    finally:
        connection.close()
    major, minor, patch = sqlite3.sqlite_version_info
    return LinkedSQLite(release=(major, minor, patch), source_id=source_id)


def compile_options() -> tuple[str, ...]:
    """Return what the linked library was compiled with, as `PRAGMA compile_options` lists it."""
    connection = sqlite3.connect(":memory:")
    try:
        return tuple(str(row[0]) for row in connection.execute("PRAGMA compile_options"))
    finally:
        connection.close()
