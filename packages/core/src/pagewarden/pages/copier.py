"""Copying pages out into zstd frames, and frames back into pages: in threads, in order, with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from pagewarden import durable
from pagewarden.pages._order import in_order
from pagewarden.pages.backend import Backend, Compressor, Decompressor, backend
from pagewarden.pages.behind import Behind, read_from_disk
from pagewarden.pages.scan import Progress, differing_runs
from pagewarden.pages.source import BadFrame, PageSource, ShortRead, SumMismatch, frame_bound

BATCH = 2 << 20
"""Bytes of pages that are copied between two turns of the sink."""

STORED_BATCH = 1 << 20
"""Bytes of stored frames that are read at once."""


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


class _In:
    """What one group of frames on its way in needs: a decompressor, a buffer for stored frames and one for pages."""

    def __init__(self, chosen: Backend) -> None:
        self.decompressor: Decompressor = chosen.decompressor()
        self.stored = self.pages = memoryview(b"")


@dataclass(frozen=True, slots=True)
class _Group:
    """Frames that are stored one after the other, with the index of the first among all, and the expected sums."""

    index: int
    frames: tuple[StoredFrame, ...]
    expected: tuple[bytes, ...] | None


def copy_in(
    frames: Iterable[StoredFrame],
    *,
    fd_in: int,
    fd_out: int,
    page_size: int,
    threads: int,
    expected: Callable[[int, int], bytes] | None = None,
    progress: Progress | None = None,
    stored: Callable[[memoryview], None] | None = None,
    from_disk: bool = False,
    using: Backend | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Decode stored frames, compare their page sums with `expected(first, count)`, write the pages to `fd_out`.

    Yields (first page, sums) for each frame, in the order of `frames`; pages go to byte `(pgno - 1) * page_size`, none
    of a frame before all of it was compared; `fd_out` -1 only verifies. What is written there does not stay in the page
    cache. `stored` gets the stored bytes of the frames, in their order, valid only during the call: for a digest of
    them. `from_disk` drops what is cached of `fd_in`, which must be durable, before and behind the reads. `frames`,
    `expected` and `stored` run in the calling thread. `progress` is told the pages done and 0, as the total is not
    known here. The caller bounds `count` of each frame: a buffer of that size is made.

    Raises BadFrame, ShortRead or SumMismatch, which name frame (counted from 0) and page, or OSError.
    """
    chosen = using or backend()
    done = 0
    if from_disk:
        read_from_disk(fd_in)
    reading, writing = Behind(fd_in), Behind(fd_out)

    def work(group: _Group, slot: _In) -> tuple[_Group, list[tuple[int, bytes]], memoryview]:
        return group, *_decode(group, slot, fd_in, fd_out, page_size)

    slots = [_In(chosen) for _ in range(threads + 2)]
    with closing(in_order(_groups(frames, expected, page_size), work, slots=slots, threads=threads)) as groups:
        for group, results, data in groups:
            if stored is not None:
                stored(data)
            for start, sums in results:
                done += len(sums) // 8
                yield start, sums
            if fd_out >= 0:
                writing.advance((group.frames[-1].first - 1 + group.frames[-1].count) * page_size)
            if from_disk:
                reading.advance(group.frames[-1].offset + group.frames[-1].csize)
            if progress is not None:
                progress(done, 0)


def _groups(
    frames: Iterable[StoredFrame], expected: Callable[[int, int], bytes] | None, page_size: int
) -> Iterator[_Group]:
    """Gather frames that are stored one after the other, up to STORED_BATCH bytes."""
    group: list[StoredFrame] = []
    begun = 0  # index of the group's first frame

    def close() -> _Group:
        sums = None if expected is None else tuple(expected(frame.first, frame.count) for frame in group)
        return _Group(begun, tuple(group), sums)

    for index, frame in enumerate(frames):
        if not 0 < frame.csize <= frame_bound(frame.count * page_size):  # before a buffer of that size is made
            raise BadFrame(f"frame {index} cannot have {frame.csize} bytes", pgno=frame.first, frame=index)
        if group and (
            frame.offset != group[-1].offset + group[-1].csize
            or frame.offset + frame.csize - group[0].offset > STORED_BATCH
        ):
            yield close()
            group, begun = [], index
        group.append(frame)
    if group:
        yield close()


def _decode(
    group: _Group, slot: _In, fd_in: int, fd_out: int, page_size: int
) -> tuple[list[tuple[int, bytes]], memoryview]:
    """Return (first page, sums) of each frame of a group, and its stored bytes."""
    begin = group.frames[0].offset
    size = group.frames[-1].offset + group.frames[-1].csize - begin
    if len(slot.stored) < size:
        slot.stored = memoryview(bytearray(size))
    stored = slot.stored[: _pread_into(fd_in, slot.stored[:size], begin)]
    results = []
    for i, frame in enumerate(group.frames):
        index = group.index + i
        data = stored[frame.offset - begin : frame.offset - begin + frame.csize]
        size = frame.count * page_size
        if len(data) < frame.csize:
            raise ShortRead(f"the file ends within frame {index}, page {frame.first}", pgno=frame.first, frame=index)
        if len(slot.pages) < size:
            slot.pages = memoryview(bytearray(size))
        try:
            sums = slot.decompressor.decompress(data, page_size, frame.first, frame.count, slot.pages)
        except BadFrame as error:
            raise BadFrame(f"frame {index}: {error}", pgno=error.pgno, frame=index) from error
        if group.expected is not None and sums != group.expected[i]:
            raise _mismatch(index, frame, sums, group.expected[i])
        if fd_out >= 0:
            durable.write_at(fd_out, slot.pages[:size], (frame.first - 1) * page_size)
        results.append((frame.first, sums))
    return results, stored


def _mismatch(index: int, frame: StoredFrame, sums: bytes, expected: bytes) -> SumMismatch:
    place, _ = next(differing_runs(sums, expected), (0, 0))
    pgno = frame.first + place
    return SumMismatch(f"frame {index}: the sum of page {pgno} is not the recorded one", pgno=pgno, frame=index)


def _pread_into(file: int, to: memoryview, offset: int) -> int:
    """Fill `to` from `offset`; return the bytes read, fewer only at the file's end."""
    done = 0
    while done < len(to) and (some := os.preadv(file, [to[done:]], offset + done)):
        done += some
    return done
