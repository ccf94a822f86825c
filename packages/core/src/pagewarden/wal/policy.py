"""When a log is checkpointed, and how: strategies as values, with one pure method that looks at a log and decides.

A checkpoint copies frames into the database file ("backfills" them). PASSIVE never waits and blocks nobody, but it
cannot get past what a reader still needs, and it never shrinks the file. RESTART and TRUNCATE also wait for readers,
and writers wait for them meanwhile (H24): a policy decides for one of them only where the log has passed its bound.
https://www.sqlite.org/wal.html, sections 2.3 and 6; https://www.sqlite.org/c3ref/wal_checkpoint_v2.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, LARGE_WAL, WAL_HEADER_SIZE

Action = Literal["none", "passive", "restart", "truncate"]
BoundMode = Literal["passive", "restart", "truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalState:
    """A log at one moment, as whoever decides about checkpoints sees it. Times are lengths, in seconds."""

    page_size: int  # bytes
    frames: int  # mxFrame: committed frames in this generation of the log
    backfilled: int  # nBackfill: how many of them are in the database file already
    wal_bytes: int  # size of the -wal file, which does not shrink when the log restarts
    idle_seconds: float  # since the last commit was seen
    reader_mark: int | None = None  # lowest frame that another reader may need, 0 for read lock 0; None: no reader
    attempt_seconds: float = math.inf  # since the last checkpoint was tried
    attempt_failed: bool = False  # whether that one was busy, or could not copy all that there was

    @property
    def log_bytes(self) -> int:
        """Bytes of the frames that count: what is behind them in the file is left from earlier generations."""
        return WAL_HEADER_SIZE + self.frames * (FRAME_HEADER_SIZE + self.page_size) if self.frames else 0

    @property
    def waiting(self) -> int:
        """Frames that are not in the database file yet."""
        return self.frames - self.backfilled

    @property
    def movable(self) -> int:
        """Frames that a PASSIVE checkpoint could copy now: those that no reader keeps it from (H37: at the most)."""
        reachable = self.frames if self.reader_mark is None else min(self.frames, self.reader_mark)
        return max(0, reachable - self.backfilled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done about a log now, and why."""

    action: Action
    why: str  # one clause for people
    over_bound: bool  # whether the log is larger than it should be
    held_back: bool  # whether a reader keeps a checkpoint from copying all, or the log from being restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPolicy:
    """When to checkpoint. The defaults keep the log at a few tens of MiB at most and block nobody before that."""

    passive_frames: int = 4000  # frames that are not in the database file yet, from which on PASSIVE is due; 0: never
    idle_seconds: float = 1.0  # without a commit, after which PASSIVE is due for whatever is there; inf: never
    bound_bytes: int = LARGE_WAL  # of the log, beyond which `mode` is due
    mode: BoundMode = "restart"  # what is done beyond the bound; "passive": nothing that could make writers wait
    retry_seconds: float = 1.0  # after a checkpoint that a reader held back, before the next one is tried
    wait_seconds: float = 0.1  # that RESTART and TRUNCATE may wait for readers, while writers wait for them

    def __post_init__(self) -> None:
        if self.passive_frames < 0 or self.bound_bytes < 0 or self.mode not in ("passive", "restart", "truncate"):
            raise ValueError(f"this is no checkpoint policy: {self}")
        if not all(seconds >= 0 for seconds in (self.idle_seconds, self.retry_seconds, self.wait_seconds)):  # nor NaN
            raise ValueError(f"this is no checkpoint policy: {self}")

    def decide(self, state: WalState) -> Decision:
        """Return what is to be done about a log that is in `state`. Nothing is looked at, or done, here.

        RESTART or TRUNCATE only where the log has passed the bound; nothing at all where there is nothing to gain, and
        nothing so soon after a checkpoint that was held back.
        """
        over = state.log_bytes > self.bound_bytes or (self.mode == "truncate" and state.wal_bytes > self.bound_bytes)
        held = state.reader_mark is not None and (state.movable < state.waiting or over)
        action, why = self._choose(state, over)
        if action != "none" and state.attempt_failed and state.attempt_seconds < self.retry_seconds:
            action, why = "none", f"the last one was held back {state.attempt_seconds:.1f} s ago; {why}"
        return Decision(action=action, why=why, over_bound=over, held_back=held)

    def _choose(self, state: WalState, over: bool) -> tuple[Action, str]:
        if over and self.mode != "passive" and self._gains(state):
            size = max(state.log_bytes, state.wal_bytes if self.mode == "truncate" else 0)
            return self.mode, f"the log has {size} bytes, more than its bound of {self.bound_bytes}"
        if not state.waiting:
            return "none", "all of the log is in the database file"
        if not state.movable and state.reader_mark == 0:
            return "none", "a reader reads the database file alone, which nothing can be copied to meanwhile"
        if not state.movable:
            return "none", f"a reader needs the log as it was at frame {state.reader_mark}"
        if over:
            return "passive", f"the log has {state.log_bytes} bytes, more than its bound of {self.bound_bytes}"
        if self.passive_frames and state.waiting >= self.passive_frames:
            return "passive", f"{state.waiting} frames wait for the database file, {self.passive_frames} are enough"
        if state.idle_seconds >= self.idle_seconds:
            return "passive", f"nothing was committed for {state.idle_seconds:.1f} s"
        return "none", f"{state.waiting} frames wait for the database file, which is not much yet"

    def _gains(self, state: WalState) -> bool:
        """Whether the mode beyond the bound can do more than the next writer does by itself.

        A reader at an older frame is not waited for: nobody knows how long it stays, and writers would wait with us.
        With all of it in the database file and nobody on read locks 1–4, the next commit restarts the log anyway.
        """
        if state.movable < state.waiting:
            return False
        return self.mode == "truncate" or state.waiting > 0 or state.reader_mark is not None


DEFAULT_POLICY = CheckpointPolicy()
"""What the guard does where nothing else is configured."""
