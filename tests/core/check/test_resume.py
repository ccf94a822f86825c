from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Subject
from pagewarden.testing.contracts import make_database
from pagewarden.values import CheckReport, Finding, Verdict
from tests.core.check.checkers import Plugins, damage


class Slow:
    """A checker of ten pages, of which it manages a few in one run."""

    def __init__(self, seconds: float) -> None:
        """`seconds` are those of one page."""
        self.seconds = seconds
        self.begun: list[str] = []

    def __call__(self, subject: Subject) -> Iterator[Finding]:
        """Begin where it was stopped."""
        self.begun.append(subject.resume)
        for page in range(int(subject.resume or 0), 10):
            subject.progress(page, 10)
            subject.reached(str(page))
            yield damage(f"page {page} is bad")
            time.sleep(self.seconds)


def check(plugins: Plugins, database: Path, behaviour: Slow, max_time: float | None = None) -> CheckReport:
    """Judge a database with one checker."""
    plugins.checkers.clear()
    return run_check(CheckRequest(database=str(database), max_time=max_time), plugins.runtime(behaviour))


def test_a_run_begins_where_the_last_ones_time_was_over(plugins: Plugins, database: Path, tmp_path: Path) -> None:
    """The report says how far it came; a checker that ends by itself begins anew the next time."""
    slow = Slow(0.15)
    report = check(plugins, database, slow, max_time=0.5)
    (result,) = report.checkers
    reached = report.findings[-1].message.split()[1]
    assert 0 < int(reached) < 10
    assert result.why == (
        f"check-chosen was stopped when the 0.5 s were over, at {reached} of 10; the next run begins there"
    )
    other = make_database(tmp_path / "other.db")
    slow.seconds = 0.0
    assert check(plugins, other, slow).findings[0].message == "page 0 is bad"
    assert [finding.message for finding in check(plugins, database, slow).findings] == [
        f"page {page} is bad" for page in range(int(reached), 10)
    ]
    check(plugins, database, slow)
    assert slow.begun == ["", "", reached, ""]


def test_a_checker_that_fails_begins_anew(plugins: Plugins, database: Path) -> None:
    """It ended by itself."""
    seen: list[str] = []

    def fails(subject: Subject) -> None:
        seen.append(subject.resume)
        subject.reached("half-way")
        raise OSError("gone")

    for _ in range(2):
        plugins.checkers.clear()
        report = run_check(CheckRequest(database=str(database)), plugins.runtime(fails))
        assert report.verdict is Verdict.UNKNOWN
    assert seen == ["", ""]


def test_one_that_was_not_begun_keeps_its_place(plugins: Plugins, database: Path) -> None:
    """A run whose time was over before anything could begin forgets nothing."""
    slow = Slow(0.2)
    check(plugins, database, slow, max_time=0.5)
    check(plugins, database, slow, max_time=1e-6)
    slow.seconds = 0.0
    check(plugins, database, slow)
    assert slow.begun[0] == "" and slow.begun[1] != ""
