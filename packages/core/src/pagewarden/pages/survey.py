"""A survey of a write-ahead log: its chain of valid frames, and what stands behind the end of that chain."""

from __future__ import annotations

import os

from pagewarden.pages.backend import backend
from pagewarden.pages.source import WAL_FRAME_HEADER, WAL_HEADER, WalBehind, WalScan, WalStart
from pagewarden.sqlite.wal import wal_checksum

MAPPED = 1 << 20
"""Pages that the map of a survey may name; a log of more is judged without its map, so that memory stays bounded."""


def survey_wal(wal_fd: int, *, page_size: int) -> tuple[WalScan, WalBehind]:
    """Return the chain of the WAL at `wal_fd`, and what stands behind the end of it.

    `page_size`, the database's, is what is believed where the header itself is damaged; 0: then nothing is.
    """
    scan = backend().wal_scan(wal_fd, page_size=0, most=MAPPED)
    if scan.page_size:
        offset = WAL_HEADER + scan.frames_valid * (WAL_FRAME_HEADER + scan.page_size)
        stored = os.pread(wal_fd, 8, offset - scan.page_size - 8 if scan.frames_valid else WAL_HEADER - 8)
        checksum = (int.from_bytes(stored[:4], "big"), int.from_bytes(stored[4:], "big"))
        start = WalStart(
            page_size=scan.page_size,
            big_endian=scan.big_endian_cksum,
            salts=scan.salts,
            at=scan.frames_valid,
            checksum=checksum,
            other=checksum,
        )
        return scan, backend().wal_behind(wal_fd, start)
    if not page_size:
        return scan, WalBehind()
    return scan, max(
        (_headless(wal_fd, page_size, big_endian) for big_endian in (False, True)),
        key=lambda behind: (behind.commits, behind.stranded),
    )


def _headless(wal_fd: int, page_size: int, big_endian: bool) -> WalBehind:
    """Return what stands in a WAL whose header is damaged: frames with the salts of the first one."""
    header = os.pread(wal_fd, WAL_HEADER + WAL_FRAME_HEADER, 0)
    if len(header) < WAL_HEADER + WAL_FRAME_HEADER:
        return WalBehind()
    start = WalStart(
        page_size=page_size,
        big_endian=big_endian,
        salts=header[WAL_HEADER + 8 : WAL_HEADER + 16],
        at=0,
        checksum=(int.from_bytes(header[24:28], "big"), int.from_bytes(header[28:32], "big")),
        other=wal_checksum(header[:24], big_endian=big_endian),
    )
    return backend().wal_behind(wal_fd, start)
