"""Stored frames come back: whatever pages they hold, in any number of files, and nothing that is not proved."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import (
    Backend,
    BadFrame,
    FrameIn,
    PageDataError,
    ShortRead,
    Stretch,
    SumMismatch,
    Wanted,
    decode_frame,
    frame_bound,
    frames_in,
    lock_page,
    runs_of,
    spread_in,
)
from tests.core.pages.stored import SIZE, text


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("pages")]


def all_of(frame: FrameIn) -> Wanted:
    """Return every page of a frame as wanted."""
    wanted, place = [], 0
    for first, count in frame.runs:
        wanted.append((place, first, count))
        place += count
    return tuple(wanted)


class File:
    """Frames of pages of a content in a file, one after the other."""

    def __init__(self, path: Path, content: bytes, groups: Iterable[Sequence[int]], backend: Backend) -> None:
        """`groups` are the page numbers of each frame, from 1."""
        data, self.frames = b"head", list[FrameIn]()
        for index, group in enumerate(groups):
            pages = b"".join(content[(pgno - 1) * SIZE : pgno * SIZE] for pgno in group)
            stored = zstandard.ZstdCompressor(level=1).compress(pages)
            frame = FrameIn(
                index=index,
                offset=len(data),
                csize=len(stored),
                runs=runs_of(group),
                count=len(group),
                sums=backend.listed_sums(pages, SIZE, group),
            )
            self.frames.append(replace(frame, wanted=all_of(frame)))
            data += stored
        self.size = len(data)
        path.write_bytes(data)
        self.descriptor = os.open(path, os.O_RDWR)

    def stretches(self, at_once: int = 2) -> Iterator[Stretch]:
        """Yield the frames, a few at once, the bytes before the first included."""
        begin = 0
        for start in range(0, len(self.frames), at_once):
            some = tuple(self.frames[start : start + at_once])
            end = some[-1].offset + some[-1].csize
            yield Stretch(file=self.descriptor, offset=begin, size=end - begin, frames=some)
            begin = end


@contextmanager
def stored(path: Path, content: bytes, groups: Iterable[Sequence[int]], backend: Backend) -> Iterator[File]:
    """Yield a file, closed afterwards."""
    file = File(path, content, groups, backend)
    try:
        yield file
    finally:
        os.close(file.descriptor)


@contextmanager
def empty(path: Path) -> Iterator[int]:
    """Yield the descriptor of a new file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def groups_of(seed: int, pages: int, per_frame: int) -> list[list[int]]:
    """Return all pages in frames: consecutive ones for seed 0, else in any ascending order within each frame."""
    numbers = list(range(1, pages + 1))
    if seed:
        random.Random(seed).shuffle(numbers)
    return [sorted(numbers[at : at + per_frame]) for at in range(0, pages, per_frame)]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_every_page_comes_back(pages_backend: Backend, tmp_path: Path, seed: int, threads: int) -> None:
    """Pages go to their places, stored bytes to the digest in their order, whichever pages stand together."""
    content = text(61, seed)
    with (
        stored(tmp_path / "set", content, groups_of(seed, 61, 7), pages_backend) as file,
        empty(tmp_path / "out") as out,
    ):
        digest = hashlib.sha256()
        seen = []
        for stretch, data in spread_in(
            file.stretches(), fd_out=out, page_size=SIZE, threads=threads, using=pages_backend
        ):
            digest.update(data)
            seen += [frame.index for frame in stretch.frames]
        assert seen == list(range(9))
        assert digest.digest() == hashlib.sha256((tmp_path / "set").read_bytes()).digest()
        assert (tmp_path / "out").read_bytes() == content


