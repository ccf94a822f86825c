"""Restore and undo are killed at each call that changes the file system (H25, H30)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def cuts(tmp_path: Path, scenario: str, action: str, mode: str) -> int:
    """Run tests/fault/cutting.py; return how many cuts were survived."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.cutting", scenario, action, mode, str(tmp_path)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("scenario", ["wal", "hot", "held", "damaged", "nothing"])
def test_a_restore_killed_at_any_call_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str) -> None:
    """After kill -9 at call 1, 2, 3 … the path shows old rows (those of the -wal included) or new ones, and mends."""
    assert cuts(tmp_path, scenario, "restore", "kill") > 40


@pytest.mark.parametrize("scenario", ["damaged", "nothing"])
def test_an_undo_killed_at_any_call_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str) -> None:
    """After kill -9 at call 1, 2, 3 … of an undo the path shows the previous content or the restored one, and mends."""
    assert cuts(tmp_path, scenario, "undo", "kill") > 30


@pytest.mark.parametrize(("scenario", "action"), [("held", "restore"), ("damaged", "undo")])
def test_a_recovery_that_is_killed_is_done_again(tmp_path: Path, scenario: str, action: str) -> None:
    """Recovering from a cut, itself cut at call 1, 2, 3 …, comes to the same end at its next start."""
    assert cuts(tmp_path, scenario, action, "again") > 20
