"""Pages that are not consecutive: gathered, hashed as they are stored, compressed in order."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard

from pagewarden.pages import Backend, Gathered, Runs, differing_runs, frame_bound, frames_of, gather_out
from tests.core.pages.stored import SIZE, source_of, text


def some_frames(chance: random.Random, pages: int, per_frame: int) -> list[Runs]:
    """Return frames of runs of random pages, ascending."""
    numbers = sorted(chance.sample(range(1, pages + 1), chance.randrange(1, pages)))
    frames = []
    for start in range(0, len(numbers), per_frame):
        runs: list[tuple[int, int]] = []
        for pgno in numbers[start : start + per_frame]:
            if runs and sum(runs[-1]) == pgno:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((pgno, 1))
        frames.append(tuple(runs))
    return frames


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [1, 7, 100])
def test_runs_are_cut_into_frames(seed: int, most: int) -> None:
    """All but the last are full; pages that follow each other are one run, however they come."""
    chance = random.Random(seed)
    (wanted,) = some_frames(chance, 60, per_frame=60)
    cut = [(first + at, 1) for first, count in wanted for at in range(count)]
    for runs in (wanted, tuple(cut), ()):
        frames = list(frames_of(iter(runs), most))
        sizes = [sum(count for _, count in frame) for frame in frames]
        assert all(size == most for size in sizes[:-1]) and all(0 < size <= most for size in sizes)
        assert all(sum(before) < after[0] for frame in frames for before, after in pairwise(frame))
        pages = [pgno for frame in frames for first, count in frame for pgno in range(first, first + count)]
        assert pages == [pgno for first, count in runs for pgno in range(first, first + count)]


@pytest.mark.parametrize("seed", range(6))
def test_gathered_frames_hold_the_listed_pages(pages_backend: Backend, tmp_path: Path, seed: int) -> None:
    """Each frame is stock zstd of exactly its pages, in order, with the sums of those bytes under their numbers."""
    chance = random.Random(seed)
    content = text(60, seed)
    frames = some_frames(chance, 60, per_frame=7)
    seen: list[tuple[Runs, bytes, bytes]] = []

    def sink(one: Gathered) -> None:
        seen.append((one.runs, bytes(one.data), one.sums))

    with source_of(tmp_path / "db", content) as source:
        gather_out(source, frames, level=1, threads=2, sink=sink, using=pages_backend)
        sums = pages_backend.sums(source, 1, 60)
    assert [runs for runs, _, _ in seen] == frames
    for runs, data, its_sums in seen:
        places = [pgno - 1 for first, count in runs for pgno in range(first, first + count)]
        assert zstandard.ZstdDecompressor().decompress(data) == b"".join(content[p * SIZE :][:SIZE] for p in places)
        assert its_sums == b"".join(sums[p * 8 :][:8] for p in places)


def test_a_buffer_becomes_the_frame_that_its_pages_would(pages_backend: Backend, tmp_path: Path) -> None:
    """Whether pages are read or stand in a buffer makes no difference; noise fits the bound, nothing else is begun."""
    content = text(8, 1)
    noise = random.Random(9).randbytes(8 * SIZE)
    compressor = pages_backend.compressor(3)
    out = bytearray(frame_bound(8 * SIZE))
    with source_of(tmp_path / "db", content) as source:
        used, _ = compressor.compress(source, 1, 8, out)
    frame = bytes(out[:used])
    assert bytes(out[: compressor.compress_buffer(memoryview(content), out)]) == frame
    assert zstandard.ZstdDecompressor().decompress(bytes(out[: compressor.compress_buffer(noise, out)])) == noise
    for pages, room in ((b"", out), (noise, bytearray(frame_bound(len(noise)) - 1))):
        with pytest.raises(ValueError):
            compressor.compress_buffer(pages, room)


@pytest.mark.parametrize("seed", range(40))
def test_differing_runs_are_those_of_a_look_at_each_sum(seed: int) -> None:
    """At every distance from the blocks that are compared at once, and where the known sums are fewer."""
    chance = random.Random(seed)
    count = chance.choice([0, 1, 63, 64, 65, 128, 500])
    known = [chance.randrange(3) for _ in range(count)]
    now = [value if chance.random() < 0.9 else value + 1 for value in known]
    known = known[: chance.choice([count, count // 2])]
    wanted = [place for place in range(count) if place >= len(known) or known[place] != now[place]]
    packed = (b"".join(value.to_bytes(8, "little") for value in values) for values in (now, known))
    runs = list(differing_runs(*packed))
    assert [place for first, length in runs for place in range(first, first + length)] == wanted
    assert all(first + length < following for (first, length), (following, _) in pairwise(runs))
