"""Thinning: of batches that are older than every commit is kept, the commits stay that a rule keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pagewarden.repository import keys, marks
from pagewarden.repository.manifest import encode_manifest
from pagewarden.repository.moments import name_moment
from pagewarden.runtime import Runtime
from pagewarden.values import Position, SourceVerdict, Verdict
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME
from tests.core.repository.gathering import Stage
from tests.core.repository.pruned import new_runtime

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, runtime: Runtime) -> Stage:
    """A history of a commit each twenty seconds, of which nothing is stored yet."""
    times = {txid: MIDNIGHT + timedelta(seconds=20 * txid) for txid in range(1, 61)}
    return Stage(folder=tmp_path, runtime=runtime, images=histories(60), times=times, now=MIDNIGHT + timedelta(hours=9))


def test_of_old_batches_the_last_commit_of_each_minute_stays(stage: Stage) -> None:
    """Without a rule: every restore point stays, every commit as long as `commits` says, then one of each minute."""
    stage.follow(12, -3, 15, 10, 1)
    before = stage.files()
    dry = stage.prune(apply=False, commits="3m")
    assert stage.files() == before
    assert [each.commits for each in dry.points] == [1, 12, 1, 15, 10, 1]
    assert [each.commits_gone for each in dry.points] == [0, 7, 0, 9, 0, 0]
    assert dry.points[1].why.endswith(
        "7 of the commits before it go: older than 3m, and 4 stay: the last of its minute"
    ), dry.points[1].why
    assert dry.policy == "keep everything, every commit within 3m and then one of each minute"
    done = stage.prune(commits="3m")
    assert (done.points, done.warnings) == (dry.points, ())
    assert done.bytes_freed > done.bytes_stored > 0
    kept = [1, 2, 5, 8, 11, 13, 16, 17, 20, 23, 26, 29, 31, *range(32, 43)]
    stage.prove(kept)
    again = stage.prune(commits="3m")
    assert [each.commits_gone for each in again.points] == [0] * 6
    stage.prove(kept)


def test_rules_keep_commits_as_they_keep_restore_points(stage: Stage) -> None:
    """So many minutes that have one, then hours; a restore point that no rule keeps stays where its commits do."""
    stage.times.update({txid: MIDNIGHT + timedelta(minutes=20 * txid) for txid in range(1, 61)})
    stage.now = MIDNIGHT + timedelta(hours=10)
    stage.follow(12, 5, 10, 1)
    carrier = stage.prune(apply=False, commits="3h", hourly=5, grace="0s").points[1]
    assert (carrier.state, carrier.commits_gone) == ("kept", 10)
    assert carrier.why.startswith("commits before it stay; 10 of the commits before it go")
    done = stage.prune(commits="3h", hourly=4, grace="0s")
    assert [each.state for each in done.points] == ["kept", "purged", "kept", "kept", "kept"]
    assert stage.ends == [1, 18, 28, 29]
    stage.prove([1, 14, 17, *range(18, 30)])


def test_a_moment_that_has_a_name_stays(stage: Stage) -> None:
    """Whatever the rules say of the commits around it; and so does a restore point with a name."""
    stage.follow(12, 3, 15, 10, 1)
    store = stage.repository.store
    for txid in (4, 16):
        position = next(each for each in stage.manifests if each.position.txid >= txid).position
        name_moment(store, NAME, Position(timeline=position.timeline, txid=txid, time=stage.now), "here", now=stage.now)
    done = stage.prune(commits="3m", last=1, grace="0s")
    assert [each.state for each in done.points] == ["kept", "kept", "kept", "kept", "kept", "kept"]
    assert "the moment has a name" in done.points[2].why
    stage.prove([1, 4, 13, 16, 31, *range(32, 43)])


def test_what_is_pinned_or_deleted_keeps_its_commits(stage: Stage) -> None:
    """A pin keeps all of a batch; a mark that it is deleted takes nothing from it that `undelete` would bring back."""
    stage.follow(6, 6, 6, 6, 20, 1)
    store = stage.repository.store
    marks.pin(store, NAME, 2, note="", now=stage.now)
    marks.delete(store, NAME, 3, why="", now=stage.now)
    done = stage.prune(commits="3m")
    assert [each.commits_gone for each in done.points] == [0, 0, 0, 3, 3, 0, 0]
    stage.prove()
    assert [txid for txid in stage.txids if txid < 14] == [*range(1, 14)]


def test_nothing_is_thinned_while_a_check_says_damaged(stage: Stage) -> None:
    """H31: as long as the newest restore point is of a damaged database everything stays."""
    stage.follow(12, 3, 15, 10, 1)
    manifest = stage.manifests[-1]
    path = stage.root / keys.manifest_key(NAME, manifest.sequence)
    source = SourceVerdict(verdict=Verdict.DAMAGED, level="standard")
    path.write_bytes(encode_manifest(replace(manifest, source=source)))
    before = stage.files()
    done = stage.prune(commits="3m", last=1, grace="0s")
    assert done.frozen and [each.commits_gone for each in done.points] == [0] * 6
    assert stage.files() == before


def test_a_clock_that_steps_back_lets_nothing_more_go(stage: Stage) -> None:
    """H23: what was committed after a commit of the window is in it, and the last before each step stays."""
    steps = {txid: stage.times[txid] - timedelta(minutes=4) for txid in range(9, 14)}
    stage.times.update(steps)
    stage.follow(12, 3, 15, 10, 1)
    stage.prune(commits="3m")
    kept = stage.txids
    stage.prove(kept)
    assert 8 in kept, "the last before the step"


def test_a_batch_whose_commits_are_damaged_is_left_alone(stage: Stage) -> None:
    """H32: the report says so, and the others are thinned."""
    stage.follow(12, 3, 15, 10, 1)
    facts = stage.manifests[1].commits
    assert facts
    path = stage.root / facts.key
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    done = stage.prune(commits="3m")
    assert [each.commits_gone for each in done.points] == [0, 0, 1, 9, 0, 0]
    assert any(facts.key in each or "number 2" in each for each in done.warnings), done.warnings
    assert path.read_bytes() == bytes(data)


def test_what_is_folded_keeps_its_commits(stage: Stage) -> None:
    """Batches that are purged go into the one above, whose commits can be restored as before, or as many as stay."""
    stage.follow(4, 4, 4, 4, 4, 10, 1)
    stage.prune(commits="3m", last=5, grace="0s")
    kept = stage.txids
    stage.prove(kept)
    done = stage.prune(commits="1h", last=2, chain_segments=1, grace="0s")
    assert done.folds
    stage.prove()
    assert set(kept) >= set(stage.txids) >= {31, 32}


def test_the_newest_becomes_a_snapshot_with_its_commits(stage: Stage) -> None:
    """What its commits continue stays as long as they do, and goes with them."""
    stage.follow(4, 4, 4, 4, 12)
    before = stage.txids
    done = stage.prune(commits="1h", chain_segments=2)
    assert len(done.folds) == 1
    assert stage.manifests[-1].kind == "snapshot" and stage.manifests[-1].commits
    stage.prove(before)
    stage.prune(commits="1m", last=1, chain_segments=9, grace="0s")
    stage.prove([1, 17, *range(18, 30)])
    stage.follow_on(6, 1)
    stage.prune(commits="1s", last=1, chain_segments=9, grace="0s")
    stage.prune(commits="1s", last=1, chain_segments=9, grace="0s")
    stage.prove([1, 29, 35, 36])
