"""Copies of whole ranges: in order, in threads, with bounded memory, and nothing running once they have ended."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagewarden.pages import (
    Backend,
    BadFrame,
    Batch,
    Compressor,
    PageDataError,
    PageSource,
    ShortRead,
    StoredFrame,
    SumMismatch,
    copier,
    copy_in,
    copy_out,
    frame_bound,
    out_slots,
)
from tests.core.pages.stored import SIZE, Store, copied_out, source_of, text


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches so small that many are under way at once."""
    monkeypatch.setattr(copier, "BATCH", 8 * SIZE)
    monkeypatch.setattr(copier, "STORED_BATCH", 3000)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Fail a test that leaves a thread of the copier behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("pages")]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("pages_per_frame", [1, 3, 8, 100])
def test_out_and_in_is_identity(pages_backend: Backend, tmp_path: Path, threads: int, pages_per_frame: int) -> None:
    """Every page comes back where it was, with the sums on both ways those of the source, in page order."""
    content = text(61, pages_per_frame)
    with source_of(tmp_path / "db", content) as source:
        store = copied_out(source, pages_backend, pages_per_frame=pages_per_frame, threads=threads)
        sums = pages_backend.sums(source, 1, 61)
    assert bytes(store.sums) == sums
    assert [(frame.first, frame.count) for frame in store.frames] == [
        (first, min(pages_per_frame, 62 - first)) for first in range(1, 62, pages_per_frame)
    ]
    fd_in, fd_out = store.saved(tmp_path / "stored"), os.open(tmp_path / "back", os.O_RDWR | os.O_CREAT)
    try:
        told: list[int] = []
        digest = hashlib.sha256()
        for from_disk in (False, True):
            found = list(
                copy_in(
                    store.frames,
                    fd_in=fd_in,
                    fd_out=fd_out,
                    page_size=SIZE,
                    threads=threads,
                    expected=store.expected,
                    progress=lambda done, total: told.append(done),
                    stored=digest.update,
                    from_disk=from_disk,
                    using=pages_backend,
                )
            )
            assert [first for first, _ in found] == [frame.first for frame in store.frames]
            assert b"".join(some for _, some in found) == sums
            assert (tmp_path / "back").read_bytes() == content
            os.ftruncate(fd_out, 0)
        assert digest.digest() == hashlib.sha256(store.data * 2).digest()
        assert told[-1] == 61
        assert max(told) == 61
    finally:
        os.close(fd_in)
        os.close(fd_out)


def test_part_of_a_database_is_copied(pages_backend: Backend, tmp_path: Path) -> None:
    """A range is cut into frames from its own beginning, and progress is told of the range."""
    told: list[tuple[int, int]] = []
    with source_of(tmp_path / "db", text(40, 1)) as source:
        for first, count in ((5, 20), (40, 1), (7, 0), (41, 0)):
            store = Store()
            copy_out(
                source,
                first=first,
                count=count,
                pages_per_frame=3,
                level=1,
                threads=2,
                sink=store,
                progress=lambda done, total: told.append((done, total)),
                using=pages_backend,
            )
            assert bytes(store.sums) == pages_backend.sums(source, first, count)
            assert [frame.first for frame in store.frames] == list(range(first, first + count, 3))
        for first, count, per_frame in ((0, 1, 3), (1, 41, 3), (1, 5, 0)):
            with pytest.raises(ValueError):
                copy_out(
                    source, first=first, count=count, pages_per_frame=per_frame, level=1, threads=2, sink=store,
                    using=pages_backend,
                )  # fmt: skip
    assert told[-2:] == [(20, 20), (1, 1)]


def test_large_pages_to_the_exact_end(pages_backend: Backend, tmp_path: Path) -> None:
    """Pages of 64 KiB go out and in as well, through direct transfers where the file system has them."""
    content = text(9, 2, 65536)
    with source_of(tmp_path / "db", content, 65536) as source:
        store = copied_out(source, pages_backend, pages_per_frame=2)
    store.offset = 12345  # frames lie anywhere in the file
    store.frames = [
        StoredFrame(offset=frame.offset + 12345, csize=frame.csize, first=frame.first, count=frame.count)
        for frame in store.frames
    ]
    fd_in, fd_out = store.saved(tmp_path / "stored"), os.open(tmp_path / "back", os.O_RDWR | os.O_CREAT)
    try:
        for from_disk in (False, True):
            for _ in copy_in(
                store.frames, fd_in=fd_in, fd_out=fd_out, page_size=65536, threads=2, expected=store.expected,
                from_disk=from_disk, using=pages_backend,
            ):  # fmt: skip
                pass
            assert (tmp_path / "back").read_bytes() == content
            os.ftruncate(fd_out, 0)
    finally:
        os.close(fd_in)
        os.close(fd_out)


