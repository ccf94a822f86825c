"""The plugin's own tests: each kind against its contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from pagewarden_example.checker import EmptyTables
from pagewarden_example.notifier import LineNotifier
from pagewarden_example.repairer import NoteTaker
from pagewarden_example.target import FlatFactory

from pagewarden.contracts import Checker, Notifier, Repairer, Target
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
        return NoteTaker()

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Pretend."""
        return [Finding(kind="needs-a-note", severity=Severity.NOTICE, message=f"{copy.name} needs a note")]


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
