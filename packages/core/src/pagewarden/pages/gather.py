"""Copying pages that are not consecutive: gathered into frames, hashed as they were read, compressed in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

from pagewarden.pages._order import in_order
from pagewarden.pages.backend import Backend, Compressor, backend
from pagewarden.pages.source import PageSource, frame_bound

Runs = tuple[tuple[int, int], ...]
"""Consecutive pages, each (first page, count), ascending."""


def frames_of(runs: Iterable[tuple[int, int]], most: int) -> Iterator[Runs]:
    """Yield what each frame is to hold of `runs`: `most` pages, the last one what is left."""
    frame: list[tuple[int, int]] = []
    room = most
    for begin, count in runs:
        first, past = begin, begin + count
        while first < past:
            some = min(past - first, room)
            if frame and sum(frame[-1]) == first:
                frame[-1] = (frame[-1][0], frame[-1][1] + some)
            else:
                frame.append((first, some))
            first, room = first + some, room - some
            if not room:
                yield tuple(frame)
                frame, room = [], most
    if frame:
        yield tuple(frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """One frame of gathered pages, as the sink gets it. `data` is valid only during the sink's call."""

    runs: Runs
    data: memoryview  # the zstd frame
    sums: bytes  # of its pages, 8 bytes each: of the very bytes that were compressed


class _Slot:
    """What one frame on its way out needs, once there is one."""

    def __init__(self, chosen: Backend, level: int) -> None:
        self._chosen = chosen
        self._level = level
        self.pages = self.frame = memoryview(b"")

    @cached_property
    def compressor(self) -> Compressor:
        """What compresses it."""
        return self._chosen.compressor(self._level)

    def make_room(self, size: int) -> None:
        """Let `pages` have `size` bytes at least, and `frame` what they can become."""
        if len(self.pages) < size:
            self.pages = memoryview(bytearray(size))
            self.frame = memoryview(bytearray(frame_bound(size)))


def gather_out(
    source: PageSource,
    frames: Iterable[Runs],
    *,
    level: int,
    threads: int,
    sink: Callable[[Gathered], None],
    using: Backend | None = None,
) -> None:
    """Compress each of `frames`, runs of pages together, into an independent zstd frame.

    `sink` is called in the order of `frames`, one call at a time; both run in the calling thread. A page's sum is taken
    of the bytes that are stored, whatever changes in the file meanwhile. Raises what `Backend.read` and `sink` raise;
    no thread is left behind.
    """
    chosen, size = using or backend(), source.page_size

    def work(runs: Runs, slot: _Slot) -> Gathered:
        parts, at = [], 0
        slot.make_room(sum(count for _, count in runs) * size)
        for first, count in runs:
            room = slot.pages[at : at + count * size]
            chosen.read(source, first, count, room)
            parts.append(chosen.buffer_sums(room, size, first, count))
            at += count * size
        used = slot.compressor.compress_buffer(slot.pages[:at], slot.frame)
        return Gathered(runs=runs, data=slot.frame[:used], sums=b"".join(parts))

    slots: Sequence[_Slot] = [_Slot(chosen, level) for _ in range(threads + 2)]
    with closing(in_order(frames, work, slots=slots, threads=threads)) as gathered:
        for one in gathered:
            sink(one)
