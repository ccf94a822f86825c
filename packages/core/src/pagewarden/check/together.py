"""The checkers of a run side by side: each in a thread of its own, all that they tell in the run's.

They share the page reader, whose calls are short, and most of their time is spent in SQLite and in the reader, outside
Python's lock. What observers are told, they are told by the thread that began the run, one event at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pagewarden.check.checkers import judged
from pagewarden.check.outcome import Collected
from pagewarden.deadline import ENDED_EARLY, GRACE_SECONDS

if TYPE_CHECKING:
    from pagewarden.check.checkers import CheckerRun, Judged

_AGAIN = 0.05  # seconds between two interrupts
_GLANCE = 1.0  # seconds without a word after which the threads are looked at


class Told(NamedTuple):
    """An event, as a thread of a checker's tells it."""

    name: str
    seconds: float
    fields: dict[str, object]


class Inbox:
    """What other threads tell the run, in order; one thread takes it out."""

    def __init__(self) -> None:
        self._items: deque[Told | tuple[int, Judged | BaseException]] = deque()
        self._changed = threading.Condition()

    def tell(self, name: str, seconds: float, **fields: object) -> None:
        """Put in an event."""
        self.put(Told(name=name, seconds=seconds, fields=fields))

    def put(self, item: Told | tuple[int, Judged | BaseException]) -> None:
        """Put in an item."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    def get(self, seconds: float) -> Told | tuple[int, Judged | BaseException] | None:
        """Take the oldest item out; wait for one, for at most so many seconds, and return None where none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._items, seconds)
            return self._items.popleft() if self._items else None

    def rest(self) -> list[Told]:
        """Take out the events that are in."""
        with self._changed:
            items = [item for item in self._items if isinstance(item, Told)]
            self._items.clear()
        return items


def judge_together(
    runs: Sequence[CheckerRun],
    inbox: Inbox,
    *,
    on_event: Callable[[Told], None],
    on_judged: Callable[[Judged], object],
    meanwhile: Callable[[], None],
) -> list[Judged]:
    """Let all checkers judge at once; return what became of each, in the order of `runs`.

    `on_judged` is called when a checker has ended, in the order in which they do; `meanwhile` once, when all have
    begun. If anything is raised here or in a run's own code, Ctrl-C included, all are interrupted, given a moment to
    end, and it is raised.
    """
    results: dict[int, Judged] = {}
    begun = threading.Semaphore(0)
    threads = [
        threading.Thread(target=_drive, args=(number, run, inbox, begun), name=f"run {run.name}", daemon=True)
        for number, run in enumerate(runs)
    ]
    try:
        for thread in threads:  # one after the other: CPython 3.11 ends one of two that are given a tracer at once
            thread.start()
            begun.acquire(timeout=_GLANCE)
        meanwhile()
        while len(results) < len(runs):
            # Before it is waited for: whatever those had to say is in the inbox.
            dead = [number for number, thread in enumerate(threads) if not (number in results or thread.is_alive())]
            item = inbox.get(_GLANCE)
            if isinstance(item, Told):
                on_event(item)
                continue
            for number, result in [item] if item else [(each, _lost(runs[each])) for each in dead]:
                if isinstance(result, BaseException):
                    raise result
                results[number] = result
                on_judged(result)
    except BaseException:
        until = time.monotonic() + GRACE_SECONDS
        while True:  # again and again: SQLite forgets an interrupt that comes between two statements
            for run in runs:
                run.interrupt()
            working = [thread for thread in threads if thread.is_alive()]
            if not working or time.monotonic() > until:
                break
            working[0].join(_AGAIN)
        raise
    return [results[number] for number in range(len(runs))]


def _lost(run: CheckerRun) -> Judged:
    """Return what became of a checker whose thread is gone without a word."""
    return judged(run.name, Collected(), f"{run.name} failed: {ENDED_EARLY}", 0.0)


def _drive(number: int, run: CheckerRun, inbox: Inbox, begun: threading.Semaphore) -> None:
    begun.release()
    try:
        inbox.put((number, run.judge()))
    except BaseException as error:  # noqa: BLE001 - an error of our own: the run's thread raises it
        inbox.put((number, error))
