"""Page sums of a whole commit, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from pagewarden.pages._order import in_order
from pagewarden.pages.backend import Backend, backend
from pagewarden.pages.behind import Behind, read_from_disk
from pagewarden.pages.source import PageSource

CHUNK = 8 << 20
"""Bytes of pages in each chunk of sums."""

_BLOCK, _GROUP = 64 * 8, 8 * 8  # bytes of sums that are compared at once

Progress = Callable[[int, int], None]
"""Told how many pages are done, and of how many."""


def scan_sums(
    source: PageSource,
    *,
    first: int = 1,
    count: int | None = None,
    threads: int = 2,
    progress: Progress | None = None,
    from_disk: bool = False,
    using: Backend | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield (first page, sums) of consecutive chunks that cover `count` pages from `first` (None: to the last page).

    Sums are 8 bytes for each page, little-endian. `from_disk` drops what is cached of the file, which must be private
    and durable, before and behind the reads. Raises what `Backend.sums` raises.
    """
    if count is None:
        count = source.pages - first + 1
    source.check_range(first, count)
    chosen = using or backend()
    past = first + count
    step = max(1, CHUNK // source.page_size)

    def work(start: int, _slot: None) -> tuple[int, bytes]:
        return start, chosen.sums(source, start, min(step, past - start))

    if count <= step and not from_disk:  # one chunk: done sooner than a thread is started
        if count:
            yield work(first, None)
            if progress is not None:
                progress(count, count)
        return
    if from_disk:
        read_from_disk(source.database)
    reading = Behind(source.database, start=(first - 1) * source.page_size)
    jobs = range(first, past, step)
    with closing(in_order(jobs, work, slots=[None] * (threads * 2), threads=threads)) as chunks:
        for start, sums in chunks:
            yield start, sums
            if from_disk:
                reading.advance((start - 1) * source.page_size + len(sums) // 8 * source.page_size)
            if progress is not None:
                progress(start - first + len(sums) // 8, count)


def scan_reserved(source: PageSource, *, first: int, count: int, threads: int = 2) -> bytes:
    """Return a byte for each page, in threads; see `Backend.reserved_sums`."""
    source.check_range(first, count)
    chosen, past = backend(), first + count
    step = max(1, CHUNK // source.page_size)

    def work(start: int, _slot: None) -> bytes:
        return chosen.reserved_sums(source, start, min(step, past - start))

    jobs = range(first, past, step)
    return b"".join(in_order(jobs, work, slots=[None] * (threads * 2), threads=threads))


def database_sum(chunks: Iterable[bytes], *, using: Backend | None = None) -> int:
    """Return the XOR of all sums in `chunks`: the database sum, if they are those of all pages."""
    chosen = using or backend()
    total = 0
    for chunk in chunks:
        total ^= chosen.fold(chunk)
    return total


def differing_runs(sums: bytes, known: bytes) -> Iterator[tuple[int, int]]:
    """Yield (place, count) for each run of sums that differ from the `known` ones, or that those lack."""
    if sums == known:
        return
    begin = end = 0  # of the run that was seen last
    for at in _differing(sums, known):
        if at != end:
            if end > begin:
                yield begin // 8, (end - begin) // 8
            begin = at
        end = at + 8
    if end > begin:
        yield begin // 8, (end - begin) // 8


def _differing(sums: bytes, known: bytes) -> Iterator[int]:
    """Yield where sums differ, in bytes. Mostly few do, so many are compared at once before each is."""
    whole = len(sums)
    for block in range(0, whole, _BLOCK):
        if sums[block : block + _BLOCK] == known[block : block + _BLOCK]:
            continue
        for group in range(block, min(block + _BLOCK, whole), _GROUP):
            if sums[group : group + _GROUP] == known[group : group + _GROUP]:
                continue
            for at in range(group, min(group + _GROUP, whole), 8):
                if sums[at : at + 8] != known[at : at + 8]:
                    yield at
