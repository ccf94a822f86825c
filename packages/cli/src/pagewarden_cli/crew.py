"""Checks of many databases, some side by side: each in a worker process, which ends with this one.

A check is mostly SQLite and the page reader, so threads that wait for processes are enough here. What a worker cannot
do, because it dies, is an error of its database alone.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import PagewardenError
from pagewarden.processes.worker import Worker
from pagewarden.values import CheckReport
from pagewarden_cli.session import Outcome

if TYPE_CHECKING:
    from pagewarden.contracts import ProgressSink
    from pagewarden.events import Event
    from pagewarden.runtime import PluginChoice

MOST_JOBS = 4
"""How many databases are checked side by side unless more are asked for."""

_SMALL = 32 << 20  # bytes of a database that takes twice as long as the smallest
_WORTH = 4  # of the smallest databases are checked in the time that a worker takes to start
_GRACE = 10.0  # seconds that workers may take to clean up

Request = Mapping[str, object]


def usual_jobs(paths: Sequence[str]) -> int:
    """Return how many jobs this machine has cores for and these databases are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    worth = sum(1 + _size(path) / _SMALL for path in paths)
    return max(1, min(MOST_JOBS, cores, round(worth / _WORTH)))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # the check will say so
        return 0


class Crew:
    """Workers that share a list of databases."""

    def __init__(
        self,
        jobs: int,
        *,
        plugins: PluginChoice,
        threads: int,
        progress: ProgressSink,
        observe: Callable[[Event], None] | None,
    ) -> None:
        """`progress` is told of each database's steps, and of "databases"; any thread calls it and `observe`."""
        self._jobs = jobs
        self._plugins = plugins
        self._threads = threads
        self._progress = progress
        self._observe = observe
        self._stopping = threading.Event()
        self._waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Outcome[CheckReport] | BaseException]] = queue.SimpleQueue()

    def check(self, requests: Sequence[Request]) -> list[Outcome[CheckReport]]:
        """Check all of them; return what became of each, in their order. Ctrl-C ends all workers."""
        for number, request in enumerate(requests):
            self._waiting.put((number, request))
        hands = [_Hand(self) for _ in range(min(self._jobs, len(requests)))]
        outcomes: dict[int, Outcome[CheckReport]] = {}
        try:
            for hand in hands:
                hand.thread.start()
            while len(outcomes) < len(requests):
                self._progress("databases", len(outcomes), len(requests))
                number, outcome = self._done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                outcomes[number] = outcome
            self._progress("databases", len(requests), len(requests))
        finally:
            self._end(hands)
        return [outcomes[number] for number in range(len(requests))]

    def _end(self, hands: Sequence[_Hand]) -> None:
        """End the workers, and wait for their threads."""
        self._stopping.set()
        until = time.monotonic() + _GRACE
        while working := [hand for hand in hands if hand.thread.is_alive()]:
            for hand in working:
                hand.worker.interrupt(at_once=time.monotonic() > until)
            working[0].thread.join(0.05)
        for hand in hands:
            hand.worker.close()


class _Hand:
    """One worker, and the thread that waits for it."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._steps: set[str] = set()
        self._label = ""
        self.worker = Worker(
            plugins=crew._plugins, threads=crew._threads, on_progress=self._tell, on_event=crew._observe
        )
        self.thread = threading.Thread(target=self._work, name="pagewarden-crew", daemon=True)

    def _work(self) -> None:
        """Take one database after the other, until there are none."""
        crew = self._crew
        outcome: Outcome[CheckReport]
        while not crew._stopping.is_set():
            try:
                number, request = crew._waiting.get_nowait()
            except queue.Empty:
                return
            path = str(request["database"])
            self._label = Path(path).name
            try:
                outcome = Outcome(database=path, report=self.worker.call("check", request, CheckReport))
            except PagewardenError as error:
                outcome = Outcome(database=path, error=error)
            except BaseException as error:  # noqa: BLE001 - it is raised where the crew was called
                crew._done.put((number, error))
                return
            self._finish_steps()
            crew._done.put((number, outcome))

    def _tell(self, step: str, done: int, total: int) -> None:
        step = f"{self._label}: {step}"
        self._steps.add(step)
        self._crew._progress(step, done, total)

    def _finish_steps(self) -> None:
        for step in self._steps:
            self._crew._progress(step, 1, 1)
        self._steps.clear()
