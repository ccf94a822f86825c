"""The page reader: a child process that reads raw pages and holds no SQLite connection, ever (H1, H2).

It answers one call at a time, in the order in which they come, until its input ends. Bytes that it reads may be
hostile: if they kill it, the parent sees a named error and starts another one.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import select
import signal
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled, PagewardenError
from pagewarden.pages import PageDataError, PageSource, backend, scan_sums
from pagewarden.processes.attach import Attached, glance, open_regular
from pagewarden.processes.channel import Channel, ProtocolError, Value
from pagewarden.processes.following_main import FollowAnswers
from pagewarden.processes.gathering_main import GatherAnswers
from pagewarden.processes.increments_main import IncrementAnswers
from pagewarden.processes.proofs_main import ProofAnswers

if TYPE_CHECKING:
    from pagewarden.following.follower import Follower
    from pagewarden.pages.structure import StructureWalk
    from pagewarden.processes.image import RawImage
    from pagewarden.repository.container import PageSetWriter

_INPUT = 0  # standard input
_LOOK_EVERY = 2000  # milliseconds between two looks for the parent
_GRACE = 1.0  # seconds to end by oneself once the parent is gone
_COPIED_AT_ONCE = 4 << 20  # bytes
_SHARED_AT_ONCE = 64 << 20
_CANNOT_SHARE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class _File:
    """A closed private file as a source of pages."""

    def __init__(self, path: str, page_size: int) -> None:
        self.path = path
        self.descriptor = open_regular(path)
        size = os.fstat(self.descriptor).st_size
        self.source = PageSource(
            database=self.descriptor, page_size=page_size, pages=-(-size // page_size), file_size=size
        )

    def close(self) -> None:
        os.close(self.descriptor)


class Reader(FollowAnswers, GatherAnswers, IncrementAnswers, ProofAnswers):
    """The calls, each a public method, and the state behind them. Handles are chosen by the client."""

    def __init__(self, channel: Channel, threads: int) -> None:
        """`threads` work on pages at once."""
        super().__init__(channel, threads)
        self._open: dict[int, Attached | _File] = {}
        self._snapshots: dict[int, PageSetWriter | RawImage] = {}
        self._walks: dict[int, StructureWalk] = {}
        self._followers: dict[int, Follower] = {}

    def ping(self) -> str:
        """Return the backend's name."""
        return backend().name

    def attach(self, handle: int, database: str) -> Mapping[str, Value]:
        """Open one commit of a live database."""
        self._open[handle] = attached = Attached(database)
        return attached.describe()

    def glance(self, database: str) -> bytes:
        """Return the token of the present commit."""
        return glance(database)

    def open_file(self, handle: int, path: str, page_size: int) -> int:
        """Open a private file that nobody writes to; return its size in pages."""
        self._open[handle] = opened = _File(path, page_size)
        return opened.source.pages

    def sums(self, handle: int, first: int, count: int) -> bytes:
        """Return page sums."""
        source = self._source(handle)
        return b"".join(sums for _, sums in scan_sums(source, first=first, count=count, threads=self._threads))

    def pages(self, handle: int, pgnos: list[int]) -> list[bytes]:
        """Return pages."""
        source = self._source(handle)
        page = bytearray(source.page_size)
        pages = []
        for pgno in pgnos:
            backend().read(source, pgno, 1, page)
            pages.append(bytes(page))
        return pages

    def reread(self, handle: int, pgno: int) -> bytes:
        """Return a page again, from the disk where the system allows."""
        from pagewarden.pages import read_again

        return read_again(self._source(handle), pgno)

    def reserved_sums(self, handle: int, first: int, count: int) -> bytes:
        """Return whether the checksums in the last 8 bytes of pages hold."""
        from pagewarden.pages import scan_reserved

        return scan_reserved(self._source(handle), first=first, count=count, threads=self._threads)

    def begin_walk(self, walk: int, plan: Mapping[str, Any], resume: str) -> None:
        """Begin a walk over all b-trees."""
        from pagewarden.pages.structure import StructureWalk
        from pagewarden.processes.scans import plan_from_wire

        self._walks[walk] = StructureWalk(plan_from_wire(plan), threads=self._threads, resume=resume)

    def walk_step(self, walk: int, handle: int, seconds: float) -> Mapping[str, Value]:
        """Walk on for a while, over the pages of a handle that shows the same commit as those before."""
        from pagewarden.processes.scans import step_to_wire

        return step_to_wire(self._walks[walk].step(self._source(handle), seconds))

    def end_walk(self, walk: int) -> None:
        """Forget a walk."""
        del self._walks[walk]

    def wal_survey(self, handle: int | None = None, database: str = "") -> Mapping[str, Any] | None:
        """Return what stands in the -wal beside what a handle reads, or beside a database that nobody pinned."""
        from pagewarden.processes.survey import survey, survey_to_wire

        opened = None if handle is None else self._open[handle]
        path = database if opened is None else opened.path
        return survey_to_wire(survey(path, live=isinstance(opened, Attached)))

    def wal_look(self, database: str, live: bool) -> Mapping[str, Any]:
        """Return what the first bytes of a database, its -wal and its -shm say."""
        from pagewarden.processes.log_look import look

        return look(database, live=live)

    def confirm(self, handle: int) -> None:
        """Do step 6 of the live read."""
        opened = self._open[handle]
        if isinstance(opened, Attached):
            opened.check()

    def detach(self, handle: int, check: bool) -> None:
        """Close the descriptors of a handle, after step 6 of the live read if `check`."""
        opened = self._open[handle]
        try:
            if check and isinstance(opened, Attached):
                opened.check()
        finally:
            self._open.pop(handle).close()

    def begin_snapshot(self, snapshot: int, path: str, header: Mapping[str, Any], level: int) -> None:
        """Begin a page set."""
        from pagewarden.processes.wire import header_from_wire
        from pagewarden.repository.writer import SnapshotWriter

        self._snapshots[snapshot] = SnapshotWriter(path, header_from_wire(header), level=level, threads=self._threads)

    def begin_image(self, snapshot: int, path: str, page_size: int) -> None:
        """Begin a raw copy."""
        from pagewarden.processes.image import RawImage

        self._snapshots[snapshot] = RawImage(path, page_size)

    def copy(self, snapshot: int, handle: int, first: int, count: int) -> None:
        """Copy pages into a snapshot or a raw copy."""
        self._snapshots[snapshot].copy(self._source(handle), first, count, self._tell)

    def recopy_changed(self, snapshot: int, handle: int, first: int, count: int, later: bool) -> int:
        """Copy what differs again; return how many pages that took, which is whole frames in a page set."""
        writer = self._snapshots[snapshot]
        before = writer.pages_copied
        writer.recopy_changed(self._source(handle), first=first, count=count, later=later)
        return writer.pages_copied - before

    def seal(self, snapshot: int, pages: int, time: str) -> Mapping[str, Any]:
        """Finish a page set: make it durable and tell what it is."""
        from datetime import datetime

        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.container import PageSetWriter

        writer = self._snapshots[snapshot]
        assert isinstance(writer, PageSetWriter)
        info = writer.seal(pages=pages, time=datetime.fromisoformat(time) if time else None)
        del self._snapshots[snapshot]
        return info_to_wire(info)

    def seal_image(self, snapshot: int, pages: int) -> None:
        """Finish a raw copy."""
        from pagewarden.processes.image import RawImage

        writer = self._snapshots[snapshot]
        assert isinstance(writer, RawImage)
        writer.seal(pages=pages)
        del self._snapshots[snapshot]

    def abandon(self, snapshot: int) -> None:
        """Remove what a snapshot or a raw copy has written."""
        self._snapshots.pop(snapshot).abandon()

    def file_header(self, path: str) -> bytes:
        """Return the first bytes of a file as they stand, whatever a log beside it says."""
        descriptor = open_regular(path)
        try:
            return os.pread(descriptor, 100, 0)
        finally:
            os.close(descriptor)

    def read_file(self, path: str, offset: int, length: int) -> bytes:
        """Return bytes of a file as they stand."""
        descriptor = open_regular(path)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def infer(self, path: str) -> Mapping[str, Any]:
        """Return what the pages of a database say of its header, freelist and pointer map."""
        from pagewarden.repair.inference import infer

        return infer(path, threads=self._threads).to_wire()

    def copy_file(self, path: str, to_path: str, *, sync: bool) -> None:
        """Copy a file that nobody writes to a new one, which is made durable if `sync`; remove it if that fails."""
        from pathlib import Path

        from pagewarden import durable

        source = open_regular(path)
        try:
            copy = durable.create(Path(to_path))
            try:
                offset = share(source, copy)
                while data := os.pread(source, _COPIED_AT_ONCE, offset):
                    durable.write_at(copy, data, offset)
                    offset += len(data)
                if sync:
                    os.fsync(copy)
            except BaseException:
                Path(to_path).unlink(missing_ok=True)
                raise
            finally:
                os.close(copy)
        except OSError as error:
            raise durable.failure(error, f"cannot copy {path} to {to_path}") from error
        finally:
            os.close(source)

    def path_of(self, arguments: Mapping[str, Any]) -> str:
        """Return what the handle among `arguments` reads."""
        if "follower" in arguments:
            return self._followers[arguments["follower"]].path
        return self._open[arguments["handle"]].path

    def _source(self, handle: int) -> PageSource:
        return self._open[handle].source


