"""The walk in threads, in steps and resumed: the same flaws however it is shared and cut; native equals twin."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from pagewarden.pages import Backend, structure
from pagewarden.pages._native import NativeBackend
from pagewarden.pages._twin import TwinBackend
from pagewarden.pages.source import PageSource, ShortRead
from pagewarden.pages.structure import StructureWalk
from pagewarden.structure import Flaw, FlawKind
from tests.core.pages.trees import Database, build

BACKENDS = (NativeBackend(), TwinBackend())


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def using(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    chosen: Backend = request.param
    return chosen


def flawed(seed: int, *, rows: int = 300) -> Database:
    """Return a database in which single bytes of values, pointers and headers are wrong, but no page is used twice."""
    chance = random.Random(seed)
    database = build(page_size=512, rows=rows)
    leaves = [pgno for pgno in range(2, database.pages + 1) if database.page(pgno)[0] in (10, 13)]
    for pgno in chance.sample(leaves, 12):
        database.put(pgno, chance.choice((1, 3, 5, 7)), chance.randbytes(1))
    for pgno in chance.sample(leaves, 12):
        database.put(pgno, chance.randrange(512), chance.randbytes(2))
    return database


def all_of(walk: StructureWalk, source: PageSource, seconds: float) -> tuple[list[Flaw], list[str]]:
    """Walk in steps; return the flaws and the places that were reached."""
    flaws: list[Flaw] = []
    places: list[str] = []
    while True:
        step = walk.step(source, seconds)
        flaws += step.flaws
        places.append(step.reached)
        if step.done:
            return flaws, places


def without_twice(flaws: list[Flaw]) -> Counter[Flaw]:
    """Return flaws but for pages used twice, of which threads may find either use first."""
    return Counter(flaw for flaw in flaws if flaw.kind is not FlawKind.TWICE)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_see_the_same(using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """With one thread, two or four the flaws are the same, and no page is looked at twice or left out."""
    monkeypatch.setattr(structure, "_ALONE", 0)
    monkeypatch.setattr(structure, "_SLICE", 8)
    for seed in range(4):
        database = flawed(seed)
        with database.source(tmp_path) as source:
            one = StructureWalk(database.plan(), threads=1, using=using).step(source, 60.0)
            many = StructureWalk(database.plan(), threads=threads, using=using).step(source, 60.0)
        assert one.done and many.done
        assert without_twice(list(one.flaws)) == without_twice(list(many.flaws)), seed
        assert (one.pages, one.unordered) == (many.pages, many.unordered)
        assert one.flaws


def test_threads_share_one_large_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one tree is nearly all it is split: all threads find work, and every page is looked at once."""
    monkeypatch.setattr(structure, "_ALONE", 0)
    monkeypatch.setattr(structure, "_SLICE", 4)
    given = []
    database = build(page_size=512, rows=900)
    walker = NativeBackend().walker(database.plan())
    parts = walker.parts()
    parts.push_root(database.tree("a"))
    with database.source(tmp_path) as source:
        walker.walk(source, parts, 5)
        while (more := parts.split()) is not None:
            given.append(more)
        assert len(given) > 3
        assert all(some.place is not None and some.place[0] == database.tree("a") for some in given)
        for some in [parts, *given]:
            while not some.empty:
                assert walker.walk(source, some, 7).flaws == ()
        whole = StructureWalk(database.plan(), threads=4, using=NativeBackend()).step(source, 60.0)
    assert (whole.flaws, whole.pages) == ((), database.pages)


