"""A look at a whole -wal and at the database file beside it. Runs where no SQLite connection is (H1).

1. Header, chain and what stands behind its end come from `pagewarden.pages.survey`.
2. A live writer may go on meanwhile: the wal-index is read before the log, so that all that it names must be there, and
   the database file before the log, too, so that what a checkpoint has brought into the file is found in the log. If
   another generation began until the end, everything is looked at again.
3. For the question whose log this is, page 1 of log and file are compared. Where the log has no page 1, nothing can
   have been allocated or freed since the log began: every page is of the same kind in both, and a sample is compared.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict

from pagewarden.errors import DatabaseUnsettled
from pagewarden.pages import WalEnd, WalScan, lock_page
from pagewarden.pages.survey import survey_wal
from pagewarden.processes.attach import open_regular
from pagewarden.sqlite.btree import PageKind
from pagewarden.sqlite.header import HEADER_SIZE, page_size_of
from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, parse_index, read_marks
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_offset
from pagewarden.structure import WalSurvey

_LOOKS = 20  # at a log that begins new generations all the time
_PAUSE = 0.002  # seconds between two looks
_SAMPLE = 4096  # pages whose kinds are compared
_KINDS = frozenset(PageKind)


def survey(path: str, *, live: bool, sleep: Callable[[float], None] = time.sleep) -> WalSurvey | None:
    """Return what stands in the -wal of the database at the real path `path`; None where there is none or an empty one.

    `live` says that SQLite has the database open, so that its wal-index is true. Raises DatabaseNotFound,
    DatabaseUnreadable, DatabaseUnsettled.
    """
    if not _size(path + "-wal"):
        return None
    for _ in range(_LOOKS):
        with ExitStack() as stack:
            seen = _Look(path, stack, live=live).survey()
        if seen is not None:
            return seen
        sleep(_PAUSE)
    raise DatabaseUnsettled(f"the write-ahead log of {path} began new generations all the time", hint="try again")


def survey_to_wire(seen: WalSurvey | None) -> dict[str, object] | None:
    """Return a survey as plain values."""
    return None if seen is None else asdict(seen) | {"read_marks": list(seen.read_marks)}


class _Look:
    """One look at the files."""

    def __init__(self, path: str, stack: ExitStack, *, live: bool) -> None:
        def opened(suffix: str) -> int:
            descriptor = open_regular(path + suffix)
            stack.callback(os.close, descriptor)
            return descriptor

        self._database = opened("")
        self._wal = opened("-wal")
        self._shm = opened("-shm") if live and _size(path + "-shm") >= INDEX_SIZE else None

    def survey(self) -> WalSurvey | None:
        """Return what was seen; None where a new generation began meanwhile."""
        index, marks = self._index()
        start = os.pread(self._wal, WAL_HEADER_SIZE, 0)
        file_size = os.fstat(self._database).st_size
        file_page = os.pread(self._database, 65536, 0)
        file_page_size = page_size_of(file_page)
        scan, behind = survey_wal(self._wal, page_size=file_page_size)
        faults = (WalEnd.NO_HEADER, WalEnd.BAD_HEADER)
        first_one, one = (self._frame(scan, frame) for frame in (scan.first_page_one, scan.page_one))
        same_size = scan.page_size == file_page_size
        compared, differ = self._kinds(scan, file_size) if same_size and scan.last_commit and not one else (0, 0)
        missing, whole = (0, False) if scan.map_left_out else _coverage(scan, file_size)
        live = index is not None and index.salts == scan.salts
        replay = self._replay(scan, file_page_size, file_size) if behind.commits else (0, 0, 0)
        survey = WalSurvey(
            size=os.fstat(self._wal).st_size,
            header_fault=scan.why if scan.end in faults else "",
            page_size=scan.page_size,
            sequence=scan.sequence,
            salts=scan.salts,
            frames=max(behind.frames, scan.frames_valid),
            valid=scan.frames_valid,
            commits=scan.commits,
            committed=scan.last_commit,
            committed_pages=scan.pages,
            end="" if scan.end in faults else scan.why,
            stranded=behind.stranded,
            stranded_first=behind.first,
            stranded_commits=behind.commits,
            stranded_last=behind.last_commit,
            replay_to=replay[0],
            replay_commits=replay[1],
            replay_without=replay[2],
            broken_commit=self._breaks_a_commit(scan),
            older=behind.older,
            bare=behind.bare,
            bare_commit=behind.bare_commit,
            live=live,
            index_frames=index.frames if index is not None and live else 0,
            backfilled=index.backfilled if index is not None and live else 0,
            read_marks=marks if live else (),
            file_header=file_page[:HEADER_SIZE],
            first_page_one=first_one[:HEADER_SIZE],
            page_one=one[:HEADER_SIZE],
            schema_differs=same_size and bool(one) and one[HEADER_SIZE:] != file_page[HEADER_SIZE : len(one)],
            kinds_compared=compared,
            kinds_differ=differ,
            whole=whole,
            missing=missing,
        )
        moved = os.pread(self._wal, WAL_HEADER_SIZE, 0) != start
        if live and index is not None:
            later, _ = self._index()
            moved = moved or later is None or later.salts != index.salts
        return None if moved else survey

    def _index(self) -> tuple[WalIndex | None, tuple[int | None, ...]]:
        """Return the wal-index and its read-marks; None where there is none that can be believed."""
        if self._shm is None:
            return None, ()
        data = os.pread(self._shm, INDEX_SIZE, 0)
        return parse_index(data), read_marks(data)

    def _frame(self, scan: WalScan, frame: int) -> bytes:
        """Return the page in a frame; none for frame 0."""
        offset = frame_offset(frame, scan.page_size) + FRAME_HEADER_SIZE
        return os.pread(self._wal, scan.page_size, offset) if frame else b""

    def _replay(self, scan: WalScan, page_size: int, file_size: int) -> tuple[int, int, int]:
        """Return the last stranded commit that can be replayed, 0 for none; how many commits that brings back, and
        how many frames up to there are lost.
        """
        from pagewarden.pages.stranded import prove_log  # here, because a sound log has none

        proof = prove_log(self._wal, scan, page_size=page_size, pages=file_size // page_size if page_size else 0)
        if proof is None or not proof.commits:
            return 0, 0, 0
        return proof.target, proof.commits, sum(frame <= proof.target for frame in proof.lost)

    def _breaks_a_commit(self, scan: WalScan) -> bool:
        if scan.end is not WalEnd.CHECKSUM:
            return False
        header = os.pread(self._wal, FRAME_HEADER_SIZE, frame_offset(scan.frames_valid + 1, scan.page_size))
        return any(header[4:8])

    def _kinds(self, scan: WalScan, file_size: int) -> tuple[int, int]:
        """Compare the first byte of pages that both log and file have: how many, and how many are of another kind."""
        compared = differ = 0
        size = scan.page_size
        for pgno, frame in struct.iter_unpack("<2I", scan.map[: 8 * _SAMPLE]):
            if pgno * size > file_size or pgno > scan.pages or pgno == lock_page(size):
                continue
            ours = os.pread(self._wal, 1, frame_offset(frame, size) + FRAME_HEADER_SIZE)
            theirs = os.pread(self._database, 1, (pgno - 1) * size)
            kinds = {ours[0], theirs[0]} if ours and theirs else set()
            compared += 1
            differ += len(kinds) == 2 and bool(kinds & _KINDS)
        return compared, differ


def _coverage(scan: WalScan, file_size: int) -> tuple[int, bool]:
    """Return how many pages of the last commit neither log nor file has, and whether the log has all of them."""
    if not scan.last_commit:
        return 0, False
    size, lock = scan.page_size, lock_page(scan.page_size)
    in_file = -(-file_size // size)
    held = held_beyond = 0
    for pgno, _ in struct.iter_unpack("<2I", scan.map):
        if pgno <= scan.pages and pgno != lock:
            held += 1
            held_beyond += pgno > in_file
    beyond = max(0, scan.pages - in_file) - (in_file < lock <= scan.pages)
    return beyond - held_beyond, held == scan.pages - (lock <= scan.pages)


def _size(path: str) -> int:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
