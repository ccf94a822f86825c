from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import UNSET

from pagewarden.repository.intent import FOREIGN_LIFE, GATHERING_LIFE, Pending, Pruning, Runner
from tests.core.repository.sets import NOW

HERE = Runner.current()


def test_this_process_lives() -> None:
    """On Linux a process can tell itself and its own life exactly."""
    assert HERE.pid == os.getpid()
    assert HERE.boot and HERE.namespace and HERE.started
    assert Runner.current() == HERE
    assert HERE.is_dead(HERE) is False


def test_an_ended_process_is_dead() -> None:
    """A real one, started and ended; and one whose number another process has now."""
    code = "from pagewarden.repository.intent import Runner as R; r = R.current(); print(r.pid, r.started, r.namespace)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, started, namespace = done.stdout.split()
    assert namespace == HERE.namespace
    assert replace(HERE, pid=int(pid), started=started).is_dead(HERE) is True
    assert replace(HERE, started="1").is_dead(HERE) is True


def test_a_reboot_ends_everything() -> None:
    """Another boot of the same machine: whatever ran before is dead."""
    assert replace(HERE, boot="another").is_dead(HERE) is True


@pytest.mark.parametrize("field", ["host", "machine", "namespace"])
def test_what_cannot_be_looked_at_is_not_known(field: str) -> None:
    """Another machine, or another container on this one."""
    stranger = replace(HERE, **{field: "another"})  # type: ignore[arg-type]
    assert stranger.is_dead(HERE) is None


def test_a_system_without_proc_knows_nothing(tmp_path: Path) -> None:
    """There is no boot id to compare."""
    runner = Runner.current(tmp_path)
    assert (runner.boot, runner.namespace, runner.started) == ("", "", "")
    assert runner.is_dead(runner, tmp_path) is None


def test_a_process_that_proc_hides_is_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid, other users' processes are not in /proc, but the kernel knows them."""
    assert HERE.is_dead(HERE, tmp_path) is None

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert HERE.is_dead(HERE, tmp_path) is None


def test_a_command_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    """Field 22 is counted after the last parenthesis. proc(5)"""
    (tmp_path / str(HERE.pid)).mkdir()
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / str(HERE.pid) / "stat").write_text(f"{HERE.pid} (a) b (c 1 2) {fields}\n")
    assert replace(HERE, started="22").is_dead(HERE, tmp_path) is False
    assert replace(HERE, started="23").is_dead(HERE, tmp_path) is True


@pytest.mark.parametrize("pid", [0, -1, 1 << 31])
def test_a_process_number_that_cannot_be_is_refused(pid: int) -> None:
    """Nothing that an intent says reaches kill(2) unbounded."""
    with pytest.raises(ValueError, match="process"):
        replace(HERE, pid=pid)


def pending(runner: Runner, time: datetime = NOW) -> Pending:
    """Return an intent."""
    return Pending(database="a", sequence=1, key="k", time=time, runner=runner)


def test_a_stranger_is_believed_for_a_week() -> None:
    """Who cannot be looked at lives until a week has passed; who can, lives or not whatever the clock says (H23)."""
    stranger = replace(HERE, host="elsewhere")
    week = timedelta(days=7)
    assert week == FOREIGN_LIFE
    assert not pending(stranger).is_dead(HERE, NOW + week)
    assert pending(stranger).is_dead(HERE, NOW + week + timedelta(seconds=1))
    assert not pending(stranger).is_dead(HERE, NOW - week * 9)
    assert not pending(HERE).is_dead(HERE, NOW + week * 9)
    assert pending(replace(HERE, boot="x")).is_dead(HERE, NOW - week)


def test_an_intent_refuses_nonsense() -> None:
    """A sequence below one and a time without an offset."""
    with pytest.raises(ValueError, match="number 0"):
        replace(pending(HERE), sequence=0)
    with pytest.raises(ValueError, match="begun"):
        pending(HERE, datetime(2026, 1, 1))


def test_one_that_only_gathers_is_believed_to_live_for_an_hour() -> None:
    """That takes moments; a container that is started again cannot look at the process of the one before."""
    here = Runner.current()
    elsewhere = replace(here, host="elsewhere")
    for gathering, life in ((True, GATHERING_LIFE), (UNSET, FOREIGN_LIFE)):
        pruning = Pruning(database="app.db", time=NOW, runner=elsewhere, gathering=gathering)
        assert not pruning.is_dead(here, NOW + life)
        assert pruning.is_dead(here, NOW + life + timedelta(seconds=1))
