"""The client of the page reader: raw pages of a live database, read by a process that holds no SQLite connection (H1).

The reader is started at the first call and stays warm. If it dies, of hostile bytes or of a signal, the call under way
raises ReaderCrashed, everything that was attached is gone with it, and the next call starts another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagewarden.processes.channel import Value
from pagewarden.processes.client import PageProgress
from pagewarden.processes.following import FollowCalls
from pagewarden.processes.gathering import GatherCalls
from pagewarden.processes.increments import IncrementCalls
from pagewarden.processes.proofs import ProofCalls
from pagewarden.processes.shapes import as_bytes, as_int, as_nothing
from pagewarden.processes.stored import PAGES_AT_ONCE, SUMS_AT_ONCE, StoredCalls
from pagewarden.sqlite.header import DatabaseHeader

if TYPE_CHECKING:
    from datetime import datetime

    from pagewarden.pages.walk import WalkPlan
    from pagewarden.repair.inferred import Inference
    from pagewarden.repository.format import PageSetHeader, PageSetInfo
    from pagewarden.structure import StructureStep, WalSurvey
    from pagewarden.wal.look import WalLook

_SUMS_AT_ONCE = 128 << 20  # bytes of pages for each call in a walk over all sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One commit of a live database, open in the page reader."""

    handle: int
    mode: str  # "wal", or "file": rollback-journal mode
    page_size: int  # bytes
    pages: int  # size of the commit, in pages
    file_size: int  # bytes of the database file
    wal_frames: int  # the commit's frame in the WAL, 0 where the WAL has none
    uses_wal: bool  # whether pages come from the WAL; otherwise the database file alone is the commit
    salts: bytes  # of the WAL's generation, 8 bytes; empty where there is none
    header: bytes  # the first 100 bytes of the commit; empty where it has no pages
    token: bytes  # equal to that of a `glance` in WAL mode only if no commit came between
    claimed_pages: int  # what the header claims; 0 where it makes no valid claim (H13)
    wal_fault: str  # how the WAL is damaged, though SQLite serves it (H14); empty where it proves its commit
    wal_checksum: str = ""  # running, of the log at that frame: 16 hexadecimal digits; empty where it has none
    backfilled: int = 0  # frames of the WAL that are in the database file already, as the wal-index says
    inode: int = 0  # of the database file
    mtime_ns: int = 0  # when it was last written to, in nanoseconds since 1970
    looked_ns: int = 0  # when that was looked at

    @property
    def database_header(self) -> DatabaseHeader | None:
        """The decoded header, None for an empty database."""
        return DatabaseHeader.parse(self.header) if self.header else None

    @property
    def trailing_bytes(self) -> int:
        """Bytes after the last page, which are no part of the database; 0 while newer pages stand in the WAL."""
        return 0 if self.uses_wal else max(0, self.file_size - self.pages * self.page_size)

    @property
    def missing_bytes(self) -> int:
        """Bytes that the database should have and the file has not: it was cut off. 0 while the WAL is in use."""
        return 0 if self.uses_wal else max(0, max(self.pages, self.claimed_pages) * self.page_size - self.file_size)