def share(source: int, copy: int) -> int:
    """Let the system copy one file to another one by itself, as far as it can; return how many bytes it did.

    Some file systems let both share their blocks then, which takes neither time nor room. copy_file_range(2).
    """
    if not hasattr(os, "copy_file_range"):
        return 0
    offset = 0
    try:
        while done := os.copy_file_range(source, copy, _SHARED_AT_ONCE, offset, offset):
            offset += done
    except OSError as error:
        if error.errno not in _CANNOT_SHARE:
            raise
    return offset


def answer(reader: Reader, call: str, arguments: Mapping[str, Any]) -> Mapping[str, Value]:
    """Do one call and return the reply, errors included."""
    try:
        return {"value": getattr(reader, call)(**arguments)}
    except PagewardenError as error:
        return _failure(error)
    except (OSError, PageDataError) as error:
        # Files that are written have errors of their own (see durable.failure), so these come from what is read.
        what = arguments.get("database") or arguments.get("path") or reader.path_of(arguments)
        if isinstance(error, PageDataError):
            # All sizes were taken when it was opened: it shrank since, which no SQLite does under a pin.
            return _failure(DatabaseUnsettled(f"{what} shrank while it was read: {error}", hint="try again"))
        reason = error.strerror or str(error)
        return _failure(DatabaseUnreadable(f"{what} cannot be read: {reason}", hint="dmesg | tail", errno=error.errno))
    except Exception as error:  # noqa: BLE001 - the rim of the process: whatever failed is told to the parent
        return _failure(PagewardenError(f"the page reader failed in {call}: {type(error).__name__}: {error}"))


