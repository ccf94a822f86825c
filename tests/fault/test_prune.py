"""A prune that is cut at each of its steps: every restore point that is listed restores, and the next prune ends it."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pagewarden.repository import turn
from pagewarden.runtime import Runtime
from tests.core.repository.chains import histories
from tests.core.repository.pruned import DAY, Stage
from tests.fault.steps import do_and_die, kinds

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
STEP = 1 if FULL else 5
"""Every so-manieth step is a cut in a test of usual length; which ones comes with the seed."""

RULES: dict[str, Any] = {"last": 3, "chain_segments": 3}


@pytest.fixture
def stage(tmp_path: Path, warm: Runtime) -> Stage:
    """A repository with restore points that are to be purged, folded into, marked, and stored as a snapshot."""
    made = Stage(folder=tmp_path, runtime=warm)
    made.make(histories(9, seed=3), snapshots=(1, 4))
    made.prune(last=6)
    made.now += 8 * DAY
    shutil.copytree(made.root, made.folder / "template")
    return made


def put_up(stage: Stage) -> None:
    """Put the repository back as it was."""
    shutil.rmtree(stage.root)
    shutil.copytree(stage.folder / "template", stage.root)


def test_whatever_is_cut_nothing_that_is_listed_is_lost(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: at each step all verifies, what is listed or can be undeleted restores, and the next prune ends it."""
    put_up(stage)
    stage.prune(**RULES)
    whole, listed = kinds(stage.files()), stage.listed()
    number = random.Random(1).randrange(1, STEP + 1)
    cuts = 0
    while True:
        put_up(stage)
        if not do_and_die(lambda: stage.prune(**RULES), number, turn, monkeypatch):
            break
        assert set(stage.listed()) >= set(listed), number
        stage.prove(restore=FULL or cuts % 3 == 0)
        stage.prune(**RULES)
        assert (kinds(stage.files()), stage.listed()) == (whole, listed), number
        stage.prove(restore=FULL)
        number, cuts = number + STEP, cuts + 1
    assert cuts >= 24 // STEP, cuts


def test_a_prune_that_ends_another_can_be_cut_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: also twice, and three times, at moments that chance chooses."""
    chance = random.Random(2)
    put_up(stage)
    stage.prune(**RULES)
    whole, listed = kinds(stage.files()), stage.listed()
    for _ in range(60 if FULL else 2):
        put_up(stage)
        for _ in range(3):
            do_and_die(lambda: stage.prune(**RULES), chance.randrange(2, 28), turn, monkeypatch)
        stage.prove()
        stage.prune(**RULES)
        assert (kinds(stage.files()), stage.listed()) == (whole, listed)
        stage.prove()
