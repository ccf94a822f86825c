"""The contract of repairers."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Repairer, RepairStep
from pagewarden.testing.contracts.samples import NAME, folder_state, in_time, make_database, opens
from pagewarden.values import Finding, Severity


class RepairerContract:
    """What the repair planner relies on in a repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the repairer under test."""
        raise NotImplementedError("a subclass returns its repairer here")

    def break_copy(self, copy: Path) -> Sequence[Finding]:  # noqa: ARG002 - for subclasses
        """Damage the file `copy` in a way that the repairer mends, and return the findings; by default, do nothing."""
        return ()

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """Return a sound database in a folder of its own."""
        folder = tmp_path / "copy"
        folder.mkdir()
        return make_database(folder / "app.db")

    @pytest.fixture
    def quarantine(self, tmp_path: Path) -> Path:
        """Return an empty folder."""
        folder = tmp_path / "quarantine"
        folder.mkdir()
        return folder

    def test_it_has_a_name(self, repairer: Repairer) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(repairer, Repairer)
        assert NAME.fullmatch(repairer.name)

    def test_nothing_found_needs_nothing_done(self, repairer: Repairer) -> None:
        """Without findings there are no steps."""
        assert list(in_time(repairer.name, lambda: repairer.plan(()))) == []

    def test_it_does_not_plan_for_what_it_does_not_know(self, repairer: Repairer) -> None:
        """A finding of an unknown kind, and a notice, give no steps."""
        strange = Finding(kind="no-kind-of-this-name", severity=Severity.DAMAGE, message="something else")
        notice = Finding(kind="trailing-bytes", severity=Severity.NOTICE, message="bytes follow the last page")
        assert list(repairer.plan((strange, notice))) == []

    def test_planning_touches_no_file(self, repairer: Repairer, copy: Path) -> None:
        """A plan is a value: it is the same twice, each step says what it does and loses, and nothing was written."""
        findings = self.break_copy(copy)
        before = folder_state(copy.parent)
        with opens() as opened:
            steps = list(in_time(repairer.name, lambda: repairer.plan(findings)))
        assert list(repairer.plan(findings)) == steps
        for step in steps:
            assert isinstance(step, RepairStep)
            assert isinstance(step.text, str) and step.text
            assert isinstance(step.loses, str) and step.loses
        assert folder_state(copy.parent) == before
        assert [path for path in opened if path.startswith(str(copy.parent))] == []

    def test_no_steps_change_nothing(self, repairer: Repairer, copy: Path, quarantine: Path) -> None:
        """Applying an empty plan leaves the copy and the quarantine as they were."""
        before = folder_state(copy.parent)
        in_time(repairer.name, lambda: repairer.apply(copy, (), quarantine))
        assert (folder_state(copy.parent), list(quarantine.iterdir())) == (before, [])

    def test_applying_touches_the_copy_and_the_quarantine_alone(
        self, repairer: Repairer, copy: Path, quarantine: Path
    ) -> None:
        """Files beside the copy stay as they are, and the copy stays a database that SQLite can open."""
        neighbour = make_database(copy.parent / "neighbour.db", seed=2, rows=20)
        before = neighbour.read_bytes()
        findings = self.break_copy(copy)
        steps = list(repairer.plan(findings))
        in_time(repairer.name, lambda: repairer.apply(copy, steps, quarantine))
        assert neighbour.read_bytes() == before
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] >= 0
