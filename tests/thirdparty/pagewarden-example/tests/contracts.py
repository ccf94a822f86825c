"""The plugin's own tests: each kind against its contract."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pagewarden_example.checker import EmptyTables
from pagewarden_example.notifier import LineNotifier
from pagewarden_example.repairer import RowSweeper
from pagewarden_example.target import FlatFactory

from pagewarden.contracts import Checker, Notifier, Repairer, Target
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts import CheckerContract, NotifierContract, RepairerContract, TargetContract
from pagewarden.values import Finding, Severity


class TestChecker(CheckerContract):
    """The checker."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one under test."""
        return EmptyTables()


class TestRepairer(RepairerContract):
    """The repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """The one under test."""
        return RowSweeper()

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Add a row without a body."""
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("CREATE TABLE letters(id INTEGER PRIMARY KEY, body TEXT)")
            connection.execute("INSERT INTO letters VALUES(1, 'Dear Ann'), (2, NULL)")
        return [Finding(kind="empty-rows", severity=Severity.DAMAGE, object="letters", message="a letter is empty")]

    def test_it_keeps_what_it_takes_out(self, repairer: Repairer, copy: Path, scratch: Path) -> None:
        """The empty row is in the quarantine, the other one stays."""
        bench = ClosedBench(copy, scratch, ClosedCase(copy, self.break_copy(copy)))
        repairer.apply(bench, repairer.plan(bench.case))
        with closing(bench.connect()) as connection:
            assert connection.execute("SELECT * FROM letters").fetchall() == [(1, "Dear Ann")]
        assert [rows for _, _, rows, _ in bench.cut_rows] == [((2, 2, None),)]


class TestTarget(TargetContract):
    """The target."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        """An empty one."""
        return FlatFactory().open(f"flat://{tmp_path}/flat", create=True)


class TestNotifier(NotifierContract):
    """The notifier."""

    @pytest.fixture
    def notifier(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notifier:
        """The one under test."""
        self.file = tmp_path / "notices"
        monkeypatch.setenv("PAGEWARDEN_EXAMPLE_NOTICES", str(self.file))
        return LineNotifier()

    def delivered(self) -> Sequence[str]:
        """What arrived."""
        return [json.loads(line)["title"] for line in self.file.read_text().splitlines()]
