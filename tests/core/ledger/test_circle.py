from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Subject
from pagewarden.ledger.circle import WHOLE, Arc, Circle, extended
from pagewarden.ledger.notebook import Notebook
from pagewarden.processes.reader import PageReader
from pagewarden.testing.contracts import make_database
from pagewarden.values import CheckerResult, Finding, Level, Verdict
from tests.core.check.checkers import Plugins, damage
from tests.core.ledger.conftest import report, write

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """One page reader for all tests."""
    with PageReader() as made:
        yield made


@pytest.fixture
def plugins(state: Path, reader: PageReader) -> Plugins:
    """A runtime that has none but the test's checkers."""
    return Plugins(state, reader)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database."""
    return make_database(tmp_path / "app.db")


class Rounds:
    """A checker of ten pages, of which it manages four in one run, and then hangs in a loop that asks for time."""

    whole_only = "what no part shows"

    def __init__(self, bad: int | None = None, apart: int | None = None) -> None:
        """Page `bad` is damaged; page `apart` cannot be judged."""
        self.bad = bad
        self.apart = apart
        self.pages = 10

    def __call__(self, subject: Subject) -> Iterator[Finding]:
        """Go round from where it was stopped."""
        begin = int(subject.resume or 0)
        subject.progress(0, self.pages)
        for number in range(4):
            page = (begin + number) % self.pages
            if page == self.bad:
                yield damage(f"page {page} is bad")
            subject.progress(number + 1, self.pages)
            if page == self.apart:
                subject.reached("")
            subject.reached(str((page + 1) % self.pages))
        while True:
            time.sleep(0.01)
            subject.progress(5, self.pages)  # what is told after the last place counts for nothing


def check(plugins: Plugins, database: Path, behaviour: Rounds, **fields: object) -> CheckerResult:
    """Judge a database for a short time, all of which is the checker's: by the run's clock nothing else takes any."""
    plugins.checkers.clear()
    request = CheckRequest(database=str(database), max_time=0.3, **fields)  # type: ignore[arg-type]
    runtime = plugins.runtime(behaviour)
    runtime.monotonic = lambda: 0.0
    (result,) = run_check(request, runtime).checkers
    return result


def test_runs_that_were_cut_short_add_up_to_a_verdict(plugins: Plugins, database: Path) -> None:
    """Three runs of four tenths are one of the whole; then a new round begins."""
    rounds = Rounds()
    first, second, third, fourth = (check(plugins, database, rounds) for _ in range(4))
    assert [each.verdict for each in (first, second, third, fourth)] == [
        Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.SOUND, Verdict.UNKNOWN,
    ]  # fmt: skip
    assert first.why.endswith("; the next run begins there")
    assert second.why.endswith("Z judged 80 % of it") and "; 2 runs since 20" in second.why
    assert third.why.startswith("judged whole over 3 runs since 20")
    assert "each part at the commit of its run" in third.why
    assert "runs since" not in fourth.why


def test_damage_in_one_part_is_damage_of_the_whole(plugins: Plugins, database: Path) -> None:
    """The runs that do not see it again say so, too, until the round is over; the next one that is sound says sound."""
    rounds = Rounds(bad=1)
    results = [check(plugins, database, rounds) for _ in range(3)]
    assert [(each.verdict, each.findings) for each in results] == [
        (Verdict.DAMAGED, 1), (Verdict.DAMAGED, 0), (Verdict.DAMAGED, 1),
    ]  # fmt: skip
    assert "judged 80 % of it, with 1 finding" in results[1].why
    assert results[2].why.startswith("judged whole over 3 runs") and "with 2 findings" in results[2].why
    rounds.bad = None
    assert [check(plugins, database, rounds).verdict for _ in range(3)][-1] is Verdict.SOUND


def test_a_person_is_told_of_damage_that_an_earlier_run_found(plugins: Plugins, database: Path) -> None:
    """The notice of the run that does not see it again does not call it a database that could not be judged."""
    rounds = Rounds(bad=1)
    for _ in range(2):
        check(plugins, database, rounds)
    assert [notice.title.split()[-1] for notice in plugins.notifier.notices] == ["damaged", "damaged"]


def test_what_one_run_leaves_unjudged_keeps_the_whole_unknown(plugins: Plugins, database: Path) -> None:
    """However often the rounds are gone."""
    rounds = Rounds(apart=5)
    assert {check(plugins, database, rounds).verdict for _ in range(6)} == {Verdict.UNKNOWN}


def test_parts_of_another_file_or_level_are_none_of_this_one(plugins: Plugins, database: Path, tmp_path: Path) -> None:
    """A database that was replaced begins a round of its own; so does one that is judged in another way."""
    rounds = Rounds()
    for _ in range(2):
        check(plugins, database, rounds)
    make_database(tmp_path / "other.db").replace(database)
    assert "runs since" not in check(plugins, database, rounds).why
    assert "2 runs since" in check(plugins, database, rounds).why
    assert "runs since" not in check(plugins, database, rounds, level=Level.DEEP).why


def test_a_run_that_ends_by_itself_clears_the_round(plugins: Plugins, database: Path) -> None:
    """What it says is newer than all parts."""
    rounds = Rounds(bad=1)
    check(plugins, database, rounds)
    plugins.checkers.clear()
    run_check(CheckRequest(database=str(database)), plugins.runtime(lambda _: []))
    rounds.bad = None
    assert check(plugins, database, rounds).verdict is Verdict.UNKNOWN


def circle(**fields: object) -> Circle:
    """Return one that is half done."""
    made = Circle(of="file", begun=NOW, runs=2, covered=WHOLE // 2, total=100.0, verdict=Verdict.SOUND, findings=0)
    return replace(made, **fields)  # type: ignore[arg-type]


def arc(*told: tuple[int, int]) -> Arc:
    """Return one that was told this progress, and then a place."""
    made = Arc()
    for done, total in told:
        made.progress(done, total)
    made.reached("there")
    return made


@pytest.mark.parametrize(
    ("told", "covered"),
    [
        ([(0, 10), (5, 10)], WHOLE // 2),
        ([(4, 10), (5, 10)], WHOLE // 10),  # counted from elsewhere
        ([(8, 10), (3, 10)], 0),  # backwards
        ([(0, 10), (5, 10), (3, 4)], 0),  # of something else
        ([(0, 3), (1, 3)], 333_333_333),
        ([(700, 0), (0, 10), (5, 10)], WHOLE // 2),
        ([], 0),
    ],
)
def test_an_arc_is_never_called_longer_than_it_is(told: list[tuple[int, int]], covered: int) -> None:
    """It is what was told between the beginning and the place, rounded down."""
    assert arc(*told).covered == covered


def test_what_grew_is_less_covered() -> None:
    """Half of 100 is a quarter of 200; what shrank is as covered as it was."""
    for total, expected in ((200, WHOLE // 4), (50, WHOLE // 2)):
        grown = extended(circle(), arc((0, total)), of="file", began=NOW, verdict=Verdict.SOUND, findings=0)
        assert (grown.covered, grown.total, grown.runs) == (expected, total, 3)


def test_what_cannot_be_judged_in_parts_is_said() -> None:
    """By the checker's own words."""
    told = circle(covered=WHOLE).told("the freelist")
    assert told.endswith("each part at the commit of its run; not judged in parts: the freelist")


