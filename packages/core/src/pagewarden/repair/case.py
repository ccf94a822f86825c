"""What is known of a database that is to be repaired: the findings, and the files read without changing a byte.

| the database | pages |
|---|---|
| in use, WAL mode | one pinned commit, for as long as the case is open |
| in use, rollback journal | in slices of a SHARED lock; a commit in between ends the case |
| a private copy | the files as they stand, with what a recovery of the log would serve |
| refused by SQLite | the bare file, in pages of the size that the history or its own header names |

What a check has read is not read again: pages, flaws and trees are looked at when somebody asks for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.check.images import HandleImage, ImageMoved, SlicedImage, attached_image, facts_of
from pagewarden.contracts import FileFacts, LiveImage, Pattern, RepairPolicy
from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled, NotADatabase, PagewardenError, ReaderCrashed
from pagewarden.live import examine, read_commit
from pagewarden.live.commit import ATTEMPTS, Moved, attach_pinned, pause_after
from pagewarden.live.pin import Pin
from pagewarden.sqlite.header import page_size_of

if TYPE_CHECKING:
    from pagewarden.contracts import RepairHistory
    from pagewarden.processes.reader import Attachment
    from pagewarden.repair.inferred import Inference
    from pagewarden.repair.request import RepairRequest
    from pagewarden.runtime import Runtime
    from pagewarden.sqlite.describe import Description
    from pagewarden.structure import Flaw, Tree, WalSurvey
    from pagewarden.values import CheckReport, Finding

MOST_FLAWS = 200_000
"""Flaws of one walk that are kept: damage with more is repaired as a whole, not flaw by flaw."""


class Case:
    """A `RepairCase`; made by `open_case`."""

    def __init__(
        self,
        path: str,
        runtime: Runtime,
        report: CheckReport,
        *,
        origin: str,
        policy: RepairPolicy,
        history: RepairHistory | None,
        opened: _Opened,
    ) -> None:
        """`path` is what is read, `origin` the database's own path."""
        self.path = origin
        self.findings: tuple[Finding, ...] = report.findings
        self.refused = opened.refused
        self.facts = opened.facts
        self.policy = policy
        self.history = history
        self._read = path
        self._runtime = runtime
        self._opened = opened
        self._lock = threading.RLock()

    @property
    def image(self) -> LiveImage:
        """The pages. Raises PagewardenError where not even their size is known."""
        if self._opened.image is None:
            raise NotADatabase(f"{self.path} cannot be read in pages: {self.refused}")
        return self._opened.image

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """What the findings amount to."""
        from pagewarden.repair.diagnosis import diagnose

        return diagnose(self)

    @cached_property
    def log(self) -> WalSurvey | None:
        """What stands in the -wal."""
        handle = self._opened.handle
        return self._runtime.reader.wal_survey(self._read if handle is None else handle)

    def file(self, offset: int, length: int) -> bytes:
        """Return bytes of the bare database file."""
        return self._runtime.reader.read_file(self._read, offset, length)

    def inferred(self) -> Inference:
        """Return what the pages themselves say of header, freelist and pointer map. It is looked for once."""
        with self._lock:
            return self._inferred

    @cached_property
    def _inferred(self) -> Inference:
        return self._runtime.reader.infer(self._read)

    @property
    def trees(self) -> Sequence[Tree]:
        """The b-trees of the schema."""
        return () if self._description is None else self._description.trees

    def flaws(self) -> Sequence[Flaw]:
        """Return what a walk over the whole structure sees, MOST_FLAWS at the most. It is made once."""
        with self._lock:
            return self._flaws

    @cached_property
    def _flaws(self) -> tuple[Flaw, ...]:
        from pagewarden.structure import FlawKind

        if self._description is None:
            return ()
        found: list[Flaw] = []
        for step in self.image.structure(self._description.trees):
            # Pages that only a part of the schema which was not read might use are not unused.
            found += [flaw for flaw in step.flaws if self._description.whole or flaw.kind is not FlawKind.UNUSED]
            if len(found) >= MOST_FLAWS:
                break
        return tuple(found[:MOST_FLAWS])

    @cached_property
    def _description(self) -> Description | None:
        from pagewarden.sqlite.describe import describe_trees
        from pagewarden.sqlite.schema import Layout

        image = self._opened.image
        if image is None or not image.pages:
            return None
        layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
        return describe_trees(image.page, layout)


class _Opened:
    """How the pages of a case are read."""

    def __init__(
        self, *, image: LiveImage | None, facts: FileFacts, handle: int | None = None, refused: str = ""
    ) -> None:
        self.image = image
        self.facts = facts
        self.handle = handle  # of the page reader, that of an attached commit
        self.refused = refused


