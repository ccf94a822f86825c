"""Segments as they are read: which pages they hold, each proved, and no byte of a hostile one believed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import lock_page
from pagewarden.repository import blocks
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.pageset import PageSetFile, read_info, verify_pageset
from tests.core.repository.segments import segment_header, write_segment
from tests.core.repository.sets import image
from tests.support.segments import page_set

PAGES = 30
BEFORE = image(PAGES)
CHANGED = (1, 4, 5, 6, 11, 12, 13, 14, 15, 16, 29)


def changed(data: bytes, *pgnos: int) -> bytes:
    """Return an image with a byte of some pages changed."""
    result = bytearray(data)
    for pgno in pgnos:
        result[(pgno - 1) * 512 + 9] ^= 0x5A
    return bytes(result)


AFTER = changed(BEFORE, *CHANGED)


def page_of(data: bytes, pgno: int) -> bytes:
    """Return one page of an image."""
    return data[(pgno - 1) * 512 : pgno * 512]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A segment of 11 pages in 3 frames, from the product's writer."""
    write_segment(tmp_path / "set", BEFORE, AFTER)
    return tmp_path / "set"


def forge(header: PageSetHeader | None = None, pgnos: tuple[int, ...] = CHANGED, **lies: object) -> bytes:
    """Return a segment made by hand."""
    header = header or replace(segment_header(), pages=PAGES)
    return page_set(header, {pgno: page_of(AFTER, pgno) for pgno in pgnos}, database_sum=1, database_sum_from=2, **lies)  # type: ignore[arg-type]


def refused(path: Path, match: str = "set") -> None:
    """Assert that a file is refused when it is opened, or at the latest when its data is proved."""
    with pytest.raises(RepositoryDamaged, match=match):
        verify_pageset(path, threads=2, read_data=True, drop_cache=False)


def test_it_says_which_pages_it_holds(stored: Path) -> None:
    """Numbers, runs, sums and pages by entry and by page number; what it does not hold is refused."""
    with PageSetFile(stored) as file:
        assert (file.is_segment, file.pages, file.info.held, file.info.frames) == (True, PAGES, 11, 3)
        assert file.info.header.kind is Kind.SEGMENT and file.position.txid == 2
        assert file.numbers(0, 11) == CHANGED
        assert file.runs(0, 11) == ((1, 1), (4, 3), (11, 6), (29, 1))
        assert file.runs(3, 4) == ((6, 1), (11, 3))
        assert [frame.first for frame in file.frames()] == [1, 11, 15]
        for place, pgno in enumerate(CHANGED):
            assert file.place_of(pgno) == place
            assert file.page(pgno) == page_of(AFTER, pgno)
        for pgno in (0, 2, 3, 7, 28, 30, 31):
            assert file.place_of(pgno) is None
            with pytest.raises(ValueError, match="not within"):
                file.page(pgno)
        for place, count in ((-1, 1), (0, 12), (11, 1), (0, -1)):
            with pytest.raises(ValueError, match="entries"):
                file.entry_sums(place, count)
        with pytest.raises(ValueError, match="within a snapshot"):
            file.sums(1, 1)
    assert verify_pageset(stored, threads=2, read_data=True, drop_cache=True).held == 11


def test_a_snapshot_answers_the_same_questions(tmp_path: Path) -> None:
    """Its entries are all pages."""
    head = replace(segment_header(), kind=Kind.SNAPSHOT, txid_from=0, pages=3)
    pages = {pgno: page_of(BEFORE, pgno) for pgno in (1, 2, 3)}
    data = page_set(head, pages, database_sum=0)
    (tmp_path / "wrong").write_bytes(data)
    with pytest.raises(RepositoryDamaged, match="add up"):
        read_info(tmp_path / "wrong")
    from tests.support.segments import database_sum_of

    (tmp_path / "set").write_bytes(page_set(head, pages, database_sum=database_sum_of(BEFORE[: 3 * 512], 512)))
    with PageSetFile(tmp_path / "set") as file:
        assert (file.is_segment, file.numbers(1, 2), file.runs(0, 3), file.runs(1, 0)) == (False, (2, 3), ((1, 3),), ())
        assert (file.place_of(3), file.place_of(0), file.place_of(4)) == (2, None, None)


def test_entries_cross_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several blocks of numbers, index and sums everything is found, whichever block it is in."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", 2)
    (tmp_path / "set").write_bytes(forge())
    with PageSetFile(tmp_path / "set") as file:
        assert file.numbers(0, 11) == CHANGED
        assert [file.place_of(pgno) for pgno in CHANGED] == list(range(11))
        assert b"".join(file.entry_sums(place, 1) for place in range(11)) == file.entry_sums(0, 11)
    verify_pageset(tmp_path / "set", threads=2, read_data=True, drop_cache=False)


def test_a_segment_of_no_page_is_whole(tmp_path: Path) -> None:
    """A database that only shrank."""
    info = write_segment(tmp_path / "set", BEFORE, BEFORE[: 9 * 512])
    assert (info.held, info.frames, info.header.pages) == (0, 0, 9)
    with PageSetFile(tmp_path / "set") as file:
        assert (file.numbers(0, 0), file.place_of(1), list(file.frames()), list(file.stretches())) == ((), None, [], [])
    assert verify_pageset(tmp_path / "set", threads=2, read_data=True, drop_cache=False) == info