def test_scattered_and_reversed_frames_are_read(pages_backend: Backend, tmp_path: Path) -> None:
    """Frames may lie in any order and apart; results keep the order in which they were asked for."""
    content = text(30, 4)
    with source_of(tmp_path / "db", content) as source:
        store = copied_out(source, pages_backend, pages_per_frame=3)
    fd_in, fd_out = store.saved(tmp_path / "stored"), os.open(tmp_path / "back", os.O_RDWR | os.O_CREAT)
    try:
        for frames in (store.frames[::-1], store.frames[::2] + store.frames[1::2]):
            found = copy_in(
                iter(frames), fd_in=fd_in, fd_out=fd_out, page_size=SIZE, threads=2, expected=store.expected,
                using=pages_backend,
            )  # fmt: skip
            assert [first for first, _ in found] == [frame.first for frame in frames]
            assert (tmp_path / "back").read_bytes() == content
            os.ftruncate(fd_out, 0)
        only = list(copy_in(store.frames[3:5], fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2, using=pages_backend))
        assert b"".join(sums for _, sums in only) == store.expected(10, 6)
        assert list(copy_in([], fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2, using=pages_backend)) == []
    finally:
        os.close(fd_in)
        os.close(fd_out)


def verify(backend: Backend, store: Store, fd_in: int, fd_out: int = -1) -> None:
    """Run `copy_in` to its end."""
    for _ in copy_in(
        store.frames, fd_in=fd_in, fd_out=fd_out, page_size=SIZE, threads=2, expected=store.expected, using=backend
    ):
        pass


def test_every_damaged_frame_is_named(pages_backend: Backend, tmp_path: Path) -> None:
    """A changed byte in any frame ends the copy with an error that names that frame, and that frame is not written."""
    chance = random.Random(21)
    content = text(40, 5)
    with source_of(tmp_path / "db", content) as source:
        store = copied_out(source, pages_backend, pages_per_frame=4)
    fd_in, fd_out = store.saved(tmp_path / "stored"), os.open(tmp_path / "back", os.O_RDWR | os.O_CREAT)
    try:
        for index, frame in enumerate(store.frames):
            at = frame.offset + chance.randrange(12, frame.csize)
            (old,) = os.pread(fd_in, 1, at)
            os.pwrite(fd_in, bytes([old ^ 0x41]), at)
            os.ftruncate(fd_out, 0)
            os.ftruncate(fd_out, 40 * SIZE)
            with pytest.raises(PageDataError) as caught:
                verify(pages_backend, store, fd_in, fd_out)
            assert caught.value.frame == index
            assert isinstance(caught.value, BadFrame | SumMismatch)
            assert caught.value.pgno in range(frame.first, frame.first + 4)
            assert f"frame {index}" in str(caught.value)
            assert os.pread(fd_out, 4 * SIZE, (frame.first - 1) * SIZE) == bytes(4 * SIZE)
            os.pwrite(fd_in, bytes([old]), at)
        verify(pages_backend, store, fd_in)
    finally:
        os.close(fd_in)
        os.close(fd_out)


def test_wrong_sum_names_its_page(pages_backend: Backend, tmp_path: Path) -> None:
    """Pages that are sound in themselves but not the recorded ones are found, each by its number."""
    with source_of(tmp_path / "db", text(20, 6)) as source:
        store = copied_out(source, pages_backend, pages_per_frame=4)
    fd_in = store.saved(tmp_path / "stored")
    try:
        for pgno in (1, 4, 5, 20):
            store.sums[(pgno - 1) * 8] ^= 1
            with pytest.raises(SumMismatch, match=f"page {pgno} ") as caught:
                verify(pages_backend, store, fd_in)
            assert (caught.value.pgno, caught.value.frame) == (pgno, (pgno - 1) // 4)
            store.sums[(pgno - 1) * 8] ^= 1
        with pytest.raises(SumMismatch, match="frame 0"):  # sums of another length match nothing
            list(
                copy_in(
                    store.frames, fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2,
                    expected=lambda first, count: b"", using=pages_backend,
                )
            )  # fmt: skip
    finally:
        os.close(fd_in)


@pytest.mark.parametrize("from_disk", [False, True])
def test_cut_file_is_a_short_read(pages_backend: Backend, tmp_path: Path, from_disk: bool) -> None:
    """A stored file that ends early is ShortRead and names the first frame that is not whole."""
    with source_of(tmp_path / "db", text(40, 7)) as source:
        store = copied_out(source, pages_backend, pages_per_frame=4)
    fd_in = store.saved(tmp_path / "stored")
    try:
        for index in (9, 4, 0):
            os.ftruncate(fd_in, store.frames[index].offset + store.frames[index].csize - 1)
            with pytest.raises(ShortRead) as caught:
                list(
                    copy_in(
                        store.frames, fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2, from_disk=from_disk,
                        using=pages_backend,
                    )
                )  # fmt: skip
            assert (caught.value.frame, caught.value.pgno) == (index, index * 4 + 1)
    finally:
        os.close(fd_in)


def test_failing_descriptors_are_reported(pages_backend: Backend, tmp_path: Path) -> None:
    """What cannot be read or written is an OSError with its errno, from whichever thread met it."""
    with source_of(tmp_path / "db", text(40, 8)) as source:
        store = copied_out(source, pages_backend, pages_per_frame=4)
    fd_in = store.saved(tmp_path / "stored")
    readonly = os.open(tmp_path / "stored", os.O_RDONLY)
    try:
        for into, out in ((fd_in, readonly), (987654, -1), (fd_in, 987654)):
            with pytest.raises(OSError) as caught:
                verify(pages_backend, store, into, out)
            assert caught.value.errno == errno.EBADF
        broken = PageSource(database=987654, page_size=SIZE, pages=40, file_size=40 * SIZE)
        with pytest.raises(OSError) as caught:
            copied_out(broken, pages_backend)
        assert caught.value.errno == errno.EBADF
    finally:
        os.close(fd_in)
        os.close(readonly)


def test_failing_sink_ends_the_copy(pages_backend: Backend, tmp_path: Path) -> None:
    """An error of the sink at any batch comes through, after which the sink is not called and no thread runs."""
    with source_of(tmp_path / "db", text(64, 9)) as source:
        for fail_at in (1, 2, 8):
            calls: list[int] = []

            def sink(batch: Batch, fail_at: int = fail_at, calls: list[int] = calls) -> None:
                calls.append(batch.frames[0].first)
                if len(calls) == fail_at:
                    raise OSError(errno.ENOSPC, "full")

            with pytest.raises(OSError, match="full"):
                copy_out(
                    source, first=1, count=64, pages_per_frame=4, level=1, threads=2, sink=sink, using=pages_backend
                )
            assert calls == [1 + 8 * i for i in range(fail_at)]
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("pages")]


