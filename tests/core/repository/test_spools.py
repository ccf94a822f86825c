"""What waits on the disk while a page set is written: tables of entries, and pages put aside."""

from __future__ import annotations

import random
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.pages import backend
from pagewarden.repository.spools import Aside, Table
from tests.core.repository.segments import sums_of
from tests.core.repository.sets import image, source


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("reach", [50, 300_000])
def test_a_table_gives_back_what_was_put(sparse: bool, reach: int, tmp_path: Path) -> None:
    """Runs near each other and far apart, over what was there; what was skipped is zeros, and what was cut is gone."""
    chance = random.Random(reach)
    known: dict[int, bytes] = {}
    with closing(Table(tmp_path, 8, sparse=sparse)) as table:
        for _ in range(20):
            starts = sorted(chance.sample(range(0, reach, 5), 6))
            runs = [(start, chance.randrange(1, 5)) for start in starts]
            entries = [chance.randbytes(8) for _, count in runs for _ in range(count)]
            table.put_runs(runs, b"".join(entries))
            numbers = [start + at for start, count in runs for at in range(count)]
            known.update(zip(numbers, entries, strict=True))
        assert table.count == max(known) + 1
        whole = table.get(0, table.count + 10)
        assert whole == b"".join(known.get(number, bytes(8)) for number in range(table.count))
        table.cut(20)
        assert (table.count, table.get(0, 100)) == (20, whole[:160])
        table.put_runs([], b"")
        assert table.count == 20
    assert list(tmp_path.iterdir()) == []


def test_pages_put_aside_come_back_at_their_places(tmp_path: Path) -> None:
    """With the sums of what was taken; the last version counts, and nothing is left of them."""
    old, new = image(40, seed=1), image(40, seed=2)
    with source(tmp_path, old, name="old") as first, source(tmp_path, new, name="new") as second:
        aside = Aside(tmp_path, first)
        assert aside.take(first, 5, 20) == sums_of(old)[4 * 8 : 24 * 8]
        aside.take(second, 10, 2)
        aside.put(40, new[39 * 512 :])
        back = bytearray(40 * 512)
        backend().read(aside.source, 1, 40, back)
        aside.close()
    assert back[4 * 512 : 24 * 512] == old[4 * 512 : 9 * 512] + new[9 * 512 : 11 * 512] + old[11 * 512 : 24 * 512]
    assert back[39 * 512 :] == new[39 * 512 :]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_a_place_far_away_takes_no_memory(tmp_path: Path) -> None:
    """An entry for the last page that there can be is a hole and eight bytes, not 32 GiB of zeros."""
    tracemalloc.start()
    try:
        with closing(Table(tmp_path, 8)) as table:
            table.put(1 << 24, b"far away")
            assert (table.get(1 << 24, 1), table.get(0, 1)) == (b"far away", bytes(8))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
