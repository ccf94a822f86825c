"""What is proven behind the end of a chain is what was committed, whatever became of a frame."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from pagewarden.pages import backend
from pagewarden.pages.stranded import LogProof, find_head, prove_log
from pagewarden.sqlite.wal import frame_offset, wal_checksum
from tests.support.stranding import (
    Logged,
    change,
    flipped_bit,
    garbage,
    make_logged,
    wrong_checksum,
    wrong_number,
    wrong_salts,
    zeroed_sector,
)


@pytest.fixture(scope="module", params=[512, 4096])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A database with a log."""
    return make_logged(tmp_path_factory.mktemp("logged"), page_size=request.param)


def prove(logged: Logged) -> LogProof | None:
    """Prove a log."""
    wal = os.open(logged.wal, os.O_RDONLY)
    try:
        scan = backend().wal_scan(wal, page_size=0)
        return prove_log(wal, scan, page_size=logged.page_size, pages=logged.path.stat().st_size // logged.page_size)
    finally:
        os.close(wal)


def proven(logged: Logged) -> LogProof:
    """Prove a log of which something is proven."""
    proof = prove(logged)
    assert proof is not None
    return proof


def last_whole(logged: Logged, frame: int) -> int:
    """Return the last commit for which the content of `frame` is not needed, by what is known of the history."""
    number = logged.frames[frame - 1][0]
    return max(
        commit
        for commit in logged.states
        if commit < frame
        or number > logged.frames[commit - 1][1]
        or number in [pgno for pgno, _ in logged.frames[frame:commit]]
    )


def test_one_wrong_word_is_put_right(logged: Logged, tmp_path: Path) -> None:
    """In any frame, where a frame follows: all that was committed is proven, as it was."""
    chance = random.Random(5)
    original = logged.wal.read_bytes()
    for frame in range(1, logged.last, 2):
        copy = logged.place(tmp_path / str(frame))
        start = frame_offset(frame, logged.page_size)
        place = start + chance.choice((0, 4, *range(24, 24 + logged.page_size, 4)))
        low = place + (3 if original[3] & 1 else 0)
        change(copy.wal, low, bytes((original[low] ^ 1 << chance.randrange(8),)))
        proof = proven(copy)
        assert (proof.target, dict(proof.lost)) == (logged.last, {})
        assert list(zip(proof.numbers, proof.sizes, strict=True)) == list(logged.frames)
        page = original[start + 24 : start + 24 + logged.page_size]
        assert dict(proof.restored) == {frame: original[start : start + 8] + page}


def test_high_bits_are_never_put_right(logged: Logged, tmp_path: Path) -> None:
    """There the checksum repeats itself: what looks like one way to put a frame right may be a wrong one."""
    original = logged.wal.read_bytes()
    high = 0 if original[3] & 1 else 3
    for turn in range(40):
        chance = random.Random(turn)
        copy = logged.place(tmp_path / str(turn))
        frame = chance.randrange(1, logged.last)
        start = frame_offset(frame, logged.page_size)
        for _ in range(chance.randrange(1, 4)):
            place = start + high + chance.choice((0, 4, *range(24, 24 + logged.page_size, 4)))
            change(copy.wal, place, bytes((chance.randrange(256),)))
        proof = proven(copy)
        if copy.wal.read_bytes() == original:
            continue
        assert not proof.restored
        assert dict(proof.lost) == {frame: 0}
        assert proof.target == proof.committed or logged.page_size == 4096


@pytest.mark.parametrize("damage", [wrong_number, wrong_salts, wrong_checksum])
def test_a_damaged_frame_header_is_put_right(damage: object, logged: Logged, tmp_path: Path) -> None:
    """Page number and commit field, the salts, or the checksum: the neighbours say what must stand there."""
    assert callable(damage)
    for frame in range(1, logged.last, 3):
        copy = logged.place(tmp_path / str(frame))
        damage(copy, frame, random.Random(frame))
        proof = proven(copy)
        assert (proof.target, dict(proof.lost)) == (logged.last, {})
        assert list(zip(proof.numbers, proof.sizes, strict=True)) == list(logged.frames)


def test_lost_content_ends_what_can_be_replayed_unless_it_is_overwritten(logged: Logged, tmp_path: Path) -> None:
    """Up to the last commit whose pages are all there."""
    seen = set()
    for frame in range(1, logged.last):
        copy = logged.place(tmp_path / str(frame))
        garbage(copy, frame, random.Random(frame))
        proof = proven(copy)
        assert dict(proof.lost) == {frame: logged.frames[frame - 1][0]}
        assert proof.target == last_whole(logged, frame)
        assert proof.commits == len([commit for commit in logged.states if proof.committed < commit <= proof.target])
        seen.add(proof.target == logged.last)
    assert seen == {True, False}


def test_a_frame_of_which_nothing_is_known_ends_it(logged: Logged, tmp_path: Path) -> None:
    """Its page may be any one: nothing behind it is replayed; the last frame of all is a broken tail."""
    for frame in (2, logged.last // 2, logged.last):
        copy = logged.place(tmp_path / str(frame))
        zeroed_sector(copy, frame, random.Random(1))
        proof = proven(copy)
        assert proof.lost[frame] == 0
        assert proof.committed == max(commit for commit in logged.states if commit < frame)
        # The database of large pages is so small that each of them is written behind it.
        assert proof.target == proof.committed or logged.page_size == 4096
        assert not proof.overwritten(frame)


def test_a_frame_is_not_needed_where_every_page_is_written_behind_it(tmp_path: Path) -> None:
    """As VACUUM does: then it does not matter which page it held."""
    logged = make_logged(tmp_path, commits=3)
    pages = logged.frames[-1][1]
    log = bytearray(logged.wal.read_bytes()[: frame_offset(1, 512)])
    whole = [(pgno, pages if pgno == pages else 0) for pgno in range(1, pages + 1)]
    numbers = [(2, 0), (3, pages), *whole]

    running = struct.unpack(">2I", log[24:32])
    for pgno, size in numbers:
        held = struct.pack(">2I", pgno, size) + random.Random(pgno).randbytes(512)
        running = wal_checksum(held, big_endian=bool(log[3] & 1), before=running)
        log += held[:8] + log[16:24] + struct.pack(">2I", *running) + held[8:]
    logged.wal.write_bytes(log)
    zeroed_sector(logged, 1, random.Random(1))
    proof = proven(logged)
    assert (proof.committed, proof.target, proof.commits) == (0, len(numbers), 1)
    zeroed_sector(logged, 5, random.Random(1))
    assert proven(logged).target == 0


def test_several_damaged_frames_are_judged_one_by_one(logged: Logged, tmp_path: Path) -> None:
    """Each by its neighbours, as long as they stand; two side by side take each other's proof away."""
    chance = random.Random(3)
    copy = logged.place(tmp_path / "apart")
    for frame in range(2, logged.last, 4):
        chance.choice((wrong_number, wrong_salts, wrong_checksum))(copy, frame, chance)
    assert proven(copy).target == logged.last
    copy = logged.place(tmp_path / "side by side")
    for frame in (3, 4):
        garbage(copy, frame, random.Random(frame))
        wrong_checksum(copy, frame, random.Random(frame))
    proof = proven(copy)
    assert {frame: proof.lost[frame] for frame in (3, 4)} == {3: 0, 4: 0}
    assert proof.target == max(commit for commit in logged.states if commit < 3) or logged.page_size == 4096


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 4), (4, 8), (8, 4), (12, 4), (12, 12), (16, 8), (24, 8), (0, 24), (0, 32), (20, 12)]
)
def test_a_damaged_header_is_found_again(offset: int, length: int, logged: Logged, tmp_path: Path) -> None:
    """From the first frame: its salts, and the checksum from which it goes on, which gives the sequence number."""
    copy = logged.place(tmp_path / "copy")
    original = copy.wal.read_bytes()[:32]
    change(copy.wal, offset, random.Random(offset).randbytes(length))
    proof = proven(copy)
    assert proof.head.rebuilt
    assert proof.head.encode() == original
    assert (proof.committed, proof.target, proof.commits) == (0, logged.last, len(logged.states) - 1)


