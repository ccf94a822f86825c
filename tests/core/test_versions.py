"""The table of SQLite's known bugs, gated on the linked library."""

from __future__ import annotations

import sqlite3

import pytest

from pagewarden.versions import KNOWN_BUGS, LinkedSQLite, compile_options, linked_sqlite

SOURCE = "2022-12-28 14:03:47 df5c253c0b3dd24916e4ec7cf77d3db5294cc9fd45ae7b9c5e82ad8197f3"


def bugs_of(text: str) -> set[str]:
    """Return the names of the bugs of one release."""
    major, minor, patch = map(int, text.split("."))
    return {bug.name for bug in LinkedSQLite(release=(major, minor, patch), source_id=SOURCE).bugs()}


@pytest.mark.parametrize(
    ("bug", "affected", "sound"),
    [
        (
            "wal-reset",
            ["3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2"],
            ["3.6.23", "3.44.6", "3.50.7", "3.51.3", "3.52.0", "3.53.0", "3.53.4"],
        ),
        ("balance-page-cache", ["3.6.0", "3.39.3"], ["3.39.4", "3.40.0"]),
        ("savepoint-temp-store", ["3.35.0", "3.37.1"], ["3.34.1", "3.37.2"]),
        ("drop-column", ["3.35.0", "3.35.4"], ["3.34.1", "3.35.5"]),
        ("expression-index-conversion", ["3.9.0", "3.22.0"], ["3.23.0"]),
        ("auto-vacuum", ["3.16.0", "3.17.0", "3.18.0", "3.19.0", "3.19.2"], ["3.15.2", "3.18.1", "3.18.2", "3.19.3"]),
        ("replace-rowid", ["3.8.0", "3.18.2"], ["3.19.0"]),
        ("wal-restart-sync", ["3.7.0", "3.7.9"], ["3.6.23", "3.7.10"]),
    ],
)
def test_each_row_of_the_table_holds_at_its_edges(bug: str, affected: list[str], sound: list[str]) -> None:
    """A bug is in the first and last release that has it, and in none before, after, or with the fix brought back."""
    assert [version for version in affected if bug not in bugs_of(version)] == []
    assert [version for version in sound if bug in bugs_of(version)] == []


def test_what_no_release_mends_is_not_held_against_one() -> None:
    """Stale expression indexes are looked for in a database; every version has them."""
    (stale,) = (bug for bug in KNOWN_BUGS if not bug.fixed)
    assert stale.name == "stale-expression-indexes"
    assert stale.affects((3, 53, 4))
    assert "stale-expression-indexes" not in bugs_of("3.53.4")


def test_every_bug_says_what_it_does_and_what_to_do() -> None:
    """No row is without its words, and no two share a name."""
    assert all(bug.what and bug.advice and bug.affected for bug in KNOWN_BUGS)
    assert len({bug.name for bug in KNOWN_BUGS}) == len(KNOWN_BUGS) == 9


@pytest.mark.parametrize(
    ("source", "patched"), [(SOURCE, False), (f"{SOURCE[:-4]}alt1", True), ("alt1 at the front", False)]
)
def test_changed_sources_are_told_by_the_source_id(source: str, patched: bool) -> None:
    """Who builds SQLite from edited sources, as Debian does, leaves "alt1" at the end of the id."""
    assert LinkedSQLite(release=(3, 40, 1), source_id=source).patched is patched


def test_the_withdrawn_release_is_known() -> None:
    """3.52.0 has the fix of the WAL-reset race, but its authors took it back."""
    assert LinkedSQLite(release=(3, 52, 0), source_id=SOURCE).withdrawn
    assert not LinkedSQLite(release=(3, 52, 1), source_id=SOURCE).withdrawn


def test_the_linked_library_is_the_one_that_this_process_uses() -> None:
    """Version and source id are those of the standard library's module."""
    linked = linked_sqlite()
    assert linked.version == sqlite3.sqlite_version
    assert linked.source_id[:4].isdecimal()
    assert any(option.startswith("THREADSAFE=") for option in compile_options())
