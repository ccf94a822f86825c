"""The repairer of logs in a real repair: the original and its log are kept, and can be had back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pagewarden.contracts import RepairPolicy
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.restore.undo import UndoRequest, run_undo
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.support.stranding import Logged, make_logged, rows_of, wrong_number, zeroed_sector


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A database with a log of many commits."""
    return make_logged(tmp_path_factory.mktemp("logged"))


def test_a_replay_takes_the_path_and_can_be_undone(logged: Logged, tmp_path: Path, runtime: Runtime) -> None:
    """All that was committed is there; undo brings file and log back as they were, byte for byte."""
    here = logged.place(tmp_path / "here")
    wrong_number(here, logged.last // 2, random.Random(1))
    before = here.path.read_bytes(), here.wal.read_bytes()
    request = RepairRequest(database=str(here.path), apply=True, policy=RepairPolicy(replay_stranded=True))
    report = run_repair(request, runtime)
    assert (report.applied, report.verdict_after) == (True, Verdict.SOUND)
    assert [(each.repairer, each.lossless) for each in report.plan] == [("repair-wal", True)]
    assert (Path(report.quarantine) / "files/app.db-wal").read_bytes() == before[1]
    assert not here.wal.exists()
    run_undo(UndoRequest(path=str(here.path)), runtime)
    assert (here.path.read_bytes(), here.wal.read_bytes()) == before
    assert rows_of(here.path) != logged.states[logged.last]


def test_what_is_not_replayed_is_in_the_quarantine(logged: Logged, tmp_path: Path, runtime: Runtime) -> None:
    """The repaired database is what SQLite recovers; the rest of the log is kept, and `only_lossless` leaves it be."""
    frame = logged.last // 2
    here = logged.place(tmp_path / "here")
    zeroed_sector(here, frame, random.Random(1))
    before = here.wal.read_bytes()
    refused = run_repair(RepairRequest(database=str(here.path), only_lossless=True), runtime)
    assert refused.plan == () and here.wal.read_bytes() == before
    report = run_repair(RepairRequest(database=str(here.path), apply=True), runtime)
    assert (report.applied, report.verdict_after) == (True, Verdict.SOUND)
    assert rows_of(here.path) == logged.states[max(commit for commit in logged.states if commit < frame)]
    kept = {path.name for path in (Path(report.quarantine) / "files").iterdir()}
    assert kept == {"app.db-wal", "app.db-stranded.db"}
