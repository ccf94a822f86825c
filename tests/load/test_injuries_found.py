"""With a baseline every injury of a closed database is found: seeded ones, over all kinds and several layouts.

PAGEWARDEN_FULL in the environment, which `nox -s full` sets, makes it 5,000 of them.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.live import snapshot_commit
from pagewarden.repository import PageSetHeader
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import Level, Verdict
from tests.support.injuring import SHAPES, copy, injure, make

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

TRIED = 5000 if os.environ.get("PAGEWARDEN_FULL") else 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A closed database, what it held earlier, and a snapshot of it."""

    database: Path
    older: Path
    baseline: str


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One outside world for all: its page reader stays warm."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> dict[str, Sample]:
    """One database of each shape; its snapshot is taken of a copy, with the -wal where there is one."""
    made = {}
    for name, shape in SHAPES.items():
        folder = tmp_path_factory.mktemp(name)
        database, older = make(folder, shape)
        header = PageSetHeader(
            page_size=shape.page_size,
            pages=0,
            pages_per_frame=64,
            timeline="ab" * 16,
            txid=1,
            time=datetime.now(UTC),
        )
        baseline = folder / "baseline.pageset"
        snapshot_commit(str(copy(database, folder / "source.db")), runtime.reader, baseline, header, 1)
        made[name] = Sample(database=database, older=older, baseline=str(baseline))
    return made


def request(path: Path, sample: Sample, level: Level = Level.QUICK) -> CheckRequest:
    """Compare a copy with the snapshot of the database that it was copied from."""
    return CheckRequest(database=str(path), baseline=sample.baseline, level=level)


@pytest.mark.parametrize("name", SHAPES)
def test_a_copy_that_is_not_injured_is_sound(
    name: str, samples: dict[str, Sample], runtime: Runtime, tmp_path: Path
) -> None:
    """Otherwise finding all injuries would prove nothing."""
    path = copy(samples[name].database, tmp_path / "copy.db")
    assert run_check(request(path, samples[name], Level.DEEP), runtime).verdict is Verdict.SOUND


def test_every_injury_is_found(samples: dict[str, Sample], runtime: Runtime, tmp_path: Path) -> None:
    """Damaged, each of them; a database that offers a kind no target is left out for that kind."""
    missed: list[str] = []
    found: Counter[str] = Counter()
    combinations = [(name, kind) for name in SHAPES for kind in INJURIES]
    refusing: set[tuple[str, str, int]] = set()  # every second seed comes with the older image
    for seed in itertools.count():
        for name, kind in combinations:
            if found.total() == TRIED or (name, kind, seed % 2) in refusing:
                continue
            sample = samples[name]
            path = copy(sample.database, tmp_path / "copy.db")
            report = injure(path, kind, seed, sample.older)
            if report is None:
                refusing.add((name, kind, seed % 2))
                continue
            found[kind] += 1
            verdict = run_check(request(path, sample), runtime).verdict
            if verdict is not Verdict.DAMAGED:
                missed.append(f"{name}, {kind}, seed {seed}: {verdict}; {report.message}")
        if found.total() == TRIED:
            break
    assert missed == []
    assert set(found) == set(INJURIES)


@pytest.mark.parametrize("kind", INJURIES)
def test_the_other_checkers_hide_nothing(
    kind: str, samples: dict[str, Sample], runtime: Runtime, tmp_path: Path
) -> None:
    """At the deepest level, where SQLite itself works on the injured file too, the verdict stays."""
    done = 0
    for sample in samples.values():
        path = copy(sample.database, tmp_path / "copy.db")
        if injure(path, kind, 1, sample.older) is not None:
            done += 1
            assert run_check(request(path, sample, Level.DEEP), runtime).verdict is Verdict.DAMAGED
    assert done
