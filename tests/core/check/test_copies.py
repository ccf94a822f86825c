from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Subject
from pagewarden.values import Finding, Verdict
from tests.core.check.checkers import Plugins


def place(connection: sqlite3.Connection) -> Path:
    """Return the file that a connection has open."""
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_copy_may_be_written_to_and_is_gone_afterwards(plugins: Plugins, database: Path, mode: str) -> None:
    """One for the whole run; neither the database nor what other checkers read changes with it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    before, seen = database.read_bytes(), []

    def writes(subject: Subject) -> list[Finding]:
        copy, again, reading = subject.connect(copy=True), subject.connect(copy=True), subject.connect()
        assert place(copy) == place(again) != place(reading)
        copy.execute("DELETE FROM customers")
        seen.append(place(copy))
        assert again.execute("SELECT count(*) FROM customers").fetchone() == (0,)
        assert reading.execute("SELECT count(*) FROM customers").fetchone() == (300,)
        assert subject.image.page(1)[:16] == b"SQLite format 3\0"
        return []

    report = run_check(CheckRequest(database=str(database)), plugins.runtime(writes))
    assert (report.verdict, report.checkers[0].why) == (Verdict.SOUND, "")
    assert database.read_bytes() == before
    assert not seen[0].parent.exists()


def test_an_empty_database_can_be_copied(plugins: Plugins, tmp_path: Path) -> None:
    """It has no pages."""
    (tmp_path / "empty.db").write_bytes(b"")

    def writes(subject: Subject) -> list[Finding]:
        subject.connect(copy=True).execute("CREATE TABLE t(a)")
        return []

    report = run_check(CheckRequest(database=str(tmp_path / "empty.db")), plugins.runtime(writes))
    assert (report.verdict, report.checkers[0].why) == (Verdict.SOUND, "")


def test_assertions_and_resume_are_given_to_a_checker(plugins: Plugins, database: Path) -> None:
    """As the request has them; a first run begins anew."""
    seen: list[object] = []

    def looks(subject: Subject) -> list[Finding]:
        seen.extend((subject.assertions, subject.resume))
        subject.reached("half-way")
        return []

    request = CheckRequest(database=str(database), assertions=("SELECT 1",))
    assert run_check(request, plugins.runtime(looks)).verdict is Verdict.SOUND
    assert seen == [("SELECT 1",), ""]