def _failure(error: PagewardenError) -> Mapping[str, Value]:
    fields = {key: value for key, value in error.fields.items() if isinstance(value, int | str)}
    return {"error": {"slug": error.slug, "message": error.message, "hint": error.hint}, "fields": fields}


def _watch_parent() -> None:
    """End this process when the parent is gone, even in the midst of a call."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(_INPUT, 0)  # no data, only the end: POLLHUP comes unasked
    while not poll.poll(_LOOK_EVERY) and os.getppid() == parent:
        pass
    time.sleep(_GRACE)
    os._exit(1)


def _prepare(*, copies: bool, stored: bool) -> None:
    """Import what scanning needs, and copying or page sets, while the parent is still at its own imports."""
    from concurrent import futures

    del futures
    if copies or stored:
        from pagewarden.processes import wire
        from pagewarden.repository import assemble, pageset

        del wire, assemble, pageset
    if copies:
        from pagewarden.repository import segment, writer

        del segment, writer
        backend().compressor(1)


def serve(channel: Channel) -> None:
    """Answer calls until the input ends. The first message, a greeting, says how many threads may work, and on what."""
    reader: Reader | None = None
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        if not isinstance(message, dict):
            raise ProtocolError("a call is no map")
        if reader is None:
            reader = Reader(channel, message["threads"])
            _prepare(copies=message["copies"], stored=message["stored"])
            continue
        try:
            channel.send(answer(reader, message["call"], message["arguments"]))
        except BrokenPipeError:
            return


def main() -> None:
    """Take over standard input and output as the channel, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.enable()  # a crash in native code leaves its stack on standard error
    channel = Channel(os.dup(0), os.dup(1))
    os.dup2(2, 1)  # whatever is printed must not end up in the conversation
    threading.Thread(target=_watch_parent, name="watch-parent", daemon=True).start()
    serve(channel)


if __name__ == "__main__":
    main()
