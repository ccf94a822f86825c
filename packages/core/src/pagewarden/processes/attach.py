"""Opening one commit of a live database for reading, outside SQLite. Runs in the page reader only (H1).

The numbered steps are those of docs/live-read.md. A SQLite worker has pinned the database before (step 1), and holds
its transaction until `Attached.check` has said that nothing moved (step 6).

- Files are opened read-only, never through a link, and only if they are regular; they are read with pread (H36).
- Nothing is believed that the files say of themselves: sizes are bounded before anything is allocated.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled, NotADatabase
from pagewarden.pages import MAX_PAGES, PageSource, ShortRead, WalScan, backend
from pagewarden.regular import NotRegular, open_regular_file
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, frame_pages, parse_index
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, WalInvalid, format_checksum

_READINGS = 50  # of a torn wal-index header, a millisecond apart: a writer needs microseconds for its update
_DEFAULT_PAGE_SIZE = 4096  # what an empty database has: SQLite's default since 3.12.0
_UNBELIEVED = 65536  # pages that a header may claim beyond twice the file's before it is not believed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    """Which commit is read, and from where."""

    source: PageSource
    index: WalIndex | None = None
    wal_frames: int = 0
    salts: bytes = b""
    wal_fault: str = ""
    checksum: tuple[int, int] = (0, 0)  # running, of the log at that frame


class Attached:
    """One commit of a database, open for reading."""

    def __init__(self, path: str, *, look_only: bool = False, sleep: Callable[[float], None] = time.sleep) -> None:
        """Open the database at the real path `path`. With `look_only` a log that has a usable wal-index is not read.

        Raises DatabaseNotFound, DatabaseUnreadable, NotADatabase, or DatabaseUnsettled where it moved meanwhile: then
        everything is to be repeated, pin included.
        """
        self.path = path
        self._sleep = sleep
        self._descriptors: dict[str, int] = {}
        try:
            self._database = self._open("")  # step 2
            self._looked, self._found = time.time_ns(), os.fstat(self._database)
            self._start = os.pread(self._database, HEADER_SIZE, 0)
            self.wal_mode = self._says_wal()
            self._commit = self._attach_wal(look_only) if self.wal_mode else self._attach_file()
            self.header = b"" if look_only else self._first_page()
        except ShortRead as error:
            self.close()
            raise self._moved(f"{path} shrank") from error
        except BaseException:
            self.close()
            raise

    @property
    def source(self) -> PageSource:
        """How the commit's pages are read."""
        return self._commit.source

    @property
    def token(self) -> bytes:
        """Bytes that are the same for two attachments only if no commit came between; see `glance`."""
        index = self._commit.index
        if index is not None:
            return index.header
        return self._commit.salts + self._commit.wal_frames.to_bytes(4, "big")

    def describe(self) -> dict[str, int | str | bytes | bool]:
        """Return the fields of `Attachment` but its handle."""
        source = self.source
        return {
            "mode": "wal" if self.wal_mode else "file",
            "page_size": source.page_size,
            "pages": source.pages,
            "file_size": source.file_size,
            "wal_frames": self._commit.wal_frames,
            "uses_wal": source.wal >= 0,
            "salts": self._commit.salts,
            "header": self.header,
            "token": self.token,
            "claimed_pages": self._claimed(),
            "wal_fault": self._commit.wal_fault,
            "wal_checksum": format_checksum(self._commit.checksum) if self._commit.wal_frames else "",
            "backfilled": 0 if self._commit.index is None else self._commit.index.backfilled,
            "inode": self._found.st_ino,
            "mtime_ns": self._found.st_mtime_ns,
            "looked_ns": self._looked,
        }

    def check(self) -> None:
        """Step 6: raise DatabaseUnsettled unless the files are the same ones and the WAL's generation has not ended."""
        for suffix, descriptor in self._descriptors.items():
            if not _same_file(descriptor, self.path + suffix):
                raise self._moved(f"{self.path}{suffix} was replaced")
        if self.source.wal >= 0:
            if self._wal_salts() != self._commit.salts:
                raise self._moved(f"the write-ahead log of {self.path} began a new generation")
            if self._commit.index is not None and self._read_index().salts != self._commit.salts:
                raise self._moved(f"the wal-index of {self.path} began a new generation")
        if not self.wal_mode:
            if os.fstat(self._database).st_size != self.source.file_size or self._start != self._pread_start():
                raise self._moved(f"{self.path} changed under a SHARED lock: something that is not SQLite wrote to it")
            if self._size_of("-wal"):
                raise self._moved(f"{self.path} got a write-ahead log")

    def close(self) -> None:
        """Close every descriptor. Reading must have ended."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    # Step 2

    def _open(self, suffix: str) -> int:
        path = self.path + suffix
        descriptor = self._descriptors[suffix] = open_regular(path)
        if not _same_file(descriptor, path):
            raise self._moved(f"{path} was replaced")
        return descriptor

    def _size_of(self, suffix: str) -> int:
        try:
            found = os.lstat(self.path + suffix)
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _says_wal(self) -> bool:
        """Whether SQLite reads this database through a wal-index: its header says so, or there is a log with content.

        `pagerOpenWalIfPresent` in SQLite's pager.c opens any log that is not empty, whatever the header says.
        """
        return 2 in self._start[18:20] or self._size_of("-wal") > 0

    # Rollback-journal mode, or no log

    def _attach_file(self) -> _Commit:
        return _Commit(source=self._file_source(pages=0, page_size=0))

    def _file_source(self, *, pages: int, page_size: int) -> PageSource:
        """Return the database file alone as source. `pages` and `page_size` 0 ask the file's header (step 5)."""
        size = os.fstat(self._database).st_size
        if size == 0 and not pages:
            return PageSource(database=self._database, page_size=_DEFAULT_PAGE_SIZE, pages=0, file_size=0)
        header = None
        if not page_size:
            header = self._parse(self._start)
            page_size = header.page_size
        present = -(-size // page_size)  # a page that is cut off counts, as in SQLite's pagerPagecount()
        if not pages:
            header = header or self._parse(self._start)
            claimed = header.page_count if header.count_valid else present
            # A header can claim 16 TiB that are not there; twice what is there covers any file that was cut off.
            pages = claimed if claimed <= 2 * present + _UNBELIEVED else present
        return PageSource(database=self._database, page_size=page_size, pages=min(pages, MAX_PAGES), file_size=size)

    # WAL mode

    def _attach_wal(self, look_only: bool) -> _Commit:
        index = self._usable_index()
        if index is None:
            return self._attach_scanned()
        fault = ""
        if index.complete or look_only:  # step 4: the database file alone; the WAL is ignored
            source = self._file_source(pages=index.pages, page_size=index.page_size)
        else:
            source, fault = self._log_source(index)
        return _Commit(
            source=source,
            index=index,
            wal_frames=index.frames,
            salts=index.salts,
            wal_fault=fault,
            checksum=index.frame_checksum,
        )

    def _log_source(self, index: WalIndex) -> tuple[PageSource, str]:
        """Return the database file and the log that `index` names as source, and how the log fails to prove it."""
        wal = self._open("-wal")
        scan = backend().wal_scan(wal, page_size=index.page_size, last_frame=index.frames)
        fault, frames = "", scan.map
        if not _proves(scan, index):
            if self._read_index().salts != index.salts:
                raise self._moved(f"the write-ahead log of {self.path} began a new generation")
            fault = _fault(scan, index)
            frames = self._unproved_map(index)
        source = PageSource(
            database=self._database,
            wal=wal,
            page_size=index.page_size,
            pages=min(index.pages, MAX_PAGES) or self._file_source(pages=0, page_size=index.page_size).pages,
            file_size=os.fstat(self._database).st_size,
            frames=frames,
        )
        return source, fault

    def _usable_index(self) -> WalIndex | None:
        """Step 3, or None where the -shm cannot be believed (step 8).

        A connection that cannot write the -shm does not know whether what stands there is left from before a crash
        (`walBeginShmUnreliable` in SQLite's wal.c), so neither do we.
        """
        if self._size_of("-shm") < INDEX_SIZE or not writable(self.path + "-shm"):
            return None
        self._open("-shm")
        first = self._read_index()
        for _ in range(_READINGS):
            second = self._read_index()
            if second.salts == first.salts:
                return second
            first = second
        raise self._moved(f"the write-ahead log of {self.path} began new generations all the time")

    def _read_index(self) -> WalIndex:
        for _ in range(_READINGS):
            index = parse_index(os.pread(self._descriptors["-shm"], INDEX_SIZE, 0))
            if index is not None:
                return index
            self._sleep(0.001)
        raise self._moved(f"the wal-index of {self.path} was torn whenever it was read")

    def _unproved_map(self, index: WalIndex) -> bytes:
        """Return the map that SQLite itself goes by, where the WAL does not prove one.

        A reader inside SQLite verifies no frame (H14): it serves what the wal-index names, and a checkpoint writes that
        into the database. So do we, and say that the WAL is damaged.
        """
        descriptor = self._descriptors["-shm"]
        room = max(0, self._size_of("-wal") - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + index.page_size)
        numbers = frame_pages(lambda at, size: os.pread(descriptor, size, at), min(index.frames, room))
        last = {pgno: frame for frame, pgno in enumerate(numbers, 1) if pgno}
        return b"".join(
            pgno.to_bytes(4, "little") + frame.to_bytes(4, "little") for pgno, frame in sorted(last.items())
        )

    def _attach_scanned(self) -> _Commit:
        """Step 8: no usable -shm. The WAL is read to its last verified commit; its salts are read again at the end."""
        if not self._size_of("-wal"):
            return self._attach_file()
        wal = self._open("-wal")
        scan = backend().wal_scan(wal, page_size=0)
        if not scan.last_commit:
            return _Commit(source=self._file_source(pages=0, page_size=0), salts=scan.salts)
        source = PageSource(
            database=self._database,
            wal=wal,
            page_size=scan.page_size,
            pages=min(scan.pages, MAX_PAGES),
            file_size=os.fstat(self._database).st_size,
            frames=scan.map,
        )
        return _Commit(source=source, wal_frames=scan.last_commit, salts=scan.salts, checksum=scan.checksum)

    # Both

    def _first_page(self) -> bytes:
        """Return the first 100 bytes of the commit; none of an empty database. Raises NotADatabase."""
        if not self.source.pages:
            return b""
        page = bytearray(self.source.page_size)
        backend().read(self.source, 1, 1, page)
        self._parse(page)
        return bytes(page[:HEADER_SIZE])

    def _parse(self, data: bytes | bytearray) -> DatabaseHeader:
        try:
            return DatabaseHeader.parse(bytes(data))
        except HeaderInvalid as error:
            raise NotADatabase(
                f"{self.path} is not a SQLite database, or it is encrypted: {error}",
                hint=f"look at its first bytes: head -c 16 {shlex.quote(self.path)} | xxd",
            ) from error

    def _claimed(self) -> int:
        """Return how many pages the commit's header claims; 0 where it makes no claim that is valid."""
        if not self.header:
            return 0
        header = self._parse(self.header)
        return header.page_count if header.count_valid else 0

    def _pread_start(self) -> bytes:
        return os.pread(self._database, HEADER_SIZE, 0)

    def _wal_salts(self) -> bytes:
        try:
            return WalHeader.parse(os.pread(self.source.wal, WAL_HEADER_SIZE, 0)).salts
        except WalInvalid:  # in the middle of being written: then a new generation begins
            return b""

    def _moved(self, what: str) -> DatabaseUnsettled:
        return DatabaseUnsettled(f"{what} while it was read", hint="try again")


def glance(path: str) -> bytes:
    """Return the token of the commit that `Attached` would open now (step 7).

    In WAL mode equal tokens before and after a pin mean that no commit came between. Mostly it is the wal-index header;
    where there is none that can be believed, salts and frame of the last verified commit.
    """
    attached = Attached(path, look_only=True)
    attached.close()
    return attached.token


def open_regular(path: str) -> int:
    """Open a regular file for reading, never through a link; return its descriptor.

    Raises DatabaseNotFound or DatabaseUnreadable.
    """
    try:
        return open_regular_file(path)
    except NotRegular as error:
        raise DatabaseUnreadable(
            f"{path} is not a regular file", hint=f"look what it is: ls -l {shlex.quote(path)}"
        ) from error
    except FileNotFoundError as error:
        raise DatabaseNotFound(f"{path} is not there", hint=f"ls -l {shlex.quote(path)}*") from error
    except OSError as error:
        raise DatabaseUnreadable(
            f"{path} cannot be opened: {error.strerror}", hint=f"ls -l {shlex.quote(path)}"
        ) from error


def writable(path: str) -> bool:
    """Return whether this process may write to the file at `path`."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _same_file(descriptor: int, path: str) -> bool:
    here = os.fstat(descriptor)
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _proves(scan: WalScan, index: WalIndex) -> bool:
    """Whether the WAL proves the commit that the wal-index names: salts, chained checksum and size (step 4)."""
    return (
        scan.salts == index.salts
        and scan.last_commit == index.frames
        and scan.checksum == index.frame_checksum
        and scan.pages == index.pages
    )


def _fault(scan: WalScan, index: WalIndex) -> str:
    """Say how the WAL differs from what the wal-index proves."""
    if scan.salts != index.salts:
        return "its header is not the one that the wal-index names" + (f": {scan.why}" if scan.why else "")
    if scan.frames_valid < index.frames:
        return scan.why or f"it ends after frame {scan.frames_valid} of {index.frames}"
    if scan.last_commit != index.frames:
        return f"frame {index.frames}, the last committed one, carries no commit"
    if scan.checksum != index.frame_checksum:
        return f"the checksum of frame {index.frames} is not the one that the wal-index names"
    return f"frame {index.frames} commits {scan.pages} pages, the wal-index {index.pages}"