def test_a_header_and_a_first_frame_that_are_both_damaged_prove_nothing(logged: Logged, tmp_path: Path) -> None:
    """Nor does a log that is too short for one frame, or frames behind a header of another log."""
    copy = logged.place(tmp_path / "both")
    change(copy.wal, 0, bytes(32))
    garbage(copy, 1, random.Random(1))
    assert prove(copy) is None
    copy = logged.place(tmp_path / "short")
    copy.wal.write_bytes(bytes(40))
    assert prove(copy) is None
    copy.wal.write_bytes(b"")
    wal = os.open(copy.wal, os.O_RDONLY)
    assert find_head(wal, 512) is None
    os.close(wal)


def test_nothing_but_what_was_committed_is_ever_proven(logged: Logged, tmp_path: Path) -> None:
    """Whatever is damaged at up to three places, what is taken for intact is as it was written."""
    chance = random.Random(11)
    damages = (garbage, flipped_bit, wrong_number, wrong_salts, wrong_checksum, zeroed_sector)
    original = logged.wal.read_bytes()
    for turn in range(60):
        copy = logged.place(tmp_path / str(turn))
        for _ in range(chance.randrange(1, 4)):
            chance.choice(damages)(copy, chance.randrange(1, logged.last + 1), chance)
        proof = proven(copy)
        damaged = copy.wal.read_bytes()
        for frame, held in enumerate(zip(proof.numbers, proof.sizes, strict=True), 1):
            if frame in proof.lost:
                assert proof.lost[frame] in (0, logged.frames[frame - 1][0])
                continue
            start = frame_offset(frame, logged.page_size)
            page = slice(start + 24, start + 24 + logged.page_size)
            assert held == logged.frames[frame - 1]
            assert proof.restored.get(frame, bytes(8) + damaged[page])[8:] == original[page]


def test_a_hostile_log_is_bounded(tmp_path: Path) -> None:
    """Frames that are all out of the chain are looked at no longer than a log has any use of that."""
    logged = make_logged(tmp_path, commits=2)
    start = logged.wal.read_bytes()[:32]
    logged.wal.write_bytes(start + random.Random(1).randbytes(536 * 5000))
    proof = proven(logged)
    assert len(proof.numbers) == 64 and proof.target == 0
