"""What one checker is given: a `Subject` for one call, with everything that has to end when the call does."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pagewarden.contracts import Baseline, FileFacts, LiveImage
from pagewarden.values import Level

if TYPE_CHECKING:
    from pagewarden.check.source import Door


class ImageWanted(BaseException):
    """A checker asked for pages, and none are attached yet: its call ends here, and begins again with them.

    Most checkers need only SQLite, and a pin that nobody needs would hold checkpoints up (H8).
    """


class DeadlinePassed(BaseException):
    """The run's time is over. No Exception, so that a checker that catches those ends, too."""


class CheckSubject:
    """One database under judgement, for one call of one checker."""

    def __init__(
        self,
        *,
        path: str,
        level: Level,
        door: Callable[[bool], Door],
        baseline: Callable[[], Baseline | None],
        progress: Callable[[int, int], None],
        reached: Callable[[str], None],
        resume: Callable[[], str],
        assertions: Sequence[str] = (),
        image: Callable[[Callable[[], None]], LiveImage] | None = None,
        facts: FileFacts | None = None,
    ) -> None:
        """`image(guard)` makes the image; without it the first look at pages raises ImageWanted."""
        self.path = path
        self.level = level
        self.assertions = tuple(assertions)
        self.image_wanted = False
        self._door = door
        self._reached = reached
        self._resume = resume
        self._baseline = baseline
        self._progress = progress
        self._facts = facts
        self._image = None if image is None else image(self.guard)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._stoppers: list[Callable[[], None]] = []

    @property
    def image(self) -> LiveImage:
        """The pages of the commit."""
        self.guard()
        if self._image is None:
            self.image_wanted = True
            raise ImageWanted
        return self._image

    @property
    def facts(self) -> FileFacts:
        """What the files say."""
        self.guard()
        if self._facts is None:
            self.image_wanted = True
            raise ImageWanted
        return self._facts

    @property
    def baseline(self) -> Baseline | None:
        """What to compare with."""
        self.guard()
        return self._baseline()

    @property
    def resume(self) -> str:
        """Where the last run's time was over."""
        self.guard()
        return self._resume()

    def door(self, *, copy: bool = False) -> Door:
        """Return where a connection would be opened."""
        self.guard()
        return self._door(copy)

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Return a new connection: a read-only one, or with `copy` one to a private copy."""
        connection = self.door(copy=copy).connect()
        with self._lock:
            self._connections.append(connection)
        self.guard()  # the deadline may have passed meanwhile, and its interrupt came too early for this one
        return connection

    def reached(self, place: str) -> None:
        """Note how far the checker is."""
        self.guard()
        self._reached(place)

    def progress(self, done: int, total: int) -> None:
        """Tell the run how far the checker is."""
        self.guard()
        self._progress(done, total)

    def guard(self) -> None:
        """Raise DeadlinePassed once the time is over: called before everything that a checker asks for."""
        if self._stopped.is_set():
            raise DeadlinePassed

    def when_stopped(self, stop: Callable[[], None]) -> None:
        """Have `stop` called when the checker is stopped, by the thread that stops it, or now if it has been."""
        with self._lock:
            self._stoppers.append(stop)
        if self._stopped.is_set():
            stop()

    def interrupt(self) -> None:
        """Stop the checker: interrupt its connections and refuse it everything from now on. From any thread."""
        self._stopped.set()
        with self._lock:
            for stop in self._stoppers:
                stop()
            for connection in self._connections:
                with suppress(sqlite3.ProgrammingError):  # the checker has closed it
                    connection.interrupt()

    def close(self) -> None:
        """Close what the checker was given. Called in its own thread, when its call has ended."""
        with self._lock:
            while self._connections:
                self._connections.pop().close()
