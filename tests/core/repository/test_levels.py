"""Which batches are to become one: pure, on manifests that no repository holds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from msgspec import UNSET

from pagewarden.repository.levels import runs
from pagewarden.repository.manifest import Manifest
from pagewarden.values import Position, SourceVerdict, Verdict
from tests.core.repository.sets import FACTS, NOW, TIMELINE

UNKNOWN = SourceVerdict(verdict=Verdict.UNKNOWN, level="none")


def batches(*spans: int, size: int = 100) -> list[Manifest]:
    """Return a snapshot and followed batches of so many commits, in order."""
    txid, made = 1, []
    for sequence, span in enumerate((0, *spans), start=1):
        parent = Position(timeline=TIMELINE, txid=txid, time=NOW + timedelta(seconds=txid))
        txid += span
        made.append(
            Manifest(
                database="app.db",
                kind="segment" if span else "snapshot",
                sequence=sequence,
                position=Position(timeline=TIMELINE, txid=txid, time=NOW + timedelta(seconds=txid)),
                parent=parent if span else None,
                key=f"{txid}",
                bytes=size,
                sha256="0" * 64,
                page_size=512,
                pages=1,
                database_sum="0" * 16,
                compression=1,
                source=UNKNOWN,
                facts=FACTS,
                verified_at=NOW,
                created_by="test",
                merged=span or UNSET,
            )
        )
    return made


def spans_of(found: Sequence[tuple[Manifest, ...]]) -> list[list[int]]:
    """Return the spans of what is to become one."""
    return [[each.span for each in links] for links in found]


def gathered(manifests: list[Manifest], links: Sequence[Manifest]) -> list[Manifest]:
    """Return the history once `links` are one."""
    size = sum(each.bytes for each in links)
    one = replace(links[-1], parent=links[0].parent, bytes=size, merged=links[-1].position.txid - links[0].parent.txid)  # type: ignore[union-attr]
    place = manifests.index(links[0])
    return [*manifests[:place], one, *manifests[place + len(links) :]]


@pytest.mark.parametrize(
    ("spans", "wanted"),
    [
        ((1, 1, 1, 1), []),  # the newest never counts
        ((1, 1, 1, 1, 1), [[1, 1, 1, 1]]),
        ((4, 4, 4, 1, 1, 1, 1), []),
        ((4, 4, 4, 1, 4, 1), [[4, 4, 4, 1, 4]]),  # what is smaller goes along
        ((4, 1, 1, 4, 4, 4, 1, 1), [[4, 1, 1, 4, 4, 4]]),
        ((16, 1, 1, 1, 1, 16, 1), [[1, 1, 1, 1]]),
        ((1, 1, 1, 1, 16, 1, 1, 1, 1, 1), [[1, 1, 1, 1], [1, 1, 1, 1]]),
        ((3, 2, 3, 2, 1), [[3, 2, 3, 2]]),
    ],
)
def test_as_many_of_a_level_become_one(spans: tuple[int, ...], wanted: list[list[int]]) -> None:
    """With what is smaller and stands among them; a larger one is not written anew for the sake of small ones."""
    assert spans_of(list(runs(batches(*spans), many=4))) == wanted


def test_a_stretch_that_cannot_grow_any_more_becomes_one() -> None:
    """Before a gap, a snapshot, what is marked as deleted; up to what is pinned or has a verdict of its own."""
    made = batches(1, 1, 1, 1, 1, 1, 1, 1)
    assert spans_of(list(runs(made, many=99))) == []
    assert [[each.sequence for each in links] for links in runs(made, many=99, alone={4})] == [[2, 3]]
    assert [[each.sequence for each in links] for links in runs(made, many=99, last={4})] == [[2, 3, 4]]
    gap = list(made)
    gap[3] = replace(made[3], merged=UNSET, facts=replace(FACTS, gap="guard-was-down"))
    assert [[each.sequence for each in links] for links in runs(gap, many=99)] == [[2, 3]]
    plain = list(made)
    plain[3] = replace(made[3], merged=UNSET)
    assert [[each.sequence for each in links] for links in runs(plain, many=99)] == [[2, 3]]
    judged = list(made)
    judged[4] = replace(made[4], source=replace(UNKNOWN, verdict=Verdict.SOUND))
    assert [[each.sequence for each in links] for links in runs(judged, many=99)] == [[2, 3, 4, 5]]
    fork = replace(made[5].position, timeline="f" * 32)
    forked = [*made[:5], replace(made[5], kind="snapshot", parent=made[4].position, position=fork, merged=UNSET)]
    assert [[each.sequence for each in links] for links in runs(forked, many=99)] == [[2, 3, 4, 5]]


def test_nothing_grows_beyond_the_bound() -> None:
    """What is cut by size is gathered as far as it may be, and not again and again."""
    made = batches(*[1] * 20)
    found = list(runs(made, many=4, most=500))
    assert [len(links) for links in found] == [5, 5, 5, 4]
    for links in found:
        made = gathered(made, links)
    assert list(runs(made, many=4, most=500)) == []


@pytest.mark.parametrize("seed", range(2))
def test_the_number_of_manifests_and_of_writings_grows_with_the_logarithm(seed: int) -> None:
    """A history that is gathered as it grows: each commit is written anew a few times, and few manifests are left."""
    chance = random.Random(seed)
    spans = [chance.choice((1, 1, 2, 3, 9)) for _ in range(3000)]
    every = batches(*spans)
    made, written = every[:1], 0
    for batch in every[1:]:
        made.append(batch)
        while found := list(runs(made, many=8)):
            for links in found:
                written += sum(each.bytes for each in links)
                made = gathered(made, links)
    assert len(made) < 8 * 6
    assert written <= sum(each.bytes for each in every) * 6
    assert sum(each.span for each in made) == sum(spans)
    for below, each in pairwise(made):
        assert each.parent == below.position
