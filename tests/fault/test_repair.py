"""A repair, and the undo of one, meet a kill, a full disk and an I/O error at their calls (H25, H30)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.restore import recover_intents
from pagewarden.restore.quarantine import Phase, Quarantine
from tests.core.repair.chosen import files, make_broken_log, rows
from tests.support.program import ROOT, output, unmeasured

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
PATIENCE = 60.0  # seconds that any process may take to end


def faults(tmp_path: Path, scenario: str, action: str, fault: str, step: int) -> int:
    """Run tests/fault/repairing.py with every call, or with one in `step`; return how many faults were survived."""
    return int(output("tests.fault.repairing", scenario, action, fault, 1 if FULL else step, tmp_path))


@pytest.mark.parametrize(
    ("scenario", "action", "step"),
    [
        ("log", "repair", 19),
        *([(each, act, 1) for each in ("plain", "hot", "log") for act in ("repair", "output")] if FULL else []),
    ],
)
def test_a_killed_repair_leaves_the_old_or_the_new_database(
    tmp_path: Path, scenario: str, action: str, step: int
) -> None:
    """After kill -9 the path shows what it showed, each byte of -wal and -journal as it was, or what was repaired.

    With --output the database is as it was whatever happens, and what stands there is nothing or what was repaired.
    """
    assert faults(tmp_path, scenario, action, "kill", step) > 5


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


def children_of(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the processes of Pagewarden's that a process has started, with what each is. proc(5)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if parent == pid:
            yield int(folder.name), next((word for word in words if word.startswith("pagewarden.processes.")), "")


def test_the_command_and_its_processes_killed_at_random(tmp_path: Path) -> None:
    """Whoever dies by kill -9, lock process, page reader, repairer or the command: the old state or the new one."""
    chance = random.Random(7)
    environment = unmeasured() | {"XDG_STATE_HOME": str(tmp_path / "state")}
    for number in range(40 if FULL else 2):
        path = tmp_path / str(number) / "app.db"
        path.parent.mkdir()
        original = files(make_broken_log(path))
        process = subprocess.Popen(
            [sys.executable, "-m", "pagewarden_cli", "repair", str(path), "--apply", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        began = time.monotonic()
        while process.poll() is None and not list(path.parent.glob(".pagewarden/app.db/0*")):
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.005)
        time.sleep(chance.random() * 1.5)
        victims = [(process.pid, "the command"), *children_of(process.pid)]
        victim, what = chance.choice(victims)
        if process.poll() is None:
            os.kill(victim, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
        at = f"{what} killed in round {number}: {process.returncode}, {out[:400]}, {err[-400:]}"
        if what != "the command":
            assert "Traceback" not in err, at
            assert json.loads(out), at
        recover_intents(path)
        done = [entry for entry in Quarantine(path=path).entries() if entry.phase is Phase.DONE]
        if done:
            assert len(rows(path)) == 40, at
        else:
            assert files(path) == original, at
        assert not list(path.parent.glob(".pagewarden-*")), at
        assert not list(path.parent.glob(".pagewarden/*/*/work")), at
        assert path.stat().st_nlink == 1, at
