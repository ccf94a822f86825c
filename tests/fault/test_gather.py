"""Gathering that is cut at each of its steps: whatever could be restored still can be, and the next one ends it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pagewarden.repository import keys, turn
from pagewarden.repository.gather import History
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.core.repository.chains import histories
from tests.core.repository.gathering import Stage
from tests.fault.steps import do_and_die, kinds
from tests.fault.test_prune import FULL

STEP = 1 if FULL else 5
"""Every so-manieth step is a cut in a test of usual length."""


@pytest.fixture
def stage(tmp_path: Path, warm: Runtime) -> Stage:
    """A repository with batches of several commits, of one, and of merged ones, of which some were gathered before."""
    made = Stage(folder=tmp_path, runtime=warm, images=histories(24, seed=5))
    made.follow(1, 2, 1, 2, 1)
    made.gather()
    made.follow_on(3, 1, 2, 2, 1)
    shutil.copytree(made.root, made.folder / "template")
    return made


def look(stage: Stage, txids: list[int]) -> None:
    """Assert that all can be restored as it was, and that nothing is damaged or unexplained."""
    report = run_verify(VerifyRequest(repository=str(stage.root), read_data=True), stage.runtime)
    assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
    assert stage.txids == txids
    for txid in txids:
        assert stage.image(txid) == stage.images[txid - 1], txid


def test_whatever_is_cut_every_commit_can_be_restored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: at each step all verifies and every commit restores; the next one leaves what one that is not cut leaves."""
    txids = stage.txids
    stage.gather(History())
    wanted = kinds(stage.files())
    number, begun, cuts = 1, "manifests" in wanted, 0
    while begun:
        shutil.rmtree(stage.root)
        shutil.copytree(stage.folder / "template", stage.root)
        begun = do_and_die(lambda: stage.gather(History()), number, turn, monkeypatch)
        look(stage, txids)
        stage.gather(History())
        stage.repository.clean()
        assert kinds(stage.files()) == wanted, number
        assert not any(name.startswith(keys.PENDING) for name in stage.files())
        if number % 4 == 1:
            look(stage, txids)
        number, cuts = number + STEP, cuts + 1
    assert cuts > 5


def test_whatever_is_cut_of_a_prune_every_commit_that_stays_can_be_restored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H30: commits that go, and batches that are folded into the next one: all or none of it is seen."""
    rules: dict[str, Any] = {"commits": "3s", "last": 4, "minutely": 1, "grace": "0s"}
    before = stage.txids
    stage.prune(**rules)
    after, wanted = stage.txids, kinds(stage.files())
    assert len(before) - len(after) > 4
    number, begun, cuts = 2, True, 0
    while begun:
        shutil.rmtree(stage.root)
        shutil.copytree(stage.folder / "template", stage.root)
        begun = do_and_die(lambda: stage.prune(**rules), number, turn, monkeypatch)
        report = run_verify(VerifyRequest(repository=str(stage.root), read_data=True), stage.runtime)
        assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
        assert set(before) >= set(stage.txids) >= set(after), number
        stage.prune(**rules)
        assert (stage.txids, kinds(stage.files())) == (after, wanted), number
        if cuts % 3 == 0:
            look(stage, after)
        number, cuts = number + STEP, cuts + 1
    assert cuts > 3
