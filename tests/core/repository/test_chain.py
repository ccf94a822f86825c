from __future__ import annotations

from dataclasses import replace

import pytest

from pagewarden.repository.chain import Chains, contradictions
from pagewarden.repository.format import Kind, PageSetInfo
from pagewarden.repository.manifest import Manifest
from pagewarden.values import Position
from tests.core.repository.sets import FACTS, NOW, SOUND, TIMELINE, header


def manifest(txid: int, parent: int | None = None, *, sequence: int = 0, kind: str = "", pages: int = 10) -> Manifest:
    """Return a manifest at `txid`: of a segment where it has a parent."""
    return Manifest(
        database="app.db",
        kind=kind or ("snapshot" if parent is None else "segment"),
        sequence=sequence or txid,
        position=at(txid),
        parent=None if parent is None else at(parent),
        key=f"app.db/objects/{TIMELINE}/{txid:016}-00112233aabbccdd.pageset.zst",
        bytes=1000 + txid,
        sha256="ab" * 32,
        page_size=512,
        pages=pages,
        database_sum=f"{txid:016x}",
        compression=1,
        source=SOUND,
        facts=FACTS,
        verified_at=NOW,
        created_by="pagewarden test",
    )


def at(txid: int) -> Position:
    """Return a position."""
    return Position(timeline=TIMELINE, txid=txid, time=NOW)


def info(of: Manifest, below: Manifest | None = None, *, held: int = 1) -> PageSetInfo:
    """Return what the page set of a manifest says."""
    head = replace(header(of.pages), txid=of.position.txid, time=of.position.time)
    if below is not None:
        head = replace(head, kind=Kind.SEGMENT, txid_from=below.position.txid)
    return PageSetInfo(
        header=head,
        frames=1,
        held=held,
        database_sum=int(of.database_sum, 16),
        database_sum_from=0 if below is None else int(below.database_sum, 16),
        sha256=of.sha256,
        bytes=of.bytes,
        numbers_offset=0,
        index_offset=0,
        sums_offset=0,
    )


def test_a_chain_goes_down_to_its_snapshot() -> None:
    """Each point's chain is its parent's and itself; a snapshot stands alone, also where it has a parent."""
    every = [manifest(1), manifest(2, 1), manifest(3, 2), manifest(4, 3, kind="snapshot"), manifest(5, 4)]
    chains = Chains(every)
    for point, numbers in zip(every, ([1], [1, 2], [1, 2, 3], [4], [4, 5]), strict=True):
        chain = chains.of(point)
        assert [link.position.txid for link in chain.links] == numbers
        assert (chain.gap, chains.gap(point), chain.point) == ("", "", point)
        assert chain.bytes == sum(1000 + number for number in numbers)
        assert chain.keys == tuple(link.key for link in chain.links)
    assert chains.below(every[0]) is None
    assert chains.below(every[2]) == every[1]


def test_a_gap_is_named() -> None:
    """Where a manifest is missing, every point above it says which."""
    chains = Chains([manifest(1), manifest(3, 2), manifest(4, 3), manifest(5, 4)])
    for point in (3, 4, 5):
        chain = chains.of(manifest(point, point - 1))
        assert f"the segment at {TIMELINE[:8]}:3 continues {TIMELINE[:8]}:2" in chain.gap
        assert chains.gap(chain.point) == chain.gap
        assert chain.links[0].position.txid == 3
    assert chains.gap(manifest(1)) == ""


@pytest.mark.parametrize(
    "below",
    [
        replace(manifest(2), database="other.db"),
        replace(manifest(2), page_size=1024),
        replace(manifest(2), position=replace(at(2), time=NOW.replace(year=2020))),
        replace(manifest(2), sequence=3),
        replace(manifest(2), sequence=9),
        replace(manifest(2), position=replace(at(2), timeline="0" * 32)),
    ],
    ids=["database", "page size", "time", "itself", "later", "timeline"],
)
def test_what_does_not_fit_below_a_segment_is_a_gap(below: Manifest) -> None:
    """A parent of another database, page size, moment or timeline, or one committed later, is none."""
    point = manifest(3, 2)
    assert Chains([below, point]).of(point).gap
    assert not Chains([manifest(2), point]).of(point).gap


def test_of_two_at_one_position_the_last_before_it_counts() -> None:
    """Whoever put both, the chain is the same whatever their order."""
    one, two, point = manifest(2, sequence=2), manifest(2, sequence=3), manifest(3, 2, sequence=4)
    assert Chains([one, two, point]).of(point).links == (two, point)


def test_no_chain_goes_round() -> None:
    """Segments that a forger makes each other's parents end as a gap, not as a loop."""
    with pytest.raises(ValueError, match="continues"):
        manifest(2, 2)
    with pytest.raises(ValueError, match="continues"):
        manifest(2, 3)
    one, two = manifest(5, 4, sequence=7), manifest(4, 3, sequence=8)
    assert Chains([one, two]).of(one).gap


def test_ten_thousand_links_are_one_walk() -> None:
    """A long chain needs neither recursion nor a walk for each point."""
    every = [manifest(1), *(manifest(n, n - 1) for n in range(2, 10_001))]
    chains = Chains(every)
    assert not any(chains.gap(point) for point in reversed(every))
    assert len(chains.of(every[-1]).links) == 10_000


def test_page_sets_must_follow_each_other() -> None:
    """Each begins with the database sum that the one below ends with, and is its manifest's (H22)."""
    links = [manifest(1), manifest(2, 1), manifest(3, 2)]
    infos = [info(links[0], held=10), info(links[1], links[0]), info(links[2], links[1])]
    assert contradictions(links, infos) == ""
    assert contradictions(links[:1], infos[:1]) == ""
    assert "nothing is below" in contradictions(links[1:], infos[1:])
    wrong = replace(infos[2], database_sum_from=7)
    assert "does not continue" in contradictions(links, [*infos[:2], wrong])
    assert "begins with the database sum 0000000000000007" in contradictions(links, [*infos[:2], wrong])
    other = replace(infos[1], sha256="cd" * 32)
    assert links[1].key in contradictions(links, [infos[0], other, infos[2]])


def test_what_came_to_the_database_must_be_in_the_segment() -> None:
    """A database that grew by more pages than the segment holds is refused (H21), the lock-byte page aside."""
    low, high = manifest(1), manifest(2, 1, pages=15)
    assert contradictions([low, high], [info(low, held=10), info(high, low, held=5)]) == ""
    assert "grew by 5" in contradictions([low, high], [info(low, held=10), info(high, low, held=4)])
    lock = (1 << 30) // 512 + 1
    low, high = manifest(1, pages=lock - 1), manifest(2, 1, pages=lock + 1)
    assert contradictions([low, high], [info(low, held=lock - 1), info(high, low, held=1)]) == ""
    assert "grew by 1" in contradictions([low, high], [info(low, held=lock - 1), info(high, low, held=0)])
