"""One commit of a database in WAL mode for several who read at once: one pin, one attachment.

It is pinned when the first of them needs it and let go when the last one is done, so that a checkpoint waits no longer
than it must (H8), and all see the same commit (H19). Each looks for itself, at its own end, whether the commit held
still (step 6 of docs/live-read.md); where it did not, the next one to come pins anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled, ReaderCrashed
from pagewarden.live.commit import ATTEMPTS, Moved, attach_pinned, pause_after
from pagewarden.live.connection import BUSY_SECONDS
from pagewarden.live.pin import Pin, patience
from pagewarden.live.place import examine
from pagewarden.processes.reader import Attachment, PageReader

T = TypeVar("T")


class _Held:
    """A pinned commit, and how many read it."""

    def __init__(self, pin: Pin, attachment: Attachment) -> None:
        self.pin = pin
        self.attachment = attachment
        self.users = 0
        self.moved = False


class SharedCommit:
    """Commits of the database at one path, one at a time, each shared by all who read meanwhile. For many threads."""

    def __init__(
        self,
        path: str,
        reader: Callable[[], PageReader],
        *,
        deadline: float | None = None,
        pinned: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`pinned` is told how many seconds a pin took to get. `deadline` is a reading of `clock`."""
        self._path = path
        self._reader = reader
        self._deadline = deadline
        self._pinned = pinned
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._held: _Held | None = None  # for whoever comes next
        self._all: list[_Held] = []

    def read(self, work: Callable[[Attachment], T]) -> T:
        """Return `work(attachment)`, done on one commit; it may run several times, as for `read_commit`.

        Raises what `examine` and `Pin` raise; DatabaseUnsettled if every attempt failed; what `work` raises.
        """
        attempt = 1
        while True:
            try:
                return self._once(work)
            except Moved as moved:
                if attempt == ATTEMPTS or self._late():
                    raise DatabaseUnsettled(
                        f"{self._path} could not be read at one commit in {attempt} attempts: {moved}",
                        hint="try again when less is written to it",
                    ) from moved
            self._sleep(pause_after(attempt))
            attempt += 1

    def close(self) -> None:
        """Let go, whoever may still read: what is read from now on fails."""
        with self._lock:
            self._held = None
            while self._all:
                self._release(self._all.pop())

    def _late(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    def _once(self, work: Callable[[Attachment], T]) -> T:
        held = self._take()
        try:
            value = work(held.attachment)
        except DatabaseUnsettled as error:
            held.moved = True
            raise Moved(error.message) from error
        except DatabaseUnreadable:
            self._confirm(held)
            raise
        else:
            self._confirm(held)
            return value
        finally:
            self._let_go(held)

    def _take(self) -> _Held:
        with self._lock:
            if self._held is None or self._held.moved:
                self._held = self._hold()
                self._all.append(self._held)
            self._held.users += 1
            return self._held

    def _hold(self) -> _Held:
        """Do steps 1 to 5."""
        began = self._clock()
        timeout = patience(BUSY_SECONDS, self._deadline, self._clock)
        pin = Pin(examine(self._path), timeout=timeout, clock=self._clock, sleep=self._sleep)
        try:
            pin.begin()
            attachment = attach_pinned(self._reader(), pin)
        except BaseException:
            pin.close()
            raise
        self._pinned(self._clock() - began)
        return _Held(pin, attachment)

    def _confirm(self, held: _Held) -> None:
        """Do step 6. Raises Moved; ReaderCrashed where the commit is gone with a reader that died."""
        try:
            self._reader().confirm(held.attachment.handle)
        except DatabaseUnsettled as error:
            held.moved = True
            raise Moved(error.message) from error
        except ReaderCrashed:
            held.moved = True
            raise
        if not held.pin.still_pinned():
            held.moved = True
            raise Moved("the read transaction ended, or the file was replaced")

    def _let_go(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            if held.users == 0 and held in self._all:  # else it was closed
                if self._held is held:
                    self._held = None
                self._all.remove(held)
                self._release(held)

    def _release(self, held: _Held) -> None:
        with suppress(ReaderCrashed):  # then its descriptors are closed, too
            self._reader().release(held.attachment.handle)
        held.pin.close()
