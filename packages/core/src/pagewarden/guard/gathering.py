"""The thread that makes few batches of many while a database is followed (`repository.gather`).

It has a page reader of its own, so that nobody who follows waits for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pagewarden.errors import PagewardenError, RepositoryBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagewarden.repository.gather import History
    from pagewarden.repository.repository import Repository
    from pagewarden.runtime import Runtime

GATHERED_EVERY = 5.0
"""Seconds between two looks for what can be gathered."""

_LONGEST_PAUSE = 600.0  # seconds, where it fails again and again


class Gatherer:
    """Gathers one database's batches. `close` ends it, once it is done with what it is at."""

    def __init__(self, runtime: Runtime, url: str, name: str, path: str, wanted: Callable[[], bool]) -> None:
        """`runtime` is the guard's; `wanted` says whether it is worth looking now."""
        self._runtime = runtime
        self._url = url
        self._name = name
        self._path = path
        self._wanted = wanted
        self._stop = threading.Event()
        self._told = ""
        self._failed = False  # whether the last try did
        self._pause = GATHERED_EVERY
        self._known: tuple[Repository, History] | None = None
        self._thread = threading.Thread(target=self._work, name="guard-gathering", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        with self._runtime.beside() as runtime:
            while not self._stop.wait(self._pause):
                if self._wanted():
                    self._gather(runtime)
            if self._failed:  # it may have left an intent, which the next try ends
                self._gather(runtime)

    def _gather(self, runtime: Runtime) -> None:
        from pagewarden.repository.gather import History, gather

        try:
            if self._known is None:
                self._known = runtime.repository(self._url), History()
            repository, history = self._known
            done = gather(repository, runtime, self._name, history)
        except RepositoryBusy:
            return  # a prune, or somebody who pins: later is as good
        except (PagewardenError, OSError) as error:
            self._known, self._failed = None, True
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._tell(str(error))
            return
        self._pause, self._failed = GATHERED_EVERY, False
        if done.why_not:
            self._tell(done.why_not)
        if done.made:
            runtime.emit(
                "batches.gathered",
                self._path,
                batches=done.of,
                into=done.made,
                stored=done.bytes_stored,
                freed=done.bytes_freed,
            )

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            self._runtime.emit("gather.failed", self._path, why=why)
