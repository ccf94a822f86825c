"""Reading and proving a snapshot or a segment. Runs in the page reader, because a stored file may be hostile.

Opening a file proves its structure: header, trailer, every block, that page numbers ascend and, in a snapshot, that the
recorded sums make the database sum. `verify_pageset` proves the SHA-256 besides and, with data, that the pages are
those whose sums are recorded. What a chain of them makes is for `assemble` and `layers`; page sets of commits, which
are opened the same way, for `commits`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import lt
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import (
    Behind,
    FrameIn,
    PageDataError,
    Progress,
    Runs,
    StoredFrame,
    Stretch,
    Wanted,
    backend,
    decode_frame,
    forget,
    lock_page,
    runs_of,
    spread_in,
)
from pagewarden.pages.behind import read_from_disk
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer, hash64
from pagewarden.repository.format import HEADER_SIZE, Kind, PageSetInfo
from pagewarden.values import Position

_CHUNK = 1 << 20  # bytes hashed at once

STRETCH = 1 << 20
"""Bytes of stored frames that are read at once."""


class PageSetFile:
    """An open page set whose structure was proved. A context manager; not for two threads at once.

    A snapshot has what `contracts.PageImage` asks for. The pages that a set holds are its *entries*, counted from 0 in
    the order of their page numbers. Pages, numbers and sums are read by range, and proved again when they are read.
    Raises RepositoryDamaged for anything that is not a whole page set, TargetFailed where the file cannot be read.
    """

    KINDS: ClassVar[tuple[Kind, ...]] = (Kind.SNAPSHOT, Kind.SEGMENT)
    """Those that can be opened: where one of them is expected, another kind is damage."""

    def __init__(self, path: str | Path, *, prove: bool = True) -> None:
        """Open the file at `path` and prove its structure; without `prove`, that is left to the caller, who must."""
        self.path = Path(path)
        self._where = str(path)
        self._blocks: dict[bytes, tuple[int, memoryview]] = {}  # by tag: number and entries of the last one read
        self._frame: tuple[int, memoryview] = (-1, memoryview(b""))  # number and pages of the last one decoded
        with self.errors():
            # O_NONBLOCK: a FIFO in its place must not hang the reader. On a regular file it means nothing.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if prove:
                    self.prove()
            except BaseException:
                os.close(self._fd)
                raise

    def prove(self) -> None:
        """Prove the structure."""
        with self.errors():
            self._trailer, self.info = self._prove_structure()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.info.header.page_size

    @property
    def pages(self) -> int:
        """Size of the database, in pages."""
        return self.info.header.pages

    @property
    def is_segment(self) -> bool:
        """Whether it holds only the pages that changed."""
        return self.info.header.kind is Kind.SEGMENT

    @property
    def is_snapshot(self) -> bool:
        """Whether it holds every page, so that their numbers need not be stored."""
        return self.info.header.kind is Kind.SNAPSHOT

    @property
    def position(self) -> Position:
        """The position of the database that it brings it to."""
        return self.info.position

    def frames(self) -> Iterator[StoredFrame]:
        """Yield all frames, in page order."""
        offset = HEADER_SIZE
        for number in range(-(-self.info.frames // blocks.BLOCK_ENTRIES)):
            for frame in self._index(number, offset):
                yield frame
                offset = frame.offset + frame.csize

    def numbers(self, place: int, count: int) -> tuple[int, ...]:
        """Return the page numbers of entries `place` … `place+count-1`."""
        self._check_entries(place, count)
        if self.is_snapshot:
            return tuple(range(place + 1, place + 1 + count))
        return struct.unpack(f"<{count}I", self._range(blocks.NUMBERS_TAG, place, count))

    def runs(self, place: int, count: int) -> Runs:
        """Return the page numbers of entries as runs of consecutive ones."""
        if not self.is_snapshot:
            return runs_of(self.numbers(place, count))
        self._check_entries(place, count)
        return ((place + 1, count),) if count else ()

    def entry_sums(self, place: int, count: int) -> bytes:
        """Return the page sums of entries: 8 bytes each, little-endian."""
        self._check_entries(place, count)
        return self._range(blocks.SUMS_TAG, place, count)

    def place_of(self, pgno: int) -> int | None:
        """Return the entry of page `pgno`, None where it is not held."""
        if self.is_snapshot:
            return pgno - 1 if 1 <= pgno <= self.pages else None
        place = bisect_left(range(self.info.held), pgno, key=lambda at: self.numbers(at, 1)[0])
        return place if place < self.info.held and self.numbers(place, 1)[0] == pgno else None

    def sums(self, first: int, count: int) -> bytes:
        """Return the page sums of pages `first` … `first+count-1` of a snapshot: 8 bytes each, little-endian."""
        if not self.is_snapshot or first < 1 or count < 0 or first + count - 1 > self.pages:
            raise ValueError(f"pages {first} to {first + count - 1} are not all within a snapshot of {self.pages}")
        return self.entry_sums(first - 1, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page, proved by its sum. Raises ValueError for one that is not held."""
        place = self.place_of(pgno)
        if place is None:
            raise ValueError(f"page {pgno} is not within a page set of {self.info.held} pages")
        return self._page_at(place)

    def _page_at(self, place: int) -> bytes:
        """Return the page of an entry, proved by its sum."""
        header = self.info.header
        number, inside = divmod(place, header.pages_per_frame)
        if self._frame[0] != number:
            self._frame = (number, self._decode(number))
        return bytes(self._frame[1][inside * header.page_size : (inside + 1) * header.page_size])

    def close(self) -> None:
        """Close the file; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let callers meet the project's errors only."""
        try:
            yield
        except PageDataError as error:
            raise RepositoryDamaged(f"{self._where}: {error}", pgno=error.pgno, frame=error.frame) from error
        except OSError as error:
            raise durable.failure(error, f"cannot read {self._where}") from error

    def _check_entries(self, place: int, count: int) -> None:
        if place < 0 or count < 0 or place + count > self.info.held:
            raise ValueError(f"entries {place} to {place + count - 1} are not all within {self.info.held}")

    def _prove_structure(self) -> tuple[Trailer, PageSetInfo]:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise RepositoryDamaged(f"{self._where} is not a regular file")
        begin = os.pread(self._fd, HEADER_SIZE, 0)
        header = blocks.decode_header(begin, self._where)
        if header.kind not in self.KINDS:
            wanted = " or ".join(kind.name.lower() for kind in self.KINDS)
            raise RepositoryDamaged(f"{self._where} is of the kind {header.kind.name.lower()}, not {wanted}")
        end = os.pread(self._fd, blocks.TRAILER_SIZE, max(0, status.st_size - blocks.TRAILER_SIZE))
        trailer = blocks.decode_trailer(end, header, status.st_size, self._where)
        if trailer.header_check != int.from_bytes(begin[-8:], "little"):
            raise RepositoryDamaged(f"header and trailer of {self._where} are not of the same page set")
        # From here on sizes and counts are those of a file that is really as large.
        self._trailer, self.info = trailer, blocks.info_of(header, trailer)
        kinds = [
            (trailer.index_check, self._checks(blocks.INDEX_TAG, trailer.frames)),
            (
                trailer.sums_check,
                self._checks(blocks.SUMS_TAG, trailer.pages) + self._checks(blocks.COMMITS_TAG, trailer.commits),
            ),
        ]
        if not self.is_snapshot:
            kinds.append((trailer.numbers_check, self._checks(blocks.NUMBERS_TAG, trailer.pages)))
        if any(hash64(checks) != check for check, checks in kinds):
            raise RepositoryDamaged(f"the trailer of {self._where} is of other blocks than those before it")
        self._prove_entries()
        past = HEADER_SIZE
        for frame in self.frames():
            past = frame.offset + frame.csize
        if past != trailer.numbers_offset:
            raise RepositoryDamaged(f"the index of {self._where} ends at byte {past}, not {trailer.numbers_offset}")
        return trailer, self.info

    def _checks(self, tag: bytes, entries: int) -> bytes:
        """Return the checksums of all blocks of one kind, each of which was compared with its block."""
        checks = bytearray()
        for number in range(-(-entries // blocks.BLOCK_ENTRIES)):
            read, its_check = self._read_block(tag, number)
            self._blocks[tag] = (number, read)
            checks += its_check
        return bytes(checks)

    def _prove_entries(self) -> None:
        """Prove that what is recorded of the pages agrees with itself."""
        if self.is_snapshot:
            self._prove_sums()
        else:
            self._prove_numbers()

    def _prove_numbers(self) -> None:
        """Prove that page numbers ascend, are within the database, and leave out the page of the lock bytes (H12)."""
        before, lock = 0, lock_page(self.page_size)
        for number in range(-(-self._trailer.pages // blocks.BLOCK_ENTRIES)):
            entries = self._entries(blocks.NUMBERS_TAG, number)
            numbers = struct.unpack(f"<{len(entries) // blocks.NUMBERS_ENTRY}I", entries)
            if numbers[0] <= before or not all(map(lt, numbers, numbers[1:])):
                raise RepositoryDamaged(f"the page numbers of {self._where} do not ascend")
            place = bisect_left(numbers, lock)
            if numbers[-1] > self.pages or numbers[place : place + 1] == (lock,):
                raise RepositoryDamaged(f"{self._where} holds a page that a database of {self.pages} pages has not")
            before = numbers[-1]

    def _prove_sums(self) -> None:
        database_sum = 0
        for number in range(-(-self._trailer.pages // blocks.BLOCK_ENTRIES)):
            database_sum ^= backend().fold(self._entries(blocks.SUMS_TAG, number))
        if database_sum != self._trailer.database_sum:
            raise RepositoryDamaged(f"the page sums of {self._where} do not add up to its database sum")

    def _read_block(self, tag: bytes, number: int) -> tuple[memoryview, bytes]:
        trailer = self._trailer
        begin, entries = {
            blocks.NUMBERS_TAG: (trailer.numbers_offset, trailer.pages),
            blocks.INDEX_TAG: (trailer.index_offset, trailer.frames),
            blocks.SUMS_TAG: (trailer.sums_offset, trailer.pages),
            blocks.COMMITS_TAG: (trailer.commits_offset, trailer.commits),
        }[tag]
        offset, length = blocks.block_place(number, entries, blocks.entry_size(tag))
        data = os.pread(self._fd, length, begin + offset)
        if len(data) != length:
            raise RepositoryDamaged(f"{self._where} was cut off while it was read")
        return blocks.decode_block(tag, number, data, self._where)

    def _entries(self, tag: bytes, number: int) -> memoryview:
        """Return the entries of a block; the last one of each kind is kept, as ranges are mostly read in order."""
        kept = self._blocks.get(tag)
        if kept is None or kept[0] != number:
            with self.errors():
                kept = (number, self._read_block(tag, number)[0])
            self._blocks[tag] = kept
        return kept[1]

    def _range(self, tag: bytes, place: int, count: int) -> bytes:
        """Return the bytes of entries of one kind, from whichever blocks they are in."""
        size = blocks.entry_size(tag)
        parts, end = [], place + count
        while place < end:
            number, inside = divmod(place, blocks.BLOCK_ENTRIES)
            some = min(end - place, blocks.BLOCK_ENTRIES - inside)
            parts.append(self._entries(tag, number)[inside * size : (inside + some) * size])
            place += some
        return b"".join(parts)

    def _index(self, number: int, offset: int | None) -> Iterator[StoredFrame]:
        entries = self._entries(blocks.INDEX_TAG, number)
        return self._frames_of(entries, number * blocks.BLOCK_ENTRIES, offset)

    def _frames_of(self, entries: memoryview, first: int, offset: int | None) -> Iterator[StoredFrame]:
        end, pages = self.info.numbers_offset, None if self.is_snapshot else self._frame_pages
        return blocks.decode_entries(entries, self.info.header, first, offset, end, self._where, pages)

    def _frame_pages(self, number: int) -> tuple[int, int]:
        """Return the first page and the count of pages of frame `number`, from 0."""
        per_frame = self.info.header.pages_per_frame
        place = number * per_frame
        return self.numbers(place, 1)[0], min(per_frame, self.info.held - place)

    def _frame_in(self, index: int, frame: StoredFrame, runs: Runs, wanted: Wanted = ()) -> FrameIn:
        sums = self.entry_sums(index * self.info.header.pages_per_frame, frame.count)
        return FrameIn(
            index=index,
            offset=frame.offset,
            csize=frame.csize,
            runs=runs,
            count=frame.count,
            sums=sums,
            wanted=wanted,
        )

    def _decode(self, number: int) -> memoryview:
        """Return the pages of one frame, proved."""
        with self.errors():
            return decode_frame(self._fd, self.frame_in(number), self.page_size)

    def frame_in(self, number: int) -> FrameIn:
        """Return frame `number`, from 0, as it is to be decoded."""
        block, place = divmod(number, blocks.BLOCK_ENTRIES)
        entries = self._entries(blocks.INDEX_TAG, block)
        one = entries[place * blocks.INDEX_ENTRY : (place + 1) * blocks.INDEX_ENTRY]
        (frame,) = self._frames_of(one, number, None)
        return self._frame_in(number, frame, self.runs(number * self.info.header.pages_per_frame, frame.count))

    def stretches(
        self,
        wanted: Callable[[Runs, bytes], Wanted] | None = None,
        newer: Callable[[], tuple[tuple[int, bytes], ...]] | None = None,
    ) -> Iterator[Stretch]:
        """Yield all bytes of all frames, in order, for `spread_in`.

        `wanted` gets the pages of each frame with their recorded sums, and says which are to be written: where it says
        none, the frame is not decoded. Without it every frame is. `newer` is asked after it, and says which of those
        pages come from elsewhere (see `FrameIn`).
        """
        group: list[FrameIn] = []
        begin = end = HEADER_SIZE
        place = 0
        for index, frame in enumerate(self.frames()):
            if frame.offset + frame.csize - begin > STRETCH and end > begin:
                yield Stretch(file=self._fd, offset=begin, size=end - begin, frames=tuple(group), errors=self.errors)
                group, begin = [], end
            one = self._frame_in(index, frame, self.runs(place, frame.count))
            take = () if wanted is None else wanted(one.runs, one.sums)
            if wanted is None:
                group.append(one)
            elif take:
                group.append(replace(one, wanted=take, newer=() if newer is None else newer()))
            end, place = frame.offset + frame.csize, place + frame.count
        if end > begin:
            yield Stretch(file=self._fd, offset=begin, size=end - begin, frames=tuple(group), errors=self.errors)

    def prove_data(self, threads: int, progress: Progress | None = None, *, from_disk: bool = False) -> None:
        """Decode every frame and compare each page with its recorded sum; prove the SHA-256 from the same reads.

        `from_disk` drops what is cached of the frames, so that the disk is read.
        """
        sha, behind, done = hashlib.sha256(), Behind(self._fd), 0
        with self.errors():
            if from_disk:
                read_from_disk(self._fd)
            for stretch, data in spread_in(self.stretches(), fd_out=-1, page_size=self.page_size, threads=threads):
                sha.update(data)
                done += sum(frame.count for frame in stretch.frames)
                if from_disk:
                    behind.advance(stretch.offset + stretch.size)
                if progress is not None:
                    progress(done, self.info.held)
        self.prove_digest(sha, self.info.numbers_offset)

    def prove_digest(self, digest: hashlib._Hash | None = None, hashed: int = HEADER_SIZE) -> None:
        """Compare the SHA-256 of the file with the recorded one. `digest` was taken up to byte `hashed`."""
        digest = hashlib.sha256() if digest is None else digest
        for begin, end in ((hashed, self.info.bytes - blocks.DIGEST_TAIL), (0, HEADER_SIZE)):
            for offset in range(begin, end, _CHUNK):
                wanted = min(_CHUNK, end - offset)
                with self.errors():
                    data = os.pread(self._fd, wanted, offset)
                if len(data) != wanted:
                    raise RepositoryDamaged(f"{self._where} was cut off while it was read")
                digest.update(data)
        if digest.hexdigest() != self.info.sha256:
            raise RepositoryDamaged(f"{self._where} does not match its SHA-256", expected=self.info.sha256)


def read_info(path: str | Path) -> PageSetInfo:
    """Return what the page set at `path` is. Proves its structure, not its data: see `PageSetFile`."""
    with PageSetFile(path) as file:
        return file.info


def verify_pageset(
    path: str | Path,
    *,
    threads: int,
    read_data: bool,
    drop_cache: bool,
    progress: Progress | None = None,
    opened: type[PageSetFile] = PageSetFile,
) -> PageSetInfo:
    """Prove the page set at `path`: structure and SHA-256 and, with `read_data`, each page and the database sum.

    With `drop_cache` the file's cached pages are dropped first where the system allows, so that it is the disk that is
    read. `opened` says what kinds it may be of. Raises RepositoryDamaged, or TargetFailed where it cannot be read.
    """
    if drop_cache:
        _drop_cache(path)
    with opened(path) as file:
        if read_data:
            file.prove_data(threads, progress, from_disk=drop_cache)
        else:
            file.prove_digest()
        return file.info


def _drop_cache(path: str | Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            forget(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise durable.failure(error, f"cannot read {path}") from error
