"""Gathering that is cut at each of its steps: whatever could be restored still can be, and the next one ends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pagewarden.repository import keys, turn
from pagewarden.repository.gather import History
from pagewarden.repository.store import Store
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.core.repository.chains import histories
from tests.core.repository.gathering import Stage
from tests.core.repository.pruned import new_runtime
from tests.fault.test_prune import FULL, STEPS, Cut, Dead, one_by_one

STEP = 1 if FULL else 5
"""Every so-manieth step is a cut in a test of usual length."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, runtime: Runtime) -> Stage:
    """A repository with batches of several commits, of one, and of merged ones, of which some were gathered before."""
    made = Stage(folder=tmp_path, runtime=runtime, images=histories(24, seed=5))
    made.follow(1, 2, 1, 2, 1)
    made.gather()
    made.follow_on(3, 1, 2, 2, 1)
    shutil.copytree(made.root, made.folder / "template")
    return made


def do_and_die(do: Callable[[], object], number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do something until step `number`, and nothing more to the repository; return whether it came so far."""
    taken = 0

    def cut(real: Callable[..., object]) -> Callable[..., object]:
        def step(self: Store, *arguments: object) -> object:
            nonlocal taken
            taken += 1
            if taken >= number:
                raise Cut
            return real(self, *arguments)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(turn, "Runner", Dead)
        for name in STEPS:
            patched.setattr(Store, name, cut(getattr(Store, name)))
        patched.setattr(Store, "delete_many", one_by_one)
        try:
            do()
        except Cut:
            return True
    return False


def kinds(stage: Stage) -> dict[str, int]:
    """Return how many files of each kind there are."""
    found: dict[str, int] = {}
    for name in stage.files():
        kind = name.split("/")[1] if "/" in name else name
        found[kind] = found.get(kind, 0) + 1
    return found


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
    wanted = kinds(stage)
    number, begun, cuts = 1, "manifests" in wanted, 0
    while begun:
        shutil.rmtree(stage.root)
        shutil.copytree(stage.folder / "template", stage.root)
        begun = do_and_die(lambda: stage.gather(History()), number, monkeypatch)
        look(stage, txids)
        stage.gather(History())
        stage.repository.clean()
        assert kinds(stage) == wanted, number
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
    after, wanted = stage.txids, kinds(stage)
    assert len(before) - len(after) > 4
    number, begun, cuts = 2, True, 0
    while begun:
        shutil.rmtree(stage.root)
        shutil.copytree(stage.folder / "template", stage.root)
        begun = do_and_die(lambda: stage.prune(**rules), number, monkeypatch)
        report = run_verify(VerifyRequest(repository=str(stage.root), read_data=True), stage.runtime)
        assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
        assert set(before) >= set(stage.txids) >= set(after), number
        stage.prune(**rules)
        assert (stage.txids, kinds(stage)) == (after, wanted), number
        if cuts % 3 == 0:
            look(stage, after)
        number, cuts = number + STEP, cuts + 1
    assert cuts > 3
