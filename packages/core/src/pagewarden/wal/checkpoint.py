"""Checkpoints that lose nothing: the steps, for whoever checkpoints a live database, with pins of its own.

1. Whoever checkpoints holds a read transaction (a pin) from before the first step until after the last. On read locks
   1–4 it keeps the log from being restarted; on read lock 0 it keeps every checkpoint from copying anything. Either way
   the log cannot restart under a checkpoint of ours, which is what the WAL-reset bug of SQLite needs (versions.py).
2. `passive` copies what can be copied up to the pin, and keeps no writer waiting, however much that is.
3. `settle` takes the write lock, so that no commit comes in between; has the pin renewed, because the old one would
   keep the last frames back; copies those; and has the pin renewed again: with all of the log in the database file it
   lands on read lock 0, so that the next writer restarts the log. Then the write lock is given up. A follower reads the
   tail of the log under the same lock (H20).
4. `finish` is SQLite's own RESTART or TRUNCATE, and is told to wait for nobody. A commit that came since `settle` went
   to a restarted log, of which nothing can be copied because of the pin on lock 0: then it answers busy, and nothing is
   lost.

Writers wait while `settle` holds the write lock: for the copying of the few frames since `passive`, and as long as it
is told to wait for readers on read locks 1–4, which keep the log from being restarted. Never for anything else.

`PRAGMA wal_checkpoint` returns (busy, log, checkpointed); busy = 1 is no success, and neither is a checkpoint that
copied less than there is where all was asked for (H24). From `sqlite3WalCheckpoint`, `walCheckpoint`,
`walRestartLog` and `walTryBeginRead` in SQLite's wal.c.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pagewarden.errors import DatabaseUnsettled
from pagewarden.holders import SHM_READ_LOCKS, find_locks
from pagewarden.live.connection import failure, open_writable

Mode = Literal["passive", "full", "restart", "truncate"]

_POLL = 0.001  # seconds between two tries for the write lock, or two looks at the readers


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointed:
    """What one checkpoint came to."""

    mode: Mode
    busy: bool  # whether SQLite said that somebody was in the way
    log: int  # frames in the log; -1 where SQLite did not look, because another checkpoint is under way
    checkpointed: int  # frames of it that are in the database file; -1 likewise
    held_seconds: float = 0.0  # how long the write lock was held for it

    @property
    def complete(self) -> bool:
        """Whether all of the log is in the database file."""
        return not self.busy and self.checkpointed == self.log


class Checkpointer:
    """Two connections to one database in WAL mode: one takes the write lock, the other one checkpoints.

    Not for threads. Close it before the pin is released, or else it may be the last connection that closes, which
    removes the log (H33).
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the database at the real path `path`. Raises DatabaseUnreadable, NotADatabase or DatabaseBusy."""
        self.path = path
        self._clock = clock
        self._sleep = sleep
        self._writer = open_writable(path, timeout=0.0)
        try:
            self._copier = open_writable(path, timeout=0.0)
        except BaseException:
            self._writer.close()
            raise
        try:
            # Whatever the library was built with: log and database file are synced, in this order.
            self._copier.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error as error:
            self.close()
            raise failure(error, path) from error

    def passive(self) -> Checkpointed:
        """Copy what can be copied without waiting, while the caller's pin is held. No writer waits for it."""
        return self._checkpoint("passive")

    def settle(
        self,
        renew: Callable[[], None],
        *,
        take: Callable[[], None] | None = None,
        timeout: float,
        wait_seconds: float = 0.0,
    ) -> Checkpointed:
        """Bring all of the log into the database file at one moment, as far as readers let it be; step 3 above.

        `renew` begins a new pin and then ends the one before; it is called twice. `take` is called first, when no more
        commits can come: a follower reads the tail of the log in it. `timeout` is how long to try for the write lock,
        in seconds, and `wait_seconds` how long to hold it, once all is copied, for readers on read locks 1–4.
        Raises DatabaseBusy, naming who has the write lock; what `take` and `renew` raise.
        """
        self._lock(timeout)
        began = self._clock()
        try:
            if take is not None:
                take()
            renew()
            done = self._checkpoint("passive")
            renew()
            if done.complete:
                self._wait_for_readers(began, wait_seconds)
        finally:
            self._writer.execute("ROLLBACK")
        return Checkpointed(
            mode="full",
            busy=done.busy,
            log=done.log,
            checkpointed=done.checkpointed,
            held_seconds=self._clock() - began,
        )

    def finish(self, mode: Literal["restart", "truncate"]) -> Checkpointed:
        """Let the log be restarted, or make its file empty, waiting for nobody; step 4 above.

        Only right after a `settle` that was complete, with the pin that its `renew` began last.
        """
        return self._checkpoint(mode)

    def close(self) -> None:
        """Close both connections."""
        self._copier.close()
        self._writer.close()

    def _lock(self, timeout: float) -> None:
        """Take the write lock. SQLite's own busy handler soon sleeps for a tenth of a second between two tries."""
        until = self._clock() + timeout
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if not busy or self._clock() >= until:
                    raise failure(error, self.path) from error
            else:
                return
            self._sleep(_POLL)

    def _wait_for_readers(self, began: float, seconds: float) -> None:
        while self._clock() - began < seconds and readers_in_the_log(self.path, others=True):
            self._sleep(_POLL)

    def _checkpoint(self, mode: Mode) -> Checkpointed:
        began = self._clock()
        try:
            busy, log, checkpointed = self._copier.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            raise failure(error, self.path) from error
        if log < 0 and not busy:
            raise DatabaseUnsettled(
                f"{self.path} is not in WAL mode any more: there is no log to checkpoint", hint="look again"
            )
        held = 0.0 if mode == "passive" else self._clock() - began
        return Checkpointed(mode=mode, busy=bool(busy), log=log, checkpointed=checkpointed, held_seconds=held)


def readers_in_the_log(path: str, *, others: bool = False) -> bool:
    """Return whether anybody, or with `others` another process, is seen on read locks 1–4: no restart of the log then.

    Who has the write lock is on one of them, too: it comes with a read transaction, which ends with it.
    """
    in_the_log = SHM_READ_LOCKS[1:]
    return any(
        not (others and lock.pid == os.getpid())
        and lock.file.endswith("-shm")
        and lock.first <= in_the_log[-1]
        and (lock.last or lock.first) >= in_the_log[0]
        for lock in find_locks(path) or ()
    )
