"""Kill -9 of backup, prune, restore and undo at random moments (H30)."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagewarden.lineage import read_lineage
from pagewarden.runtime import Runtime
from tests.fault.killing import POINTS, Stage

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

KILLS = 67 if os.environ.get("PAGEWARDEN_FULL") else 2
"""How often each verb is killed."""

PRUNES = 100 if os.environ.get("PAGEWARDEN_FULL") else 2
"""How often a prune is killed: with the backups, at 200 moments."""

SEED = 1
NOTHING_TO_TAKE_BACK = 30  # exit code of RestoreRefused


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """What the test itself proves repositories with."""
    with Runtime(state=tmp_path / "own-state") as made:
        yield made


Stages = Callable[[str], Stage]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Set the stage for one verb; all verbs are played at the same place, and begin with the same two backups."""
    folder = tmp_path_factory.mktemp("stage")
    Stage(folder=folder, chance=random.Random(SEED)).begin()

    def make(action: str) -> Stage:
        made = Stage(folder=folder, chance=random.Random(f"{SEED} {action}"))
        made.make(action)
        return made

    return make


@pytest.mark.parametrize(("action", "kills"), [("backup", KILLS), ("full", KILLS // 2)])
def test_a_killed_backup_is_there_whole_or_not_at_all(action: str, kills: int, stage: Stages, runtime: Runtime) -> None:
    """The source is untouched, everything in the repository verifies, and the next backup succeeds and tidies.

    One of what changed has nothing more to store then, if the killed one was committed; so it never is there twice.
    """
    here, seen = stage(action), Counter[str]()
    for _ in range(kills):
        played = here.play(action)
        assert here.shown() == "three", played
        points = len(here.verify(runtime).points)
        assert points in ((3,) if played.code == 0 else (2, 3)), played
        assert here.newest(runtime) == ("three" if points == 3 else "two"), played
        seen[f"{played.victim}, {'new' if points == 3 else 'old'}, {len(here.leftovers())} left"] += 1
        here.age_halves()
        here.succeed(action)
        kind = runtime.repository(str(here.repository)).resolve().kind
        assert kind == ("snapshot" if action == "full" else "segment"), played
        after = here.verify(runtime)
        assert (len(after.points), after.leftovers) == (points + 1 if action == "full" else 3, ()), played
        assert here.newest(runtime) == "three", played
        assert here.leftovers() == [], played
    print(f"\n{dict(seen)}")


def test_a_killed_prune_loses_nothing_that_is_listed(stage: Stages, runtime: Runtime) -> None:
    """In the midst of a fold, a snapshot made anew, or a purge: all verifies and restores, the next prune ends it."""
    here, seen = stage("prune"), Counter[str]()
    assert sorted(here.listed(runtime)) == [1, 4, 5]
    for _ in range(PRUNES):
        played = here.play("prune")
        listed = here.listed(runtime)
        assert set(listed) >= {1, 4, 5}, (played, listed)
        here.verify(runtime)
        for txid in listed:
            assert here.shows(runtime, txid) == POINTS[txid - 1], (played, txid)
        seen[f"{played.victim}, {len(listed)} listed, {len(here.leftovers())} left"] += 1
        here.age_halves()
        here.succeed("prune")
        assert (here.listed(runtime), here.leftovers()) == ([1, 4, 5], []), played
        here.verify(runtime)
        assert here.shows(runtime) == "six", played
        assert len(list(here.repository.glob("app.db/**/*.*"))) == 6, played
    print(f"\n{dict(seen)}")


def test_a_killed_restore_leaves_the_old_database_or_the_new_one(stage: Stages, runtime: Runtime) -> None:
    """The path is never without a database, nor with a mixture; the next restore succeeds and tidies."""
    here, seen = stage("restore"), Counter[str]()
    for _ in range(KILLS):
        played = here.play("restore")
        shown = here.shown()
        assert shown in (("one",) if played.code == 0 else ("three", "one")), played
        if played.victim == "reader" and played.code:
            assert (shown, here.leftovers(), here.mended()) == ("three", [], True), played
        if shown == "one":  # else the next backup would carry on a history that the file is not part of
            memory = read_lineage(here.place / "state/pagewarden", str(here.path)).restored
            assert memory is not None and memory.txid == 1, played
        seen[f"{played.victim}, {shown}, {len(here.leftovers())} left"] += 1
        here.succeed("restore")
        assert here.shown() == "one", played
        assert here.leftovers() == [], played
        assert here.mended(), played
        assert set(here.entries()) == {"done"}, (played, here.entries())
        assert len(here.verify(runtime).points) == 2
    print(f"\n{dict(seen)}")


def test_a_killed_undo_leaves_the_restored_database_or_the_previous_one(stage: Stages, runtime: Runtime) -> None:
    """The next undo ends what was begun: it succeeds, or says that nothing is left to take back."""
    here, seen = stage("undo"), Counter[str]()
    for _ in range(KILLS):
        played = here.play("undo")
        shown = here.shown()
        assert shown in (("three",) if played.code == 0 else ("one", "three")), played
        seen[f"{played.victim}, {shown}, {len(here.leftovers())} left"] += 1
        code, out, err = here.run("undo")
        assert code == (0 if shown == "one" else NOTHING_TO_TAKE_BACK), (played, out, err)
        assert here.shown() == "three", played
        assert here.leftovers() == [], played
        assert here.mended(), played
        assert here.entries() == ["undone"], (played, here.entries())
        assert len(here.verify(runtime).points) == 2
    print(f"\n{dict(seen)}")
