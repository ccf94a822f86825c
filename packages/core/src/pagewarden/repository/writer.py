"""Writing a snapshot: frames as they are copied, again where pages changed since, then index, sums and trailer.

Runs in the page reader. Memory does not grow with the database: the index and the sums wait in spools.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pagewarden import durable
from pagewarden.pages import (
    Batch,
    Behind,
    PageSource,
    StoredFrame,
    backend,
    copy_out,
    differing_runs,
    out_slots,
    scan_sums,
)
from pagewarden.pages import Progress as PageProgress
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer, hash64
from pagewarden.repository.format import HEADER_SIZE, PageSetHeader, PageSetInfo

_SPOOL = 4 << 20  # bytes of index or sums that stay in memory


_ASIDE = 1 << 18  # bytes of pages put aside at once; a multiple of every page size


class _Table:
    """Entries of a fixed size by their number, in memory while they are few and in an unnamed file beyond."""

    def __init__(self, folder: Path, entry_size: int) -> None:
        # Beside the file that is written: there is room, and the same people may read it. Closed by close().
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=str(folder))  # noqa: SIM115
        self._entry_size = entry_size
        self.count = 0  # entries, those never written included

    def put(self, number: int, entries: durable.Buffer) -> None:
        self._file.seek(number * self._entry_size)
        self._file.write(entries)
        self.count = max(self.count, number + len(entries) // self._entry_size)

    def get(self, number: int, count: int) -> bytes:
        """Return entries, fewer where there are no more; entries that were skipped are zeros."""
        self._file.seek(number * self._entry_size)
        return self._file.read(count * self._entry_size)

    def cut(self, count: int) -> None:
        self._file.truncate(count * self._entry_size)
        self.count = min(self.count, count)

    def close(self) -> None:
        self._file.close()


class _Aside:
    """Pages put aside, as they are, at their places in an unnamed file: to be copied when no lock is held any more."""

    def __init__(self, folder: Path, source: PageSource) -> None:
        self._file = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115 - closed by close()
        self.source = replace(source, database=self._file.fileno(), wal=-1, frames=b"", file_size=0)
        self.runs: list[tuple[int, int]] = []  # first page, count
        self._buffer = bytearray(_ASIDE)

    def put(self, source: PageSource, first: int, count: int) -> None:
        """Take the pages of a run from `source`."""
        step = len(self._buffer) // source.page_size
        for start in range(first, first + count, step):
            some = min(step, first + count - start)
            backend().read(source, start, some, self._buffer)
            data = memoryview(self._buffer)[: some * source.page_size]
            durable.write_at(self._file.fileno(), data, (start - 1) * source.page_size)
        size = max(self.source.file_size, (first - 1 + count) * source.page_size)
        self.source = replace(self.source, pages=source.pages, file_size=size)
        self.runs.append((first, count))

    def close(self) -> None:
        self._file.close()


class SnapshotWriter:
    """Writes one snapshot to a new file: `copy` (and `recopy_changed`) until every page is there, then `seal`.

    Leaving it as a context manager without `seal` abandons it: the file is removed. Errors of the file that is written
    are OutOfSpace or TargetFailed; those of the database that is read are left as `pagewarden.pages` raises them. Not
    for two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader, *, level: int, threads: int) -> None:
        """Create the file `path`, which must not exist. `level` is zstd's. Pages and time may be settled by `seal`."""
        self.path = Path(path)
        self.header = header
        self._level = level
        self._threads = threads
        self._frames = _Table(self.path.parent, blocks.INDEX_ENTRY)
        self._sums = _Table(self.path.parent, blocks.SUMS_ENTRY)
        self._end = HEADER_SIZE  # of the file so far, bytes
        self._next = 0  # the frame that comes next while frames stand in page order
        self._ordered = True  # whether the file holds frames 0, 1, 2 … and nothing else
        self._sha = hashlib.sha256()  # of the file so far, without the header, while ordered
        self._fd = -1
        self._aside: _Aside | None = None
        # Kept from copy to copy: a lock may be held while they are made.
        self._slots = out_slots(
            pages_per_frame=header.pages_per_frame, page_size=header.page_size, level=level, threads=threads
        )
        self.pages_copied = 0  # those that were copied again, or put aside, count again
        try:
            self._fd = durable.create(self.path, readable=True)
            self._behind = Behind(self._fd)
            durable.write_at(self._fd, blocks.encode_header(header), 0)
        except OSError as error:
            self.abandon()
            raise durable.failure(error, f"cannot write {self.path}") from error

    def copy(self, source: PageSource, first: int, count: int, progress: PageProgress | None = None) -> None:
        """Copy pages `first` … `first+count-1`, whole frames: `first` begins one, and the range ends one or the source.

        Frames that were copied before are replaced. The state that `seal` writes is the sum of all copies.
        """
        self._check_range(source, first, count)
        self._forget_aside()
        self._copy(source, first, count, progress)
        self.pages_copied += count

    def _copy(self, source: PageSource, first: int, count: int, progress: PageProgress | None = None) -> None:
        copy_out(
            source,
            first=first,
            count=count,
            pages_per_frame=self.header.pages_per_frame,
            level=self._level,
            threads=self._threads,
            sink=self._take,
            progress=progress,
            slots=self._slots,
        )

    def recopy_changed(
        self,
        source: PageSource,
        progress: PageProgress | None = None,
        *,
        first: int = 1,
        count: int | None = None,
        later: bool = False,
    ) -> int:
        """Hash pages of `source` and copy the frames again whose pages differ; return how many pages differed.

        All pages, or a range as `copy` takes it. Pages that were never copied count as different. Where the range
        reaches the end of `source`, what was copied beyond it is dropped. `later` only puts those frames aside, which
        is soon done: `seal` copies them. Whoever copies before that, or begins again at page 1, forgets them.
        """
        count = source.pages - first + 1 if count is None else count
        self._check_range(source, first, count)
        if not later or first == 1:
            self._forget_aside()
        changed = 0
        for start, sums in scan_sums(source, first=first, count=count, threads=self._threads, progress=progress):
            some = len(sums) // blocks.SUMS_ENTRY
            differing = _differing(sums, self._sums.get(start - 1, some))
            changed += len(differing)
            for frame, frames in _runs(self._stale_frames(source, start, some, differing)):
                begin = frame * self.header.pages_per_frame + 1
                some = min(frames * self.header.pages_per_frame, source.pages - begin + 1)
                if later:
                    self._put_aside(source, begin, some)
                else:
                    self._copy(source, begin, some)
                self.pages_copied += some
        if first + count - 1 == source.pages:
            self._cut(source.pages)
        return changed

    def seal(self, *, pages: int, time: datetime | None = None) -> PageSetInfo:
        """Finish the file as the snapshot of a database of `pages` pages and return what it is; it is durable then.

        `time` replaces the header's. Raises ValueError if pages are missing.
        """
        header = replace(self.header, pages=pages, time=time or self.header.time)
        if self._aside is not None:
            for first, count in self._aside.runs:
                self._copy(self._aside.source, first, count)
            self._forget_aside()
        self._cut(pages)
        for number in range(0, header.frames, blocks.BLOCK_ENTRIES):
            self._check_complete(header, number)
        try:
            if not self._ordered:
                self._reorder(header)
            self.header = header
            durable.write_at(self._fd, blocks.encode_header(header), 0)
            info = self._finish()
            os.fsync(self._fd)
        except OSError as error:
            self.abandon()
            raise durable.failure(error, f"cannot write {self.path}") from error
        self._close()
        return info

    def abandon(self) -> None:
        """Remove what was written. Safe at any time; after `seal` it does nothing."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon()

    def _put_aside(self, source: PageSource, first: int, count: int) -> None:
        try:
            if self._aside is None:
                self._aside = _Aside(self.path.parent, source)
            self._aside.put(source, first, count)
        except OSError as error:
            raise durable.failure(error, f"cannot write beside {self.path}") from error

    def _forget_aside(self) -> None:
        if self._aside is not None:
            self._aside.close()
            self._aside = None

    def _close(self) -> None:
        self._forget_aside()
        self._frames.close()
        self._sums.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: durable.Buffer, offset: int) -> None:
        durable.write_at(self._fd, data, offset)
        self._sha.update(data)

    def _take(self, batch: Batch) -> None:
        """Store one batch of frames, in page order within itself."""
        try:
            offset = self._end
            for frame in batch.frames:
                number = self.header.frame_of(frame.first)
                self._ordered = self._ordered and number == self._next
                self._next = number + 1
                entry = StoredFrame(offset=offset, csize=frame.csize, first=frame.first, count=frame.count)
                self._frames.put(number, blocks.encode_entry(entry))
                offset += frame.csize
            self._sums.put(batch.frames[0].first - 1, batch.sums)
            durable.write_at(self._fd, batch.data, self._end)
            self._end = offset
            self._behind.advance(offset)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.path}") from error
        if self._ordered:
            self._sha.update(batch.data)

    def _check_range(self, source: PageSource, first: int, count: int) -> None:
        per_frame, last = self.header.pages_per_frame, first + count - 1
        if source.page_size != self.header.page_size:
            raise ValueError(f"pages of {source.page_size} bytes do not fit a snapshot of {self.header.page_size}")
        if (first - 1) % per_frame or (last % per_frame and last != source.pages):
            raise ValueError(f"pages {first} to {last} are not whole frames of {per_frame}")

    def _stale_frames(self, source: PageSource, first: int, count: int, differing: list[int]) -> list[int]:
        """Return the numbers of frames to copy again: those of `differing` pages, and those of another length."""
        frames = {self.header.frame_of(first + place) for place in differing}
        now = replace(self.header, pages=source.pages)
        begin, end = now.frame_of(first), now.frame_of(first + count - 1) + 1
        known = [(frame.first, frame.count) for frame in self._stored(begin, end - begin)]
        frames |= {k for k in range(begin, end) if known[k - begin : k - begin + 1] != [now.frame_pages(k)]}
        return sorted(frames)

    def _stored(self, number: int, count: int) -> Iterator[StoredFrame]:
        return blocks.iter_entries(self._frames.get(number, count))

    def _cut(self, pages: int) -> None:
        """Forget frames and sums beyond a database of `pages` pages."""
        frames = -(-pages // self.header.pages_per_frame)
        if self._frames.count > frames:
            self._ordered = False
        self._frames.cut(frames)
        self._sums.cut(pages)

    def _check_complete(self, header: PageSetHeader, number: int) -> None:
        """Refuse to seal with a frame missing, or a last frame of another length, from frame `number` on."""
        wanted = min(blocks.BLOCK_ENTRIES, header.frames - number)
        stored = [(frame.first, frame.count) for frame in self._stored(number, wanted)]
        missing = [k for k in range(wanted) if k >= len(stored) or stored[k] != header.frame_pages(number + k)]
        if missing:
            first, count = header.frame_pages(number + missing[0])
            raise ValueError(f"pages {first} to {first + count - 1} of {header.pages} were not copied as one frame")

    def _reorder(self, header: PageSetHeader) -> None:
        """Write the frames again in page order, without those that were replaced."""
        ordered = self.path.with_name(f"{self.path.name}.ordered")
        target = durable.create(ordered, readable=True)
        try:
            self._sha = hashlib.sha256()
            end = HEADER_SIZE
            for number in range(header.frames):
                frame = next(self._stored(number, 1))
                data = os.pread(self._fd, frame.csize, frame.offset)
                durable.write_at(target, data, end)
                self._sha.update(data)
                self._frames.put(number, blocks.encode_entry(replace(frame, offset=end)))
                end += frame.csize
            ordered.replace(self.path)
        except BaseException:
            os.close(target)
            ordered.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd, self._end, self._ordered = target, end, True

    def _finish(self) -> PageSetInfo:
        """Append index, sums and trailer."""
        header = self.header
        data_bytes = self._end - HEADER_SIZE
        index_check = self._append_blocks(blocks.INDEX_TAG, self._frames, header.frames, blocks.INDEX_ENTRY)
        database_sum = 0
        for number in range(0, header.pages, blocks.BLOCK_ENTRIES):
            database_sum ^= backend().fold(self._sums.get(number, min(blocks.BLOCK_ENTRIES, header.pages - number)))
        sums_check = self._append_blocks(blocks.SUMS_TAG, self._sums, header.pages, blocks.SUMS_ENTRY)
        trailer = Trailer(
            data_bytes=data_bytes,
            frames=header.frames,
            pages=header.pages,
            header_check=int.from_bytes(blocks.encode_header(header)[-8:], "little"),
            index_check=index_check,
            sums_check=sums_check,
            database_sum=database_sum,
            sha256=b"",
        )
        self._append(blocks.encode_trailer(trailer), self._end)
        self._sha.update(blocks.encode_header(header))
        digest = self._sha.digest()
        durable.write_at(self._fd, blocks.close(digest), self._end + blocks.TRAILER_SIZE - blocks.DIGEST_TAIL)
        return blocks.info_of(header, replace(trailer, sha256=digest))

    def _append_blocks(self, tag: bytes, table: _Table, entries: int, entry_size: int) -> int:
        """Append all blocks of one kind; return the XXH64 over their checksums."""
        checks = bytearray()
        for number, start in enumerate(range(0, entries, blocks.BLOCK_ENTRIES)):
            data = table.get(start, min(blocks.BLOCK_ENTRIES, entries - start))
            block = blocks.encode_block(tag, number, data, entry_size)
            self._append(block, self._end)
            self._end += len(block)
            checks += block[-8:]
        return hash64(checks)


def _differing(sums: bytes, known: bytes) -> list[int]:
    """Return the places, from 0, at which two runs of sums differ; those that `known` lacks do."""
    return [place for first, count in differing_runs(sums, known) for place in range(first, first + count)]


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) for each run of consecutive numbers in a sorted list."""
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], place - start
            start = place
