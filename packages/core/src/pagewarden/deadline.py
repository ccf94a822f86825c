"""Foreign code under a deadline: a plugin's object runs in a thread of its own, so that a hang is an answer.

Python cannot kill a thread. What can be done is done in this order: the deadline passes; `interrupt` is called (for a
checker: its SQLite connections are interrupted), again and again while the thread is given a moment to end, because
SQLite forgets an interrupt that comes between two statements; then the thread is abandoned. It is a daemon, so it does
not keep the process from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pagewarden.errors import TargetFailed

T = TypeVar("T")

GRACE_SECONDS = 2.0
"""How long a thread may take to end after it was interrupted. SQLite looks at the flag every few thousand steps."""

ENDED_EARLY = "its thread ended before it began: look for a debugger or another tracer in this process"
"""Said of a thread that never ran its function. CPython 3.11 ends one so when two are given a tracer at once."""

_MOMENT = 1.0  # seconds
_AGAIN = 0.05  # seconds between two interrupts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Generic[T]):
    """What became of a call."""

    value: T | None = None
    error: BaseException | None = None  # what it raised
    seconds: float  # how long it ran
    late: bool = False  # whether it was still running at its deadline
    abandoned: bool = False  # whether it was running even after it was interrupted


def _nothing() -> None:
    """Interrupt nothing."""


def answered_in_time(ask: Callable[[], T], whom: str, *, seconds: float | None) -> T:
    """Return what `ask` returns, which waits for storage that may never answer. None is no deadline.

    It is given a moment even where the time is over: what answers at once, or is known already, may do so.

    Raises what it raises, and TargetFailed where it takes longer: then its thread is left to itself.
    """
    ended = call_with_deadline(ask, name="ask", seconds=None if seconds is None else max(_MOMENT, seconds), grace=0.0)
    if ended.error is not None:
        raise ended.error
    if ended.abandoned:
        raise TargetFailed(f"{whom} did not answer in time", hint="try again, or with a longer --max-time")
    return cast("T", ended.value)


def call_with_deadline(
    work: Callable[[], T],
    *,
    name: str,
    seconds: float | None,
    interrupt: Callable[[], None] = _nothing,
    grace: float = GRACE_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Ended[T]:
    """Run `work` in a thread called `name` for at most `seconds`, and never raise what it raises.

    `interrupt` is called from the calling thread once the deadline has passed, and until the thread ends or `grace` is
    over, or when the caller itself is interrupted (Ctrl-C), which is then raised. None is no deadline: `work` runs in
    the calling thread, whose caller is the one to interrupt it.
    """
    values: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            values.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller as a value, SystemExit included
            errors.append(error)

    started = monotonic()
    if seconds is None:
        run()
        return Ended(value=next(iter(values), None), error=next(iter(errors), None), seconds=monotonic() - started)
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        thread.join(max(0.0, seconds))
        late = thread.is_alive()
        if late:
            until = monotonic() + grace
            interrupt()
            while thread.is_alive() and (left := until - monotonic()) > 0:
                thread.join(min(_AGAIN, left))
                interrupt()
    except BaseException:
        interrupt()
        raise
    if not (late or values or errors):  # no silence: it never came as far as `run`
        errors.append(RuntimeError(ENDED_EARLY))
    return Ended(
        value=next(iter(values), None),
        error=next(iter(errors), None),
        seconds=monotonic() - started,
        late=late,
        abandoned=thread.is_alive(),
    )
