"""Copying stored frames in, whatever pages they hold and in however many files: in threads, with bounded memory.

The inverse of `copy_out` and `gather_out`. A stretch is read whole, because a digest may be wanted of all of it; of its
frames those are decoded that somebody wants pages of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from pagewarden import durable
from pagewarden.pages._order import in_order
from pagewarden.pages.backend import Backend, Decompressor, backend
from pagewarden.pages.gather import Runs
from pagewarden.pages.scan import differing_runs
from pagewarden.pages.source import BadFrame, ShortRead, SumMismatch, frame_bound

Wanted = tuple[tuple[int, int, int], ...]
"""Consecutive pages that are to be written, each (place in the frame from 0, first page, count), ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameIn:
    """One stored frame that is to be decoded."""

    index: int  # in its file, from 0: errors name it
    offset: int  # byte of the file
    csize: int  # bytes of the zstd frame
    runs: Runs  # its pages
    count: int  # how many
    sums: bytes  # that they must have, 8 bytes each
    wanted: Wanted = ()  # those that are to be written
    newer: tuple[tuple[int, bytes], ...] = ()  # pages by their places that are to be written instead of those here

    @property
    def numbers(self) -> list[int]:
        """Its page numbers."""
        return [first + step for first, count in self.runs for step in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Bytes of a file that are read at once. The caller bounds `size`, and `count` of each frame: buffers are made."""

    file: int  # descriptor
    offset: int
    size: int
    frames: tuple[FrameIn, ...]  # those within that are to be decoded, in their order
    errors: Callable[[], AbstractContextManager[None]] = nullcontext  # around reading and decoding, not writing


class _Slot:
    """What one stretch on its way in needs: a decompressor, a buffer for what is stored and one for pages."""

    def __init__(self, chosen: Backend) -> None:
        self.decompressor: Decompressor = chosen.decompressor()
        self.stored = self.pages = memoryview(b"")


def spread_in(
    stretches: Iterable[Stretch],
    *,
    fd_out: int,
    page_size: int,
    threads: int,
    keep: Callable[[int, memoryview], bool] | None = None,
    using: Backend | None = None,
) -> Iterator[tuple[Stretch, memoryview]]:
    """Decode the frames of each stretch, compare the sums of all their pages, and write the wanted ones to `fd_out`.

    Yields each stretch, in their order, with its stored bytes, which are valid until the next is asked for. Pages go to
    byte `(pgno - 1) * page_size`, none of a frame before all of it was compared; `fd_out` -1 only compares. `keep` is
    asked first, in any thread: it gets a first page and the bytes of wanted pages, valid only during the call, and
    returns whether it has taken them, so that they are not written. `stretches` is advanced in the calling thread; when
    it or the consumer raises, stretches that were taken already may have been decoded or not. Raises BadFrame,
    ShortRead or SumMismatch, which name frame and page, or OSError, or what `errors` of the stretch makes of them; what
    `fd_out` raises stays as it is.
    """
    chosen = using or backend()

    def work(stretch: Stretch, slot: _Slot) -> tuple[Stretch, memoryview]:
        return stretch, _take_in(stretch, slot, fd_out, page_size, chosen, keep)

    slots = [_Slot(chosen) for _ in range(threads + 2)]
    with closing(in_order(stretches, work, slots=slots, threads=threads)) as done:
        yield from done


def frames_in(
    stretches: Iterable[Stretch], *, page_size: int, threads: int, using: Backend | None = None
) -> Generator[tuple[Stretch, memoryview, memoryview], None, None]:
    """Decode stretches of one frame each, and compare the sums of all their pages.

    Yields each stretch, in their order, with its stored bytes and its pages, which are valid until the next is asked
    for. Raises what `spread_in` raises.
    """
    chosen = using or backend()

    def work(stretch: Stretch, slot: _Slot) -> tuple[Stretch, memoryview, memoryview]:
        stored, (frame,) = _take_in(stretch, slot, -1, page_size, chosen, None), stretch.frames
        return stretch, stored, slot.pages[: frame.count * page_size]

    slots = [_Slot(chosen) for _ in range(threads + 2)]
    with closing(in_order(stretches, work, slots=slots, threads=threads)) as done:
        yield from done


def decode_frame(file: int, frame: FrameIn, page_size: int) -> memoryview:
    """Return the pages of one frame, compared with their sums. Raises what `spread_in` raises."""
    chosen = backend()
    slot = _Slot(chosen)
    stretch = Stretch(file=file, offset=frame.offset, size=frame.csize, frames=(frame,))
    _decode(frame, _read(stretch, slot, page_size), slot, page_size, chosen)
    return slot.pages


def _take_in(
    stretch: Stretch,
    slot: _Slot,
    fd_out: int,
    page_size: int,
    chosen: Backend,
    keep: Callable[[int, memoryview], bool] | None,
) -> memoryview:
    """Do the work for one stretch; return its stored bytes."""
    with stretch.errors():
        stored = _read(stretch, slot, page_size)
    for frame in stretch.frames:
        begin = frame.offset - stretch.offset
        with stretch.errors():
            _decode(frame, stored[begin : begin + frame.csize], slot, page_size, chosen)
        for place, page in frame.newer:
            slot.pages[place * page_size : (place + 1) * page_size] = page
        if fd_out >= 0:
            for place, start, count in frame.wanted:
                pages = slot.pages[place * page_size : (place + count) * page_size]
                if keep is None or not keep(start, pages):
                    durable.write_at(fd_out, pages, (start - 1) * page_size)
    return stored


def _read(stretch: Stretch, slot: _Slot, page_size: int) -> memoryview:
    """Return the stored bytes of a stretch."""
    for frame in stretch.frames:
        if not 0 < frame.csize <= frame_bound(frame.count * page_size):  # before a buffer of that size is made
            first = frame.runs[0][0]
            raise BadFrame(f"frame {frame.index} cannot have {frame.csize} bytes", pgno=first, frame=frame.index)
    if len(slot.stored) < stretch.size:
        slot.stored = memoryview(bytearray(stretch.size))
    stored = slot.stored[: stretch.size]
    end = stretch.offset + _pread_into(stretch.file, stored, stretch.offset)
    if end == stretch.offset + stretch.size:
        return stored
    for frame in stretch.frames:
        if frame.offset + frame.csize > end:
            first = frame.runs[0][0]
            raise ShortRead(f"the file ends within frame {frame.index}, page {first}", pgno=first, frame=frame.index)
    raise ShortRead(f"the file ends at byte {end}")


def _decode(frame: FrameIn, data: memoryview, slot: _Slot, page_size: int, chosen: Backend) -> None:
    """Decode one frame into the slot's buffer and compare its pages with their sums."""
    size = frame.count * page_size
    if len(slot.pages) < size:
        slot.pages = memoryview(bytearray(size))
    named = frame.runs[0][0]
    # The sums that come with the decoding are of consecutive pages.
    first = named if len(frame.runs) == 1 else 1
    try:
        sums = slot.decompressor.decompress(data, page_size, first, frame.count, slot.pages)
    except BadFrame as error:
        raise BadFrame(
            f"frame {frame.index}: the frame of page {named} is not one zstd frame of the expected pages",
            pgno=named,
            frame=frame.index,
        ) from error
    if len(frame.runs) > 1:
        sums = chosen.listed_sums(slot.pages[:size], page_size, frame.numbers)
    if sums != frame.sums:
        raise _mismatch(frame, sums)


def _mismatch(frame: FrameIn, sums: bytes) -> SumMismatch:
    place, _ = next(differing_runs(sums, frame.sums), (0, 0))
    pgno = frame.numbers[place]
    return SumMismatch(
        f"frame {frame.index}: the sum of page {pgno} is not the recorded one", pgno=pgno, frame=frame.index
    )


def runs_of(numbers: Sequence[int]) -> Runs:
    """Return ascending page numbers as runs of consecutive ones."""
    runs: list[tuple[int, int]] = []
    start = past = 0
    for number in numbers:
        if number != past:
            if past > start:
                runs.append((start, past - start))
            start = number
        past = number + 1
    if past > start:
        runs.append((start, past - start))
    return tuple(runs)


def _pread_into(file: int, to: memoryview, offset: int) -> int:
    """Fill `to` from `offset`; return the bytes read, fewer only at the file's end."""
    done = 0
    while done < len(to) and (some := os.preadv(file, [to[done:]], offset + done)):
        done += some
    return done
