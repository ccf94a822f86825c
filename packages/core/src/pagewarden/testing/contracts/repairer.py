"""The contract of repairers."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Repairer, RepairStep, SqlValue, Stage
from pagewarden.sqlite.names import quote
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts.samples import (
    NAME,
    damaged_copies,
    folder_state,
    in_time,
    make_database,
    opens,
)
from pagewarden.values import Finding, Severity

Row = tuple[str, tuple[SqlValue, ...]]
"""The name of a table, and the values of a row."""


class RepairerContract:
    """What the repair planner relies on in a repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the repairer under test."""
        raise NotImplementedError("a subclass returns its repairer here")

    def break_copy(self, copy: Path) -> Sequence[Finding]:  # noqa: ARG002 - for subclasses
        """Damage the file `copy` in a way that the repairer mends, and return the findings; by default, do nothing."""
        return ()

    def make_case(self, copy: Path, findings: Sequence[Finding]) -> ClosedCase:
        """Return the case of `copy`, which `break_copy` has damaged; a subclass may add a history or a policy."""
        return ClosedCase(copy, findings)

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """Return a sound database in a folder of its own."""
        folder = tmp_path / "copy"
        folder.mkdir()
        return make_database(folder / "app.db")

    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Path:
        """Return an empty folder."""
        folder = tmp_path / "scratch"
        folder.mkdir()
        return folder

    def test_it_has_a_name(self, repairer: Repairer) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(repairer, Repairer)
        assert NAME.fullmatch(repairer.name)

    def test_nothing_found_needs_nothing_done(self, repairer: Repairer, copy: Path) -> None:
        """Without findings there are no steps."""
        case = ClosedCase(copy)
        assert list(in_time(repairer.name, lambda: repairer.plan(case))) == []

    def test_it_does_not_plan_for_what_it_does_not_know(self, repairer: Repairer, copy: Path) -> None:
        """A finding of an unknown kind, and a notice, give no steps."""
        strange = Finding(kind="no-kind-of-this-name", severity=Severity.DAMAGE, message="something else")
        notice = Finding(kind="trailing-bytes", severity=Severity.NOTICE, message="bytes follow the last page")
        assert list(repairer.plan(ClosedCase(copy, (strange, notice)))) == []

    def test_planning_touches_no_file(self, repairer: Repairer, copy: Path) -> None:
        """A plan is a value: the same twice, and it can travel; each step says what it does, mends and loses."""
        findings = self.break_copy(copy)
        case = self.make_case(copy, findings)
        before = folder_state(copy.parent)
        with opens() as opened:
            steps = list(in_time(repairer.name, lambda: repairer.plan(case)))
        assert list(repairer.plan(case)) == steps
        for step in steps:
            assert isinstance(step, RepairStep)
            assert isinstance(step.text, str) and step.text
            assert isinstance(step.loses, str) and step.loses
            assert isinstance(step.loss, Loss) and isinstance(step.stage, Stage)
            assert all(0 <= place < len(findings) for place in step.mends)
            assert json.loads(json.dumps(step.task)) == step.task
        assert folder_state(copy.parent) == before
        assert [path for path in opened if path.startswith(str(copy.parent))] == []

    def test_it_survives_damage(self, repairer: Repairer, copy: Path, tmp_path: Path) -> None:
        """Over every damaged file it returns steps or raises an Exception, in time: it never hangs, never exits."""
        finding = Finding(kind="malformed", severity=Severity.DAMAGE, message="the database disk image is malformed")
        for damaged in damaged_copies(copy, tmp_path):
            case = ClosedCase(damaged, (finding,), refused="file is not a database")
            try:
                steps = in_time(repairer.name, lambda: tuple(repairer.plan(case)))  # noqa: B023 - called now
            except Exception:  # noqa: BLE001, S112 - the planner leaves out a repairer that fails
                continue
            assert all(isinstance(step, RepairStep) for step in steps)

    def test_no_steps_change_nothing(self, repairer: Repairer, copy: Path, scratch: Path) -> None:
        """Applying an empty plan leaves the copy and the quarantine as they were."""
        before = folder_state(copy.parent)
        bench = ClosedBench(copy, scratch, ClosedCase(copy))
        in_time(repairer.name, lambda: repairer.apply(bench, ()))
        assert folder_state(copy.parent) == before
        assert (bench.cut_pages, bench.cut_ends, bench.cut_rows, bench.cut_files) == ([], [], [], {})

    def test_applying_touches_the_copy_and_the_quarantine_alone(
        self, repairer: Repairer, copy: Path, scratch: Path
    ) -> None:
        """Files beside the copy stay as they are, and the copy stays a database that SQLite can open."""
        neighbour = make_database(copy.parent / "neighbour.db", seed=2, rows=20)
        before = neighbour.read_bytes()
        self._mend(repairer, copy, scratch)
        assert neighbour.read_bytes() == before
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] >= 0

    def test_no_row_is_lost_that_it_does_not_say(self, repairer: Repairer, copy: Path, scratch: Path) -> None:
        """Where its steps lose nothing, every row from before the damage is there, or was put into the quarantine."""
        before = _rows(copy)
        bench, steps = self._mend(repairer, copy, scratch)
        if not steps or max(step.loss for step in steps) > Loss.MOVED:
            return
        kept = Counter((table, row) for table, _, rows, _ in bench.cut_rows for row in rows)
        if max(step.loss for step in steps) <= Loss.NOTHING:
            kept.clear()
        assert before - _rows(copy) - kept == Counter()

    def _mend(self, repairer: Repairer, copy: Path, scratch: Path) -> tuple[ClosedBench, list[RepairStep]]:
        case = self.make_case(copy, self.break_copy(copy))
        steps = list(repairer.plan(case))
        bench = ClosedBench(copy, scratch, case)
        in_time(repairer.name, lambda: repairer.apply(bench, steps))
        return bench, steps


def _rows(path: Path) -> Counter[Row]:
    """Return all rows of all tables, read without any index."""
    found: Counter[Row] = Counter()
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
        for (name,) in names:
            found.update((name, row) for row in connection.execute(f"SELECT * FROM {quote(name)} NOT INDEXED"))
    return found
