"""A prune that is cut at each of its steps: every restore point that is listed restores, and the next prune ends it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.repository import turn
from pagewarden.repository.intent import Runner
from pagewarden.repository.store import Store
from pagewarden.runtime import Runtime
from tests.core.repository.chains import histories
from tests.core.repository.pruned import DAY, Stage, new_runtime

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
STEP = 1 if FULL else 3
"""Every so-manieth step is a cut in a test of usual length; which ones comes with the seed."""

RULES: dict[str, Any] = {"last": 3, "chain_segments": 3}
STEPS = ("put", "adopt", "delete")


class Cut(BaseException):
    """The end of a process, as far as the repository sees it."""


class Dead(Runner):
    """A process that has ended: what it left may be removed."""

    __slots__ = ()

    @staticmethod
    def current(proc: Path = Path("/proc")) -> Runner:
        """Return a process of this machine that runs no more."""
        return replace(Runner.current(proc), pid=4_000_000, started="1")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, runtime: Runtime) -> Stage:
    """A repository with restore points that are to be purged, folded into, marked, and stored as a snapshot."""
    made = Stage(folder=tmp_path, runtime=runtime)
    made.make(histories(9, seed=3), snapshots=(1, 4))
    made.prune(last=6)
    made.now += 8 * DAY
    shutil.copytree(made.root, made.folder / "template")
    return made


def one_by_one(store: Store, keys: Sequence[str]) -> None:
    """Remove objects, each a step of its own."""
    for key in keys:
        store.delete(key)


def put_up(stage: Stage) -> None:
    """Put the repository back as it was."""
    shutil.rmtree(stage.root)
    shutil.copytree(stage.folder / "template", stage.root)


def prune_and_die(stage: Stage, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Prune until step `number`, and do nothing more to the repository; return whether it came so far."""
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
            stage.prune(**RULES)
        except Cut:
            return True
    return False


def ended(stage: Stage) -> dict[str, int]:
    """Return how many files of each kind a prune leaves that was not cut."""
    kinds: dict[str, int] = {}
    for name in stage.files():
        kind = name.split("/")[1] if "/" in name else name
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def test_whatever_is_cut_nothing_that_is_listed_is_lost(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: at each step all verifies, what is listed or can be undeleted restores, and the next prune ends it."""
    put_up(stage)
    stage.prune(**RULES)
    whole, listed = ended(stage), stage.listed()
    number = random.Random(1).randrange(1, STEP + 1)
    cuts = 0
    while True:
        put_up(stage)
        if not prune_and_die(stage, number, monkeypatch):
            break
        assert set(stage.listed()) >= set(listed), number
        stage.prove(restore=FULL or cuts % 3 == 0)
        stage.prune(**RULES)
        assert (ended(stage), stage.listed()) == (whole, listed), number
        stage.prove(restore=FULL)
        number, cuts = number + STEP, cuts + 1
    assert cuts >= 24 // STEP, cuts


def test_a_prune_that_ends_another_can_be_cut_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: also twice, and three times, at moments that chance chooses."""
    chance = random.Random(2)
    put_up(stage)
    stage.prune(**RULES)
    whole, listed = ended(stage), stage.listed()
    for _ in range(60 if FULL else 2):
        put_up(stage)
        for _ in range(3):
            prune_and_die(stage, chance.randrange(2, 28), monkeypatch)
        stage.prove()
        stage.prune(**RULES)
        assert (ended(stage), stage.listed()) == (whole, listed)
        stage.prove()
