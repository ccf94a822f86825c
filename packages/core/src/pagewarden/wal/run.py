"""`wal checkpoint`: bring the log into the database file, as far as readers let it, and say honestly how far that was.

1. The log is proved first: what SQLite would copy into the database must be what was committed (H14).
2. Under a pin as much as can be is copied; nobody waits for that.
3. For FULL, RESTART and TRUNCATE the rest is copied under the write lock, which is held for those few frames, and for
   readers that keep the log from being restarted only as long as the policy allows at once. While a reader is in the
   way writers go on, and it is tried again until the time is over.

pagewarden.wal.checkpoint says why no race can lose anything.
"""

from __future__ import annotations

import math
import shlex
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.config import WalSettings
from pagewarden.errors import ConfigurationInvalid, DatabaseBusy, NotInWalMode, WalRefused
from pagewarden.holders import find_locks
from pagewarden.live import Pin, Place, examine
from pagewarden.live.commit import read_pinned
from pagewarden.wal.checkpoint import Checkpointed, Checkpointer, Mode
from pagewarden.wal.presets import chosen
from pagewarden.wal.readers import find_readers
from pagewarden.wal.reports import WalCheckpointReport, WalReader
from pagewarden.wal.status import guard_of

if TYPE_CHECKING:
    from pagewarden.processes.reader import Attachment
    from pagewarden.runtime import Runtime
    from pagewarden.structure import WalSurvey

MAX_TIME = 10.0
"""Seconds that readers are waited for, unless something else is asked for."""

_PAUSE = 0.05  # seconds between two tries: writers go on meanwhile
_FEW = 500  # frames that may be left for the write lock
_ROUNDS = 4  # of copying without it, as long as writers add more than that


@dataclass(frozen=True, slots=True, kw_only=True)
class WalCheckpointRequest:
    """What to checkpoint, and how."""

    database: str  # path
    mode: Mode = "passive"
    max_time: float = MAX_TIME  # seconds
    settings: WalSettings = field(default_factory=WalSettings)


def run_wal_checkpoint(request: WalCheckpointRequest, runtime: Runtime) -> WalCheckpointReport:
    """Checkpoint a database in WAL mode. That somebody was in the way is in the report, not raised.

    Raises ConfigurationInvalid; NotInWalMode; WalRefused where the log is damaged; DatabaseBusy where a guard
    follows it, which checkpoints itself; what `examine`, `Pin` and `Checkpointer` raise.
    """
    began = runtime.monotonic()
    refuse_endless(request.max_time)
    place = examine(request.database)
    _leave_to_the_guard(request, place, runtime)
    prove_log(place, runtime)
    with ExitStack() as stack:
        # Closed after the pins: with nobody else there, the last connection is one that may tidy up behind it.
        checkpointer = Checkpointer(place.path, clock=runtime.monotonic, sleep=runtime.sleep)
        stack.enter_context(closing(checkpointer))
        run = _Run(request, place, runtime, _Pins(place, runtime, stack), checkpointer, began)
        run.until_done()
        done, readers = run.outcome(), () if run.done else run.readers()
    after = _size(f"{place.path}-wal")
    gone = f"nobody else has {place.path} open: SQLite removed the -wal when it was closed"
    report = WalCheckpointReport(
        database=place.path,
        mode=request.mode,
        done=run.done,
        busy=done.busy,
        why=run.why,
        log=done.log,
        checkpointed=done.checkpointed,
        wal_bytes_before=place.wal_size,
        wal_bytes=after or 0,
        attempts=run.attempts,
        held_seconds=run.held_seconds,
        held_back_by=readers,
        warnings=(gone,) if after is None and "-wal" in place.companions else (),
        seconds=runtime.monotonic() - began,
    )
    runtime.emit("wal.checkpointed", place.path, seconds=report.seconds, mode=report.mode, done=report.done)
    return report


def refuse_endless(max_time: float) -> None:
    """Raise ConfigurationInvalid for a time that would never be over, or is none."""
    if not 0 <= max_time < math.inf:  # NaN is not, either
        raise ConfigurationInvalid(f"max_time is {max_time}", hint="give seconds from 0")


class _Pins:
    """A read transaction that is never missing: the next one begins before the one before it ends."""

    def __init__(self, place: Place, runtime: Runtime, stack: ExitStack) -> None:
        self._held = stack.enter_context(Pin(place, clock=runtime.monotonic, sleep=runtime.sleep))
        self._next = stack.enter_context(Pin(place, clock=runtime.monotonic, sleep=runtime.sleep))
        self._held.begin()

    def renew(self) -> None:
        """Pin the newest commit, and then let go of the one before."""
        self._next.begin()
        self._held.release()
        self._held, self._next = self._next, self._held


