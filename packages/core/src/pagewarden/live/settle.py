"""How a copy becomes one commit: in one go in WAL mode, in slices of a SHARED lock in rollback-journal mode.

In WAL mode one pin is held from the first to the last page (H19). In rollback-journal mode every read lock stops
commits, so (docs/live-read.md, "Rollback-journal mode"):

1. Copy. The lock is held in slices of at most 50 ms; between two of them writers have their turn.
2. If something was committed meanwhile, hash all pages again, in slices too, and copy what differs.
3. Hash all pages under one lock, and copy what differs, as long as that is little. If it stays little until the last
   page, the copy is the commit under that lock: settled. Otherwise let go, and go back to 2.

That nothing was committed is only ever a guess that saves step 2: bytes change without a commit, too (H34).
"""

from __future__ import annotations

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
from pagewarden.repository.format import FRAME_BYTES

LONGEST_SLICE = 0.05
"""Seconds that a SHARED lock is held at most while pages are copied; only the last pass takes longer."""

_AIM = 0.025  # seconds that a slice is planned to take, because a busy machine takes longer than planned
# Bytes of pages; all ranges are whole frames of a snapshot.
_FIRST_SLICE = 2 * FRAME_BYTES
_AGAIN = 16 * FRAME_BYTES  # that one call hashes again: if all of them differ, copying them still fits a slice
_ALL_AGAIN = 64 * FRAME_BYTES  # that one call of the last pass hashes again
_LITTLE = 32 * FRAME_BYTES  # that may be copied again in the last pass
_CROWDED = 0.002  # seconds of waiting for the lock that tell of a writer
_ROUNDS = 50  # of steps 2 and 3, where the deadline does not come first


class Copying:
    """One copy on its way. A context manager: leaving it with an error removes what was written."""

    def __init__(
        self,
        reader: PageReader,
        pin: Pin,
        begin: Callable[[Attachment], int],
        target: Path,
        *,
        progress: PageProgress | None,
        deadline: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`begin` begins the copy in the new file `target`. `deadline` is a reading of `clock`."""
        self._reader = reader
        self._pin = pin
        self._begin = begin
        self._target = target
        self._progress = progress
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._began = False
        self._slice = _FIRST_SLICE  # bytes of pages that the next slice copies
        self._gap = 0.0  # seconds that writers are given before the lock is taken again
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
                self._abandon()
            if self._late():
                break
        raise DatabaseUnsettled(
            f"{self._path} could not be copied at one commit in {self.attempts} attempts: {why}",
            hint="try again when less is written to it",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon()

    @property
    def _path(self) -> str:
        return self._pin.place.path

    def _abandon(self) -> None:
        """Remove what was written, also where the reader that wrote it has died."""
        if self._began:
            self._began = False
            with suppress(ReaderCrashed):
                self._reader.abandon(self.snapshot)
            self._target.unlink(missing_ok=True)

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
        return self._copy_in_slices(attachment)

    def _start(self, attachment: Attachment) -> None:
        self.snapshot = self._begin(attachment)
        self._began = True

    # Rollback-journal mode

    def _copy_in_slices(self, begun: Attachment) -> Attachment:
        """Step 1, and the others where it took more than one slice."""
        first, quiet = 1, True
        while True:
            with self._locked(begun) as attachment:
                copied = self._copy_slice(attachment, first)
            if copied == attachment.pages:  # all of it under one lock
                return attachment
            quiet = quiet and attachment.header == begun.header
            first += copied
            if first > attachment.pages:
                break
            if self._late():
                raise self._restless()
        return self._come_to_rest(begun, quiet)

    def _copy_slice(self, attachment: Attachment, first: int) -> int:
        """Copy as many pages from `first` on as fit a slice, under the lock that is held; return how many."""
        count = min(
            max(FRAME_BYTES, self._slice) // FRAME_BYTES * FRAME_BYTES // attachment.page_size,
            attachment.pages - first + 1,
        )
        if count <= 0:  # the database shrank
            return 0

        def told(done: int, _total: int) -> None:
            if self._progress is not None:
                self._progress(first - 1 + done, attachment.pages)

        begun = self._clock()
        self._reader.copy(self.snapshot, attachment.handle, first, count, told)
        seconds = self._clock() - begun
        # What is planned at most doubles, as the first slices tell little of a disk.
        self._slice = int(count * attachment.page_size * min(2.0, _AIM / max(seconds, 1e-6)))
        return count

    def _come_to_rest(self, begun: Attachment, quiet: bool) -> Attachment:
        """Steps 2 and 3."""
        for _ in range(_ROUNDS):
            self.attempts += not quiet
            if quiet or self._go_over(begun):
                settled = self._last_pass(begun)
                if settled is not None:
                    return settled
            quiet = False
            if self._late():
                break
        raise self._restless()

    def _restless(self) -> DatabaseUnsettled:
        return DatabaseUnsettled(
            f"{self._path} is written to all the time: it did not come to rest in {self.attempts} attempts",
            hint=f"WAL mode can be backed up while it is written to: sqlite3 {self._path} 'PRAGMA journal_mode=WAL'",
        )

    def _go_over(self, begun: Attachment) -> bool:
        """Step 2. Return whether so little was copied again that the last pass may be tried."""
        first, copied = 1, 0
        while True:
            with self._locked(begun) as attachment:
                until = self._clock() + _AIM / 2  # the last call may have to copy all that it hashes
                while first <= attachment.pages:
                    pages, again = self._again(attachment, first, _AGAIN)
                    first += pages
                    copied += again
                    if self._clock() >= until:
                        break
            if first > attachment.pages:
                # Of what a round copies again only half will have changed after the round saw it.
                return copied <= 2 * _LITTLE
            if self._late():
                return False

    def _last_pass(self, begun: Attachment) -> Attachment | None:
        """Step 3. Return the attachment of the commit, None if too much differed."""
        first, copied = 1, 0
        with self._locked(begun) as attachment:
            while first <= attachment.pages and copied <= _LITTLE:
                pages, again = self._again(attachment, first, _ALL_AGAIN)
                first += pages
                copied += again
        return attachment if copied <= _LITTLE else None

    def _again(self, attachment: Attachment, first: int, at_once: int) -> tuple[int, int]:
        """Hash `at_once` bytes of pages, and copy what differs; return how many pages, and how many bytes of copies."""
        count = min(at_once // attachment.page_size, attachment.pages - first + 1)
        copied = self._reader.recopy_changed(self.snapshot, attachment.handle, first, count)
        return count, copied * attachment.page_size

    @contextmanager
    def _locked(self, begun: Attachment | None = None) -> Iterator[Attachment]:
        """Hold the lock and attach. Before, writers are given as long as the lock was held, if there are any.

        SQLite itself is fair once a writer waits for its commit: its PENDING lock lets no new reader in.
        """
        if self._gap:
            self._sleep(self._gap)
        asked = self._clock()
        self._take_lock()
        began = self._clock()
        try:
            with attached(self._reader, self._pin) as attachment:
                if begun is not None and (attachment.mode, attachment.page_size) != (begun.mode, begun.page_size):
                    raise Moved("its journal mode or page size changed")
                yield attachment
        finally:
            self._pin.release()
            self._held = self._clock() - began
            self._gap = self._held if began - asked > _CROWDED else 0.0
        if begun is not None:
            self.lock_seconds = max(self.lock_seconds, self._held)

    def _take_lock(self) -> None:
        """Begin the pin. Writers are outwaited until the deadline, if there is one."""
        while True:
            try:
                self._pin.begin()
            except DatabaseBusy:
                if self._deadline is None or self._late():
                    raise
            else:
                return
