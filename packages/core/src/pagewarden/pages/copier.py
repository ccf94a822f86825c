"""Copying consecutive pages out into zstd frames, in threads, in order, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pagewarden.pages._order import in_order
from pagewarden.pages.backend import Backend, Compressor, backend
from pagewarden.pages.scan import Progress
from pagewarden.pages.source import PageSource, frame_bound

BATCH = 2 << 20
"""Bytes of pages that are copied between two turns of the sink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCopy:
    """One frame of a batch."""

    first: int  # its first page
    count: int  # pages
    csize: int  # bytes of the zstd frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive frames, as the sink gets them. `data` is valid only during the sink's call."""

    frames: tuple[FrameCopy, ...]
    data: memoryview  # the zstd frames, one after the other
    sums: bytes  # of all pages of the frames, 8 bytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFrame:
    """Where one frame is stored, and what it must hold."""

    offset: int  # byte of the file
    csize: int  # bytes of the zstd frame
    first: int  # its first page
    count: int  # pages


class OutSlot:
    """What one batch on its way out needs: a compressor and a buffer for its frames."""

    def __init__(self, chosen: Backend, level: int, size: int) -> None:
        self.compressor: Compressor = chosen.compressor(level)
        self.buffer = memoryview(bytearray(size))


def out_slots(
    *, pages_per_frame: int, page_size: int, level: int, threads: int, using: Backend | None = None
) -> list[OutSlot]:
    """Return slots for `copy_out`, for those who call it often: fresh memory costs more than the work done in it."""
    chosen = using or backend()
    size = frame_bound(pages_per_frame * page_size) * _frames_per_batch(pages_per_frame, page_size)
    return [OutSlot(chosen, level, size) for _ in range(threads + 2)]


def _frames_per_batch(pages_per_frame: int, page_size: int) -> int:
    return max(1, BATCH // (pages_per_frame * page_size))


def copy_out(
    source: PageSource,
    *,
    first: int,
    count: int,
    pages_per_frame: int,
    level: int,
    threads: int,
    sink: Callable[[Batch], None],
    progress: Progress | None = None,
    using: Backend | None = None,
    slots: Sequence[OutSlot] | None = None,
) -> None:
    """Compress pages into independent frames of `pages_per_frame` pages each (the last may be shorter).

    `sink` is called in page order, one call at a time, in the calling thread. Raises what `Compressor.compress` and
    `sink` raise; no thread is left behind. `slots` are those of `out_slots`, for the same frames, level and threads.
    """
    source.check_range(first, count)
    if pages_per_frame < 1:
        raise ValueError("a frame holds at least one page")
    past = first + count
    step = pages_per_frame * _frames_per_batch(pages_per_frame, source.page_size)

    def work(start: int, slot: OutSlot) -> Batch:
        frames, parts, used = [], [], 0
        for at in range(start, min(start + step, past), pages_per_frame):
            some = min(pages_per_frame, past - at)
            csize, sums = slot.compressor.compress(source, at, some, slot.buffer[used:])
            frames.append(FrameCopy(first=at, count=some, csize=csize))
            parts.append(sums)
            used += csize
        return Batch(frames=tuple(frames), data=slot.buffer[:used], sums=b"".join(parts))

    if slots is None:
        slots = out_slots(
            pages_per_frame=min(pages_per_frame, max(1, count)),
            page_size=source.page_size,
            level=level,
            threads=threads,
            using=using,
        )
    done = 0
    with closing(in_order(range(first, past, step), work, slots=slots, threads=threads)) as batches:
        for batch in batches:
            sink(batch)
            done += len(batch.sums) // 8
            if progress is not None:
                progress(done, count)
