"""Injuries of the write-ahead log: a frame that rotted, and a -wal that belongs to another moment or database.

SQLite recovers the log when the database is opened: behind the first bad frame it ignores everything (H14), and any log
whose checksums hold is laid over the database, whoever wrote it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Mapping
from functools import partial

from pagewarden.durable import write_at
from pagewarden.pages import backend
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.wal import FORMAT, FRAME_HEADER_SIZE, frame_offset, wal_checksum
from pagewarden.testing.injuries.closed import SHOWN, TRIES, Attempt, ClosedCopy, Written, differ

_LONGEST = 16  # bytes of garbage
_MOST = 64  # frames of a foreign log
_MAGIC = 0x377F0682  # checksums over little-endian words
_ROWS = 3


def damaged_wal_frame(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put garbage into the page of a frame whose loss brings older content back."""
    try:
        wal = os.open(copy.wal, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        scan = backend().wal_scan(wal, page_size=copy.page_size)
        frames = chance.sample(range(1, scan.last_commit + 1), min(TRIES, scan.last_commit))
        for frame in frames:
            start = frame_offset(frame, copy.page_size) + FRAME_HEADER_SIZE
            length = chance.randrange(1, _LONGEST + 1)
            begin = chance.randrange(copy.page_size - length + 1)
            (pgno,) = struct.unpack(">I", os.pread(wal, 4, start - FRAME_HEADER_SIZE))
            new = bytes(byte ^ chance.randrange(1, 256) for byte in os.pread(wal, length, start + begin))
            yield Attempt(
                target=f"frame {frame}",
                message=f"{length} bytes of frame {frame} of {copy.wal.name}, which holds page {pgno}, became garbage",
                write=partial(_damage, copy, wal, frame, start, begin, new),
            )
    finally:
        os.close(wal)


def _damage(copy: ClosedCopy, wal: int, frame: int, start: int, begin: int, new: bytes) -> Written | None:
    whole, rest = (_Log(copy, wal, last_frame) for last_frame in (None, frame - 1))
    if not any(differ(pgno, rest.read(pgno), whole.read(pgno)) for pgno in whole.frames):
        return None
    before = os.pread(wal, len(new), start + begin)
    write_at(wal, new, start + begin)
    os.fsync(wal)
    (pgno,) = struct.unpack(">I", os.pread(wal, 4, start - FRAME_HEADER_SIZE))
    return Written(path=copy.wal, pgno=pgno, offset=begin, length=len(new), before=before, after=new)


class _Log:
    """The database as SQLite sees it through the log up to a frame."""

    def __init__(self, copy: ClosedCopy, wal: int, last_frame: int | None) -> None:
        self._copy = copy
        self._wal = wal
        self.frames: Mapping[int, int] = dict(
            struct.iter_unpack("<2I", backend().wal_scan(wal, page_size=copy.page_size, last_frame=last_frame).map)
        )

    def read(self, pgno: int) -> bytes:
        frame = self.frames.get(pgno)
        if frame is None:
            return self._copy.read(pgno)
        size = self._copy.page_size
        return os.pread(self._wal, size, frame_offset(frame, size) + FRAME_HEADER_SIZE)


def foreign_wal(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Lay a -wal beside the database that is valid and not its own: its own from earlier, or another database's."""
    older = copy.older
    if older is None:
        pages, count, whose = _foreign_pages(copy, chance), 2, "another database"
    else:
        differing = [pgno for pgno in range(1, older.pages + 1) if copy.read(pgno) != older.read(pgno)]
        chosen = [pgno for pgno in differing if pgno > copy.pages or _counts(copy, older, pgno)]
        if len(chosen) > _MOST:
            chosen = chance.sample(chosen, _MOST)
        elif chosen:  # free pages, too, that were in use then: the log leaves the older image, whole
            chosen = differing
        pages = {pgno: older.read(pgno) for pgno in chosen}
        count, whose = older.pages, str(older.path)
    yield Attempt(
        target=f"a -wal of {whose}",
        message=f"{copy.wal.name} lays {len(pages)} pages of {whose} over the database",
        write=partial(_lay, copy, pages, count, chance),
    )


def _counts(copy: ClosedCopy, older: ClosedCopy, pgno: int) -> bool:
    return copy.counts(pgno, copy.read(pgno), older.read(pgno))


def _lay(copy: ClosedCopy, pages: Mapping[int, bytes], count: int, chance: random.Random) -> Written | None:
    if not pages:
        return None
    log = _log(pages, count, copy.page_size, chance)
    mode = os.fstat(copy.descriptor).st_mode & 0o777
    wal = os.open(copy.wal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_at(wal, log, 0)
        os.fsync(wal)
    finally:
        os.close(wal)
    first = min(pages)
    return Written(path=copy.wal, pgno=first, offset=0, length=len(log), before=b"", after=log[:SHOWN])


def _log(pages: Mapping[int, bytes], count: int, page_size: int, chance: random.Random) -> bytes:
    """Return a whole log of one commit that leaves a database of `count` pages (file format, section 4.1)."""
    salts = chance.randbytes(8)
    header = struct.pack(">4I", _MAGIC, FORMAT, page_size, 0) + salts
    checksum = wal_checksum(header, big_endian=False)
    log = bytearray(header + struct.pack(">2I", *checksum))
    for number, (pgno, page) in enumerate(sorted(pages.items()), 1):
        head = struct.pack(">2I", pgno, count if number == len(pages) else 0)
        checksum = wal_checksum(head + page, big_endian=False, before=checksum)
        log += head + salts + struct.pack(">2I", *checksum) + page
    return bytes(log)


def _foreign_pages(copy: ClosedCopy, chance: random.Random) -> dict[int, bytes]:
    """Return both pages of a database that is not this one, though its pages have the same size: a table of texts."""
    sql = b"CREATE TABLE elsewhere(words)"
    schema = bytes((6, 23, 31, 31, 1, 2 * len(sql) + 13)) + b"table" + b"elsewhere" * 2 + b"\x02" + sql
    header = bytearray(copy.read(1)[:HEADER_SIZE])
    header[18:20] = b"\x02\x02"
    header[24:48] = struct.pack(">6I", 1, 2, 0, 0, 1, 4)
    header[52:56] = bytes(4)
    header[64:68] = bytes(4)
    header[92:96] = struct.pack(">I", 1)
    texts = [chance.randbytes(8).hex().encode() for _ in range(_ROWS)]
    rows = [bytes((2, 2 * len(text) + 13)) + text for text in texts]
    usable = copy.layout.usable
    return {
        1: _leaf([schema], bytes(header), usable, copy.page_size),
        2: _leaf(rows, b"", usable, copy.page_size),
    }


def _leaf(payloads: list[bytes], before: bytes, usable: int, page_size: int) -> bytes:
    """Return a table leaf page with these payloads, all shorter than 128 bytes, under the rowids from 1 on."""
    page = bytearray(before.ljust(page_size, b"\0"))
    end, pointers = usable, []
    for rowid, payload in enumerate(payloads, 1):
        cell = bytes((len(payload), rowid)) + payload
        end -= len(cell)
        page[end : end + len(cell)] = cell
        pointers.append(end)
    head = struct.pack(f">BHHHB{len(pointers)}H", 13, 0, len(pointers), end % 65536, 0, *pointers)
    page[len(before) : len(before) + len(head)] = head
    return bytes(page)
