"""Writing a segment: the pages that differ from a position that is stored already.

Runs in the page reader, and has the verbs of `SnapshotWriter`, so that one protocol settles both (live/settle.py).

1. `copy` hashes pages and compares with the page map of the base. When it has reached the end of the database, it
   gathers what differs into frames, in page order. A page's sum is taken of the very bytes that are stored.
2. `recopy_changed` compares with what is held by now: the stored sum of a page, or the base's. What differs is put
   aside as it is.
3. `seal` looks which pages differ from the base in the end, whatever they did meanwhile. Mostly that is what the file
   holds; otherwise its frames are made again from what was put aside and what is still good.
4. The database sum is the base's, XOR the old and new sums of what the segment holds (H22). It must be that of the last
   whole look at the database, or the segment is not sealed.

Where more than half of the pages differ, `copy` gives up: a snapshot is the better choice. Memory does not grow with
the database: sums are read from the map in ranges, and what is stored waits in spools.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import VerificationFailed
from pagewarden.pages import (
    Gathered,
    PageDataError,
    PageSource,
    backend,
    differing_runs,
    lock_page,
    scan_sums,
)
from pagewarden.pages import Progress as PageProgress
from pagewarden.repository import blocks
from pagewarden.repository.container import PageSetWriter, SegmentContainer, pack_runs
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.mapfacts import Changes
from pagewarden.repository.pagemap import PageMap

_RUN = struct.Struct("<II")  # first page, count
_SUM = blocks.SUMS_ENTRY
_AT_ONCE = blocks.BLOCK_ENTRIES  # sums that are in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What differs from the base, all in all."""

    pages: int  # of the database
    count: int  # pages that differ
    delta: int  # XOR of their sums, old and new
    ordered: bool  # whether the file's frames hold exactly those


