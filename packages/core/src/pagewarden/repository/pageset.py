"""Reading, proving and restoring a page set. Runs in the page reader, because a stored file may be hostile.

Opening a file proves its structure: header, trailer, every index and sums block, the database sum of the recorded
sums. `verify_pageset` proves the SHA-256 besides and, with data, that the pages are those whose sums are recorded.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged, VerificationFailed
from pagewarden.pages import (
    PageDataError,
    PageSource,
    Progress,
    ShortRead,
    StoredFrame,
    backend,
    copy_in,
    differing_runs,
    forget,
    scan_sums,
)
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer, hash64
from pagewarden.repository.format import HEADER_SIZE, PageSetInfo
from pagewarden.values import Position

_CHUNK = 1 << 20  # bytes hashed at once


class PageSetFile:
    """An open page set whose structure was proved. A context manager; not for two threads at once.

    It has what `contracts.PageImage` asks for. Pages and sums are read by range, and proved again when they are read.
    Raises RepositoryDamaged for anything that is not a whole page set, TargetFailed where the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the file at `path` and prove its structure."""
        self.path = Path(path)
        self._where = str(path)
        self._block: tuple[bytes, int, memoryview] = (b"", 0, memoryview(b""))  # tag, number, entries of the last one
        self._frame: tuple[int, bytearray] = (-1, bytearray())  # number and pages of the last one decoded
        with self._errors():
            # O_NONBLOCK: a FIFO in its place must not hang the reader. On a regular file it means nothing.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._trailer, self.info = self._prove_structure()
            except BaseException:
                os.close(self._fd)
                raise

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
    def position(self) -> Position:
        """The position of the database that it holds."""
        return self.info.position

    def frames(self) -> Iterator[StoredFrame]:
        """Yield all frames, in page order."""
        offset = HEADER_SIZE
        for number in range(-(-self.info.frames // blocks.BLOCK_ENTRIES)):
            for frame in self._index(number, offset):
                yield frame
                offset = frame.offset + frame.csize

    def sums(self, first: int, count: int) -> bytes:
        """Return the page sums of pages `first` … `first+count-1`: 8 bytes each, little-endian."""
        if first < 1 or count < 0 or first + count - 1 > self.pages:
            raise ValueError(f"pages {first} to {first + count - 1} are not all within a database of {self.pages}")
        parts = []
        place, end = first - 1, first - 1 + count
        while place < end:
            number, inside = divmod(place, blocks.BLOCK_ENTRIES)
            some = min(end - place, blocks.BLOCK_ENTRIES - inside)
            entries = self._entries(blocks.SUMS_TAG, number)
            parts.append(entries[inside * blocks.SUMS_ENTRY : (inside + some) * blocks.SUMS_ENTRY])
            place += some
        return b"".join(parts)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page, proved by its sum."""
        header = self.info.header
        if not 1 <= pgno <= self.pages:
            raise ValueError(f"page {pgno} is not within a database of {self.pages}")
        number = header.frame_of(pgno)
        if self._frame[0] != number:
            self._frame = (number, self._decode(number))
        begin = (pgno - 1) % header.pages_per_frame * header.page_size
        return bytes(self._frame[1][begin : begin + header.page_size])

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
    def _errors(self) -> Iterator[None]:
        """Let callers meet the project's errors only."""
        try:
            yield
        except PageDataError as error:
            raise RepositoryDamaged(f"{self._where}: {error}", pgno=error.pgno, frame=error.frame) from error
        except OSError as error:
            raise durable.failure(error, f"cannot read {self._where}") from error

    def _prove_structure(self) -> tuple[Trailer, PageSetInfo]:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise RepositoryDamaged(f"{self._where} is not a regular file")
        begin = os.pread(self._fd, HEADER_SIZE, 0)
        header = blocks.decode_header(begin, self._where)
        end = os.pread(self._fd, blocks.TRAILER_SIZE, max(0, status.st_size - blocks.TRAILER_SIZE))
        trailer = blocks.decode_trailer(end, header, status.st_size, self._where)
        if trailer.header_check != int.from_bytes(begin[-8:], "little"):
            raise RepositoryDamaged(f"header and trailer of {self._where} are not of the same page set")
        # From here on sizes and counts are those of a file that is really as large.
        self._trailer, self.info = trailer, blocks.info_of(header, trailer)
        for tag, entries, check in (
            (blocks.INDEX_TAG, trailer.frames, trailer.index_check),
            (blocks.SUMS_TAG, trailer.pages, trailer.sums_check),
        ):
            checks = b"".join(self._read_block(tag, k)[1] for k in range(-(-entries // blocks.BLOCK_ENTRIES)))
            if hash64(checks) != check:
                raise RepositoryDamaged(f"the trailer of {self._where} is of other blocks than those before it")
        past = HEADER_SIZE
        for frame in self.frames():
            past = frame.offset + frame.csize
        if past != trailer.index_offset:
            raise RepositoryDamaged(f"the index of {self._where} ends at byte {past}, not {trailer.index_offset}")
        database_sum = 0
        for number in range(-(-trailer.pages // blocks.BLOCK_ENTRIES)):
            database_sum ^= backend().fold(self._entries(blocks.SUMS_TAG, number))
        if database_sum != trailer.database_sum:
            raise RepositoryDamaged(f"the page sums of {self._where} do not add up to its database sum")
        return trailer, self.info

    def _read_block(self, tag: bytes, number: int) -> tuple[memoryview, bytes]:
        index = tag == blocks.INDEX_TAG
        begin = self._trailer.index_offset if index else self._trailer.sums_offset
        entries, size = (
            (self._trailer.frames, blocks.INDEX_ENTRY) if index else (self._trailer.pages, blocks.SUMS_ENTRY)
        )
        offset, length = blocks.block_place(number, entries, size)
        data = os.pread(self._fd, length, begin + offset)
        if len(data) != length:
            raise RepositoryDamaged(f"{self._where} was cut off while it was read")
        return blocks.decode_block(tag, number, data, self._where)

    def _entries(self, tag: bytes, number: int) -> memoryview:
        """Return the entries of a block; the last block is kept, as ranges are mostly read in order."""
        if self._block[:2] != (tag, number):
            with self._errors():
                self._block = (tag, number, self._read_block(tag, number)[0])
        return self._block[2]

    def _index(self, number: int, offset: int | None) -> Iterator[StoredFrame]:
        entries = self._entries(blocks.INDEX_TAG, number)
        first = number * blocks.BLOCK_ENTRIES
        return blocks.decode_entries(entries, self.info.header, first, offset, self.info.index_offset, self._where)

    def _decode(self, number: int) -> bytearray:
        """Return the pages of one frame, proved."""
        block, place = divmod(number, blocks.BLOCK_ENTRIES)
        entries = self._entries(blocks.INDEX_TAG, block)
        one = entries[place * blocks.INDEX_ENTRY : (place + 1) * blocks.INDEX_ENTRY]
        header = self.info.header
        (frame,) = blocks.decode_entries(one, header, number, None, self.info.index_offset, self._where)
        pages = bytearray(frame.count * header.page_size)
        with self._errors():
            data = os.pread(self._fd, frame.csize, frame.offset)
            sums = backend().decompressor().decompress(data, header.page_size, frame.first, frame.count, pages)
        if sums != self.sums(frame.first, frame.count):
            raise RepositoryDamaged(f"the pages of frame {number} of {self._where} do not match their sums")
        return pages

    def prove_data(
        self,
        to_fd: int,
        threads: int,
        progress: Progress | None,
        *,
        from_disk: bool = False,
    ) -> None:
        """Decode every frame, compare each page with its recorded sum, and write the pages to `to_fd` (-1: nowhere).

        The SHA-256 of the file is proved besides, from the same reads. `from_disk` drops what is cached of the frames,
        so that the disk is read.
        """
        total, sha = self.pages, hashlib.sha256()

        def told(done: int, _total: int) -> None:
            if progress is not None:
                progress(done, total)

        with self._errors():
            for _ in copy_in(
                self.frames(),
                fd_in=self._fd,
                fd_out=to_fd,
                page_size=self.page_size,
                threads=threads,
                expected=self.sums,
                progress=told,
                stored=sha.update,
                from_disk=from_disk,
            ):
                pass  # the sums were compared with the recorded ones, and those with the database sum
        self._prove_digest(sha, self._trailer.index_offset)  # frames stand one after the other up to the index

    def prove_written(self, fd: int, threads: int, progress: Progress | None = None) -> None:
        """Compare every page of the durable file `fd` with its recorded sum, from the disk where the system allows.

        Raises VerificationFailed.
        """

        def wrong(pgno: int | None) -> VerificationFailed:
            return VerificationFailed(f"page {pgno} of {self._where} did not read back as it was written", pgno=pgno)

        pages = PageSource(
            database=fd, page_size=self.page_size, pages=self.pages, file_size=self.pages * self.page_size
        )
        with self._errors():
            try:
                for first, sums in scan_sums(pages, threads=threads, progress=progress, from_disk=True):
                    wanted = self.sums(first, len(sums) // 8)
                    for place, _ in differing_runs(sums, wanted):
                        raise wrong(first + place)
            except ShortRead as error:
                raise wrong(error.pgno) from error

    def prove_digest(self) -> None:
        """Compare the SHA-256 of the file with the recorded one."""
        self._prove_digest(hashlib.sha256(), HEADER_SIZE)

    def _prove_digest(self, digest: hashlib._Hash, hashed: int) -> None:
        """Complete `digest`, which was taken up to byte `hashed`, and compare it."""
        for begin, end in ((hashed, self.info.bytes - blocks.DIGEST_TAIL), (0, HEADER_SIZE)):
            for offset in range(begin, end, _CHUNK):
                wanted = min(_CHUNK, end - offset)
                with self._errors():
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
) -> PageSetInfo:
    """Prove the page set at `path`: structure and SHA-256 and, with `read_data`, each page and the database sum.

    With `drop_cache` the file's cached pages are dropped first where the system allows, so that it is the disk that is
    read. Raises RepositoryDamaged, or TargetFailed where it cannot be read.
    """
    if drop_cache:
        _drop_cache(path)
    with PageSetFile(path) as file:
        if read_data:
            file.prove_data(-1, threads, progress, from_disk=drop_cache)
        else:
            file.prove_digest()
        return file.info


def restore_pageset(
    path: str | Path, to_fd: int, *, threads: int, read_back: bool = False, progress: Progress | None = None
) -> PageSetInfo:
    """Write the database that the snapshot at `path` holds to the empty file `to_fd`; durable when it returns.

    Every page is compared with its recorded sum before it is written, and all that was read of `path` with its SHA-256.
    `read_back` compares the pages again as they are read back, from the disk where the system allows; `to_fd` must be
    readable then. The room is allocated first: a disk that is too small is found before anything is written. Raises
    RepositoryDamaged or VerificationFailed (what was written is worthless then), OutOfSpace or TargetFailed.
    """
    with PageSetFile(path) as file:
        try:
            durable.allocate(to_fd, file.pages * file.page_size)
            file.prove_data(to_fd, threads, progress)
            os.fsync(to_fd)
            if read_back:
                file.prove_written(to_fd, threads, progress)
        except OSError as error:
            raise durable.failure(error, f"cannot write what {path} holds") from error
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