def test_abandoned_copy_leaves_nothing_running(pages_backend: Backend, tmp_path: Path) -> None:
    """A consumer that stops after any frame finds every thread gone, so that it may close its descriptors."""
    with source_of(tmp_path / "db", text(64, 10)) as source:
        store = copied_out(source, pages_backend, pages_per_frame=2)
    fd_in = store.saved(tmp_path / "stored")
    try:
        for stop in (0, 1, 5):
            running = copy_in(store.frames, fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2, using=pages_backend)
            for _ in range(stop):
                next(running)
            running.close()  # type: ignore[attr-defined]
            assert not [thread for thread in threading.enumerate() if thread.name.startswith("pages")]
    finally:
        os.close(fd_in)


def test_slots_are_good_for_many_copies(pages_backend: Backend, tmp_path: Path) -> None:
    """Slots that are kept from copy to copy, a failed one among them, give what fresh ones give."""
    slots = out_slots(pages_per_frame=4, page_size=SIZE, level=1, threads=2, using=pages_backend)
    with source_of(tmp_path / "db", text(64, 12)) as source:
        whole = copied_out(source, pages_backend, pages_per_frame=4)

        def refuse(batch: Batch) -> None:
            raise OSError(errno.ENOSPC, "full")

        def run(first: int, count: int, sink: Callable[[Batch], None]) -> None:
            copy_out(
                source, first=first, count=count, pages_per_frame=4, level=1, threads=2, sink=sink, slots=slots,
                using=pages_backend,
            )  # fmt: skip

        store = Store()
        for first in range(1, 65, 16):
            with pytest.raises(OSError, match="full"):
                run(first, 16, refuse)
            run(first, 16, store)
    assert (store.frames, store.data, store.sums) == (whole.frames, whole.data, whole.sums)


def test_impossible_sizes_are_refused_before_a_buffer_is_made(pages_backend: Backend, tmp_path: Path) -> None:
    """H29: a frame of no bytes, or of more than its pages could ever become, is BadFrame and costs no memory."""
    with source_of(tmp_path / "db", text(8, 13)) as source:
        fd_in = source.database
        for csize in (0, -5, frame_bound(4 * SIZE) + 1, 1 << 62):
            frames = [StoredFrame(offset=0, csize=csize, first=1, count=4)]
            with pytest.raises(BadFrame, match="frame 0 cannot have") as caught:
                list(copy_in(frames, fd_in=fd_in, fd_out=-1, page_size=SIZE, threads=2, using=pages_backend))
            assert (caught.value.frame, caught.value.pgno) == (0, 1)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, pages_backend: Backend, tmp_path: Path) -> None:
    """However slow the sink, no more than four batches are compressed ahead of it by two threads."""
    begun: list[int] = []
    ahead: list[int] = []
    plain = type(pages_backend.compressor(1)).compress

    def counting(self: Compressor, source: PageSource, first: int, count: int, out: memoryview) -> tuple[int, bytes]:
        begun.append(first)
        return plain(self, source, first, count, out)

    monkeypatch.setattr(type(pages_backend.compressor(1)), "compress", counting)
    with source_of(tmp_path / "db", text(160, 11)) as source:

        def sink(batch: Batch) -> None:
            threading.Event().wait(0.01)
            ahead.append((max(begun) - batch.frames[0].first) // 8)

        copy_out(source, first=1, count=160, pages_per_frame=8, level=1, threads=2, sink=sink, using=pages_backend)
    assert len(begun) == len(ahead) == 20
    assert 1 <= max(ahead) <= 3
