"""Local page maps: whole and of the position that was asked for, or not used at all."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden import durable
from pagewarden.pages import backend
from pagewarden.repository import blocks
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import MapUnusable, PageMap, write_map
from pagewarden.testing import FaultyOs, cut
from tests.core.repository.sets import TIMELINE


def facts_of(sums: bytes) -> MapFacts:
    """Return what the map of these sums claims."""
    return MapFacts(timeline=TIMELINE, txid=7, page_size=4096, pages=len(sums) // 8, database_sum=backend().fold(sums))


def written(path: Path, sums: bytes) -> MapFacts:
    """Write a map."""
    facts = facts_of(sums)
    write_map(path, facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
    return facts


@pytest.mark.parametrize("pages", [0, 1, 65535, 65536, 65537, 131072 + 9])
def test_a_map_gives_back_its_sums(tmp_path: Path, pages: int) -> None:
    """Around whole blocks, in any range, fewer beyond the end; its file is its owner's alone."""
    chance = random.Random(pages)
    sums = chance.randbytes(pages * 8)
    facts = written(tmp_path / "map", sums)
    assert (tmp_path / "map").stat().st_mode & 0o777 == 0o600
    with PageMap(tmp_path / "map", facts) as opened:
        assert opened.sums(1, pages + 10) == sums
        assert opened.sums(pages + 1, 5) == b""
        for _ in range(20):
            first, count = chance.randrange(1, pages + 2), chance.randrange(0, 70000)
            assert opened.sums(first, count) == sums[(first - 1) * 8 : (first - 1 + count) * 8]


def test_a_missing_map_and_one_of_another_position_are_not_damage(tmp_path: Path) -> None:
    """Each field of the position counts; such a map is simply made again."""
    facts = written(tmp_path / "map", random.Random(1).randbytes(800))
    for other in (
        replace(facts, timeline="f" * 32),
        replace(facts, txid=8),
        replace(facts, page_size=1024),
        replace(facts, pages=99),
        replace(facts, database_sum=facts.database_sum ^ 1),
    ):
        with pytest.raises(MapUnusable, match="another position") as caught:
            PageMap(tmp_path / "map", other)
        assert not caught.value.damaged
    with pytest.raises(MapUnusable, match="there is no page map") as caught:
        PageMap(tmp_path / "none", facts)
    assert not caught.value.damaged


def test_no_changed_byte_passes(tmp_path: Path) -> None:
    """Any flipped bit, a cut, a byte too many, sums that add up to something else: damaged, never used."""
    sums = random.Random(2).randbytes(20 * 8)
    path = tmp_path / "map"
    facts = written(path, sums)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(MapUnusable) as caught:
            PageMap(path, facts)
        assert caught.value.damaged, place
    for data in (whole[:-1], whole + b"\0", whole[:71], b"", whole[:72]):
        path.write_bytes(data)
        with pytest.raises(MapUnusable):
            PageMap(path, facts)
    path.unlink()
    path.mkdir()
    with pytest.raises(MapUnusable, match="cannot be used") as caught:
        PageMap(path, facts)
    assert caught.value.damaged


def test_a_map_that_proves_itself_but_adds_up_to_something_else_is_refused(tmp_path: Path) -> None:
    """It is never trusted without the database sum of the manifest that it claims, whoever wrote its checksums."""
    path = tmp_path / "map"
    facts = written(path, random.Random(3).randbytes(100 * 8))
    other = random.Random(4).randbytes(100 * 8)
    block = blocks.encode_block(blocks.SUMS_TAG, 0, other, 8)
    head = path.read_bytes()[:-16][:56] + blocks.hash64(block[-8:]).to_bytes(8, "little")
    path.write_bytes(head + blocks.hash64(head).to_bytes(8, "little") + block)
    with pytest.raises(MapUnusable, match="not those of its header"):
        PageMap(path, facts)


def test_one_that_shrinks_while_it_is_read_is_found(tmp_path: Path) -> None:
    """What was proved when it was opened is proved again when it is read."""
    path = tmp_path / "map"
    facts = written(path, random.Random(5).randbytes(70000 * 8))
    with PageMap(path, facts) as opened:
        os.truncate(path, 1000)
        with pytest.raises(Exception, match="cut off"):
            opened.sums(1, 1)


def test_writing_wrong_sums_or_to_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """Each call that may fail, one after the other; what adds up to something else is an error of the caller."""
    sums = random.Random(6).randbytes(70000 * 8)
    with pytest.raises(ValueError, match="add up"):
        write_map(tmp_path / "map", replace(facts_of(sums), database_sum=1), lambda first, count: sums[: count * 8])
    for at in range(1, 50):
        faulty = FaultyOs(at, calls=frozenset({"pwrite", "open"}))
        try:
            with cut(durable, faulty):
                written(tmp_path / "map", sums)
        except OSError:
            assert not (tmp_path / "map").exists()
            continue
        break
    assert at == 5  # created, two blocks, header
    PageMap(tmp_path / "map", facts_of(sums)).close()


def test_nonsense_is_no_position() -> None:
    """What no database can be is refused before anything is opened."""
    good = facts_of(b"")
    nonsense: list[dict[str, Any]] = [{"page_size": 1000}, {"pages": -1}, {"txid": 0}]
    for wrong in nonsense:
        with pytest.raises(ValueError):
            replace(good, **wrong)
