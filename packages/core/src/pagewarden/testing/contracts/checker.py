"""The contract of checkers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected, ContractBroken
from pagewarden.contracts import Checker
from pagewarden.testing.contracts.samples import NAME, damaged_copies, folder_state, in_time, make_database, opens
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Level, Severity


class _DeadlinePassed(BaseException):
    """What a run raises in a checker whose time is over."""


def _run(checker: Checker, subject: ClosedSubject) -> Collected:
    """Let a checker judge, in a thread as a run does, and hold what it returns against its contract."""
    collected = Collected()
    in_time(checker.name, lambda: collected.add(checker.check(subject)))
    return collected


class CheckerContract:
    """What a run relies on in a checker."""

    @pytest.fixture
    def checker(self) -> Checker:
        """Return the checker under test."""
        raise NotImplementedError("a subclass returns its checker here")

    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        """Return a sound database in a folder of its own."""
        folder = tmp_path / "subject"
        folder.mkdir()
        return make_database(folder / "app.db")

    def test_it_has_a_name_and_a_level(self, checker: Checker) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(checker, Checker)
        assert NAME.fullmatch(checker.name)
        assert isinstance(checker.level, Level)

    @pytest.mark.parametrize("level", list(Level))
    def test_a_sound_database_has_no_damage(self, checker: Checker, database: Path, level: Level) -> None:
        """Whatever it reports of a sound database, damage it is not."""
        with ClosedSubject(database, level=level) as subject:
            collected = _run(checker, subject)
        assert [finding for finding in collected.findings if finding.severity is Severity.DAMAGE] == []

    def test_it_compares_with_a_baseline_that_is_equal(self, checker: Checker, database: Path) -> None:
        """A current baseline that equals the database gives no damage either."""
        with ClosedSubject(database, baseline=FileImage(database)) as subject:
            collected = _run(checker, subject)
        assert [finding for finding in collected.findings if finding.severity is Severity.DAMAGE] == []

    def test_it_says_the_same_twice(self, checker: Checker, database: Path) -> None:
        """A run may call it again, when the database did not hold still: it keeps nothing from the first call."""
        with ClosedSubject(database) as subject:
            first, second = _run(checker, subject), _run(checker, subject)
        assert (first.findings, first.judged, first.why) == (second.findings, second.judged, second.why)

    def test_it_survives_damage(self, checker: Checker, database: Path, tmp_path: Path) -> None:
        """On every damaged file it returns findings or raises an Exception, in time: it never hangs, never exits."""
        for copy in damaged_copies(database, tmp_path):
            with ClosedSubject(copy, level=Level.DEEP, baseline=FileImage(database)) as subject:
                try:
                    _run(checker, subject)
                except Exception as error:  # noqa: BLE001 - a run makes `unknown` of it
                    assert not isinstance(error, ContractBroken), error

    def test_it_changes_nothing(self, checker: Checker, database: Path) -> None:
        """The database and its folder are byte for byte as they were."""
        before = folder_state(database.parent)
        with ClosedSubject(database, level=Level.DEEP) as subject:
            _run(checker, subject)
        assert folder_state(database.parent) == before

    def test_it_does_not_open_the_database_itself(self, checker: Checker, database: Path) -> None:
        """An open and close in the worker's process would drop the locks of its SQLite connections (H1)."""
        with ClosedSubject(database, level=Level.DEEP) as subject, opens() as opened:
            _run(checker, subject)
        assert [path for path in opened if path.startswith(str(database))] == []

    def test_it_lets_the_deadline_through(self, checker: Checker, database: Path) -> None:
        """What `Subject.progress` raises ends the check, if the checker tells of its progress at all."""
        with ClosedSubject(database, level=Level.DEEP, baseline=FileImage(database)) as subject:
            _run(checker, subject)
            if not subject.told:
                return
            subject.signal = _DeadlinePassed()
            with pytest.raises(_DeadlinePassed):
                _run(checker, subject)