class _Run:
    """The tries of one checkpoint."""

    def __init__(
        self,
        request: WalCheckpointRequest,
        place: Place,
        runtime: Runtime,
        pins: _Pins,
        checkpointer: Checkpointer,
        began: float,
    ) -> None:
        self._mode: Mode = request.mode
        self._wait = chosen(request.settings).policy.wait_seconds
        self._place = place
        self._runtime = runtime
        self._pins = pins
        self._checkpointer = checkpointer
        self._until = began + request.max_time
        self.last = Checkpointed(mode="passive", busy=True, log=0, checkpointed=0)
        self.why = ""  # what was in the way at the last try; empty once it is done
        self.attempts = 0
        self.held_seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether the mode did all that it is for."""
        return not self.why

    def until_done(self) -> None:
        """Try until it is done, or the time is over."""
        while True:
            self.attempts += 1
            self.why = self._try()
            self.held_seconds = max(self.held_seconds, self.last.held_seconds)
            left = self._until - self._runtime.monotonic()
            if self.done or left <= 0:
                return
            # Writers that were kept waiting have four times as long to themselves.
            self._runtime.sleep(min(max(_PAUSE, 4 * self.last.held_seconds), left))

    def outcome(self) -> Checkpointed:
        """Return what the last try came to; where SQLite did not even look, with what the wal-index says."""
        if self.last.log >= 0:
            return self.last
        seen = self._runtime.reader.wal_look(self._place.path, live=True)
        return replace(self.last, log=seen.frames, checkpointed=seen.backfilled)

    def readers(self) -> tuple[WalReader, ...]:
        """Return who reads now, as /proc/locks and the wal-index say."""
        seen = self._runtime.reader.wal_look(self._place.path, live=True)
        return find_readers(find_locks(self._place.path) or (), seen.read_marks, seen.frames)

    def _try(self) -> str:
        """Return what was in the way, nothing where it is done."""
        for _ in range(_ROUNDS):
            self.last = self._checkpointer.passive()
            self._pins.renew()
            if self.last.busy:
                return "another process checkpoints"
            if self._mode == "passive":
                return ""
            if self.last.log - self.last.checkpointed <= _FEW:
                break
        left = max(0.0, self._until - self._runtime.monotonic())
        wait = 0.0 if self._mode == "full" else min(left, self._wait)
        try:
            settled = self.last = self._checkpointer.settle(self._pins.renew, timeout=left, wait_seconds=wait)
        except DatabaseBusy as error:
            return f"the write lock was not to be had: {error.message}"
        if not settled.complete:
            return "another process checkpoints" if settled.busy else "a reader needs the log as it was"
        if self._mode != "restart" and self._mode != "truncate":
            return ""
        finished = self._checkpointer.finish(self._mode)
        held = max(settled.held_seconds, finished.held_seconds)
        self.last = replace(finished, held_seconds=held)
        return "" if finished.complete else "a reader, or a commit that came in between, keeps the log from restarting"


def _leave_to_the_guard(request: WalCheckpointRequest, place: Place, runtime: Runtime) -> None:
    """Refuse what a guard does itself: its pin would hold this back, and what it does is bounded and loses nothing."""
    if request.mode == "passive":
        return
    pid = guard_of(runtime, place.path)
    if pid is not None:
        who = f"process {pid}" if pid else "its guard"
        raise DatabaseBusy(
            f"{place.path} is followed by {who}, which restarts its log itself once readers let it",
            hint=f"pagewarden wal status {shlex.quote(place.path)} shows who holds the log back",
            pids=[pid] if pid else [],
        )


def prove_log(place: Place, runtime: Runtime) -> None:
    """Refuse a database without a log, and a log that is not what was committed."""

    def look(attachment: Attachment, _pin: Pin) -> tuple[Attachment, WalSurvey | None]:
        return attachment, runtime.reader.wal_survey(attachment.handle)

    with Pin(place, clock=runtime.monotonic, sleep=runtime.sleep) as pin:
        attachment, survey = read_pinned(pin, runtime.reader, look, clock=runtime.monotonic, sleep=runtime.sleep)
    if attachment.mode != "wal":
        raise NotInWalMode(
            f"{place.path} is not in WAL mode: there is no log to checkpoint",
            hint=f"pagewarden wal status {shlex.quote(place.path)}",
        )
    fault = attachment.wal_fault
    if not fault and survey is not None and survey.stranded_commits:
        fault = survey.header_fault or survey.end
    if fault:
        copies = shlex.join(["cp", place.path, f"{place.path}-wal", "DIR"])
        raise WalRefused(
            f"the log of {place.path} is damaged, and a checkpoint would copy that into the database: {fault}",
            hint=f"{copies}, before anything closes the database; then pagewarden check {shlex.quote(place.path)}",
        )


def _size(path: str) -> int | None:
    try:
        return Path(path).lstat().st_size
    except OSError:  # SQLite removed it with the last connection
        return None
