"""Copies of whole ranges: in order, in threads, with bounded memory, and nothing running once they have ended."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from pagewarden.pages import (
    Backend,
    Batch,
    Compressor,
    PageSource,
    copier,
    copy_out,
    out_slots,
)
from tests.core.pages.stored import SIZE, Store, copied_out, source_of, text


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make batches so small that many are under way at once."""
    monkeypatch.setattr(copier, "BATCH", 8 * SIZE)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Fail a test that leaves a thread of the copier behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("pages")]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("pages_per_frame", [1, 3, 8, 100])
def test_frames_hold_the_pages(pages_backend: Backend, tmp_path: Path, threads: int, pages_per_frame: int) -> None:
    """Every frame is stock zstd of its pages, in page order, and the sums are those of the source."""
    content = text(61, pages_per_frame)
    with source_of(tmp_path / "db", content) as source:
        store = copied_out(source, pages_backend, pages_per_frame=pages_per_frame, threads=threads)
        sums = pages_backend.sums(source, 1, 61)
    assert bytes(store.sums) == sums
    assert [(frame.first, frame.count) for frame in store.frames] == [
        (first, min(pages_per_frame, 62 - first)) for first in range(1, 62, pages_per_frame)
    ]
    at = 0
    for frame in store.frames:
        pages = zstandard.ZstdDecompressor().decompress(bytes(store.data[at : at + frame.csize]))
        assert pages == content[(frame.first - 1) * SIZE : (frame.first - 1 + frame.count) * SIZE]
        at += frame.csize


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


def test_failing_descriptors_are_reported(pages_backend: Backend) -> None:
    """What cannot be read is an OSError with its errno, from whichever thread met it."""
    broken = PageSource(database=987654, page_size=SIZE, pages=40, file_size=40 * SIZE)
    with pytest.raises(OSError) as caught:
        copied_out(broken, pages_backend)
    assert caught.value.errno == errno.EBADF


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
