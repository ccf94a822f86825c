"""The wal-index, with SQLite as the oracle."""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, frame_pages, parse_index
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_offset, wal_checksum


@contextmanager
def _open(folder: Path, page_size: int = 512) -> Iterator[tuple[sqlite3.Connection, Path]]:
    path = folder / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE t(x)")
        yield connection, path


def _index(path: Path) -> WalIndex:
    index = parse_index(Path(f"{path}-shm").read_bytes()[:INDEX_SIZE])
    assert index is not None
    return index


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_index_names_the_last_commit_of_the_log(page_size: int, tmp_path: Path) -> None:
    """Frame, size, salts and checksum are those that stand in the log; a checkpoint moves nBackfill."""
    with _open(tmp_path, page_size) as (connection, path):
        connection.execute("INSERT INTO t VALUES(zeroblob(3000))")
        index = _index(path)
        log = Path(f"{path}-wal").read_bytes()
        assert index.frames == (len(log) - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size)
        assert index.page_size == page_size
        assert index.pages == connection.execute("PRAGMA page_count").fetchone()[0]
        assert index.salts == WalHeader.parse(log).salts
        assert index.frame_checksum == struct.unpack_from(">2I", log, frame_offset(index.frames, page_size) + 16)
        assert index.backfilled == 0 and not index.complete
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        after = _index(path)
        assert after.backfilled == after.frames == index.frames and after.complete
        assert after.header == index.header


def test_page_numbers_of_frames_are_those_of_the_log_across_blocks(tmp_path: Path) -> None:
    """The first block holds 4062 frames, each later one 4096; all are found, and no more than there are."""
    with _open(tmp_path) as (connection, path):
        connection.execute("INSERT INTO t VALUES(zeroblob(?))", (508 * 9000,))
        index, shm, log = _index(path), Path(f"{path}-shm").read_bytes(), Path(f"{path}-wal").read_bytes()
        assert index.frames > 4062 + 4096
        expected = [struct.unpack_from(">I", log, frame_offset(frame, 512))[0] for frame in range(1, index.frames + 1)]
        assert list(frame_pages(lambda at, size: shm[at : at + size], index.frames)) == expected
        cut = shm[: 32768 + 41]
        assert list(frame_pages(lambda at, size: cut[at : at + size], index.frames)) == expected[: 4062 + 10]
        assert list(frame_pages(lambda at, size: shm[at : at + size], 7)) == expected[:7]


def test_a_torn_or_wrong_header_is_never_believed(tmp_path: Path) -> None:
    """Any flipped bit of either copy makes the reader read again."""
    with _open(tmp_path) as (connection, path):
        connection.execute("INSERT INTO t VALUES(1)")
        good = Path(f"{path}-shm").read_bytes()[:INDEX_SIZE]
    for bit in range(96 * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        assert parse_index(bytes(data)) is None
    assert parse_index(good[:-1]) is None
    assert parse_index(bytes(INDEX_SIZE)) is None


def _forge(good: bytes, at: int, value: bytes) -> bytes:
    """Return the index with bytes of both copies replaced, and right checksums."""
    header = bytearray(good[:48])
    header[at : at + len(value)] = value
    header[40:48] = struct.pack("=2I", *wal_checksum(bytes(header[:40]), big_endian=sys.byteorder == "big"))
    return bytes(header) * 2 + good[96:]


def test_an_index_with_right_checksums_may_still_be_nonsense(tmp_path: Path) -> None:
    """Version, the initialized flag and the page size are looked at, too (H29)."""
    with _open(tmp_path) as (connection, path):
        connection.execute("INSERT INTO t VALUES(1)")
        good = Path(f"{path}-shm").read_bytes()[:INDEX_SIZE]
    assert parse_index(_forge(good, 8, b"\7\0\0\0")) is not None
    assert parse_index(_forge(good, 0, struct.pack("=I", 3007001))) is None
    assert parse_index(_forge(good, 12, b"\0")) is None
    assert parse_index(_forge(good, 14, struct.pack("=H", 0x600))) is None
    empty = parse_index(_forge(_forge(good, 16, bytes(4)), 14, struct.pack("=H", 0x600)))
    assert empty is not None and empty.page_size == 0
