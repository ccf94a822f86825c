"""Segments as they are written: what differs and nothing else, whatever the database does meanwhile."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed, VerificationFailed
from pagewarden.pages import backend, lock_page
from pagewarden.repository.mapfacts import Changes, MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.segment import SegmentWriter
from pagewarden.testing import FaultyOs, cut
from tests.core.repository.segments import map_of, mostly_zeros, parse, segment_header, sums_of, write_segment
from tests.core.repository.sets import TIMELINE, header, image, source


def changed(data: bytes, *pgnos: int, page_size: int = 512) -> bytes:
    """Return an image with one byte of some pages changed."""
    result = bytearray(data)
    for pgno in pgnos:
        result[(pgno - 1) * page_size + 17] ^= 0xA5
    return bytes(result)


def prove(path: Path, before: bytes, after: bytes, page_size: int = 512) -> tuple[int, ...]:
    """Assert that the segment at `path` makes `after` of `before`, with its sums; return the pages that it holds."""
    segment = parse(path)
    assert segment.applied_to(before, page_size) == after
    assert segment.database_sum_from == backend().fold(sums_of(before, page_size))
    assert segment.database_sum == backend().fold(sums_of(after, page_size))
    grown = set(range(len(before) // page_size + 1, len(after) // page_size + 1)) - {lock_page(page_size)}
    assert grown <= set(segment.numbers)  # H21
    return segment.numbers


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("pgnos", [(), (1,), (20,), (1, 2, 3, 4), (1, 2, 3, 4, 5), (3, 9, 10, 11, 12, 13, 20)])
def test_a_segment_holds_what_differs(tmp_path: Path, page_size: int, pgnos: tuple[int, ...]) -> None:
    """Exactly the pages that changed, around the size of a frame, for the smallest and the largest pages."""
    before = image(20, page_size)
    after = changed(before, *pgnos, page_size=page_size)
    info = write_segment(tmp_path / "set", before, after, page_size)
    assert prove(tmp_path / "set", before, after, page_size) == pgnos
    assert (info.held, info.frames) == (len(pgnos), -(-len(pgnos) // 4))
    assert info.bytes == (tmp_path / "set").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("pages", [0, 1, 19, 21, 27])
def test_growing_and_shrinking(tmp_path: Path, pages: int) -> None:
    """Every page that is new is held, pages of zeros included; one that only shrank is a segment of none (H21)."""
    before = image(20)
    after = (before + bytes(512 * 7))[: pages * 512]
    write_segment(tmp_path / "set", before, after)
    assert prove(tmp_path / "set", before, after) == tuple(range(21, pages + 1))


def test_the_lock_byte_page_is_never_held(tmp_path: Path) -> None:
    """Not where it lies among changed pages, nor where the database grew over it (H12)."""
    size, lock = 65536, lock_page(65536)
    pages = lock + 40
    old = mostly_zeros(tmp_path / "old", lock - 2, size, {})
    content = {7: b"x" * size, lock: b"never data".ljust(size), lock + 1: b"y" * size}
    new = mostly_zeros(tmp_path / "new", pages, size, content)
    zeros = b"".join(backend().sums(old, start, min(4096, lock - 1 - start)) for start in range(1, lock - 1, 4096))
    facts = MapFacts(timeline=TIMELINE, txid=1, page_size=size, pages=lock - 2, database_sum=backend().fold(zeros))
    write_map(tmp_path / "map", facts, lambda first, count: zeros[(first - 1) * 8 : (first - 1 + count) * 8])
    with (
        PageMap(tmp_path / "map", facts) as base,
        SegmentWriter(tmp_path / "set", segment_header(size), base, level=1, threads=2) as writer,
    ):
        writer.copy(new, 1, pages)
        assert writer.recopy_changed(new) == 0
        writer.seal(pages=pages)
    for opened in (old, new):
        os.close(opened.database)
    assert parse(tmp_path / "set").numbers == (7, lock - 1, *range(lock + 1, pages + 1))


def test_more_than_half_is_left_to_a_snapshot(tmp_path: Path) -> None:
    """What is found on the way ends the work at once: nothing is stored, and nothing is sealed."""
    before = image(40)
    for pgnos, too_many in ((range(1, 21), False), (range(1, 22), True)):
        with (
            source(tmp_path, changed(before, *pgnos)) as pages,
            map_of(tmp_path / f"map{too_many}", before) as base,
            SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=2) as writer,
        ):
            writer.copy(pages, 1, 40)
            assert writer.changes(40) == Changes(pages=len(pgnos), too_many=too_many, resized=False)
            if too_many:
                assert writer.pages_copied == writer.recopy_changed(pages) == 0
                with pytest.raises(ValueError, match="more than half"):
                    writer.seal(pages=40)


def test_nothing_that_differs_is_no_change(tmp_path: Path) -> None:
    """A database as it was, and one that came back to what it was; another size alone is a change."""
    before = image(40)
    with (
        map_of(tmp_path / "map", before) as base,
        SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=2) as writer,
    ):
        with source(tmp_path, changed(before, 5, 6, 30)) as pages:
            writer.copy(pages, 1, 40)
            assert writer.changes(40).pages == 3
        with source(tmp_path, before) as pages:
            writer.recopy_changed(pages)
            assert writer.changes(40) == Changes(pages=0, too_many=False, resized=False)
            assert writer.changes(39) == Changes(pages=0, too_many=False, resized=True)
    assert not (tmp_path / "set").exists()


def evolve(data: bytes, rng: random.Random) -> bytes:
    """Return a later state: some pages changed, some back to page 1's pattern, some more or fewer at the end."""
    result = bytearray(data)
    for _ in range(rng.randrange(5)):
        if result:
            result[rng.randrange(len(result))] ^= rng.choice([1, 0xFF])
    kind = rng.random()
    if kind < 0.2:
        return bytes(result[: rng.randrange(len(result) // 512 + 1) * 512])
    return bytes(result) + (image(rng.randrange(5), seed=rng.randrange(1000)) if kind < 0.5 else b"")


@pytest.mark.parametrize("seed", range(60))
def test_a_segment_follows_a_database_that_changes(tmp_path: Path, seed: int) -> None:
    """Changes, growth, shrinking and changes back while it is copied: the last whole look is what it holds (H34)."""
    rng = random.Random(seed)
    before = image(60, seed=seed)
    data = before
    head = segment_header(per_frame=rng.choice([1, 3, 4]))
    with (
        map_of(tmp_path / "map", before) as base,
        SegmentWriter(tmp_path / "set", head, base, level=1, threads=2) as writer,
    ):
        for number in range(rng.randrange(1, 6)):
            data = before if rng.random() < 0.15 else evolve(data, rng)
            with source(tmp_path, data) as pages:
                whole = pages.pages
                if number == 0:
                    cut_at = rng.randrange(whole + 1) if rng.random() < 0.5 else 0
                    for first, count in ((1, cut_at), (cut_at + 1, whole - cut_at)):
                        if count and rng.random() < 0.95:  # else it was cut short
                            writer.copy(pages, first, count)
                elif whole:
                    some = rng.choice([whole, rng.randrange(1, whole + 1)])
                    writer.recopy_changed(pages, first=1, count=some, later=rng.random() < 0.5)
        with source(tmp_path, data) as pages:
            writer.recopy_changed(pages, later=True)
            assert writer.recopy_changed(pages, later=True) == 0
            changes = writer.changes(pages.pages)
            if changes.too_many:
                assert len(data) < len(before) * 0.9
                return
            info = writer.seal(pages=pages.pages)
    assert len(prove(tmp_path / "set", before, data)) == info.held == changes.pages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map", "set", "source.db"]


def test_a_page_that_changes_between_look_and_copy_is_stored_with_its_own_sum(tmp_path: Path) -> None:
    """The sum is of the bytes that were stored; the next look finds that they are not the database's any more."""
    before = image(20)
    torn, last = changed(before, 3, 9), changed(changed(before, 3, 9), 9, 12)
    with (
        map_of(tmp_path / "map", before) as base,
        SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=1) as writer,
        source(tmp_path, torn) as pages,
    ):
        gather = writer._gather

        def late(*arguments: object) -> None:
            (tmp_path / "source.db").write_bytes(last)
            gather(*arguments)  # type: ignore[arg-type]

        writer._gather = late  # type: ignore[assignment,method-assign]
        writer.copy(pages, 1, 20)
        writer._gather = gather  # type: ignore[method-assign]
        with pytest.raises(VerificationFailed, match="were seen"):
            writer.seal(pages=20)
        assert writer.recopy_changed(pages, later=True) == 1  # page 12; 9 was read again by then
        writer.seal(pages=20)
    assert prove(tmp_path / "set", before, last) == (3, 12)


def test_what_was_not_seen_whole_is_not_sealed(tmp_path: Path) -> None:
    """A part of the database, or another size than the one that was looked at, is no segment (H22)."""
    before = image(20)
    for first, count, size in ((1, 10, 20), (11, 10, 20), (1, 20, 19), (1, 20, 21)):
        with (
            source(tmp_path, changed(before, 1, 3, 12)) as pages,
            map_of(tmp_path / f"map{first}{count}{size}", before) as base,
            SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=1) as writer,
        ):
            writer.copy(pages, first, count)
            with pytest.raises(VerificationFailed, match="were seen"):
                writer.seal(pages=size)


@pytest.mark.parametrize("where", ["frame", "aside"])
def test_what_the_disk_changes_before_it_is_sealed_is_found(tmp_path: Path, where: str) -> None:
    """Frames that are made again are read back first, and so are pages that were put aside: nothing is left."""
    before = image(20)
    after = changed(before, 2, 5, 6, 7, 8, 19)
    with (
        source(tmp_path, after) as pages,
        map_of(tmp_path / "map", before) as base,
        SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=1) as writer,
    ):
        writer.copy(pages, 1, 20)
        with source(tmp_path, changed(after, 3), name="later") as later:
            writer.recopy_changed(later)
        if where == "frame":
            data = bytearray((tmp_path / "set").read_bytes())
            data[128:] = bytes(len(data) - 128)
            (tmp_path / "set").write_bytes(data)
        else:
            assert writer._aside is not None
            writer._aside.put(3, before[:512])
        with pytest.raises(VerificationFailed, match="did not read back as it was written"):
            writer.seal(pages=20)
    assert not list(tmp_path.glob("set*"))