def read(state: Path) -> Circle | None:
    """Return what the ledger keeps."""
    book = Notebook(lambda: state, "/srv/app.db", lambda: NOW)
    try:
        return book.circle("check-pages")
    finally:
        book.close()


def keep(state: Path) -> None:
    """Write a circle into the ledger."""
    book = Notebook(lambda: state, "/srv/app.db", lambda: NOW)
    resumes = {"check-pages": ("7", circle())}
    book.write(report(), level=Level.QUICK, started=NOW, resumes=resumes, look=lambda _: None)
    book.close()


def test_the_ledger_keeps_a_round(tmp_path: Path) -> None:
    """As it was; it goes with the place. A ledger of the version before is made one of this version."""
    state = tmp_path / "state"
    write(state, report())
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.executescript("DROP TABLE circles; PRAGMA user_version=1")
    keep(state)
    assert read(state) == circle()
    write(state, report(), check_pages="8")
    assert read(state) is None


def test_nonsense_in_the_ledger_is_set_aside(tmp_path: Path) -> None:
    """It is a help, and never the judge."""
    state = tmp_path / "state"
    keep(state)
    with closing(sqlite3.connect(state / "ledger.db")) as connection, connection:
        connection.execute("UPDATE circles SET verdict = 'fine'")
    assert read(state) is None
