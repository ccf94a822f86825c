"""A repair, and the undo of one, meet a kill, a full disk and an I/O error at their calls (H25, H30)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("PAGEWARDEN_FULL") == "1"


def faults(tmp_path: Path, scenario: str, action: str, fault: str, step: int) -> int:
    """Run tests/fault/repairing.py with every call, or with one in `step`; return how many faults were survived."""
    words = [scenario, action, fault, str(1 if FULL else step), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.repairing", *words],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(("scenario", "step"), [("log", 13), *([("plain", 1), ("hot", 1)] if FULL else [])])
def test_a_killed_repair_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str, step: int) -> None:
    """After kill -9 the path shows what it showed, each byte of -wal and -journal as it was, or what was repaired."""
    assert faults(tmp_path, scenario, "repair", "kill", step) > 5


@pytest.mark.parametrize(("scenario", "step"), [("log", 12), *([("plain", 1), ("hot", 1)] if FULL else [])])
def test_a_killed_undo_leaves_the_old_or_the_new_database(tmp_path: Path, scenario: str, step: int) -> None:
    """After kill -9 of an undo the path shows what was repaired or what was there before, log included, and mends."""
    assert faults(tmp_path, scenario, "undo", "kill", step) > 3


@pytest.mark.parametrize(
    ("scenario", "action", "fault", "step"),
    [
        ("plain", "repair", "ENOSPC", 30),
        *(
            [
                (scenario, action, fault, 1)
                for scenario in ("log", "hot", "plain")
                for action in ("repair", "undo", "output")
                for fault in ("EIO", "ENOSPC")
            ]
            if FULL
            else []
        ),
    ],
)
def test_a_call_that_fails_leaves_the_old_or_the_new_database(
    tmp_path: Path, scenario: str, action: str, fault: str, step: int
) -> None:
    """A full disk or an I/O error is a named error or is done without, and no byte of the original has changed."""
    assert faults(tmp_path, scenario, action, fault, step) > 2
