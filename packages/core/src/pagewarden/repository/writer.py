"""Writing a snapshot: frames as they are copied, again where pages changed since, then index, sums and trailer.

Runs in the page reader. Memory does not grow with the database: the index and the sums wait in spools.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged, VerificationFailed
from pagewarden.pages import (
    Batch,
    FrameCopy,
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
from pagewarden.repository.blocks import Trailer
from pagewarden.repository.container import PageSetWriter
from pagewarden.repository.format import HEADER_SIZE, PageSetHeader, PageSetInfo


class SnapshotWriter(PageSetWriter):
    """Writes one snapshot to a new file: `copy` (and `recopy_changed`) until every page is there, then `seal`.

    Leaving it as a context manager without `seal` abandons it: the file is removed. Errors of the file that is written
    are OutOfSpace or TargetFailed; those of the database that is read are left as `pagewarden.pages` raises them. Not
    for two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader, *, level: int, threads: int) -> None:
        """Create the file `path`, which must not exist. `level` is zstd's. Pages and time may be settled by `seal`."""
        super().__init__(path, header)
        self._level = level
        self._threads = threads
        self._sums = self._table(blocks.SUMS_ENTRY)
        self._next = 0  # the frame that comes next while frames stand in page order
        self._ordered = True  # whether the file holds frames 0, 1, 2 … and nothing else
        self._late: list[tuple[int, bytes]] = []  # runs that were put aside: first page, sums
        # Kept from copy to copy: a lock may be held while they are made.
        self._slots = out_slots(
            pages_per_frame=header.pages_per_frame, page_size=header.page_size, level=level, threads=threads
        )

    def copy(self, source: PageSource, first: int, count: int, progress: PageProgress | None = None) -> None:
        """Copy pages `first` … `first+count-1`, whole frames: `first` begins one, and the range ends one or the source.

        Frames that were copied before are replaced. The state that `seal` writes is the sum of all copies.
        """
        self._check_range(source, first, count)
        self._forget_late()
        self._copy(source, first, count, progress)
        self.pages_copied += count

    def copy_stored(self, file: int, frames: tuple[StoredFrame, ...], sums: bytes) -> None:
        """Take frames of another snapshot as they are stored in `file`, one after the other there.

        `sums` are those recorded of their pages. Nothing is proved here: whoever reads the new file back does.
        """
        begin, end = frames[0].offset, frames[-1].offset + frames[-1].csize
        with self._errors():
            data = os.pread(file, end - begin, begin)
        if len(data) != end - begin:
            raise RepositoryDamaged(f"the snapshot that {self.path} is made of was cut off while it was read")
        copies = tuple(FrameCopy(first=each.first, count=each.count, csize=each.csize) for each in frames)
        self._forget_late()
        self._take(Batch(frames=copies, data=memoryview(data), sums=sums))

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
            self._forget_late()
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

        `time` replaces the header's. Raises ValueError if pages are missing, VerificationFailed if pages that were put
        aside did not read back as they were written.
        """
        header = replace(self.header, pages=pages, time=time or self.header.time)
        if self._aside is not None:
            for first, sums in self._late:
                count = len(sums) // blocks.SUMS_ENTRY
                self._copy(self._aside.source, first, count)
                if self._sums.get(first - 1, count) != sums:
                    raise VerificationFailed(
                        f"what was put aside for {self.path} did not read back as it was written",
                        hint=f"look at the disk of {self.path.parent}: dmesg | tail",
                    )
        self._forget_late()
        self._cut(pages)
        for number in range(0, header.frames, blocks.BLOCK_ENTRIES):
            self._check_complete(header, number)
        with self._errors():
            if not self._ordered:
                self._write_anew(lambda old: self._reorder(header, old))
            return self._finish(header, self._trailer(header))

    def _put_aside(self, source: PageSource, first: int, count: int) -> None:
        try:
            self._late.append((first, self._set_aside(source).take(source, first, count)))
        except OSError as error:
            raise durable.failure(error, f"cannot write beside {self.path}") from error

    def _forget_late(self) -> None:
        self._late = []
        self._forget_aside()

    def _take(self, batch: Batch) -> None:
        """Store one batch of frames, in page order within itself."""
        with self._errors():
            offset = self._end
            for frame in batch.frames:
                number = self.header.frame_of(frame.first)
                self._ordered = self._ordered and number == self._next
                self._next = number + 1
                entry = StoredFrame(offset=offset, csize=frame.csize, first=frame.first, count=frame.count)
                self._index.put(number, blocks.encode_entry(entry))
                offset += frame.csize
            self._sums.put(batch.frames[0].first - 1, batch.sums)
            self._append(batch.data)
            self._behind.advance(offset)

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
        return blocks.iter_entries(self._index.get(number, count))

    def _cut(self, pages: int) -> None:
        """Forget frames and sums beyond a database of `pages` pages."""
        frames = -(-pages // self.header.pages_per_frame)
        if self._index.count > frames:
            self._ordered = False
        self._index.cut(frames)
        self._sums.cut(pages)

    def _check_complete(self, header: PageSetHeader, number: int) -> None:
        """Refuse to seal with a frame missing, or a last frame of another length, from frame `number` on."""
        wanted = min(blocks.BLOCK_ENTRIES, header.frames - number)
        stored = [(frame.first, frame.count) for frame in self._stored(number, wanted)]
        missing = [k for k in range(wanted) if k >= len(stored) or stored[k] != header.frame_pages(number + k)]
        if missing:
            first, count = header.frame_pages(number + missing[0])
            raise ValueError(f"pages {first} to {first + count - 1} of {header.pages} were not copied as one frame")

    def _reorder(self, header: PageSetHeader, old: int) -> None:
        """Append the frames again, in page order, without those that were replaced."""
        for number in range(header.frames):
            frame = next(self._stored(number, 1))
            self._index.put(number, blocks.encode_entry(replace(frame, offset=self._end)))
            self._append(os.pread(old, frame.csize, frame.offset))
        self._ordered = True

    def _trailer(self, header: PageSetHeader) -> Trailer:
        """Append index and sums; return what the trailer says, but for what is known last."""
        data_bytes = self._end - HEADER_SIZE
        database_sum = 0
        for number in range(0, header.pages, blocks.BLOCK_ENTRIES):
            database_sum ^= backend().fold(self._sums.get(number, min(blocks.BLOCK_ENTRIES, header.pages - number)))
        return Trailer(
            data_bytes=data_bytes,
            frames=header.frames,
            pages=header.pages,
            header_check=0,
            index_check=self._append_blocks(blocks.INDEX_TAG, self._index, header.frames),
            sums_check=self._append_blocks(blocks.SUMS_TAG, self._sums, header.pages),
            database_sum=database_sum,
            sha256=b"",
        )


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