def test_a_base_of_another_place_is_refused(tmp_path: Path) -> None:
    """Another timeline, position or page size, and a header that is none of a segment: errors of the caller."""
    base = map_of(tmp_path / "map", image(20))
    elsewhere = replace(segment_header(), timeline="f" * 32)
    for head in (elsewhere, segment_header(txid=3), segment_header(1024), header(20)):
        with pytest.raises(ValueError):
            SegmentWriter(tmp_path / "set", head, base, level=1, threads=1)
    base.close()
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, TargetFailed)])
def test_every_failed_write_is_a_named_error(tmp_path: Path, number: int, error: type[PagewardenError]) -> None:
    """Wherever writing fails, pages that were put aside included, the error says so and nothing is left."""
    before = image(20)
    failed = 0
    with source(tmp_path, changed(before, 2, 5, 6, 19)) as pages:
        for at in range(1, 100):
            faulty = FaultyOs(at, number=number, calls=frozenset({"pwrite"}))
            base = map_of(tmp_path / f"map{at}", before)
            try:
                with (
                    cut(durable, faulty),
                    SegmentWriter(tmp_path / "set", segment_header(), base, level=1, threads=2) as writer,
                ):
                    writer.copy(pages, 1, 10)
                    writer.recopy_changed(pages)
                    writer.seal(pages=20)
            except error as raised:
                failed += 1
                assert str(tmp_path / "set") in str(raised)
                assert not (tmp_path / "set").exists()
                continue
            break
    assert failed == len(faulty.seen) >= 8
    prove(tmp_path / "set", before, changed(before, 2, 5, 6, 19))
