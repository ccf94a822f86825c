"""Restore and undo are killed at calls that change the file system (H25, H30); with PAGEWARDEN_FULL at each of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.program import output

STEP = 1 if os.environ.get("PAGEWARDEN_FULL") else 4
"""One call in so many is cut in a test of usual length; all scenarios together begin with each of them."""


def cuts(tmp_path: Path, scenario: str, action: str, mode: str) -> int:
    """Run tests/fault/cutting.py; return how many cuts were survived."""
    return int(output("tests.fault.cutting", scenario, action, mode, STEP, tmp_path))


@pytest.mark.parametrize("scenario", ["wal", "hot", "held", "damaged", "nothing"])
def test_a_restore_killed_at_any_call_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str) -> None:
    """After kill -9 at a call the path shows old rows (those of the -wal included) or new ones, and mends."""
    assert cuts(tmp_path, scenario, "restore", "kill") > 40 // STEP


@pytest.mark.parametrize("scenario", ["damaged", "nothing"])
def test_an_undo_killed_at_any_call_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str) -> None:
    """After kill -9 at a call of an undo the path shows the previous content or the restored one, and mends."""
    assert cuts(tmp_path, scenario, "undo", "kill") > 30 // STEP


@pytest.mark.parametrize(("scenario", "action"), [("held", "restore"), ("damaged", "undo")])
def test_a_recovery_that_is_killed_is_done_again(tmp_path: Path, scenario: str, action: str) -> None:
    """Recovering from a cut, itself cut at its calls, comes to the same end at its next start."""
    assert cuts(tmp_path, scenario, action, "again") > 20 // STEP
