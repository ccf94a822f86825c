"""How a database is offered to checkers: connections for SQLite's view, an image for its pages.

| the database | connections | connections that may write | image |
|---|---|---|---|
| WAL mode | to the live file | to a private copy | one pinned commit; the checker begins again where it moved |
| rollback journal | to a private copy, made for the first | to another one | the live file in slices, else the copy |
| cannot be opened | to the live file: SQLite says why | the same | the bare file, in pages of the baseline's size |

A check through SQLite holds a SHARED lock for as long as it runs, which stops every commit in rollback-journal mode;
the copy is what keeps that lock short, whatever a checker does.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pagewarden.check.copies import Copies, Tell
from pagewarden.check.images import HandleImage, SlicedImage, attached_image, facts_of
from pagewarden.contracts import FileFacts, LiveImage
from pagewarden.errors import DatabaseUnreadable, NotADatabase, PagewardenError, ReaderCrashed
from pagewarden.live import open_readonly, read_commit
from pagewarden.live.connection import open_copy
from pagewarden.live.shared import SharedCommit
from pagewarden.processes.reader import Attachment
from pagewarden.sqlite.header import HEADER_SIZE, MAGIC

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

T = TypeVar("T")

Guard = Callable[[], None]
MakeImage = Callable[[Guard], LiveImage]
ImageCall = Callable[[MakeImage, FileFacts, Attachment | None], T]
"""Works on one attached commit; may be called several times, the last call counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a connection is opened, by whichever process."""

    path: str
    writable: bool = False  # a private copy

    def connect(self) -> sqlite3.Connection:
        """Return a new connection. Raises as `live.failure` says."""
        return open_copy(self.path) if self.writable else open_readonly(self.path)


class Source(Protocol):
    """What checkers see of the database; made by `open_source`."""

    @property
    def page_size(self) -> int:
        """Bytes of a page; 0 where it is not known."""

    @property
    def pages(self) -> int:
        """Size of the database, in pages; 0 where it is not known."""

    def door(self, *, copy: bool) -> Door:
        """Return where SQLite reads the database; with `copy`, a private copy that may be written to."""

    def with_image(self, call: ImageCall[T]) -> T:
        """Return what `call` returned with a commit attached that did not move under it. Raises PagewardenError."""

    def close(self) -> None:
        """Remove what was made for the check."""


class WalSource:
    """A database in WAL mode: nobody waits for a reader, so everything works on the live files."""

    def __init__(
        self,
        path: str,
        runtime: Runtime,
        attachment: Attachment,
        copies: Copies,
        deadline: float | None,
        tell: Tell,
    ) -> None:
        """`copies` are closed with it. `deadline` is a reading of the runtime's monotonic clock."""
        self.page_size = attachment.page_size
        self.pages = attachment.pages
        self._path = path
        self._runtime = runtime
        self._copies = copies
        self._commit = SharedCommit(
            path,
            lambda: runtime.reader,
            deadline=deadline,
            pinned=lambda seconds: tell("check.pinned", seconds),
            clock=runtime.monotonic,
            sleep=runtime.sleep,
        )

    def door(self, *, copy: bool) -> Door:
        """The live database, or a copy."""
        return Door(path=str(self._copies.writable()), writable=True) if copy else Door(path=self._path)

    def with_image(self, call: ImageCall[T]) -> T:
        """Share one pinned commit with all who ask for pages meanwhile."""
        reader = self._runtime.reader

        def work(attachment: Attachment) -> T:
            return call(lambda guard: attached_image(reader, attachment, guard), facts_of(attachment), attachment)

        return self._commit.read(work)

    def close(self) -> None:
        """Let go of the commit, and remove the copy, if there is one."""
        self._commit.close()
        self._copies.close()


class RollbackSource:
    """A database with a rollback journal: every reader stops commits, so none reads for long."""

    def __init__(self, path: str, runtime: Runtime, attachment: Attachment, copies: Copies) -> None:
        """`copies` are closed with it."""
        self.page_size = attachment.page_size
        self.pages = attachment.pages
        self._path = path
        self._runtime = runtime
        self._copies = copies
        self._lock = threading.Lock()
        self._first: Attachment | None = None  # of the commit that all read
        self._moved = False  # whether there is a newer one

    def door(self, *, copy: bool) -> Door:
        """A copy, or the one that may be written to: one of the other, so that both are of one commit."""
        readable = self._copies.readable()
        return Door(path=str(self._copies.writable()), writable=True) if copy else Door(path=str(readable))

    def with_image(self, call: ImageCall[T]) -> T:
        """Let `call` read in slices; where a commit comes in between, let it, and all who ask later, read the copy."""
        reader, clock, sleep = self._runtime.reader, self._runtime.monotonic, self._runtime.sleep
        if not self._moved:
            with self._lock:
                if self._first is None:
                    self._first = read_commit(self._path, reader, lambda found, _: found, clock=clock, sleep=sleep)
            with closing(SlicedImage(self._path, reader, self._first, clock=clock, sleep=sleep)) as image:
                result = call(image.guarded, facts_of(self._first), self._first)
                if image.settled():
                    return result
            self._moved = True
        copy = reader.attach(str(self._copies.readable()))
        try:
            return call(lambda guard: attached_image(reader, copy, guard), facts_of(copy), copy)
        finally:
            with suppress(ReaderCrashed):  # then its descriptors are closed, too
                reader.release(copy.handle)

    def close(self) -> None:
        """Remove the copies."""
        self._copies.close()