@contextmanager
def open_case(
    path: str,
    runtime: Runtime,
    report: CheckReport,
    *,
    request: RepairRequest,
    history: RepairHistory | None = None,
    origin: str | None = None,
) -> Iterator[Case]:
    """Open the case of the database at the real path `path`, which `report` is about; it holds still in the context.

    `origin` is given where `path` is a private copy of the database there, which nobody else has open: then nothing is
    pinned. Raises DatabaseNotFound, DatabaseBusy, DatabaseUnreadable; DatabaseUnsettled where it waits for a journal,
    and at the end where it was written to meanwhile: then all that was concluded is worthless.
    """
    with ExitStack() as stack:
        opened = _open(path, runtime, history, stack, private=origin is not None)
        case = Case(
            path,
            runtime,
            report,
            origin=path if origin is None else origin,
            policy=request.policy,
            history=history,
            opened=opened,
        )
        try:
            yield case
        except ImageMoved as moved:
            raise DatabaseUnsettled(str(moved), hint="try again when nothing writes to it") from moved


def _open(path: str, runtime: Runtime, history: RepairHistory | None, stack: ExitStack, *, private: bool) -> _Opened:
    try:
        if private:
            _ask_sqlite(path)
            return _attached(runtime.reader.attach(path), runtime, stack)
        first = read_commit(path, runtime.reader, lambda found, _: found, clock=runtime.monotonic, sleep=runtime.sleep)
        if first.mode == "wal":
            return _pinned(path, runtime, stack)
        sliced = stack.enter_context(
            closing(SlicedImage(path, runtime.reader, first, clock=runtime.monotonic, sleep=runtime.sleep))
        )
        stack.push(lambda kind, *_: _settle(path, sliced) if kind is None else None)
        return _Opened(image=sliced, facts=facts_of(first))
    except NotADatabase as refusal:
        return _bare(path, runtime, history, stack, refusal)
    except DatabaseUnreadable as refusal:
        if not str(refusal.fields.get("sqlite", "")).startswith("SQLITE_CORRUPT"):
            raise
        return _bare(path, runtime, history, stack, refusal)


def _ask_sqlite(path: str) -> None:
    """Let SQLite open a private copy, and take away what it leaves beside it. Raises as `Pin` does."""
    with Pin(examine(path)) as pin:
        try:
            pin.begin()
        finally:
            pin.close()
            for suffix in pin.created:
                Path(path + suffix).unlink(missing_ok=True)


def _pinned(path: str, runtime: Runtime, stack: ExitStack) -> _Opened:
    """Pin a commit of a database in WAL mode, and attach it."""
    attempt = 1
    while True:
        pin = stack.enter_context(Pin(examine(path), clock=runtime.monotonic, sleep=runtime.sleep))
        try:
            pin.begin()
            attachment = attach_pinned(runtime.reader, pin)
            break
        except Moved as moved:
            pin.close()
            if attempt == ATTEMPTS:
                raise DatabaseUnsettled(
                    f"{path} could not be read at one commit in {attempt} attempts: {moved}",
                    hint="try again when less is written to it",
                ) from moved
        runtime.sleep(pause_after(attempt))
        attempt += 1
    opened = _attached(attachment, runtime, stack)

    def confirm() -> None:
        runtime.reader.confirm(attachment.handle)
        if not pin.still_pinned():
            raise DatabaseUnsettled(f"{path} was replaced while it was looked at", hint="try again")

    stack.push(lambda kind, *_: confirm() if kind is None else None)
    return opened


def _attached(attachment: Attachment, runtime: Runtime, stack: ExitStack) -> _Opened:
    def release() -> None:
        with suppress(ReaderCrashed):  # then its descriptors are closed, too
            runtime.reader.release(attachment.handle)

    stack.callback(release)
    image = attached_image(runtime.reader, attachment, _unguarded)
    return _Opened(image=image, facts=facts_of(attachment), handle=attachment.handle)


def _bare(
    path: str, runtime: Runtime, history: RepairHistory | None, stack: ExitStack, refusal: PagewardenError
) -> _Opened:
    """Open the file that SQLite refuses, in pages of the size that its history or its header names."""
    size = os.stat(path).st_size  # noqa: PTH116 - as elsewhere, by stat alone
    facts = FileFacts(file_size=size, journal_mode="rollback")
    page_size = _page_size(path, runtime, history)
    if not page_size or not size:
        return _Opened(image=None, facts=facts, refused=refusal.message)
    handle, pages = runtime.reader.open_file(path, page_size)

    def release() -> None:
        with suppress(ReaderCrashed):
            runtime.reader.release(handle)

    stack.callback(release)
    image = HandleImage(runtime.reader, handle, page_size=page_size, pages=pages, guard=_unguarded)
    return _Opened(image=image, facts=facts, refused=refusal.message)


def _page_size(path: str, runtime: Runtime, history: RepairHistory | None) -> int:
    """Return the bytes of a page; 0 where nothing says it."""
    if history is not None:
        return history.newest.page_size
    return page_size_of(runtime.reader.file_header(path))


def _settle(path: str, image: SlicedImage) -> None:
    if not image.settled():
        raise DatabaseUnsettled(f"{path} was written to while it was looked at", hint="try again")


def _unguarded() -> None:
    """Let every access pass: the run bounds its time as a whole."""
