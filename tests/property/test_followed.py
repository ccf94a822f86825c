"""For random followed histories every point that must remain equals the oracle copy, through gathering and thinning."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagewarden.repository import marks
from pagewarden.repository.gather import History
from pagewarden.repository.moments import name_moment
from pagewarden.runtime import Runtime
from pagewarden.values import Position
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME
from tests.core.repository.gathering import Stage
from tests.core.repository.pruned import new_runtime
from tests.core.repository.sets import back_up

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
HISTORIES = 40 if FULL else 2
STEPS = 24 if FULL else 7
BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
WINDOW = timedelta(minutes=8)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader and a state directory of its own."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


class Play:
    """A followed history in which chance decides what happens next."""

    def __init__(self, folder: Path, runtime: Runtime, chance: random.Random, *, steps_back: bool) -> None:
        self.chance = chance
        count = STEPS * 14 + 2
        time, times = BEGIN, {}
        for txid in range(1, count + 1):
            time += timedelta(seconds=chance.choice((0, 1, 5, 20, 90)))
            if steps_back and chance.random() < 0.03:
                time -= timedelta(minutes=chance.randrange(1, 20))
            times[txid] = time
        images = histories(count, seed=chance.randrange(1000))
        self.stage = Stage(folder=folder, runtime=runtime, images=images, times=times, now=time + timedelta(days=1))
        self.kept: set[int] = set()  # txids that a person wants to keep
        self.done: list[object] = []
        self.stage.follow(2)

    def step(self, **rules: object) -> None:
        """Follow, gather, prune by `rules`, back up, pin or give a name; assert that what must remain is there."""
        stage, chance = self.stage, self.chance
        before = stage.txids
        what = chance.choice(("follow", "follow", "gather", "gather", "prune", "back up", "keep"))
        self.done.append((what, before[-1]))
        if what == "follow":
            stage.follow_on(*(chance.choice((1, 1, 2, 3, -2)) for _ in range(chance.randrange(1, 6))))
        elif what == "gather":
            history = chance.choice((stage.history, History()))
            stage.gather(history, many=chance.choice((2, 3, 4)), most=chance.choice((20_000, 1 << 30)))
            assert stage.txids == before, self.done
        elif what == "prune":
            self._prune(before, rules)
        elif what == "back up":
            txid = before[-1] + 1
            back_up(stage.repository, NAME, stage.images[txid - 1], stage.follower.time(txid))
        else:
            self._keep(chance.choice(before))

    def _keep(self, txid: int) -> None:
        """Pin a restore point, or give a name to a commit."""
        stage, now = self.stage, self.stage.now
        self.kept.add(txid)
        for each in stage.manifests:
            if each.position.txid == txid and self.chance.random() < 0.5:
                marks.pin(stage.repository.store, NAME, each.sequence, note="", now=now)
                return
        position = Position(timeline=stage.manifests[-1].position.timeline, txid=txid, time=stage.follower.time(txid))
        name_moment(stage.repository.store, NAME, position, "here", now=now)

    def _prune(self, before: list[int], rules: dict[str, Any]) -> None:
        stage = self.stage
        followed = {txid for txid in before if self._batch(txid)}
        begin = stage.follower.time(before[-1]) - WINDOW
        window = {txid for txid in followed if stage.follower.time(txid) >= begin}
        ends = set(stage.ends)
        stage.prune(commits=f"{int(WINDOW.total_seconds())}s", grace="0s", **rules)
        after = set(stage.txids)
        assert after <= set(before), self.done
        assert after >= window | self.kept & set(before) | {before[-1]}, self.done
        if not {"last", "minutely"} & rules.keys():
            assert after >= ends
            for txid, later in pairwise(before):
                minutes = [stage.follower.time(each).replace(second=0, microsecond=0) for each in (txid, later)]
                assert txid in after or minutes[0] == minutes[1], (txid, self.done)

    def _batch(self, txid: int) -> bool:
        """Return whether a txid is of followed commits."""
        for each in self.stage.manifests:
            if each.position.txid == txid:
                return each.followed
            if each.position.txid > txid:
                break
        return True


@pytest.mark.parametrize("rules", [{}, {"last": 2}, {"minutely": 4, "chain_segments": 3}], ids=str)
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_what_must_remain_is_the_database_of_its_moment(
    tmp_path: Path, runtime: Runtime, seed: int, rules: dict[str, object]
) -> None:
    """H21, H23: batches, gaps, plain backups, pins and names in between, on clocks that step back too."""
    play = Play(tmp_path, runtime, random.Random(f"{seed} {rules}"), steps_back=seed % 2 == 1)
    for _ in range(STEPS):
        play.step(**rules)
    play.stage.prove()
    play.stage.gather(History(), many=2)
    play.stage.prove()
