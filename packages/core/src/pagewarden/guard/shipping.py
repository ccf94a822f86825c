"""The thread that brings batches from the spool into the repository, in order, and tries again where that fails."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden import lineage
from pagewarden.durable import failure
from pagewarden.errors import PagewardenError, RepositoryBusy, VerificationFailed

if TYPE_CHECKING:
    from pagewarden.guard.spool import Spool, Waiting
    from pagewarden.repository.stream import Stream
    from pagewarden.runtime import Runtime
    from pagewarden.values import Position

_FIRST_PAUSE = 0.1  # seconds after the first failure; doubled after each further one
_LONGEST_PAUSE = 30.0
_REOPENED_AFTER = 2  # failures one after the other
_TOLD_EVERY = 1.0  # seconds between two events that tell of what was stored
_RENEWED_EVERY = 3600.0  # seconds


@dataclass(slots=True)
class Stored:
    """What was stored since it was last told."""

    batches: int = 0
    commits: int = 0
    merged: int = 0  # of them, those that are no restore points of their own
    bytes: int = 0
    slowest: float = 0.0  # seconds from when a batch's first commit was seen until it was stored


class Shipper:
    """Stores what is put to it. Every method may be called by any thread; one of its own does the work."""

    def __init__(self, spool: Spool, runtime: Runtime, path: str, where: str, changed: Callable[[], None]) -> None:
        """`path` is the database's real path, `where` is `lineage.place_of` what it is kept as.

        `changed` is called when something was stored, or could not be.
        """
        self._spool = spool
        self._runtime = runtime
        self._path = path
        self._where = where
        self._changed = changed
        self._condition = threading.Condition()
        self._hurried = threading.Event()
        self._queue: deque[Waiting] = deque()
        self._stream: Stream | None = None
        self._again: Callable[[], Stream] | None = None
        self._failures = 0  # one after the other
        self._busy = False  # whether a batch is on its way
        self._ended = False
        self._thread: threading.Thread | None = None
        self._lineage = lineage.Lineage(path="")
        self._renewed = 0.0
        self._untold = Stored()
        self._told = -_TOLD_EVERY
        self.stored: Position | None = None  # the newest restore point
        self.failing: PagewardenError | None = None  # why the last try failed; it is tried again
        self.refused: PagewardenError | None = None  # why no try will succeed: the history went on without us
        self.done = 0  # the number of the last batch that was stored
        self.commits = 0
        self.merged = 0

    def begin(self, stream: Stream, stored: Position | None, again: Callable[[], Stream]) -> None:
        """Store through `stream` from now on. What was put before, and was not stored, is stored first.

        Where that fails again and again, `again` is to open another stream: the storage may be another one by then.
        """
        with self._condition:
            self._stream, self.stored, self.refused = stream, stored, None
            self._again, self._failures = again, 0
            self._hurried.clear()
            self._lineage = lineage.read_lineage(self._runtime.state, self._path)
            self._renewed = self._runtime.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="guard-shipping", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def put(self, waiting: Waiting) -> None:
        """Store a batch after those before it."""
        with self._condition:
            self._queue.append(waiting)
            self._condition.notify_all()

    @property
    def oldest(self) -> datetime | None:
        """When the first commit was seen that is not stored; None where all are."""
        with self._condition:
            return _seen(self._queue[0]) if self._queue else None

    @property
    def backlog(self) -> int:
        """How many batches are not stored yet."""
        return len(self._queue)

    def waits_for(self, number: int) -> bool:
        """Return whether a batch up to `number` is not stored yet."""
        with self._condition:
            return bool(self._queue) and self._queue[0].number <= number

    def settle(self) -> None:
        """Let no loss of power take what is remembered of where the database stands. Raises OSError."""
        lineage.settle(self._runtime.state, self._path)

    def hurry(self) -> None:
        """Try again now, whatever pause a failure began."""
        self._hurried.set()

    def drain(self, seconds: float) -> bool:
        """Wait until all is stored; return False where the time was over before, or no try will succeed."""
        with self._condition:
            self._condition.wait_for(lambda: self.refused or not (self._queue or self._busy), seconds)
            return not (self._queue or self._busy)

    def release(self) -> Stream | None:
        """Store nothing more for now, and return the stream of late; what is on its way is finished first."""
        with self._condition:
            stream, self._stream = self._stream, None
            self._hurried.set()
            self._condition.notify_all()
            self._condition.wait_for(lambda: not self._busy)
            return stream

    def forget(self) -> int:
        """Put what waits aside: it does not continue what is stored. Return how many batches it was. Raises OSError."""
        with self._condition:
            self._queue.clear()
            return self._spool.discard()

    def close(self) -> None:
        """End the thread, when what is on its way is stored or has failed."""
        with self._condition:
            self._ended = True
            self._hurried.set()
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._tell(at_once=True)

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ended:
            waiting, stream = self._next()
            try:
                if stream is not None and self._failures >= _REOPENED_AFTER:
                    stream = self._reopen(stream)
                if stream is not None and self._runtime.monotonic() - self._renewed > _RENEWED_EVERY:
                    stream.renew()
                    self._renewed = self._runtime.monotonic()
                if stream is not None and waiting is not None:
                    self._store(waiting, stream)
            except (RepositoryBusy, VerificationFailed) as error:
                self._refuse(error)
            except (PagewardenError, OSError) as error:
                self._fail(error, pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if waiting is not None:
                    self._succeed(waiting)
                    pause = _FIRST_PAUSE
            self._tell()

    def _next(self) -> tuple[Waiting | None, Stream | None]:
        """Wait for a batch and a stream to store it through, but not for long: there may be something to tell."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._ended or (self._queue and self._stream and self.refused is None), _TOLD_EVERY
            )
            if self._ended or self._stream is None or self.refused is not None:
                return None, None
            self._busy = True
            return (self._queue[0] if self._queue else None), self._stream

    def _reopen(self, old: Stream) -> Stream:
        """Open another session in the place of one that failed; what it left, the new one takes over."""
        assert self._again is not None
        stream = self._again()
        with suppress(PagewardenError, OSError):
            old.close()
        with self._condition:
            if self._stream is old:
                self._stream = stream
        return stream

    def _store(self, waiting: Waiting, stream: Stream) -> None:
        batch = waiting.batch
        self._lineage = lineage.while_followed(
            self._runtime.state, self._path, self._where, batch.parent, batch.position, self._lineage
        )
        stream.append(batch, waiting.segment, waiting.commits)
        self._spool.stored(waiting)

    def _succeed(self, waiting: Waiting) -> None:
        batch = waiting.batch
        commits = batch.position.txid - batch.parent.txid
        kept = 1 if batch.commits is UNSET else batch.commits.count
        now = self._runtime.clock()
        with self._condition:
            self._busy = False
            self._failures = 0
            if self._queue and self._queue[0] is waiting:
                self._queue.popleft()
            back, self.failing = self.failing, None
            self.stored, self.done = batch.position, waiting.number
            self.commits += commits
            self.merged += commits - kept
            untold = self._untold
            untold.batches += 1
            untold.commits += commits
            untold.merged += commits - kept
            untold.bytes += waiting.bytes
            untold.slowest = max(untold.slowest, (now - _seen(waiting)).total_seconds())
            self._condition.notify_all()
        if back is not None:
            self._runtime.emit("target.back", self._path, waiting=self._spool.count)
        self._changed()

    def _fail(self, error: PagewardenError | OSError, pause: float) -> None:
        """Note that the storage failed, and wait a while."""
        known = error if isinstance(error, PagewardenError) else failure(error, "cannot store what was followed")
        with self._condition:
            self._busy = False
            self._failures += 1
            before, self.failing = self.failing, known
            self._condition.notify_all()
        if before is None or before.message != known.message:
            self._runtime.emit("target.failed", self._path, why=known.message, waiting=self._spool.count)
        self._changed()
        self._hurried.wait(pause)
        self._hurried.clear()

    def _refuse(self, error: PagewardenError) -> None:
        with self._condition:
            self._busy = False
            self.refused = error
            self._condition.notify_all()
        self._changed()

    def _tell(self, *, at_once: bool = False) -> None:
        """Tell what was stored, at most once in a while."""
        now = self._runtime.monotonic()
        with self._condition:
            self._busy = False
            self._condition.notify_all()
            untold = self._untold
            if not untold.batches or (now - self._told < _TOLD_EVERY and not at_once):
                return
            self._untold, self._told = Stored(), now
        self._runtime.emit(
            "commits.stored",
            self._path,
            position=str(self.stored),
            commits=untold.commits,
            merged=untold.merged,
            batches=untold.batches,
            bytes=untold.bytes,
            slowest=round(untold.slowest, 3),
        )


def _seen(waiting: Waiting) -> datetime:
    """Return when the first commit of a batch was seen."""
    batch = waiting.batch
    return batch.position.time if batch.commits is UNSET else batch.commits.earliest
