"""The log of a database that is followed: checkpointed when the policy says so, and told of when it is too large."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pagewarden.errors import DatabaseBusy, DatabaseUnreadable
from pagewarden.guard.holding import held_back_by
from pagewarden.wal.checkpoint import Checkpointed, Checkpointer
from pagewarden.wal.policy import Decision, WalState

if TYPE_CHECKING:
    from pagewarden.following.values import Look
    from pagewarden.guard.guarded import Guarded

_TRIES = 25  # at a checkpoint while another one is under way
_TRY_EVERY = 0.002  # seconds
_LOCK_SECONDS = 0.01  # for which the write lock is tried for
_OVER_SECONDS = 2.0  # in which a log that is too large may be restarted before that is told


class LogTender:
    """Checkpoints one log under the pins of whoever follows it; nothing is lost whatever comes of one."""

    def __init__(
        self, guarded: Guarded, *, rotate: Callable[[], None], take: Callable[[], None], renew: Callable[[], None]
    ) -> None:
        """`rotate` puts a newer pin in the place of the one that is held, taking what is there.

        `take` takes what is left while nobody can commit, and then `renew` puts a newer pin in place, taking nothing.
        """
        self._g = guarded
        self._rotate = rotate
        self._take = take
        self._renew = renew
        self._checkpointer: Checkpointer | None = None
        self._unusable = False
        self._tried = -math.inf  # when a checkpoint was last tried
        self._held_back = False  # whether somebody kept it from what it was for
        self._came_to = (0, 0, False)  # what the last one did: frames, of them copied, and whether that was all
        self._told = False  # that the log is too large
        self._within = self._now()  # when it was last not

    def tend(self, look: Look, idle: float, *, full: bool) -> None:
        """Do what the policy says of a log as `look` shows it; `idle` is seconds since the last commit.

        Nothing where what is committed cannot be taken now: it is `full` somewhere. Raises what taking raises.
        """
        if full:
            return
        now = self._now()
        decision = self._g.request.policy.decide(
            WalState(
                page_size=look.page_size,
                frames=look.frames,
                backfilled=look.backfilled,
                wal_bytes=look.wal_bytes,
                idle_seconds=idle,
                attempt_seconds=now - self._tried,
                attempt_failed=self._held_back,
            )
        )
        if decision.action != "none" and (checkpointer := self._usable()) is not None:
            done = self._checkpoint(checkpointer, decision)
            # Commits that came meanwhile do not count: they are behind the pin.
            copied = not done.busy and done.checkpointed >= look.frames
            self._tried, self._held_back = self._now(), not (copied if decision.action == "passive" else done.complete)
            came_to = (done.log, done.checkpointed, done.complete)
            if came_to != self._came_to:  # a reader that stays for hours is told of once
                self._came_to = came_to
                self._g.emit(
                    "wal.checkpointed",
                    seconds=self._now() - now,
                    mode=decision.action,
                    why=decision.why,
                    frames=done.log,
                    copied=done.checkpointed,
                    complete=done.complete,
                    writers_waited=round(done.held_seconds, 4),
                )
        self._mind_the_bound(decision, look)

    def close(self) -> None:
        """Close the connections that checkpoint, while a pin is still held: the last one to close would end the log."""
        if self._checkpointer is not None:
            self._checkpointer.close()
            self._checkpointer = None

    def _checkpoint(self, checkpointer: Checkpointer, decision: Decision) -> Checkpointed:
        self._rotate()
        done = checkpointer.passive()
        for _ in range(_TRIES):  # writers that checkpoint for themselves are in the way for moments, again and again
            if not done.busy:
                break
            self._g.runtime.sleep(_TRY_EVERY)
            done = checkpointer.passive()
        if decision.action == "passive":
            if done.complete:
                self._rotate()  # to read lock 0, where nothing was committed since: the next writer restarts the log
            return done
        try:
            done = checkpointer.settle(
                self._renew,
                take=self._take,
                timeout=_LOCK_SECONDS,
                wait_seconds=self._g.request.policy.wait_seconds,
            )
        except DatabaseBusy:
            return replace(done, busy=True)
        if done.complete and decision.action == "truncate":
            checkpointer.finish("truncate")
        return done

    def _usable(self) -> Checkpointer | None:
        """Return the connections that checkpoint, opened at their first use; None where they cannot be."""
        if self._checkpointer is None and not self._unusable:
            runtime = self._g.runtime
            try:
                self._checkpointer = Checkpointer(self._g.path, clock=runtime.monotonic, sleep=runtime.sleep)
            except DatabaseUnreadable as error:
                self._unusable = True
                self._g.emit("wal.unmanaged", why=error.message)
        return self._checkpointer

    def _mind_the_bound(self, decision: Decision, look: Look) -> None:
        """Tell once when the log stays beyond its bound, and when it is smaller again.

        One that is in the database file as a whole, and that nobody reads, the next commit restarts.
        """
        g, now = self._g, self._now()
        if not decision.over_bound:
            self._within = now
            if self._told:
                self._told, g.board.held_back = False, ""
                g.emit("wal.within-bound", bytes=g.board.wal_bytes)
        elif not self._told and now - self._within > _OVER_SECONDS:
            by = held_back_by(g.path)
            if look.frames == look.backfilled and not by:
                self._within = now
                return
            self._told, g.board.held_back = True, by
            g.emit("wal.over-bound", bytes=g.board.wal_bytes, bound=g.request.policy.bound_bytes, by=g.board.held_back)

    def _now(self) -> float:
        return self._g.runtime.monotonic()