class BrokenSource:
    """A file that SQLite refuses, though it was a database: its own magic says so, or the baseline."""

    def __init__(self, path: str, runtime: Runtime, refusal: PagewardenError, page_size: int | None) -> None:
        """`refusal` is what SQLite said; `page_size` is the baseline's."""
        size = Path(path).stat().st_size
        self._cut_off = 0 < size < HEADER_SIZE
        self.refusal = refusal if not self._cut_off else _cut_off(size, refusal.hint)
        self.page_size = page_size or 0
        self.pages = -(-size // page_size) if page_size else 0
        self._path = path
        self._runtime = runtime

    def door(self, *, copy: bool) -> Door:  # noqa: ARG002 - nobody can write through SQLite, which cannot open it
        """The file itself, where SQLite will say what is wrong; it says nothing of use where not even a header is left.

        Raises NotADatabase.
        """
        if self._cut_off:
            raise self._told()
        return Door(path=self._path)

    def with_image(self, call: ImageCall[T]) -> T:
        """Read the bare file. Nobody can write to it through SQLite, which cannot open it either."""
        if not self.page_size:
            raise self._told()
        reader = self._runtime.reader
        handle, pages = reader.open_file(self._path, self.page_size)
        facts = FileFacts(file_size=Path(self._path).stat().st_size, journal_mode="rollback")

        def image(guard: Guard) -> LiveImage:
            return HandleImage(reader, handle, page_size=self.page_size, pages=pages, guard=guard)

        try:
            return call(image, facts, None)
        finally:
            reader.release(handle)

    def _told(self) -> PagewardenError:
        """Return what whoever asks for more is told: the finding has the rest, and once is enough."""
        told = NotADatabase("sqlite cannot open it: see what open found")
        told.hint = ""
        return told

    def close(self) -> None:
        """Nothing was made."""


def _cut_off(size: int, hint: str) -> NotADatabase:
    bytes_left = "1 byte" if size == 1 else f"{size} bytes"
    return NotADatabase(f"the file was cut off after {bytes_left}, and a header has {HEADER_SIZE}", hint=hint)


class ClosedSource:
    """A database that cannot be opened now, or not here: only its surroundings can be judged."""

    page_size = 0
    pages = 0

    def __init__(self, refusal: PagewardenError) -> None:
        """`refusal` is what whoever asks for more is told."""
        self._refusal = refusal

    def door(self, *, copy: bool) -> Door:  # noqa: ARG002 - there is none of either kind
        """Raise the refusal."""
        raise self._refusal

    def with_image(self, call: ImageCall[T]) -> T:  # noqa: ARG002 - there is nothing to call it with
        """Raise the refusal."""
        raise self._refusal

    def close(self) -> None:
        """Nothing was made."""


def open_source(
    path: str,
    runtime: Runtime,
    deadline: float | None,
    baseline_page_size: Callable[[], int | None],
    tell: Tell,
    *,
    private: bool = False,
) -> Source:
    """Look at the database at the real path `path` once, and return how it can be offered.

    `tell` is told of pins and copies, in the thread that needs them. `baseline_page_size` is asked only where SQLite
    refuses the file. A `private` one is a copy that nobody else has open. Raises NotADatabase for a file that nothing
    calls a database, DatabaseBusy, DatabaseUnsettled, DatabaseUnreadable, ReaderCrashed.
    """
    clock, sleep = runtime.monotonic, runtime.sleep
    try:
        attachment = read_commit(
            path, runtime.reader, lambda attachment, _: attachment, deadline=deadline, clock=clock, sleep=sleep
        )
    except NotADatabase as refusal:
        page_size = _ask(baseline_page_size)
        if page_size is None and not begins_as_database(path, runtime):
            raise
        return BrokenSource(path, runtime, refusal, page_size)
    except DatabaseUnreadable as refusal:
        if not str(refusal.fields.get("sqlite", "")).startswith("SQLITE_CORRUPT"):
            raise
        return BrokenSource(path, runtime, refusal, _ask(baseline_page_size))
    copies = Copies(
        path, runtime, deadline, tell, pages=attachment.pages, page_size=attachment.page_size, private=private
    )
    if attachment.mode == "wal":
        return WalSource(path, runtime, attachment, copies, deadline, tell)
    return RollbackSource(path, runtime, attachment, copies)


def _ask(baseline_page_size: Callable[[], int | None]) -> int | None:
    """Return the baseline's page size; None where there is no baseline that can be used, which its checker will say."""
    try:
        return baseline_page_size()
    except PagewardenError:
        return None


def begins_as_database(path: str, runtime: Runtime) -> bool:
    """Return whether the file's own first bytes say that it was a database, whatever is left of the rest."""
    return runtime.reader.file_header(path).startswith(MAGIC)