def test_only_wanted_pages_are_written(pages_backend: Backend, tmp_path: Path) -> None:
    """Some of a frame, newer versions of others, and those that somebody keeps: each once, nothing else."""
    content = text(12, 3)
    kept: dict[int, bytes] = {}

    def keep(first: int, pages: memoryview) -> bool:
        if first == 9:
            kept[first] = bytes(pages)
        return first == 9

    with (
        stored(tmp_path / "set", content, [[1, 2, 3, 4], [5, 7, 9, 12]], pages_backend) as file,
        empty(tmp_path / "out") as out,
    ):
        file.frames[0] = replace(file.frames[0], wanted=((1, 2, 2),), newer=((1, b"N" * SIZE),))
        file.frames[1] = replace(file.frames[1], wanted=((0, 5, 1), (2, 9, 1)))
        for _ in spread_in(file.stretches(), fd_out=out, page_size=SIZE, threads=2, keep=keep, using=pages_backend):
            pass
        written = (tmp_path / "out").read_bytes()
    wanted = bytes(SIZE) + b"N" * SIZE + content[2 * SIZE : 3 * SIZE] + bytes(SIZE) + content[4 * SIZE : 5 * SIZE]
    assert written == wanted
    assert kept == {9: content[8 * SIZE : 9 * SIZE]}


def test_several_files_are_one_pass(pages_backend: Backend, tmp_path: Path) -> None:
    """Stretches of many files follow each other, in their order."""
    content = text(20, 5)
    with (
        stored(tmp_path / "a", content, [[1, 3, 5], [7, 9]], pages_backend) as a,
        stored(tmp_path / "b", content, [[2, 4, 6]], pages_backend) as b,
        empty(tmp_path / "out") as out,
    ):
        stretches = [*a.stretches(1), *b.stretches(1)]
        found = spread_in(stretches, fd_out=out, page_size=SIZE, threads=2, using=pages_backend)
        assert [stretch for stretch, _ in found] == stretches
        assert (tmp_path / "out").read_bytes()[: 7 * SIZE] == content[: 7 * SIZE]


def run(file: File, backend: Backend, fd_out: int = -1) -> None:
    """Take everything in."""
    for _ in spread_in(file.stretches(), fd_out=fd_out, page_size=SIZE, threads=2, using=backend):
        pass


@pytest.mark.parametrize("seed", [0, 1])
def test_every_damaged_frame_is_named(pages_backend: Backend, tmp_path: Path, seed: int) -> None:
    """A changed byte in any frame ends it with an error that names that frame, and that frame is not written."""
    chance = random.Random(21)
    content = text(40, 5)
    groups = groups_of(seed, 40, 4)
    with stored(tmp_path / "set", content, groups, pages_backend) as file, empty(tmp_path / "out") as out:
        for index, frame in enumerate(file.frames):
            at = frame.offset + chance.randrange(12, frame.csize)
            (old,) = os.pread(file.descriptor, 1, at)
            os.pwrite(file.descriptor, bytes([old ^ 0x41]), at)
            os.ftruncate(out, 0)
            os.ftruncate(out, 40 * SIZE)
            with pytest.raises(PageDataError, match=f"frame {index}") as caught:
                run(file, pages_backend, out)
            assert isinstance(caught.value, BadFrame | SumMismatch)
            assert caught.value.frame == index and caught.value.pgno in groups[index]
            assert all(os.pread(out, SIZE, (pgno - 1) * SIZE) == bytes(SIZE) for pgno in groups[index])
            os.pwrite(file.descriptor, bytes([old]), at)
        run(file, pages_backend)


@pytest.mark.parametrize("seed", [0, 1])
def test_wrong_sum_names_its_page(pages_backend: Backend, tmp_path: Path, seed: int) -> None:
    """Pages that are sound in themselves but not the recorded ones are found, each by its number."""
    groups = groups_of(seed, 20, 4)
    with stored(tmp_path / "set", text(20, 6), groups, pages_backend) as file:
        for index, place in ((0, 0), (0, 3), (2, 1), (4, 3)):
            good = file.frames[index]
            sums = bytearray(good.sums)
            sums[place * 8] ^= 1
            file.frames[index] = replace(good, sums=bytes(sums))
            with pytest.raises(SumMismatch, match=f"page {groups[index][place]} ") as caught:
                run(file, pages_backend)
            assert (caught.value.pgno, caught.value.frame) == (groups[index][place], index)
            file.frames[index] = good
        file.frames[1] = replace(file.frames[1], sums=b"")
        with pytest.raises(SumMismatch, match="frame 1"):  # sums of another length match nothing
            run(file, pages_backend)