def test_no_flipped_bit_passes(stored: Path) -> None:
    """Any byte of a segment, with one of its bits flipped, is refused."""
    data = stored.read_bytes()
    rng = random.Random(7)
    info = read_info(stored)
    frames = rng.sample(range(128, info.numbers_offset), 40)
    for offset in (*frames, *range(0, 128, 3), *range(info.numbers_offset, len(data), 2)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << rng.randrange(8)
        stored.write_bytes(flipped)
        refused(stored)


def test_no_cut_or_lengthened_file_passes(stored: Path) -> None:
    """A segment that was cut off anywhere, or has something appended, is refused."""
    data = stored.read_bytes()
    rng = random.Random(8)
    for size in (0, 127, 128, 319, *(rng.randrange(len(data)) for _ in range(40)), len(data) - 1):
        stored.write_bytes(data[:size])
        refused(stored)
    for more in (b"\0", data[-192:], data):
        stored.write_bytes(data + more)
        refused(stored)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([0, 4, 5, 6, 11, 12, 13, 14, 15, 16, 29], "do not ascend"),
        ([1, 4, 4, 6, 11, 12, 13, 14, 15, 16, 29], "do not ascend"),
        ([4, 1, 5, 6, 11, 12, 13, 14, 15, 16, 29], "do not ascend"),
        ([1, 4, 5, 6, 11, 12, 13, 14, 15, 16, 31], "30 pages has not"),
        ([1, 4, 5, 6, 11, 12, 13, 14, 15, 16, (1 << 32) - 1], "30 pages has not"),
        ([1, 4, 5, 6, 12, 13, 14, 15, 16, 17, 29], "places frame 1"),
        ([1, 4, 5, 7, 11, 12, 13, 14, 15, 16, 29], "page 7"),
    ],
    ids=range(7),
)
def test_forged_page_numbers_are_refused(tmp_path: Path, numbers: list[int], words: str) -> None:
    """With every checksum right: they must ascend, be within the database, and be those of index and sums."""
    (tmp_path / "set").write_bytes(forge(numbers=numbers))
    refused(tmp_path / "set", words)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_blocks_of_numbers_ascend_across_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What begins a block must follow what ends the one before."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", 4)
    numbers = list(CHANGED)
    numbers[number * 4] = numbers[number * 4 - 1] if number else 0
    (tmp_path / "set").write_bytes(forge(numbers=numbers))
    refused(tmp_path / "set", "do not ascend")


def test_the_page_of_the_lock_bytes_is_refused(tmp_path: Path) -> None:
    """H12: no segment holds it, so one that does is none."""
    lock = lock_page(65536)
    head = replace(segment_header(65536), pages=lock + 5)
    page = bytes(65536)
    for pgnos, good in (((2, lock + 1), True), ((2, lock, lock + 1), False), ((lock,), False)):
        data = page_set(head, dict.fromkeys(pgnos, page), database_sum=1, database_sum_from=2)
        (tmp_path / "set").write_bytes(data)
        if good:
            verify_pageset(tmp_path / "set", threads=1, read_data=True, drop_cache=False)
        else:
            refused(tmp_path / "set", "has not")


@pytest.mark.parametrize(
    "change",
    [
        lambda head: replace(head, pages=10),
        lambda head: replace(head, pages=0),
    ],
)
def test_more_pages_than_the_database_has_are_refused(
    tmp_path: Path, change: Callable[[PageSetHeader], PageSetHeader]
) -> None:
    """A segment holds no more pages than there are, whatever its trailer counts."""
    (tmp_path / "set").write_bytes(forge(change(replace(segment_header(), pages=PAGES))))
    refused(tmp_path / "set", "does not fit")


def test_an_absurd_count_costs_no_memory(tmp_path: Path) -> None:
    """H29: a trailer that counts billions of entries is refused by the size of the file."""
    head = replace(segment_header(), pages=(1 << 32) - 2)
    data = bytearray(forge(head))
    for offset in (80, 88):  # frames, page sums
        changed_tail = bytearray(data)
        struct.pack_into("<Q", changed_tail, len(data) - 192 + offset, (1 << 32) - 3)
        tail = len(data) - 192
        struct.pack_into("<Q", changed_tail, tail + 144, blocks.hash64(bytes(changed_tail[tail : tail + 144])))
        (tmp_path / "set").write_bytes(changed_tail)
        refused(tmp_path / "set", "does not fit")


def test_a_bomb_in_a_frame_is_refused(tmp_path: Path) -> None:
    """H29: a frame that would become more than its pages is never decoded."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(512 << 20))
    groups = [CHANGED[:4], CHANGED[4:8], CHANGED[8:]]
    frames = [zstandard.ZstdCompressor().compress(b"".join(page_of(AFTER, pgno) for pgno in group)) for group in groups]
    for forged in (bomb, b"\x28\xb5\x2f\xfd" + b"\xff" * 30, frames[0][:-1]):
        (tmp_path / "set").write_bytes(forge(frames=[frames[0], forged, frames[2]]))
        refused(tmp_path / "set", "frame 1")
        if len(forged) < 2000:
            with PageSetFile(tmp_path / "set") as file, pytest.raises(RepositoryDamaged, match="frame 1"):
                file.page(11)
    (tmp_path / "set").write_bytes(forge(sums=[1] * 11))
    refused(tmp_path / "set", "page 1 is not the recorded one")
