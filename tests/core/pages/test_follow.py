"""Going through plain commits: page sums and database sums follow each of them, and nothing else is taken for plain."""

from __future__ import annotations

import random
import struct
from array import array
from typing import Any

import pytest

from pagewarden.pages import Backend, Followed, lock_page

ROOM = 60


def table_of(chance: random.Random) -> memoryview:
    """Return the sums of some pages, and room."""
    return memoryview(array("Q", [chance.randrange(1 << 64) for _ in range(ROOM)]))


def follow(
    backend: Backend, commits: list[tuple[list[int], int]], table: memoryview, pages: int, *, page_size: int = 4096
) -> tuple[Followed, list[int]]:
    """Go through commits, each the pages of its frames and its size; return what was found, and the frames' sums."""
    numbers, sizes = array("I"), array("I")
    for some, size in commits:
        numbers += array("I", some)
        sizes += array("I", [0] * (len(some) - 1) + [size])
    sums = [hash((at, pgno)) & (1 << 64) - 1 for at, pgno in enumerate(numbers)]
    found = backend.follow(
        numbers,
        sizes,
        struct.pack(f"<{len(sums)}Q", *sums),
        table,
        page_size=page_size,
        place=0,
        pages=pages,
        database_sum=folded(table[:pages]),
    )
    return found, sums


def folded(values: memoryview) -> int:
    """Return the XOR of numbers."""
    total = 0
    for value in values:
        total ^= value
    return total


def test_sums_follow_every_commit(pages_backend: Backend) -> None:
    """Of commits at random, some of which let the database grow: the sum of the whole table after each of them."""
    chance = random.Random(1)
    table = table_of(chance)
    before, pages = list(table), 30
    commits = []
    for _ in range(12):
        grown = chance.randrange(3)
        some = sorted(chance.sample(range(1, pages + 1), chance.randrange(1, 6)))
        commits.append(([*some, *range(pages + 1, pages + grown + 1)], pages + grown))
        pages += grown
    found, sums = follow(pages_backend, commits, table, 30)
    assert found.place == len(sums) == len(found.old)
    expected, size, place = memoryview(array("Q", before)), 30, 0
    for (some, new), row in zip(commits, found.rows, strict=True):
        for pgno in some:
            assert found.old[place] == expected[pgno - 1]
            expected[pgno - 1] = sums[place]
            place += 1
        size = new
        assert row == (size, len(some), folded(expected[:size]))
    assert (found.pages, found.database_sum) == (size, folded(expected[:size]))
    assert list(table) == list(expected)


@pytest.mark.parametrize(
    "odd",
    [
        ([3, 3], 30),  # twice
        ([4, 3], 30),  # not ascending
        ([3], 29),  # it shrinks
        ([31], 32),  # a page is missing by which it grows
        ([33], 32),  # beyond its end
        ([30, 31], 30),
        ([0], 30),
        ([5], ROOM + 1),  # no room
        ([5], (1 << 32) - 1),
        ([1 << 31], 1 << 31),
    ],
)
def test_what_is_not_plain_is_left(pages_backend: Backend, odd: tuple[list[int], int]) -> None:
    """The commits before it are gone through, and the table is as it is after them."""
    table = table_of(random.Random(2))
    found, sums = follow(pages_backend, [([1, 2], 30), odd, ([7], 30)], table, 30)
    assert (found.place, len(found.rows), len(found.old)) == (2, 1, 2)
    untouched = table_of(random.Random(2))
    assert list(table) == [*sums[:2], *untouched[2:]]
    assert found.database_sum == folded(table[:30])


def test_a_run_that_ends_within_a_commit_is_left_there(pages_backend: Backend) -> None:
    """A commit needs its last frame."""
    found, _ = follow(pages_backend, [([1], 30), ([2, 3], 0)], table_of(random.Random(3)), 30)
    assert (found.place, len(found.rows)) == (1, 1)
    found, _ = follow(pages_backend, [], table_of(random.Random(3)), 30)
    assert (found.place, found.rows, found.pages) == (0, [], 30)


def test_the_page_of_the_lock_bytes_is_no_page(pages_backend: Backend) -> None:
    """H12: the database grows over it without a frame of it; a commit that has one is not plain."""
    lock = lock_page(65536)
    table = memoryview(array("Q", bytes(8 * (lock + 4))))
    found, _ = follow(pages_backend, [([1, lock + 1], lock + 1)], table, lock - 1, page_size=65536)
    assert len(found.rows) == 1
    assert table[lock - 1] == 0
    found, _ = follow(pages_backend, [([1, lock], lock + 1)], table, lock + 1, page_size=65536)
    assert found.rows == []


def test_runs_that_cannot_be_are_refused(pages_backend: Backend) -> None:
    """Parts of different lengths, places and sizes beyond the end, tables of other numbers."""
    table, numbers = table_of(random.Random(4)), array("I", [1, 2])
    good: dict[str, Any] = {"page_size": 4096, "place": 0, "pages": 5, "database_sum": 0}
    for wrong in ({"page_size": 5}, {"place": 3}, {"place": -1}, {"pages": ROOM + 1}, {"pages": -1}):
        with pytest.raises(ValueError, match=r"no frame|frames with"):
            pages_backend.follow(numbers, numbers, bytes(16), table, **{**good, **wrong})
    for some in ((numbers, array("I"), bytes(16), table), (numbers, numbers, bytes(8), table)):
        with pytest.raises(ValueError, match="frames with"):
            pages_backend.follow(*some, **good)
    with pytest.raises(ValueError, match="frames with"):
        pages_backend.follow(numbers, numbers, bytes(16), table.cast("B"), **good)


def test_both_say_the_same_of_commits_at_random(both: tuple[Backend, Backend]) -> None:
    """Plain or not: the native backend and its twin stop at the same place, with the same table."""
    chance = random.Random(5)
    for _ in range(300):
        commits = []
        for _ in range(chance.randrange(1, 8)):
            some = [chance.randrange(1, 14) for _ in range(chance.randrange(1, 4))]
            commits.append((sorted(some) if chance.random() < 0.9 else some, chance.randrange(9, 14)))
        seed = chance.random()
        tables = [table_of(random.Random(seed)) for _ in both]
        found = [follow(each, commits, table, 10) for each, table in zip(both, tables, strict=True)]
        assert found[0] == found[1]
        assert list(tables[0]) == list(tables[1])