class PageReader(FollowCalls, GatherCalls, IncrementCalls, ProofCalls, StoredCalls):
    """The page reader, as its callers see it: what it can be asked. Every method may raise ReaderCrashed."""

    def ping(self) -> str:
        """Return the name of the backend that reads pages: "native" or "twin"."""
        return self._call("ping", str)

    # A live database: see docs/live-read.md. Whoever calls has pinned it through SQLite.

    def attach(self, database: str) -> Attachment:
        """Open one commit of the database at the real path `database` (steps 2 to 5 of the live read).

        Raises DatabaseNotFound, DatabaseUnreadable, NotADatabase, or DatabaseUnsettled where it moved meanwhile.
        """
        handle = self._number()
        attachment = self._call(
            "attach", lambda fields: Attachment(handle=handle, **fields), handle=handle, database=database
        )
        self._handles.add(handle)
        return attachment

    def glance(self, database: str) -> bytes:
        """Return the token of the commit that `attach` would open now, without reading its log (step 7)."""
        return self._call("glance", as_bytes, database=database)

    def sums(self, handle: int, first: int, count: int) -> bytes:
        """Return the sums of pages `first` … `first+count-1`: 8 bytes each, little-endian."""
        steps = range(first, first + count, SUMS_AT_ONCE)
        return b"".join(
            self._call("sums", as_bytes, handle=handle, first=start, count=min(SUMS_AT_ONCE, first + count - start))
            for start in steps
        )

    def all_sums(self, attachment: Attachment, progress: PageProgress | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (first page, sums) of consecutive runs of pages that cover the whole commit."""
        yield from self._walk(attachment.handle, attachment.pages, attachment.page_size, progress)

    def pages(self, handle: int, pgnos: Sequence[int]) -> list[bytes]:
        """Return the bytes of pages."""
        return self._pages("pages", pgnos, handle=handle)

    def reread(self, handle: int, pgno: int) -> bytes:
        """Return the bytes of one page, read from the disk where the system allows; see `read_again`."""
        return self._call("reread", as_bytes, handle=handle, pgno=pgno)

    def reserved_sums(self, handle: int, first: int, count: int) -> bytes:
        """Return a byte for each page, 1 where the checksum of cksumvfs in its last 8 bytes holds, else 0."""
        steps = range(first, first + count, SUMS_AT_ONCE)
        return b"".join(
            self._call(
                "reserved_sums",
                as_bytes,
                handle=handle,
                first=start,
                count=min(SUMS_AT_ONCE, first + count - start),
            )
            for start in steps
        )

    def begin_walk(self, plan: WalkPlan, resume: str = "") -> int:
        """Begin a walk over all b-trees of one commit; return its number, for `walk_step` and `end_walk`.

        `resume` is the `reached` of a walk that was cut short. Raises ValueError for a plan that is too large to send.
        """
        from pagewarden.processes.scans import plan_to_wire

        walk = self._number()
        self._call("begin_walk", as_nothing, walk=walk, plan=plan_to_wire(plan), resume=resume)
        self._handles.add(walk)
        return walk

    def walk_step(self, walk: int, handle: int, seconds: float) -> StructureStep:
        """Walk on for about `seconds` over the pages of `handle`, which must show the same commit in every step."""
        from pagewarden.processes.scans import step_from_wire

        self._known(walk)
        return self._call("walk_step", step_from_wire, walk=walk, handle=handle, seconds=seconds)

    def end_walk(self, walk: int) -> None:
        """Forget a walk. One that is gone with its reader is no error."""
        self._end(walk, "end_walk", walk=walk)

    def wal_survey(self, where: int | str) -> WalSurvey | None:
        """Return what stands in the -wal of a database, None where there is none or an empty one.

        `where` is a handle, or a real path: then no wal-index is believed, because nobody need have the database open.
        """
        if isinstance(where, int):
            return self._call("wal_survey", _survey, handle=where)
        return self._call("wal_survey", _survey, database=where)

    def wal_look(self, database: str, *, live: bool) -> WalLook:
        """Return what the first bytes of the database at the real path `database`, its -wal and its -shm say.

        `live` says that SQLite has it open, so that its wal-index is true. Raises DatabaseNotFound, DatabaseUnreadable
        or NotADatabase.
        """
        from pagewarden.wal.look import WalLook

        def shape(value: Any) -> WalLook:
            versions = value["versions"]
            lists = {
                "versions": None if versions is None else tuple(versions),
                "read_marks": tuple(value["read_marks"]),
            }
            return WalLook(**value | lists)

        return self._call("wal_look", shape, database=database, live=live)

    def confirm(self, handle: int) -> None:
        """Do step 6 of the live read, and keep the handle open.

        Raises DatabaseUnsettled if what was read since `attach` may not be one commit: then discard all of it.
        """
        self._call("confirm", as_nothing, handle=handle)

    def detach(self, handle: int) -> None:
        """Do step 6 of the live read, and close all descriptors whatever it says.

        Raises DatabaseUnsettled if what was read since `attach` may not be one commit: then discard all of it.
        """
        self._known(handle)
        self._handles.discard(handle)
        self._call("detach", as_nothing, handle=handle, check=True)

    def release(self, handle: int) -> None:
        """Close all descriptors of a handle whose pages are not wanted any more. One that is gone is no error."""
        self._end(handle, "detach", handle=handle, check=False)

    # A snapshot, or a raw image, of what was attached

    def begin_snapshot(self, path: str | os.PathLike[str], header: PageSetHeader, level: int) -> int:
        """Begin a page set in the new file `path`; see `SnapshotWriter`. Raises OutOfSpace or TargetFailed."""
        from pagewarden.processes.wire import header_to_wire

        return self._begin_copy("begin_snapshot", path=os.fspath(path), header=header_to_wire(header), level=level)

    def begin_image(self, path: str | os.PathLike[str], page_size: int) -> int:
        """Begin a raw copy in the new file `path`. `copy`, `recopy_changed` and `abandon` take it like a snapshot."""
        return self._begin_copy("begin_image", path=os.fspath(path), page_size=page_size)

    def copy(self, snapshot: int, handle: int, first: int, count: int, progress: PageProgress | None = None) -> None:
        """Copy pages; `first` and `count` are whole frames of the snapshot."""
        self._known(snapshot)
        self._call("copy", as_nothing, progress, snapshot=snapshot, handle=handle, first=first, count=count)

    def recopy_changed(self, snapshot: int, handle: int, first: int, count: int, *, later: bool = False) -> int:
        """Hash pages, whole frames, and copy again what differs from the copy; return how many pages that took.

        `later` only puts it aside, which is soon done; `seal` and `seal_image` copy it.
        """
        self._known(snapshot)
        return self._call(
            "recopy_changed", as_int, snapshot=snapshot, handle=handle, first=first, count=count, later=later
        )

    def seal(self, snapshot: int, pages: int, time: datetime | None = None) -> PageSetInfo:
        """Finish a snapshot of `pages` pages, durably, and return what it is. `time` replaces the header's."""
        from pagewarden.processes.wire import info_from_wire

        self._known(snapshot)
        moment = "" if time is None else time.isoformat()
        info = self._call("seal", info_from_wire, snapshot=snapshot, pages=pages, time=moment)
        self._handles.discard(snapshot)
        return info

    def seal_image(self, snapshot: int, pages: int) -> None:
        """Finish a raw copy of `pages` pages. It is not made durable."""
        self._known(snapshot)
        self._call("seal_image", as_nothing, snapshot=snapshot, pages=pages)
        self._handles.discard(snapshot)

    def abandon(self, snapshot: int) -> None:
        """Remove what a snapshot or raw copy has written. One that was lost with a reader is its owner's to remove."""
        self._end(snapshot, "abandon", snapshot=snapshot)

    # Closed files

    def open_file(self, path: str | os.PathLike[str], page_size: int) -> tuple[int, int]:
        """Open a private file that nobody writes to; return its handle, to be released, and its size in pages."""
        handle = self._number()
        pages = self._call("open_file", as_int, handle=handle, path=os.fspath(path), page_size=page_size)
        self._handles.add(handle)
        return handle, pages

    def file_sums(
        self, path: str | os.PathLike[str], page_size: int, progress: PageProgress | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield (first page, sums) over a private file that nobody writes to."""
        handle, pages = self.open_file(path, page_size)
        try:
            yield from self._walk(handle, pages, page_size, progress)
        finally:
            self.release(handle)

    def file_header(self, path: str | os.PathLike[str]) -> bytes:
        """Return the first 100 bytes of a file as they stand, whatever a log beside it says; fewer of a shorter one."""
        return self._call("file_header", as_bytes, path=os.fspath(path))

    def read_file(self, path: str | os.PathLike[str], offset: int, length: int) -> bytes:
        """Return bytes of a file as they stand, whatever a log beside it says; fewer at its end."""
        steps = range(offset, offset + length, PAGES_AT_ONCE)
        parts = []
        for start in steps:
            wanted = min(PAGES_AT_ONCE, offset + length - start)
            parts.append(self._call("read_file", as_bytes, path=os.fspath(path), offset=start, length=wanted))
            if len(parts[-1]) < wanted:
                break
        return b"".join(parts)

    def infer(self, path: str | os.PathLike[str]) -> Inference:
        """Return what the pages of a database and its -wal, as they stand, say of header, freelist and pointer map."""
        from pagewarden.repair.inferred import Inference

        return self._call("infer", Inference.from_wire, path=os.fspath(path))

    def copy_file(self, path: str | os.PathLike[str], to_path: str | os.PathLike[str], *, sync: bool = True) -> None:
        """Copy a file that nobody writes to the new file `to_path`, with its contents durable unless not `sync`.

        Nothing is left there if it fails. Raises DatabaseUnreadable, OutOfSpace or TargetFailed.
        """
        self._call("copy_file", as_nothing, path=os.fspath(path), to_path=os.fspath(to_path), sync=sync)

    def _begin_copy(self, call: str, **arguments: Value) -> int:
        snapshot = self._number()
        self._call(call, as_nothing, snapshot=snapshot, **arguments)
        self._handles.add(snapshot)
        return snapshot

    def _walk(
        self, handle: int, pages: int, page_size: int, progress: PageProgress | None
    ) -> Iterator[tuple[int, bytes]]:
        step = _SUMS_AT_ONCE // page_size
        for first in range(1, pages + 1, step):
            count = min(step, pages - first + 1)
            yield first, self.sums(handle, first, count)
            if progress is not None:
                progress(first - 1 + count, pages)


def _survey(value: Any) -> WalSurvey | None:
    from pagewarden.structure import WalSurvey

    return None if value is None else WalSurvey(**value | {"read_marks": tuple(value["read_marks"])})