def test_steps_see_the_same_as_one(using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the shortest steps the flaws are those of one long step, in the same order; each step gets a new source."""
    monkeypatch.setattr(structure, "_SMALL_SLICE", 16)
    database = flawed(7)
    with database.source(tmp_path) as source:
        whole = StructureWalk(database.plan(), threads=1, using=using).step(source, 60.0)
    walk = StructureWalk(database.plan(), threads=1, using=using)
    flaws: list[Flaw] = []
    steps = 0
    done = False
    while not done:
        with database.source(tmp_path) as source:
            step = walk.step(source, 0.0)
        flaws += step.flaws
        done, steps = step.done, steps + 1
    assert tuple(flaws) == whole.flaws
    assert steps > 20
    assert step.pages == whole.pages
    assert walk._reached() == ""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_walk_is_resumed_where_it_was_cut_short(
    using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Wherever a walk ends early, another that resumes there sees what it did not, then the rest: together all."""
    monkeypatch.setattr(structure, "_SMALL_SLICE", 16)
    monkeypatch.setattr(structure, "_ALONE", 0)
    database = flawed(9)
    plan = database.plan()
    with database.source(tmp_path) as source:
        whole = without_twice(list(StructureWalk(plan, threads=1, using=using).step(source, 60.0).flaws))
        walk = StructureWalk(plan, threads=threads, using=using)
        before: list[Flaw] = []
        for _ in range(6):
            for _ in range(3):
                step = walk.step(source, 0.0)
                before += step.flaws
            assert not step.done and step.reached
            resumed = StructureWalk(plan, threads=threads, using=using, resume=step.reached)
            assert resumed._reached().partition("/")[0] == step.reached.partition("/")[0]
            flaws, _ = all_of(resumed, source, 60.0)
            assert without_twice(flaws) == whole
            first = StructureWalk(plan, threads=1, using=using, resume=step.reached)
            seen = set(before)
            for _ in range(40):
                seen.update(first.step(source, 0.0).flaws)
            # Whoever resumes begins with what was not seen: a second cut walk adds to the first.
            assert seen >= set(before)


def test_runs_cut_short_over_and_over_see_everything(
    using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that each end after a little, and resume where the one before ended, have soon seen every flaw."""
    monkeypatch.setattr(structure, "_SMALL_SLICE", 8)
    database = flawed(11)
    plan = database.plan()
    with database.source(tmp_path) as source:
        whole = StructureWalk(plan, threads=1, using=using).step(source, 60.0).flaws
        wanted = {flaw for flaw in whole if flaw.kind not in (FlawKind.TWICE, FlawKind.UNUSED, FlawKind.DEPTH)}
        seen: set[Flaw] = set()
        place, places = "", set()
        for _ in range(400):
            walk = StructureWalk(plan, threads=1, using=using, resume=place)
            for _ in range(6):
                step = walk.step(source, 0.0)
                seen.update(step.flaws)
            place = step.reached
            places.add(place)
            if seen >= wanted:
                break
    assert seen >= wanted
    assert len(places) > 5


TOKENS = (
    "",
    "nonsense",
    "1",
    "1/",
    "/1",
    "99999/0",
    "2/-1",
    "2/x",
    "2/²",
    f"2/{10**30}",
    "1/5",
    "2/1/2/3",
    "2/99999",
    "2" + 99 * "/0",
)


@pytest.mark.parametrize("resume", TOKENS)
def test_any_token_begins_a_whole_walk(using: Backend, tmp_path: Path, resume: str) -> None:
    """A token that means nothing here, of another schema or of nobody, costs nothing: everything is walked."""
    database = build(rows=20)
    with database.source(tmp_path) as source:
        flaws, places = all_of(StructureWalk(database.plan(), using=using, resume=resume), source, 0.0)
    assert flaws == []
    assert places[-1] == ""


def test_a_file_that_shrinks_ends_the_walk(using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that ends before a page that it was believed to hold raises, with any number of threads."""
    monkeypatch.setattr(structure, "_ALONE", 0)
    database = build(page_size=512)
    for threads in (1, 3):
        with database.source(tmp_path) as source:
            (tmp_path / "walked.db").write_bytes(database.data[: len(database.data) // 2])
            with pytest.raises(ShortRead):
                StructureWalk(database.plan(), threads=threads, using=using).step(source, 60.0)


def test_hostile_trees_end(using: Backend, tmp_path: Path) -> None:
    """H29: pages of noise, pages that are all children of each other, counts of billions: the walk ends, bounded."""
    chance = random.Random(13)
    database = build(page_size=512, rows=60)
    pages = database.pages
    for pgno in range(2, pages + 1):
        page = bytearray(chance.randbytes(512))
        page[0] = chance.choice((2, 5, 10, 13))
        page[3:5] = chance.choice((b"\0\x20", b"\0\x54", b"\xff\xff"))
        page[5:7] = b"\x01\x00"
        for at in range(8, 200, 2):
            page[at : at + 2] = chance.randrange(256, 508).to_bytes(2, "big")
        for at in range(256, 500, 9):
            page[at : at + 4] = chance.randrange(1, pages + 1).to_bytes(4, "big")
        database.put(pgno, 0, bytes(page))
    step = database.walk(using, tmp_path)
    assert step.done
    assert len(step.flaws) + step.left_out > 100
    assert step.pages <= database.pages


@pytest.mark.parametrize("shape", ["plain", "utf16", "maps"])
def test_native_equals_twin_over_damage(tmp_path: Path, shape: str) -> None:
    """Over hundreds of seeded injuries of bytes, numbers and whole pages both backends give the same, in one order."""
    pragmas = {"plain": (), "utf16": ("encoding='UTF-16be'",), "maps": ("auto_vacuum=FULL",)}[shape]
    sound = build(page_size=512, rows=25, pragmas=pragmas)
    chance = random.Random(shape)
    native, twin = BACKENDS
    for _ in range(70):
        database = Database(data=bytearray(sound.data), page_size=512, trees=sound.trees)
        for _ in range(chance.randrange(1, 6)):
            pgno = chance.randrange(1, database.pages + 1)
            offset = chance.choice((chance.randrange(12), chance.randrange(512)))
            if pgno == 1:
                offset = chance.randrange(100, 512)
            new = chance.choice(
                (chance.randbytes(1), b"\xff" * 4, bytes(4), chance.randrange(1, 99).to_bytes(4, "big"))
            )
            database.put(pgno, min(offset, 512 - len(new)), new)
        if chance.random() < 0.3:
            one, other = chance.sample(range(2, database.pages + 1), 2)
            database.put(one, 0, database.page(other))
        with database.source(tmp_path) as source:
            steps = [StructureWalk(database.plan(), threads=1, using=b).step(source, 60.0) for b in (native, twin)]
        assert steps[0] == steps[1]
