"""The files of a database whose log is followed: whether they are the same ones, and what the log says.

1. Whether it is the same database, -wal and -shm is told by their inodes. While it is pinned, SQLite removes none.
2. What is new is what the wal-index says, and nothing is believed before it is proved: salts, the chain of checksums
   from what was taken to the last committed frame, and there the checksum and the size that the wal-index has.
3. Where the log began a new generation, nothing was missed if the commits in it are as many as iChange counts since.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pagewarden.errors import DatabaseUnsettled
from pagewarden.following.values import Cause, Cursor, Gap
from pagewarden.pages import WalPoint, WalTail, backend
from pagewarden.processes.attach import open_regular
from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, frame_pages, parse_index
from pagewarden.sqlite.wal import (
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    WalHeader,
    WalInvalid,
    frame_offset,
    wal_checksum_before,
)

_READINGS = 50  # of a torn wal-index header: a writer needs microseconds for its update
_AT_ONCE = 8  # of those without a pause
_PAUSE = 0.001  # seconds between the others
_SUFFIXES = ("", "-wal", "-shm")
_CHUNK = 8192  # frames looked at in one call, where their pages are not kept

Inode = tuple[int, int]


class Broken(Exception):
    """The log does not prove what the wal-index says of it; where it moved meanwhile, looking again may help."""

    def __init__(self, cause: Cause, why: str) -> None:
        super().__init__(why)
        self.gap = Gap(cause=cause, why=why)


class LogFiles:
    """Which files are followed."""

    def __init__(self, path: str, sleep: Callable[[float], None]) -> None:
        """Take those that stand at the real path `path` now. Raises FileNotFoundError where one is missing."""
        self.path = path
        self._sleep = sleep
        self._inodes: dict[str, Inode] = {suffix: _inode(path + suffix) for suffix in _SUFFIXES}

    def moved(self) -> Gap | None:
        """Return why these are not the files that were followed any more, None where they are."""
        for suffix, known in self._inodes.items():
            try:
                same = _inode(self.path + suffix) == known
            except FileNotFoundError:
                same = False
            if not same:
                return self._moved(suffix)
        return None

    def wal_bytes(self) -> int:
        """Return the size of the -wal."""
        return os.lstat(f"{self.path}-wal").st_size

    def index(self) -> WalIndex:
        """Return what the wal-index says now. Raises DatabaseUnsettled where it stays torn, or DatabaseNotFound."""
        descriptor = open_regular(f"{self.path}-shm")
        try:
            return self._read(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def opened(self) -> Iterator[OpenLog]:
        """Open the files, and look. Raises DatabaseNotFound, DatabaseUnreadable or DatabaseUnsettled."""
        descriptors: list[int] = []
        try:
            for suffix in _SUFFIXES:
                descriptors.append(open_regular(self.path + suffix))
            database, wal, shm = descriptors
            yield OpenLog(self.path, database, wal, shm, self._read)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _read(self, descriptor: int) -> WalIndex:
        for reading in range(_READINGS):
            index = parse_index(os.pread(descriptor, INDEX_SIZE, 0))
            if index is not None:
                return index
            if reading >= _AT_ONCE:
                self._sleep(_PAUSE)
        raise DatabaseUnsettled(f"the wal-index of {self.path} was torn whenever it was read", hint="try again")

    def _moved(self, suffix: str) -> Gap:
        if not suffix:
            return Gap(cause=Cause.DATABASE_REPLACED, why=f"{self.path} is not the file that was followed")
        if not says_wal(self.path):
            return Gap(cause=Cause.JOURNAL_MODE_CHANGED, why=f"{self.path} is not in WAL mode any more")
        return Gap(cause=Cause.LOG_REPLACED, why=f"{self.path}{suffix} is not the file that was followed")


class OpenLog:
    """The files of a database, open for one call."""

    def __init__(self, path: str, database: int, wal: int, shm: int, read: Callable[[int], WalIndex]) -> None:
        """Look at the wal-index."""
        self.path = path
        self.database = database
        self.wal = wal
        self._shm = shm
        self._read = read
        self.index = read(shm)

    def still(self) -> bool:
        """Whether the log is in the generation still that it was in when it was looked at."""
        return self._read(self._shm).salts == self.index.salts

    def renew(self) -> WalIndex:
        """Look again; return what the wal-index says by now."""
        self.index = self._read(self._shm)
        return self.index

    def numbers(self, frames: int) -> array[int]:
        """Return the page numbers of frames 1 … `frames`, as the wal-index has them. Raises Broken."""
        numbers = frame_pages(lambda at, size: os.pread(self._shm, size, at), frames)
        if len(numbers) < frames:
            raise Broken(Cause.LOG_DAMAGED, f"the wal-index of {self.path} lacks the pages of {frames} frames")
        return numbers

    def start(self) -> WalPoint:
        """Return the beginning of the log's generation. Raises Broken."""
        try:
            header = WalHeader.parse(os.pread(self.wal, WAL_HEADER_SIZE, 0))
        except WalInvalid as error:
            raise Broken(Cause.LOG_REPLACED, f"{error} in {self.path}-wal") from error
        if header.salts != self.index.salts or header.page_size != self.index.page_size:
            raise Broken(Cause.LOG_REPLACED, f"{self.path}-wal is of another generation than its wal-index")
        return WalPoint(
            page_size=header.page_size,
            big_endian=header.big_endian,
            salts=header.salts,
            frame=0,
            checksum=header.checksum,
        )

    def point(self, cursor: Cursor) -> WalPoint:
        """Return where the chain goes on behind a commit of the present generation. Raises Broken."""
        if not cursor.frame:
            return self.start()
        checksum = cursor.checksum or self.commit(cursor.frame)[1]
        return WalPoint(
            page_size=self.index.page_size,
            big_endian=self.index.big_endian,
            salts=cursor.salts,
            frame=cursor.frame,
            checksum=checksum,
        )

    def commit(self, frame: int) -> tuple[int, tuple[int, int]]:
        """Return the commit field of a committed frame of this generation, and the checksum there. Raises Broken.

        A frame that SQLite left without salts and checksum (a bug with savepoints in transactions that spill) has the
        checksum that the next one continues.
        """
        if frame == self.index.frames:
            return self.index.pages, self.index.frame_checksum
        pages, salts, checksum = self._frame_header(frame)
        if salts == self.index.salts:
            return pages, checksum
        if any(salts):
            raise Broken(Cause.LOG_REPLACED, f"frame {frame} is not in {self.path}-wal")
        _, salts, checksum = self._frame_header(frame + 1)
        if salts != self.index.salts:
            raise Broken(Cause.LOG_DAMAGED, f"frame {frame + 1} of {self.path}-wal is committed, and cannot be proved")
        at = frame_offset(frame + 1, self.index.page_size)
        data = os.pread(self.wal, 8, at) + os.pread(self.wal, self.index.page_size, at + FRAME_HEADER_SIZE)
        return pages, wal_checksum_before(data, big_endian=self.index.big_endian, after=checksum)

    def _frame_header(self, frame: int) -> tuple[int, bytes, tuple[int, int]]:
        data = os.pread(self.wal, FRAME_HEADER_SIZE, frame_offset(frame, self.index.page_size))
        if len(data) < FRAME_HEADER_SIZE:
            raise Broken(Cause.LOG_REPLACED, f"frame {frame} is not in {self.path}-wal")
        pages, first, second = (int.from_bytes(data[at : at + 4], "big") for at in (4, 16, 20))
        return pages, data[8:16], (first, second)

    def room(self, point: WalPoint) -> int:
        """Return how many committed frames there are behind a point. Raises Broken where the file lacks them."""
        size = os.fstat(self.wal).st_size
        whole = max(0, size - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + point.page_size)
        if self.index.frames > whole:
            raise Broken(
                Cause.LOG_DAMAGED, f"{self.path}-wal ends before frame {self.index.frames}, which is committed"
            )
        return self.index.frames - point.frame

    def tail(self, point: WalPoint, last: int, pages: memoryview | None = None) -> WalTail:
        """Return what stands behind a point, up to the committed frame `last`, proved. Raises Broken."""
        found = backend().wal_take(self.wal, point, last_frame=last, pages=pages)
        if len(found.numbers) < last - point.frame:
            bad = point.frame + len(found.numbers) + 1
            raise Broken(Cause.LOG_DAMAGED, f"frame {bad} of {self.path}-wal is committed, and does not prove itself")
        if last == self.index.frames:
            ends = (found.checksum, found.sizes[-1]) if found.numbers else (point.checksum, self.index.pages)
            if ends != (self.index.frame_checksum, self.index.pages):
                raise Broken(Cause.LOG_DAMAGED, f"frame {last} of {self.path}-wal is not that of the wal-index")
        return found

    def went_on(self, cursor: Cursor) -> bool:
        """Whether the generation of `cursor`, which has ended, is seen to have had a commit behind it.

        Its frames stay in the file until new ones overwrite them, or it is cut off.
        """
        if cursor.checksum is None or not cursor.frame:
            return False
        point = WalPoint(
            page_size=self.index.page_size,
            big_endian=self.index.big_endian,
            salts=cursor.salts,
            frame=cursor.frame,
            checksum=cursor.checksum,
        )
        return any(backend().wal_take(self.wal, point, last_frame=cursor.frame + _CHUNK).sizes)

    def tails(self, point: WalPoint) -> Iterator[WalTail]:
        """Yield all that stands behind a point, without the pages, some frames at a time. Raises Broken."""
        last = point.frame + self.room(point)
        for begin in range(point.frame, last, _CHUNK):
            found = self.tail(point, min(begin + _CHUNK, last))
            yield found
            point = behind(point, found)


def behind(point: WalPoint, tail: WalTail) -> WalPoint:
    """Return the point at the end of a tail."""
    return WalPoint(
        page_size=point.page_size,
        big_endian=point.big_endian,
        salts=point.salts,
        frame=point.frame + len(tail.numbers),
        checksum=tail.checksum,
    )


def says_wal(path: str) -> bool:
    """Whether the header of the database file says that it is in WAL mode."""
    descriptor = open_regular(path)
    try:
        return 2 in os.pread(descriptor, 2, 18)
    finally:
        os.close(descriptor)


def _inode(path: str) -> Inode:
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(path)
    return found.st_dev, found.st_ino
