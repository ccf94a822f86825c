"""For random histories every restore point equals the oracle copy of its moment, through compaction and retention."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pagewarden.config import RetentionSettings
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.property.histories import History

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
HISTORIES = 40 if FULL else 3
STEPS = 30 if FULL else 12


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is done to the repository between restore points."""

    name: str
    retention: RetentionSettings | None = None  # applied now and then

    def __str__(self) -> str:
        return self.name


UPKEEP = (
    Upkeep("nothing"),
    Upkeep("short chains", RetentionSettings(last=1000, grace="0s", chain_segments=2)),
    Upkeep("few kept", RetentionSettings(last=3, grace="0s")),
)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader and a state directory of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.mark.parametrize("upkeep", UPKEEP, ids=str)
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_every_restore_point_is_the_database_of_its_moment(
    tmp_path: Path, runtime: Runtime, seed: int, upkeep: Upkeep
) -> None:
    """Writes, deletes, VACUUM, shrinks, schema changes, other page sizes and journal modes, restores in between."""
    chance = random.Random(f"{seed} {upkeep}")
    history = History(folder=tmp_path, runtime=runtime, chance=chance, wal=chance.random() < 0.5)
    history.create(page_size=chance.choice((512, 1024, 4096)), auto_vacuum=chance.choice((0, 1, 2)))
    history.back_up()
    for _ in range(STEPS):
        for _ in range(chance.randrange(1, 3)):
            history.step()
        history.back_up(full=chance.random() < 0.05)
        if chance.random() < 0.1:
            history.go_back()
        if upkeep.retention is not None and chance.random() < 0.3:
            run_prune(PruneRequest(repository=history.url, apply=True, retention=upkeep.retention), runtime)
            history.done.append("prune")
    assert "segment" in history.kinds
    assert history.prove() >= 3
    report = run_verify(VerifyRequest(repository=history.url, read_data=True), runtime)
    assert report.verdict is Verdict.SOUND, ([point for point in report.points if point.state != "ok"], history.done)