def test_cut_file_is_a_short_read(pages_backend: Backend, tmp_path: Path) -> None:
    """A stored file that ends early is ShortRead and names the first frame that is not whole, or where it ends."""
    with stored(tmp_path / "set", text(40, 7), groups_of(0, 40, 4), pages_backend) as file:
        for index in (9, 4, 0):
            os.ftruncate(file.descriptor, file.frames[index].offset + file.frames[index].csize - 1)
            with pytest.raises(ShortRead) as caught:
                run(file, pages_backend)
            assert (caught.value.frame, caught.value.pgno) == (index, index * 4 + 1)
        bare = Stretch(file=file.descriptor, offset=0, size=file.size, frames=())
        with pytest.raises(ShortRead, match="ends at byte"):
            list(spread_in([bare], fd_out=-1, page_size=SIZE, threads=1, using=pages_backend))


def test_failing_descriptors_are_reported(pages_backend: Backend, tmp_path: Path) -> None:
    """What cannot be written is an OSError; what cannot be read is what the stretch makes of it."""

    @contextmanager
    def named() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RepositoryDamaged("named") from error

    with stored(tmp_path / "set", text(8, 8), groups_of(0, 8, 4), pages_backend) as file:
        with pytest.raises(OSError) as caught:
            run(file, pages_backend, 987654)
        assert caught.value.errno == errno.EBADF
        broken = replace(next(file.stretches()), file=987654)
        with pytest.raises(OSError) as caught:
            list(spread_in([broken], fd_out=-1, page_size=SIZE, threads=2, using=pages_backend))
        assert caught.value.errno == errno.EBADF
        with pytest.raises(RepositoryDamaged, match="named"):
            list(spread_in([replace(broken, errors=named)], fd_out=-1, page_size=SIZE, threads=2, using=pages_backend))


def test_abandoned_work_leaves_nothing_running(pages_backend: Backend, tmp_path: Path) -> None:
    """A consumer that stops after any stretch finds every thread gone, so that it may close its descriptors."""
    with stored(tmp_path / "set", text(64, 10), groups_of(0, 64, 2), pages_backend) as file:
        for stop in (0, 1, 5):
            running = spread_in(file.stretches(), fd_out=-1, page_size=SIZE, threads=2, using=pages_backend)
            for _ in range(stop):
                next(running)
            running.close()  # type: ignore[attr-defined]
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("pages")]


def test_impossible_sizes_are_refused_before_a_buffer_is_made(pages_backend: Backend, tmp_path: Path) -> None:
    """H29: a frame of no bytes, or of more than its pages could ever become, is BadFrame and costs no memory."""
    with stored(tmp_path / "set", text(4, 13), groups_of(0, 4, 4), pages_backend) as file:
        good = file.frames[0]
        for csize in (0, -5, frame_bound(4 * SIZE) + 1, 1 << 62):
            file.frames[0] = replace(good, csize=csize)
            with pytest.raises(BadFrame, match="frame 0 cannot have") as caught:
                run(file, pages_backend)
            assert (caught.value.frame, caught.value.pgno) == (0, 1)


def test_a_bomb_is_refused_at_its_header(pages_backend: Backend, tmp_path: Path) -> None:
    """H29: a frame that would become gigabytes is no frame of the expected pages."""
    with stored(tmp_path / "set", text(4, 13), [[1, 3, 4]], pages_backend) as file:
        bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 << 20))
        os.pwrite(file.descriptor, bomb[: file.frames[0].csize], file.frames[0].offset)
        with pytest.raises(BadFrame, match="page 1 "):
            run(file, pages_backend)


