"""The write-ahead log in pure Python: its chain of valid frames, and what stands behind the end of it."""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator

from pagewarden.pages.source import (
    WAL_FRAME_HEADER,
    WAL_HEADER,
    Buffer,
    WalBehind,
    WalEnd,
    WalPoint,
    WalScan,
    WalStart,
    is_page_size,
)

_M32 = (1 << 32) - 1
_NO_SALTS = bytes(8)


def pread_whole(file: int, size: int, offset: int) -> bytes:
    """Return `size` bytes at `offset`, fewer only at the file's end."""
    parts = []
    while size and (part := os.pread(file, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def chain(data: Buffer, order: str, running: tuple[int, int]) -> tuple[int, int]:
    """Continue SQLite's checksum, that of a WAL and of cksumvfs, over `data`, whose size is a multiple of 8."""
    words = array("I", bytes(data))
    if order != sys.byteorder:
        words.byteswap()
    a, b = running
    pairs = iter(words)
    for x in pairs:
        a = (a + x + b) & _M32
        b = (b + next(pairs) + a) & _M32
    return a, b


def scan(wal_fd: int, page_size: int, limit: int, most: int | None) -> WalScan:
    """Verify a WAL up to frame `limit`; see `Backend.wal_scan`."""
    header = pread_whole(wal_fd, WAL_HEADER, 0)
    if len(header) < WAL_HEADER:
        return _no_chain(WalEnd.NO_HEADER)
    magic, version, size, sequence = struct.unpack_from(">4I", header)
    order = "big" if magic & 1 else "little"
    known = magic & ~1 == 0x377F0682 and version == 3007000 and is_page_size(size)
    running = chain(header[:24], order, (0, 0))
    if not known or running != struct.unpack_from(">2I", header, 24):
        return _no_chain(WalEnd.BAD_HEADER)
    salts = header[16:24]
    commits: list[tuple[int, int, tuple[int, int]]] = [(0, 0, (0, 0))]  # frame, pages, checksum
    frames: list[int] = []  # pgno of each frame
    end = WalEnd.PAGE_SIZE if page_size not in (0, size) else None
    while end is None:
        valid = len(frames)
        offset = WAL_HEADER + valid * (WAL_FRAME_HEADER + size)
        frame = b"" if valid >= limit else pread_whole(wal_fd, WAL_FRAME_HEADER + size, offset)
        running, end = _judge(frame, size, salts, order, running, at_limit=valid >= limit)
        if end is None:
            pgno, pages = struct.unpack_from(">2I", frame)
            frames.append(pgno)
            if pages:
                commits.append((len(frames), pages, running))
    commit, pages, checksum = commits[-1]
    last = {pgno: frame for frame, pgno in enumerate(frames[:commit], start=1)}
    left_out = most is not None and len(last) > most
    return WalScan(
        salts=salts,
        page_size=size,
        sequence=sequence,
        big_endian_cksum=order == "big",
        frames_valid=len(frames),
        last_commit=commit,
        pages=pages,
        checksum=checksum,
        map=b"" if left_out else b"".join(struct.pack("<2I", pgno, last[pgno]) for pgno in sorted(last)),
        end=end,
        commits=len(commits) - 1,
        first_page_one=frames.index(1) + 1 if 1 in last else 0,
        page_one=last.get(1, 0),
        map_left_out=left_out,
    )


def follow(wal_fd: int, start: WalPoint, limit: int) -> Iterator[tuple[bytes, tuple[int, int], WalEnd | None]]:
    """Yield each frame behind `start` that is valid, with the running checksum; at last none, and why it ended."""
    size, order = start.page_size, "big" if start.big_endian else "little"
    running, valid, end = start.checksum, start.frame, None
    while end is None:
        offset = WAL_HEADER + valid * (WAL_FRAME_HEADER + size)
        frame = b"" if valid >= limit else pread_whole(wal_fd, WAL_FRAME_HEADER + size, offset)
        running, end = _judge(frame, size, start.salts, order, running, at_limit=valid >= limit)
        valid += 1
        yield b"" if end else frame, running, end


def behind(wal_fd: int, start: WalStart) -> WalBehind:
    """Look at every frame from `start` to the end of the file. native/c/survey.c says why this is what it is."""
    size, order = start.page_size, "big" if start.big_endian else "little"
    at, stored, other = start.at, start.checksum, start.other
    stranded = first = older = bare = bare_commit = 0
    commits: list[int] = []
    pending: list[int] = []  # commit marks in the frames without salts and checksum before this one
    apart = False
    broken_commit = False
    while at < _M32:
        frame = pread_whole(wal_fd, WAL_FRAME_HEADER + size, WAL_HEADER + at * (WAL_FRAME_HEADER + size))
        if len(frame) < WAL_FRAME_HEADER + size:
            break
        pgno, pages, *checksum = struct.unpack_from(">2I8x2I", frame)
        if pgno and not any(frame[8:24]):
            bare += not apart
            pending += [at + 1] * bool(pages)
            bare_commit = at + 1 if pages and not apart else bare_commit
            at, broken_commit = at + 1, False
            continue
        after = sums = (checksum[0], checksum[1])
        continues = False
        if frame[8:16] == start.salts:
            sums = chain(frame[WAL_FRAME_HEADER:], order, chain(frame[:8], order, stored))
            again = chain(frame[WAL_FRAME_HEADER:], order, chain(frame[:8], order, other))
            continues = bool(pgno) and after in (sums, again)
        else:
            older += frame[8:16] != _NO_SALTS
        if continues:
            stranded, first = stranded + 1, first or at + 1
            commits += pending + [at] * broken_commit + [at + 1] * bool(pages)
        broken_commit = bool(pages) and not continues
        pending, apart = [], True
        at, stored, other = at + 1, after, sums
    return WalBehind(
        stranded=stranded,
        first=first,
        commits=len(commits),
        last_commit=commits[-1] if commits else 0,
        older=older,
        frames=at,
        bare=bare,
        bare_commit=bare_commit,
    )


def _judge(
    frame: bytes, size: int, salts: bytes, order: str, running: tuple[int, int], *, at_limit: bool
) -> tuple[tuple[int, int], WalEnd | None]:
    """Return the running checksum after `frame`, and why the chain ends before it, if it does."""
    if at_limit:
        return running, WalEnd.LIMIT
    if len(frame) < WAL_FRAME_HEADER + size:
        return running, WalEnd.PARTIAL if frame else WalEnd.END
    if frame[8:16] != salts:
        return running, WalEnd.SALTS
    if not any(frame[:4]):
        return running, WalEnd.PGNO
    after = chain(frame[WAL_FRAME_HEADER:], order, chain(frame[:8], order, running))
    if after != struct.unpack_from(">2I", frame, 16):
        return running, WalEnd.CHECKSUM
    return after, None


def _no_chain(end: WalEnd) -> WalScan:
    return WalScan(
        salts=b"", page_size=0, sequence=0, big_endian_cksum=False, frames_valid=0, last_commit=0, pages=0,
        checksum=(0, 0), map=b"", end=end,
    )  # fmt: skip
