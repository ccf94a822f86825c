"""Reading the pages of one commit: frame before file before zeros, and every failure named."""

from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path

import pytest

from pagewarden.pages import Backend, PageSource, ShortRead, lock_page
from tests.core.pages.logs import opened

SIZE = 512


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A file of eight pages and a WAL of four frames, both noise."""
    chance = random.Random(5)
    database, wal = tmp_path / "db", tmp_path / "db-wal"
    database.write_bytes(chance.randbytes(8 * SIZE))
    wal.write_bytes(chance.randbytes(32 + 4 * (24 + SIZE)))
    return database, wal


def expected(database: bytes, wal: bytes, frames: dict[int, int], pgno: int) -> bytes:
    """Return what a page must be, by the rule itself."""
    if pgno in frames:
        at = 32 + (frames[pgno] - 1) * (24 + SIZE) + 24
        return wal[at : at + SIZE]
    return database[(pgno - 1) * SIZE : pgno * SIZE].ljust(SIZE, b"\0")


def encoded(frames: dict[int, int]) -> bytes:
    """Return a map as a page source takes it."""
    return b"".join(struct.pack("<2I", pgno, frame) for pgno, frame in sorted(frames.items()))


@pytest.mark.parametrize("frames", [{}, {1: 1}, {2: 4, 3: 1, 9: 3}, {8: 1, 9: 2, 12: 4}, {7: 2, 14: 1}])
def test_every_range_is_frame_then_file_then_zeros(
    pages_backend: Backend, files: tuple[Path, Path], frames: dict[int, int]
) -> None:
    """Every range of every mixture of mapped pages, file pages and pages beyond the file reads and sums right."""
    data = files[0].read_bytes(), files[1].read_bytes()
    with opened(files[0]) as database, opened(files[1]) as wal:
        source = PageSource(
            database=database, wal=wal, page_size=SIZE, pages=12, file_size=8 * SIZE, frames=encoded(frames)
        )
        for first in range(1, 13):
            for count in range(14 - first):
                out = bytearray(b"\xff" * (count * SIZE + 3))
                pages_backend.read(source, first, count, out)
                wanted = [expected(*data, frames, pgno) for pgno in range(first, first + count)]
                assert bytes(out) == b"".join(wanted) + b"\xff" * 3
                sums = [pages_backend.page_sum(pgno, page) for pgno, page in enumerate(wanted, first)]
                assert pages_backend.sums(source, first, count) == struct.pack(f"<{count}Q", *sums)


def test_bytes_beyond_the_believed_size_are_zeros(pages_backend: Backend, files: tuple[Path, Path]) -> None:
    """A file that is longer than believed is read only so far, also within a page."""
    content = files[0].read_bytes()
    with opened(files[0]) as database:
        for believed in (0, 1, SIZE, 2 * SIZE - 1, 3 * SIZE + 100):
            source = PageSource(database=database, page_size=SIZE, pages=8, file_size=believed)
            out = bytearray(8 * SIZE)
            pages_backend.read(source, 1, 8, out)
            assert bytes(out) == content[:believed].ljust(8 * SIZE, b"\0")


def test_file_that_shrank_is_a_short_read(pages_backend: Backend, files: tuple[Path, Path]) -> None:
    """A file or WAL that ends before what it was believed to hold is an error that names the page, not zeros."""
    os.truncate(files[0], 5 * SIZE + 100)
    os.truncate(files[1], 32 + 2 * (24 + SIZE) + 30)
    with opened(files[0]) as database, opened(files[1]) as wal:
        source = PageSource(
            database=database, wal=wal, page_size=SIZE, pages=12, file_size=8 * SIZE, frames=encoded({1: 2, 2: 3})
        )
        pages_backend.sums(source, 1, 1)
        for first, count, pgno in ((3, 6, 6), (6, 1, 6), (8, 1, 8), (1, 2, 2)):
            with pytest.raises(ShortRead) as caught:
                pages_backend.sums(source, first, count)
            assert caught.value.pgno == pgno
            with pytest.raises(ShortRead):
                pages_backend.read(source, first, count, bytearray(count * SIZE))


def test_read_errors_keep_their_errno(pages_backend: Backend, tmp_path: Path) -> None:
    """A closed descriptor is EBADF and a folder EISDIR, from the file and from the WAL."""
    with opened(tmp_path) as folder:
        for descriptor, number in ((folder, errno.EISDIR), (987654, errno.EBADF)):
            for source in (
                PageSource(database=descriptor, page_size=SIZE, pages=2, file_size=1024),
                PageSource(
                    database=0, wal=descriptor, page_size=SIZE, pages=2, file_size=0, frames=encoded({1: 1, 2: 2})
                ),
            ):
                with pytest.raises(OSError) as caught:
                    pages_backend.sums(source, 1, 2)
                assert caught.value.errno == number
            with pytest.raises(OSError) as caught:
                pages_backend.wal_scan(descriptor, page_size=SIZE)
            assert caught.value.errno == number


def test_lock_byte_page_is_never_read(pages_backend: Backend, tmp_path: Path) -> None:
    """H12: in a database beyond 1 GiB the lock-byte page is zeros with sum 0 whatever the file holds there."""
    path = tmp_path / "large"
    for size in (4096, 65536):
        lock = lock_page(size)
        with path.open("wb") as file:
            file.truncate((lock + 2) * size)  # sparse
            file.seek((lock - 2) * size)
            file.write(b"\x77" * (4 * size))
        with opened(path) as database:
            source = PageSource(database=database, page_size=size, pages=lock + 2, file_size=(lock + 2) * size)
            out = bytearray(4 * size)
            pages_backend.read(source, lock - 1, 4, out)
            assert bytes(out) == b"\x77" * size + bytes(size) + b"\x77" * (2 * size)
            sums = pages_backend.sums(source, lock - 1, 3)
            assert sums[8:16] == bytes(8)
            assert 0 not in (pages_backend.fold(sums[:8]), pages_backend.fold(sums[16:]))


def test_arguments_out_of_bounds_are_refused(pages_backend: Backend, files: tuple[Path, Path]) -> None:
    """Pages outside the commit and buffers that are too small are refused before anything is read."""
    with opened(files[0]) as database:
        source = PageSource(database=database, page_size=SIZE, pages=8, file_size=8 * SIZE)
        for first, count in ((0, 1), (9, 1), (1, 9), (2**32, 1), (-1, 1), (1, -1)):
            with pytest.raises(ValueError):
                pages_backend.sums(source, first, count)
            with pytest.raises(ValueError):
                pages_backend.read(source, first, count, bytearray(100 * SIZE))
        with pytest.raises(ValueError):
            pages_backend.read(source, 1, 2, bytearray(2 * SIZE - 1))
        with opened(files[1]) as wal:
            broken = PageSource(
                database=database, wal=wal, page_size=SIZE, pages=8, file_size=8 * SIZE, frames=encoded({3: 0})
            )
            with pytest.raises(ValueError):
                pages_backend.sums(broken, 3, 1)


def test_hostile_maps_are_harmless(both: tuple[Backend, Backend], files: tuple[Path, Path]) -> None:
    """Unsorted maps, repeated pages and frames beyond the file give an error or a page, in no case anything else."""
    chance = random.Random(11)
    with opened(files[0]) as database, opened(files[1]) as wal:
        for _ in range(150):
            frames = b"".join(
                struct.pack("<2I", chance.randrange(15), chance.choice([0, 1, 2, 4, 5, 2**31, 2**32 - 1]))
                for _ in range(chance.randrange(6))
            )
            source = PageSource(database=database, wal=wal, page_size=SIZE, pages=12, file_size=8 * SIZE, frames=frames)
            for backend in both:
                try:
                    backend.read(source, 1, 12, bytearray(12 * SIZE))
                except (ValueError, OSError):
                    continue