def test_one_frame_alone_is_proved_likewise(pages_backend: Backend, tmp_path: Path) -> None:
    """`decode_frame` gives the pages of a frame, or refuses it."""
    content = text(9, 14)
    with stored(tmp_path / "set", content, [[2, 3, 9]], pages_backend) as file:
        pages = decode_frame(file.descriptor, file.frames[0], SIZE)
        assert bytes(pages) == content[SIZE : 3 * SIZE] + content[8 * SIZE :]
        with pytest.raises(SumMismatch):
            decode_frame(file.descriptor, replace(file.frames[0], runs=((2, 2), (8, 1))), SIZE)


def test_listed_sums_are_those_of_each_page(pages_backend: Backend) -> None:
    """Whatever the numbers: equal to page_sum; 0 for the page of the lock bytes (H12); nonsense is refused."""
    content = text(4, 15)
    lock = lock_page(SIZE)
    numbers = [7, lock, lock + 1, (1 << 32) - 2]
    sums = pages_backend.listed_sums(content, SIZE, numbers)
    pages = [content[at * SIZE : (at + 1) * SIZE] for at in range(4)]
    assert sums == b"".join(
        pages_backend.page_sum(pgno, page).to_bytes(8, "little") for pgno, page in zip(numbers, pages, strict=True)
    )
    assert sums[8:16] == bytes(8)
    assert pages_backend.listed_sums(b"", SIZE, []) == b""
    for size, wrong in ((SIZE, [1, 2, 3, 4, 5]), (SIZE, [0]), (SIZE, [(1 << 32) - 1]), (500, [1])):
        with pytest.raises(ValueError, match=r"page"):
            pages_backend.listed_sums(content, size, wrong)


def test_runs_are_found() -> None:
    """Consecutive numbers stand together."""
    assert runs_of([]) == ()
    assert runs_of([1]) == ((1, 1),)
    assert runs_of([1, 2, 3, 7, 9, 10]) == ((1, 3), (7, 1), (9, 2))


def test_frames_come_one_by_one(pages_backend: Backend, tmp_path: Path) -> None:
    """Each with what is stored and with its pages, in order, whatever page numbers they have; two versions are two."""
    content = text(40, 4)
    groups = [(3, 4, 5), (5, 1, 2), (5, 5, 5), (40, 7), (9,)]
    with stored(tmp_path / "file", content, groups, pages_backend) as file:
        seen = [
            (stretch.frames[0].numbers, bytes(data), bytes(pages))
            for stretch, data, pages in frames_in(alone(file), page_size=SIZE, threads=2, using=pages_backend)
        ]
    assert [tuple(numbers) for numbers, _, _ in seen] == groups
    for numbers, data, pages in seen:
        assert pages == b"".join(content[(pgno - 1) * SIZE : pgno * SIZE] for pgno in numbers)
        assert zstandard.ZstdDecompressor().decompress(data) == pages


def test_a_frame_that_is_not_proved_ends_it(pages_backend: Backend, tmp_path: Path) -> None:
    """Those before it have come; of it nothing does."""
    with stored(tmp_path / "file", text(40, 4), [(1, 2), (2, 3), (9, 4)], pages_backend) as file:
        file.frames[2] = replace(file.frames[2], sums=file.frames[1].sums)
        came = []
        with pytest.raises(SumMismatch, match="frame 2: the sum of page 9"):
            for stretch, _, _ in frames_in(alone(file), page_size=SIZE, threads=2, using=pages_backend):
                came.append(stretch.frames[0].index)
        assert came == [0, 1]


def alone(file: File) -> list[Stretch]:
    """Return the frames of a file, each in a stretch of its own."""
    return [
        Stretch(file=file.descriptor, offset=frame.offset, size=frame.csize, frames=(frame,)) for frame in file.frames
    ]
