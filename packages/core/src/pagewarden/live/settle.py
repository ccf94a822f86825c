"""How a copy becomes one commit: under one pin in WAL mode, by a last pass under a lock in rollback-journal mode.

In WAL mode one pin is held from the first to the last page (H19). In rollback-journal mode every read lock stops
commits, so nearly all is done without one (docs/live-read.md, "Rollback-journal mode"):

1. Copy all pages with no lock held. Commits that come meanwhile may mix with it, and tear pages.
2. If something was committed meanwhile, hash all pages again, with no lock either, and copy what differs.
3. Hash all pages under one lock, and put aside what differs, as long as that is little; it is compressed when the lock
   is gone. If it stays little until the last page, the copy is the commit under that lock: settled. Otherwise let go,
   and go back to 2.

Where little differs from the beginning, because it is compared with what is stored already, step 3 comes first.

Step 3 alone decides, because the sum of a page is taken of the very bytes that were stored: whatever the others read,
a page that is not the commit's differs. That nothing was committed is only ever a guess that saves step 2: bytes change
without a commit, too (H34).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden.errors import DatabaseBusy, DatabaseUnsettled, ReaderCrashed
from pagewarden.live.commit import Moved, attached
from pagewarden.live.pin import Pin
from pagewarden.processes.client import PageProgress
from pagewarden.processes.reader import Attachment, PageReader

# Bytes of pages; what one call reads is whole frames of a snapshot (`FRAME_BYTES`).
_AT_ONCE = 256 << 20  # that one call reads without the lock: between two, the deadline is looked at
_ALL_AGAIN = 32 << 20  # that one call of the last pass hashes
_LITTLE = 16 << 20  # that may be copied again in the last pass
_AGAIN = 0.05  # seconds before a lock is asked for again that was not had within the pin's own timeout
_ROUNDS = 50  # of steps 2 and 3, where the deadline does not come first

# What a first look under the lock may take: the pages of a database that is in memory are hashed in half of that.
_GRACE = 0.1  # seconds
_BRISK = 2 << 30  # bytes a second


class Copying:
    """One copy on its way. A context manager: leaving it with an error removes what was written."""

    def __init__(
        self,
        reader: PageReader,
        pin: Pin,
        begin: Callable[[Attachment], int],
        target: Path,
        *,
        differs_little: bool = False,
        progress: PageProgress | None,
        deadline: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`begin` begins the copy in the new file `target`. `deadline` is a reading of `clock`.

        `differs_little`: what the copy lacks from the beginning may be little enough for one pass under the lock.
        """
        self._reader = reader
        self._pin = pin
        self._begin = begin
        self._target = target
        self._differs_little = differs_little
        self._progress = progress
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._began = False
        self.snapshot = 0
        self.attempts = 0  # how often the copy was begun, or gone over again
        self.lock_seconds = 0.0  # rollback-journal mode: the longest time that the lock was held

    def settle(self, attempts: int) -> Attachment:
        """Copy until the copy is one commit, and let go of the pin; return the commit's attachment, which is closed.

        Raises DatabaseUnsettled after `attempts` beginnings, at the deadline, or when the database does not come to
        rest; what `Pin.begin` raises.
        """
        why = ""
        for _ in range(attempts):
            try:
                return self._once()
            except Moved as moved:
                why = str(moved)
                self.abandon()
            if self._late():
                break
        raise DatabaseUnsettled(
            f"{self._path} could not be copied at one commit in {self.attempts} attempts: {why}",
            hint="try again when less is written to it",
        )

    def abandon(self) -> None:
        """Remove what was written and not sealed, also where the reader that wrote it has died."""
        if self._began:
            self._began = False
            with suppress(ReaderCrashed):
                self._reader.abandon(self.snapshot)
            self._target.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.abandon()

    @property
    def _path(self) -> str:
        return self._pin.place.path

    def _late(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    def _once(self) -> Attachment:
        self.attempts += 1
        with self._locked() as attachment:
            if attachment.mode == "wal":
                self._start(attachment)
                if attachment.pages:
                    self._reader.copy(self.snapshot, attachment.handle, 1, attachment.pages, self._progress)
                return attachment
        self._start(attachment)  # without the lock: it may have to import what copies
        if self._differs_little:
            settled = self._last_pass(attachment, None, brisk=True)
            if settled is not None:
                return settled
            self.abandon()
            self.attempts += 1
            self._start(attachment)
        return self._come_to_rest(attachment)

    def _start(self, attachment: Attachment) -> None:
        self.snapshot = self._begin(attachment)
        self._began = True

    # Rollback-journal mode

    def _come_to_rest(self, begun: Attachment) -> Attachment:
        """Steps 1 to 3."""
        copied = self._walk(begun, self._copy)
        before: bytes | None = begun.header  # None: `copied` tells more
        for _ in range(_ROUNDS):
            # Of what a round copies again only half will have changed after the round saw it.
            if before is not None or copied <= 2 * _LITTLE:
                settled = self._last_pass(begun, before)
                if settled is not None:
                    return settled
            if self._late():
                break
            self.attempts += 1
            copied, before = self._walk(begun, self._again), None
        raise DatabaseUnsettled(
            f"{self._path} is written to all the time: it did not come to rest in {self.attempts} attempts",
            hint="WAL mode can be backed up while it is written to: "
            f"sqlite3 {shlex.quote(self._path)} 'PRAGMA journal_mode=WAL'",
        )

    def _walk(self, begun: Attachment, work: Callable[[Attachment, int, int], int]) -> int:
        """Let `work` do all pages without the lock (steps 1 and 2); return the bytes that it copied."""
        with self._unlocked(begun) as attachment:
            step, copied = _AT_ONCE // attachment.page_size, 0
            for first in range(1, attachment.pages + 1, step):
                try:
                    copied += work(attachment, first, min(step, attachment.pages - first + 1))
                except DatabaseUnsettled:  # a commit made the file shorter: what is missing differs
                    return max(copied, 2 * _LITTLE + 1)
                if self._late() and first + step <= attachment.pages:
                    raise DatabaseUnsettled(
                        f"the time that was allowed ended while {self._path} was copied", hint="allow more time"
                    )
        return copied

    def _copy(self, attachment: Attachment, first: int, count: int) -> int:
        def told(done: int, _total: int) -> None:
            if self._progress is not None:
                self._progress(first - 1 + done, attachment.pages)

        self._reader.copy(self.snapshot, attachment.handle, first, count, told)
        return count * attachment.page_size

    def _again(self, attachment: Attachment, first: int, count: int) -> int:
        """Hash pages, and copy what differs; return how many bytes that was, in whole frames."""
        return self._reader.recopy_changed(self.snapshot, attachment.handle, first, count) * attachment.page_size

    def _last_pass(self, begun: Attachment, before: bytes | None, *, brisk: bool = False) -> Attachment | None:
        """Step 3. Return the attachment of the commit, None if too much differs.

        With the header from `before` the copy, another one now tells that this is to be expected, of all but a small
        database. A `brisk` one also ends where pages come from the disk, which nobody shall wait for.
        """
        first, copied = 1, 0
        with self._locked(begun) as attachment:
            size, began = attachment.page_size, self._clock()
            if before not in (None, attachment.header) and attachment.pages * size > _LITTLE:
                return None
            while first <= attachment.pages and copied <= _LITTLE:
                count = min(_ALL_AGAIN // size, attachment.pages - first + 1)
                pages = self._reader.recopy_changed(self.snapshot, attachment.handle, first, count, later=True)
                copied += pages * size
                first += count
                if brisk and self._progress is not None:
                    self._progress(first - 1, attachment.pages)
                if brisk and self._clock() - began > _GRACE + first * size / _BRISK:
                    break
        return attachment if copied <= _LITTLE and first > attachment.pages else None

    # The lock

    @contextmanager
    def _locked(self, begun: Attachment | None = None) -> Iterator[Attachment]:
        """Hold the lock and attach."""
        with self._reader.exclusively():
            self._take_lock()
            began = self._clock()
            try:
                with attached(self._reader, self._pin) as attachment:
                    _compare(begun, attachment)
                    yield attachment
            finally:
                self._pin.release()
                held = self._clock() - began
        if attachment.mode == "file":
            self.lock_seconds = max(self.lock_seconds, held)

    @contextmanager
    def _unlocked(self, begun: Attachment) -> Iterator[Attachment]:
        """Attach under the lock, and let go of it: for reading what only the last pass can prove."""
        with self._reader.exclusively():
            self._take_lock()
            try:
                attachment = self._reader.attach(self._path)
            except DatabaseUnsettled as error:
                raise Moved(error.message) from error
            finally:
                self._pin.release()
        try:
            _compare(begun, attachment)
            yield attachment
        finally:
            with suppress(ReaderCrashed):  # then its descriptors are closed, too
                self._reader.release(attachment.handle)

    def _take_lock(self) -> None:
        """Begin the pin. Writers are outwaited until the deadline, if there is one."""
        while True:
            try:
                self._pin.begin()
            except DatabaseBusy:
                if self._deadline is None or self._late():
                    raise
                self._sleep(_AGAIN)
            else:
                return


def _compare(begun: Attachment | None, now: Attachment) -> None:
    """Raise Moved where the database is of another nature than when the copy was begun."""
    if begun is not None and (now.mode, now.page_size) != (begun.mode, begun.page_size):
        raise Moved("its journal mode or page size changed")
