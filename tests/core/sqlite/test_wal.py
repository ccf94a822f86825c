"""The write-ahead log's header and checksum, with SQLite as the oracle."""

from __future__ import annotations

import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.sqlite.wal import (
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    WalHeader,
    WalInvalid,
    frame_offset,
    wal_checksum,
    wal_checksum_before,
)


def _log(folder: Path, page_size: int = 1024) -> bytes:
    """Return a log of a few commits."""
    path = folder / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES(zeroblob(5000))")
        return Path(f"{path}-wal").read_bytes()


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_chain_of_checksums_is_sqlites(page_size: int, tmp_path: Path) -> None:
    """The checksum continued over every frame is the one that SQLite wrote there."""
    log = _log(tmp_path, page_size)
    header = WalHeader.parse(log)
    assert header.page_size == page_size
    assert header.salts == log[16:24]
    running = header.checksum
    frames = (len(log) - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size)
    assert frames > 2
    for frame in range(1, frames + 1):
        at = frame_offset(frame, page_size)
        page = log[at + FRAME_HEADER_SIZE : at + FRAME_HEADER_SIZE + page_size]
        running = wal_checksum(log[at : at + 8] + page, big_endian=header.big_endian, before=running)
        assert running == struct.unpack_from(">2I", log, at + 16)
    assert frame_offset(frames + 1, page_size) == len(log)


def test_a_header_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    """The magic's last bit says how the checksum takes its words; both kinds are headers."""
    log = bytearray(_log(tmp_path)[:WAL_HEADER_SIZE])
    log[3] ^= 1
    other = bool(log[3] & 1)
    log[24:32] = struct.pack(">2I", *wal_checksum(bytes(log[:24]), big_endian=other))
    assert WalHeader.parse(bytes(log)).big_endian is other


def test_any_flipped_bit_of_the_header_is_refused(tmp_path: Path) -> None:
    """The header's own checksum covers it."""
    log = _log(tmp_path)[:WAL_HEADER_SIZE]
    for bit in range(WAL_HEADER_SIZE * 8):
        data = bytearray(log)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WalInvalid):
            WalHeader.parse(bytes(data))
    with pytest.raises(WalInvalid, match="too few"):
        WalHeader.parse(log[:-1])


def test_a_header_with_a_right_checksum_may_still_be_nonsense(tmp_path: Path) -> None:
    """Format and page size are looked at, too (H29)."""
    good = _log(tmp_path)[:WAL_HEADER_SIZE]
    for at, value, what in ((4, 3007001, "format 3007001"), (8, 1000, "1000, which is no page size")):
        log = bytearray(good)
        log[at : at + 4] = struct.pack(">I", value)
        log[24:32] = struct.pack(">2I", *wal_checksum(bytes(log[:24]), big_endian=bool(log[3] & 1)))
        with pytest.raises(WalInvalid, match=what):
            WalHeader.parse(bytes(log))


@pytest.mark.parametrize("big", [False, True])
def test_a_checksum_can_be_followed_back(big: bool) -> None:
    """From what a frame stores to what the frame before it must have stored."""
    chance = random.Random(1)
    for _ in range(50):
        before = (chance.randrange(1 << 32), chance.randrange(1 << 32))
        data = chance.randbytes(8 * chance.randrange(1, 90))
        after = wal_checksum(data, big_endian=big, before=before)
        assert wal_checksum_before(data, big_endian=big, after=after) == before
