"""The checksums of cksumvfs: every backend agrees with the extension itself, whatever the page size and its place."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.pages import Backend, PageSource, lock_page, scan_reserved
from tests.core.pages.logs import opened
from tests.support.cksumvfs import build_reserved, checksum, seal, through_cksumvfs

SIZES = (512, 1024, 4096, 65536)


@contextmanager
def source_of(path: Path, page_size: int, pages: int | None = None) -> Iterator[PageSource]:
    """Open a file as a source."""
    size = path.stat().st_size
    with opened(path) as file:
        yield PageSource(
            database=file, page_size=page_size, pages=size // page_size if pages is None else pages, file_size=size
        )


def test_pages_that_the_extension_wrote_hold(pages_backend: Backend, tmp_path: Path) -> None:
    """H10: page 1 as any other; a plain SQLite that writes leaves sums behind that do not hold any more."""
    path = tmp_path / "app.db"
    rows = "WITH c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i < 400) SELECT i, hex(randomblob(40)) FROM c"
    assert through_cksumvfs(
        path, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)", f"INSERT INTO t {rows}", "PRAGMA checksum_verification"
    ) == ["1"]
    with source_of(path, 4096) as source:
        assert pages_backend.reserved_sums(source, 1, source.pages) == b"\1" * source.pages
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE t SET b = 'x' WHERE a = 1")
    with source_of(path, 4096) as source:
        holds = pages_backend.reserved_sums(source, 1, source.pages)
    assert (holds[0], holds.count(0)) == (0, 2)  # the header's counters, and the row
    (answer,) = through_cksumvfs(path, "SELECT b FROM t WHERE a = 1")
    assert "IOError" in answer


@pytest.mark.parametrize("page_size", SIZES)
def test_every_page_size(pages_backend: Backend, tmp_path: Path, page_size: int) -> None:
    """Of any range; and whatever one byte of a page changes to, its sum does not hold."""
    chance = random.Random(page_size)
    pages = [chance.randbytes(page_size - 8) + bytes(8) for _ in range(5)]
    path = tmp_path / "pages"
    path.write_bytes(b"".join(page[:-8] + checksum(page) if number % 2 else page for number, page in enumerate(pages)))
    with source_of(path, page_size) as source:
        assert pages_backend.reserved_sums(source, 1, 5) == b"\0\1\0\1\0"
        assert pages_backend.reserved_sums(source, 4, 2) == b"\1\0"
        assert pages_backend.reserved_sums(source, 4, 0) == b""
        with pytest.raises(ValueError, match="pages 5 to 6"):
            pages_backend.reserved_sums(source, 5, 2)
    data = bytearray(path.read_bytes())
    data[page_size + chance.randrange(page_size)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    with source_of(path, page_size) as source:
        assert pages_backend.reserved_sums(source, 2, 1) == b"\0"


def test_the_lock_byte_page_holds(pages_backend: Backend, tmp_path: Path) -> None:
    """H12: it reads as zeros, whose sum is 0."""
    (tmp_path / "pages").write_bytes(b"")
    lock = lock_page(65536)
    with source_of(tmp_path / "pages", 65536, pages=lock + 1) as source:
        assert pages_backend.reserved_sums(source, lock, 2) == b"\1\1"


def test_a_page_of_the_log_counts(pages_backend: Backend, tmp_path: Path) -> None:
    """H11: what is judged is the page of the commit, wherever it stands; threads give the same."""
    path = seal(build_reserved(tmp_path / "app.db", "CREATE TABLE t(a)", page_size=1024))
    whole, broken = path.read_bytes()[1024:2048], bytes(1016) + b"12345678"
    (tmp_path / "log").write_bytes(bytes(32) + b"".join(bytes(24) + page for page in (broken, whole, broken)))
    with opened(tmp_path / "log") as wal, opened(path) as file:
        for pgno, frame, holds in ((2, 1, b"\1\0"), (2, 2, b"\1\1"), (1, 3, b"\0\1")):
            frames = pgno.to_bytes(4, "little") + frame.to_bytes(4, "little")
            seen = PageSource(database=file, page_size=1024, pages=2, file_size=2048, wal=wal, frames=frames)
            assert pages_backend.reserved_sums(seen, 1, 2) == holds
            assert scan_reserved(seen, first=1, count=2) == holds