class SegmentWriter(SegmentContainer, PageSetWriter):
    """Writes one segment to a new file: `copy`, `recopy_changed`, then `changes`, and `seal` if they are worth it.

    Leaving it as a context manager without `seal` abandons it: the file is removed. Errors of the file that is written
    are OutOfSpace or TargetFailed; those of the database that is read are left as `pagewarden.pages` raises them. Not
    for two threads at once.
    """

    def __init__(self, path: str | Path, header: PageSetHeader, base: PageMap, *, level: int, threads: int) -> None:
        """Create the file `path`, which must not exist. `base` is closed with the writer."""
        self._base = base
        if header.kind is not Kind.SEGMENT or (header.timeline, header.txid_from, header.page_size) != (
            base.facts.timeline,
            base.facts.txid,
            base.facts.page_size,
        ):
            raise ValueError(f"a segment from {header.txid_from} does not begin at {base.facts}")
        super().__init__(path, header, level=level, threads=threads)
        self._lock_page = lock_page(header.page_size)
        self._stored = self._table(_SUM, sparse=True)  # by page: sums of those stored or put aside; 0: as in the base
        self._runs = self._table(_RUN.size)  # those that differ, until the copy reaches the end
        self._copied = False  # whether frames were gathered, or had better not be
        self._found = 0  # pages that the copy found to differ
        self._too_many = False
        self._seen, self._covered = 0, 0  # XOR of the sums of the last look, and the pages that it came to
        self._source: PageSource | None = None  # the last one
        self._looked: _Look | None = None  # what was found since

    def copy(self, source: PageSource, first: int, count: int, progress: PageProgress | None = None) -> None:
        """Compare pages `first` … `first+count-1` with the base; at the end of the source store what differs."""
        if self._copied:
            self.recopy_changed(source, progress, first=first, count=count)
            return
        for start, sums in self._scan(source, first, count, progress):
            for place, some in self._differing(start, sums, self._base.sums(start, len(sums) // _SUM)):
                self._runs.put(self._runs.count, _RUN.pack(place, some))
                self._found += some
            if self._is_too_much(self._found, source.pages):
                self._too_many = self._copied = True
                return
        if first + count - 1 == source.pages:
            self._copied = True
            self._gather(source, self._found_runs())

    def recopy_changed(
        self,
        source: PageSource,
        progress: PageProgress | None = None,
        *,
        first: int = 1,
        count: int | None = None,
        later: bool = False,  # noqa: ARG002 - see SnapshotWriter: everything is put aside here, and copied by `seal`
    ) -> int:
        """Hash pages of `source` and put aside those that differ from what is held; return how many did.

        All pages, or a range. Where it reaches the end of `source`, what was held beyond it is forgotten.
        """
        self._copied = True
        if self._too_many:
            return 0
        count = source.pages - first + 1 if count is None else count
        before = self.pages_copied
        for start, sums in self._scan(source, first, count, progress):
            for place, some in self._differing(start, sums, self._held(start, len(sums) // _SUM)):
                self._put_aside(source, place, some)
        if first + count - 1 == source.pages:
            self._stored.cut(source.pages)
        return self.pages_copied - before

    def changes(self, pages: int) -> Changes:
        """Return what differs from the base, of a database of `pages` pages."""
        found = self._found if self._too_many else self._look(pages).count
        return Changes(
            pages=found,
            too_many=self._too_many or self._is_too_much(found, pages),
            resized=pages != self._base.pages,
        )

    def seal(self, *, pages: int, time: datetime | None = None) -> PageSetInfo:
        """Finish the file as the segment to a database of `pages` pages and return what it is; it is durable then.

        `time` replaces the header's. Raises ValueError if more differs than a segment is for, and VerificationFailed if
        what is stored does not make the database that was seen last.
        """
        if self._too_many:
            raise ValueError("more than half of the pages differ, and were not copied")
        header = replace(self.header, pages=pages, time=time or self.header.time)
        with self._errors():
            database_sum = self._prove(pages)
            if not self._look(pages).ordered:
                self._make_again(pages)
            return self._finish(header, self._trailer(self._base.facts.database_sum, database_sum))

    def _close(self) -> None:
        super()._close()
        self._base.close()

    # What differs

    def _scan(
        self, source: PageSource, first: int, count: int, progress: PageProgress | None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the sums of a range, and remember what a whole look at the database adds up to."""
        if source.page_size != self.header.page_size:
            raise ValueError(f"pages of {source.page_size} bytes do not fit a segment of {self.header.page_size}")
        self._source, self._looked = source, None
        if first == 1:
            self._seen, self._covered = 0, 0
        for start, sums in scan_sums(source, first=first, count=count, threads=self._threads, progress=progress):
            if start == self._covered + 1:
                self._seen ^= backend().fold(sums)
                self._covered += len(sums) // _SUM
            yield start, sums

    def _differing(self, first: int, sums: bytes, known: bytes) -> Iterator[tuple[int, int]]:
        """Yield (first page, count) of runs that differ from `known`, or that it lacks, without the lock-byte page."""
        for place, count in differing_runs(sums, known):
            begin, past = first + place, first + place + count
            if begin <= self._lock_page < past:  # only where the base ended before it: it never holds data (H12)
                if begin < self._lock_page:
                    yield begin, self._lock_page - begin
                begin = self._lock_page + 1
            if begin < past:
                yield begin, past - begin

    def _held(self, first: int, count: int) -> bytes:
        """Return the sums of pages as they are held: as stored, else as in the base, fewer where neither has more."""
        known = self._base.sums(first, count)
        stored = self._stored.get(first - 1, count)
        if stored == bytes(len(stored)):
            return known
        held = bytearray(known) + stored[len(known) :]
        for place, some in differing_runs(stored[: len(known)], bytes(len(known))):
            held[place * _SUM : (place + some) * _SUM] = stored[place * _SUM : (place + some) * _SUM]
        return bytes(held)

    def _is_too_much(self, found: int, pages: int) -> bool:
        return found * 2 > pages

    def _final(self, pages: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield what differs from the base in the end, in page order: page numbers, their sums, and the base's sums."""
        for start in range(1, pages + 1, _AT_ONCE):
            size = min(_AT_ONCE, pages - start + 1) * _SUM
            stored = self._stored.get(start - 1, size // _SUM).ljust(size, b"\0")
            inside = max(0, min(size, (self._base.pages - start + 1) * _SUM))
            runs = []
            known = b""
            if stored[:inside] != bytes(inside):
                known = self._base.sums(start, inside // _SUM)
                for place, count in differing_runs(stored[:inside], bytes(inside)):
                    begin, end = place * _SUM, (place + count) * _SUM
                    back = differing_runs(stored[begin:end], known[begin:end])  # without those that changed back
                    runs += [(start + place + at, some) for at, some in back]
            # Those that are new differ, whatever their sums: one that was never seen has none, and fits nothing (H21).
            runs += self._differing(start + inside // _SUM, stored[inside:], b"")
            if runs:
                spans = [((first - start) * _SUM, (first - start + some) * _SUM) for first, some in runs]
                yield pack_runs(runs), b"".join(stored[a:b] for a, b in spans), b"".join(known[a:b] for a, b in spans)

    def _found_runs(self) -> Iterator[tuple[int, int]]:
        for number in range(0, self._runs.count, _AT_ONCE):
            yield from _RUN.iter_unpack(self._runs.get(number, _AT_ONCE))

    def _final_runs(self, pages: int) -> Iterator[tuple[int, int]]:
        for numbers, _, _ in self._final(pages):
            for (pgno,) in struct.iter_unpack("<I", numbers):
                yield pgno, 1

    # What is stored

    def _take(self, frame: Gathered) -> None:
        """Append one frame, and remember what it holds."""
        super()._take(frame)
        with self._errors():
            self._stored.put_runs(((first - 1, some) for first, some in frame.runs), frame.sums)

    def _put_aside(self, source: PageSource, first: int, count: int) -> None:
        try:
            self._stored.put(first - 1, self._set_aside(source).take(source, first, count))
        except OSError as error:
            raise durable.failure(error, f"cannot write beside {self.path}") from error
        self.pages_copied += count

    def _look(self, pages: int) -> _Look:
        """Go once through what differs from the base in the end."""
        if self._looked is None or self._looked.pages != pages:
            fold = backend().fold
            count, delta, ordered = 0, 0, True
            for numbers, new, old in self._final(pages):
                some = len(new) // _SUM
                ordered = ordered and (numbers, new) == (self._numbers.get(count, some), self._sums.get(count, some))
                delta ^= fold(new) ^ fold(old)
                count += some
            ordered = ordered and count == self._numbers.count
            self._looked = _Look(pages=pages, count=count, delta=delta, ordered=ordered)
        return self._looked

    def _prove(self, pages: int) -> int:
        """Return the database sum of the chain, proved against the last look at the database (H22)."""
        database_sum = self._base.facts.database_sum ^ self._look(pages).delta
        for start in range(pages + 1, self._base.pages + 1, _AT_ONCE):
            database_sum ^= backend().fold(self._base.sums(start, _AT_ONCE))
        if (self._seen, self._covered) != (database_sum, pages):
            raise VerificationFailed(
                f"the pages in {self.path} make a database of the sum {database_sum:016x}; {self._covered} pages of "
                f"{pages} were seen, with the sum {self._seen:016x}",
                hint="try again; if it happens again, look at the disk and the memory: dmesg | tail",
            )
        return database_sum

    def _make_again(self, pages: int) -> None:
        """Make the frames again, from what was put aside and what is still good of them."""
        assert self._source is not None
        aside = self._set_aside(self._source)
        per_frame, size = self.header.pages_per_frame, self.header.page_size
        decompressor, room = backend().decompressor(), bytearray(per_frame * size)
        for number in range(self._index.count):
            (frame,) = blocks.iter_entries(self._index.get(number, 1))
            sums = self._sums.get(number * per_frame, frame.count)
            try:
                decompressor.decompress(os.pread(self._fd, frame.csize, frame.offset), size, 1, frame.count, room)
            except PageDataError as error:
                raise self._not_read_back() from error
            for place, (pgno,) in enumerate(
                struct.iter_unpack("<I", self._numbers.get(number * per_frame, frame.count))
            ):
                if self._stored.get(pgno - 1, 1) == sums[place * _SUM : (place + 1) * _SUM]:
                    aside.put(pgno, memoryview(room)[place * size : (place + 1) * size])
        wanted_look = replace(self._look(pages), ordered=True)
        for table in (self._index, self._numbers, self._sums):
            table.cut(0)
        wanted = replace(aside.source, pages=pages)
        self._write_anew(lambda _old: self._gather(wanted, self._final_runs(pages)))
        self._looked = None
        if self._look(pages) != wanted_look:  # sums are of what was read now
            raise self._not_read_back()

    def _not_read_back(self) -> VerificationFailed:
        return VerificationFailed(
            f"what was copied for {self.path} did not read back as it was written",
            hint=f"look at the disk of {self.path.parent}: dmesg | tail",
        )
