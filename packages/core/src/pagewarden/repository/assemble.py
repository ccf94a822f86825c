"""Making a database of a chain of page sets. Runs in the page reader, because stored files may be hostile.

1. Page sets are added from the newest down to the snapshot. A page is taken from the first one that holds it: its last
   version. Older versions are neither decoded, where a whole frame is of no use, nor written.
2. Frames are read and decoded in threads, every page of them is compared with its recorded sum, and the pages that are
   taken are written straight to their place. All that is stored goes through the SHA-256 of its file.
   As long as memory allows, pages of segments wait for the snapshot's frame around them: a page alone costs the file
   system as much as many together.
3. Pages beyond the size of the database at the newest position are dropped (H21).
4. At the end every page must have been taken, and their sums must make the database sum of the newest page set.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged, VerificationFailed
from pagewarden.pages import (
    Behind,
    PageSource,
    Progress,
    Runs,
    ShortRead,
    Stretch,
    Wanted,
    backend,
    differing_runs,
    lock_page,
    runs_of,
    scan_sums,
    spread_in,
)
from pagewarden.repository.blocks import SUMS_ENTRY
from pagewarden.repository.format import FRAME_BYTES, PageSetInfo
from pagewarden.repository.pageset import PageSetFile
from pagewarden.repository.spools import Table

_CHUNK = 1 << 16  # pages of a chunk of claims

WAITING = 512 << 20
"""Bytes of pages that may wait in memory, at most; and never more than a quarter of what the machine has available."""


def _available() -> int:
    """Return how many bytes of memory programs may take now, as Linux estimates it; elsewhere a modest number."""
    try:
        text = Path("/proc/meminfo").read_text()
        return int(text.partition("MemAvailable:")[2].split()[0]) << 10
    except (OSError, ValueError, IndexError):  # not Linux
        return 256 << 20


class Claims:
    """Which pages were taken: a bit for each, in chunks that are made when they are needed."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self.count = 0  # pages taken

    def take(self, first: int, count: int) -> Runs:
        """Take those of pages `first` … `first+count-1` that were not taken yet, and return them."""
        return tuple((start, some) for _, start, some in self.take_all(((first, count),), first + count - 1))

    def take_all(self, runs: Runs, pages: int) -> Wanted:
        """Take those of `runs` that are within a database of `pages` pages and were not taken yet; return them.

        Places count from the first page of `runs`.
        """
        wanted: list[tuple[int, int, int]] = []
        place, chunks = 0, self._chunks
        for first, count in runs:
            if count == 1 and first <= pages and (chunk := chunks.get(first // _CHUNK)) is not None:
                # Most runs of a segment are so, and there may be very many.
                at, bit = first % _CHUNK >> 3, 1 << (first & 7)
                if not chunk[at] & bit:
                    chunk[at] |= bit
                    wanted.append((place, first, 1))
            else:
                wanted += [(place + start - first, start, some) for start, some in self._take(first, count, pages)]
            place += count
        self.count += sum([some for _, _, some in wanted])
        return tuple(wanted)

    def _take(self, first: int, count: int, pages: int) -> Iterator[tuple[int, int]]:
        past = min(first + count, pages + 1)
        while first < past:
            number, place = divmod(first, _CHUNK)
            some = min(past - first, _CHUNK - place)
            yield from self._take_within(number, place, first, some)
            first += some

    def take_rest(self, first: int, count: int, taken: int) -> bool:
        """Take pages `first` … `first+count-1` if just `taken` of them are taken already; return whether that is so."""
        parts, new, past = [], count - taken, first + count
        while first < past:
            number, place = divmod(first, _CHUNK)
            some = min(past - first, _CHUNK - place)
            chunk = self._chunks.setdefault(number, bytearray(_CHUNK >> 3))
            begin, end = place >> 3, (place + some + 7) >> 3
            bits = int.from_bytes(chunk[begin:end], "little")
            mask = ((1 << some) - 1) << (place & 7)
            taken -= (bits & mask).bit_count()
            parts.append((chunk, begin, end, bits | mask))
            first += some
        if taken:
            return False
        for chunk, begin, end, bits in parts:
            chunk[begin:end] = bits.to_bytes(end - begin, "little")
        self.count += new
        return True

    def holds(self, pgno: int) -> bool:
        """Return whether a page was taken."""
        number, place = divmod(pgno, _CHUNK)
        chunk = self._chunks.get(number)
        return chunk is not None and bool(chunk[place >> 3] >> (place & 7) & 1)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield (first page, count) of all that was taken, ascending; a run may be cut in two where it goes on."""
        for number in sorted(self._chunks):
            bits = int.from_bytes(self._chunks[number], "little")
            text = f"{bits:0{_CHUNK}b}"[::-1]
            at = text.find("1")
            while at >= 0:
                stop = text.find("0", at)
                stop = _CHUNK if stop < 0 else stop
                yield number * _CHUNK + at, stop - at
                at = text.find("1", stop)

    def _take_within(self, number: int, place: int, first: int, count: int) -> Iterator[tuple[int, int]]:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = bytearray(_CHUNK >> 3)
        begin, end = place >> 3, (place + count + 7) >> 3
        bits = int.from_bytes(chunk[begin:end], "little")
        mask = (1 << count) - 1
        taken = bits >> (place & 7) & mask
        if taken == mask:
            return
        chunk[begin:end] = (bits | mask << (place & 7)).to_bytes(end - begin, "little")
        if not taken:
            yield first, count
            return
        text = f"{taken:0{count}b}"[::-1]  # one character for each page: runs are found without a step for each
        at = text.find("0")
        while at >= 0:
            stop = text.find("1", at)
            stop = count if stop < 0 else stop
            yield first + at, stop - at
            at = text.find("0", stop)


class Assembly:
    """One database that is being made in an empty file. Leaving it as a context manager forgets what it holds."""

    def __init__(
        self,
        path: str | Path,
        descriptor: int,
        *,
        threads: int,
        read_back: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        """`descriptor` is of the empty file `path`; with `read_back`, `finish` compares every page again.

        `size` is what the database must have, bytes of a page and pages; None where whatever it has will do.
        """
        self.path = Path(path)
        self._fd = descriptor
        self._threads = threads
        self._said = size
        self._newest: PageSetInfo | None = None
        self._claims = Claims()
        self._sum = 0  # XOR of the sums of the pages taken
        self._written = 0  # pages
        self._waiting: dict[int, bytes] = {}  # last versions, by page number
        self._sorted: list[int] = []  # the numbers of those, while a snapshot is gone through
        self._newer: tuple[tuple[int, bytes], ...] = ()  # those of the frame that was chosen from last
        self._room = min(WAITING, _available() // 4)  # bytes of those that may still come
        self._sums = Table(self.path.parent, SUMS_ENTRY) if read_back else None

    def add(self, paths: Sequence[str | Path], progress: Progress | None = None) -> list[PageSetInfo]:
        """Take what is not taken yet from page sets, each older than the one before; return what they are.

        All are opened before anything is taken of one: where one is not there, nothing has changed. Whatever else it
        raises, what was written is worthless. The first one of all says what the database is to be; room for it is
        allocated then. Raises RepositoryDamaged, OutOfSpace or TargetFailed.
        """
        with ExitStack() as stack:
            files = [stack.enter_context(PageSetFile(path, prove=False)) for path in paths]
            todo = deque(files)
            while todo:
                self._admit(todo[0])
                self._take_in(todo, progress)
            return [file.info for file in files]

    def _take_in(self, todo: deque[PageSetFile], progress: Progress | None) -> None:
        """Take what is not taken yet from segments, up to the next snapshot, or from one snapshot.

        Not from both together: what waits for a snapshot's frame must be there when that comes.
        """
        segments = todo[0].is_segment
        self._sorted = [] if segments else sorted(self._waiting)
        behind = Behind(self._fd)
        taken: deque[PageSetFile] = deque()  # whose SHA-256 is not proved yet
        digests: dict[int, hashlib._Hash] = {}

        def stretches() -> Iterator[Stretch]:
            while todo and todo[0].is_segment == segments and (segments or not digests):
                file = todo.popleft()
                taken.append(file)
                digests[file.fileno()] = hashlib.sha256()
                if segments:
                    yield from file.stretches(self._choose)
                else:
                    yield from file.stretches(self._choose_around, lambda: self._newer)
                if todo:
                    self._admit(todo[0])  # while threads are at work on the one before

        def complete() -> None:
            file = taken.popleft()
            file.prove_digest(digests[file.fileno()], file.info.numbers_offset)

        keep = self._keep if segments else None
        try:
            for stretch, data in spread_in(
                stretches(), fd_out=self._fd, page_size=self._size[0], threads=self._threads, keep=keep
            ):
                while taken[0].fileno() != stretch.file:
                    complete()
                digests[stretch.file].update(data)
                self._tell(stretch, None if segments else behind, progress)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.path}") from error
        while taken:
            complete()

    def finish(self, progress: Progress | None = None) -> None:
        """Prove that the database is whole and make it durable; compare every page again if that was asked for.

        Raises RepositoryDamaged, VerificationFailed, OutOfSpace or TargetFailed: what was written is worthless then.
        """
        if self._newest is None:
            raise ValueError("nothing was added")
        page_size, pages = self._size
        lock = lock_page(page_size)
        missing = pages - self._claims.count - (pages >= lock and not self._claims.holds(lock))
        if missing:
            raise RepositoryDamaged(f"{missing:,} pages of {self.path} are in none of the page sets that make it")
        if self._sum != self._newest.database_sum:
            raise RepositoryDamaged(
                f"the pages of {self.path} make the database sum {self._sum:016x}, not {self._newest.database_sum:016x}"
            )
        try:
            for first, count in runs_of(sorted(self._waiting)):  # whatever no frame of the snapshot needed
                data = b"".join([self._waiting.pop(first + step) for step in range(count)])
                durable.write_at(self._fd, data, (first - 1) * page_size)
            os.fsync(self._fd)
            if self._sums is not None:
                self._read_back(self._sums, progress)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.path}") from error

    def close(self) -> None:
        """Forget what is kept beside the file; safe to repeat."""
        if self._sums is not None:
            self._sums.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _size(self) -> tuple[int, int]:
        """Bytes of a page, and pages of the database; 512 and 0 before anything was added."""
        return (512, 0) if self._newest is None else (self._newest.header.page_size, self._newest.header.pages)

    def _admit(self, file: PageSetFile) -> None:
        """Prove the structure of a page set; refuse one that cannot be part; let the first one say what is made."""
        file.prove()
        if self._newest is None:
            if self._said not in (None, (file.page_size, file.pages)):  # before anything has that size
                raise RepositoryDamaged(
                    f"{file.path} is of {file.pages:,} pages of {file.page_size} bytes, and not what its manifest says"
                )
            try:
                durable.allocate(self._fd, file.pages * file.page_size)
            except OSError as error:
                raise durable.failure(error, f"cannot write {self.path}") from error
            self._newest = file.info
        said = self._newest.header
        seen = file.info.header
        if (seen.timeline, seen.page_size) != (said.timeline, said.page_size) and file.is_segment:
            raise RepositoryDamaged(
                f"{file.path} is a segment of another database than that of {self._newest.position}"
            )
        if seen.page_size != said.page_size:
            raise RepositoryDamaged(f"{file.path} has pages of {seen.page_size} bytes, not {said.page_size}")

    def _choose(self, runs: Runs, sums: bytes) -> Wanted:
        """Take from one frame what is not taken yet."""
        wanted = self._claims.take_all(runs, self._size[1])
        taken = b"".join([sums[at * SUMS_ENTRY : (at + some) * SUMS_ENTRY] for at, _, some in wanted])
        self._sum ^= backend().fold(taken)
        if self._sums is not None:
            for at, start, some in wanted:
                self._sums.put(start - 1, sums[at * SUMS_ENTRY : (at + some) * SUMS_ENTRY])
        return wanted

    def _keep(self, first: int, pages: memoryview) -> bool:
        """Let pages of a segment wait for the frame of the snapshot that they are in the midst of."""
        page_size = self._size[0]
        count = len(pages) // page_size
        if self._room < len(pages) or count * page_size >= FRAME_BYTES // 4:  # long runs are written soon enough
            return False
        self._room -= len(pages)
        for step in range(count):
            self._waiting[first + step] = bytes(pages[step * page_size : (step + 1) * page_size])
        return True

    def _choose_around(self, runs: Runs, sums: bytes) -> Wanted:
        """Take from one frame of a snapshot what is not taken yet, and what waits to be written with it."""
        first, count = runs[0]
        begin, end = bisect_left(self._sorted, first), bisect_left(self._sorted, first + count)
        newer = self._newer = tuple([(pgno - first, self._waiting.pop(pgno)) for pgno in self._sorted[begin:end]])
        self._room += len(newer) * self._size[0]
        if (
            self._sums is None
            and first + count - 1 <= self._size[1]
            and self._claims.take_rest(first, count, len(newer))
        ):
            # All of the frame is written, so neither its pages nor their sums need be gone through one by one.
            replaced = b"".join([sums[place * SUMS_ENTRY : (place + 1) * SUMS_ENTRY] for place, _ in newer])
            self._sum ^= backend().fold(sums) ^ backend().fold(replaced)
            return ((0, first, count),)
        wanted = self._choose(runs, sums)
        if not newer:
            return wanted
        places = sorted([*(at + step for at, _, some in wanted for step in range(some)), *(at for at, _ in newer)])
        return tuple((at, first + at, some) for at, some in runs_of(places))

    def _tell(self, stretch: Stretch, behind: Behind | None, progress: Progress | None) -> None:
        """Note that a stretch is done."""
        page_size, pages = self._size
        for frame in stretch.frames:
            self._written += sum(some for _, _, some in frame.wanted) - len(frame.newer)
        if behind is not None and stretch.frames:
            first, count = stretch.frames[-1].runs[-1]
            behind.advance(min(pages, first - 1 + count) * page_size)
        if progress is not None:
            progress(self._written, pages)

    def _read_back(self, recorded: Table, progress: Progress | None) -> None:
        """Compare every page of the durable file with its recorded sum, from the disk where the system allows."""

        def wrong(pgno: int | None) -> VerificationFailed:
            return VerificationFailed(f"page {pgno} of {self.path} did not read back as it was written", pgno=pgno)

        page_size, pages = self._size
        source = PageSource(database=self._fd, page_size=page_size, pages=pages, file_size=pages * page_size)
        try:
            for first, sums in scan_sums(source, threads=self._threads, progress=progress, from_disk=True):
                for place, _ in differing_runs(sums, recorded.get(first - 1, len(sums) // SUMS_ENTRY)):
                    raise wrong(first + place)
        except ShortRead as error:
            raise wrong(error.pgno) from error
