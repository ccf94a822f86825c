"""What a run needs from the outside, in one object: plugins, the page reader, the clock, someone to tell of progress.

The command line builds one for its own process, the worker behind `pagewarden.open` another, tests a third. Runs take
it as a parameter and import nothing of the kind themselves, so that clock and sleep can be replaced. Plugins and the
page reader are expensive, so both are made at their first use.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagewarden.events import Event

if TYPE_CHECKING:
    from pagewarden.contracts import ProgressSink
    from pagewarden.plugins import Extensions
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import Repository

DEFAULT_THREADS = 2
"""Threads that read, hash and compress pages: two keep a disk busy and leave the machine to the application."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginChoice:
    """Which of the installed plugins a runtime uses, and which modules beside them."""

    only: tuple[str, ...] | None = None  # names of installed plugins; None: all
    disabled: tuple[str, ...] = ()  # names of installed plugins
    extra: tuple[str, ...] = ()  # importable modules, such as "myapp.pagewarden_plugin"


def state_directory() -> Path:
    """Return the folder for what outlives a run: `$XDG_STATE_HOME/pagewarden`, else `~/.local/state/pagewarden`.

    It is not created here. A relative `XDG_STATE_HOME` is ignored, as the XDG Base Directory Specification demands.
    """
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    return base / "pagewarden"


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _no_progress(step: str, done: int, total: int) -> None:
    """Tell nobody."""


def _no_event(event: Event) -> None:
    """Tell nobody but the plugins."""


class Runtime:
    """The outside world of one process's runs. A context manager: leaving it closes the page reader.

    `reader` and `extensions` may be asked for by any thread; both are made once.
    """

    def __init__(
        self,
        *,
        plugins: PluginChoice | None = None,
        threads: int = DEFAULT_THREADS,
        reader: PageReader | None = None,
        on_progress: ProgressSink = _no_progress,
        on_event: Callable[[Event], None] = _no_event,
        clock: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        state: Path | None = None,
    ) -> None:
        """`on_progress` is called often and from the thread that works; `on_event` sees what the observers see.

        `reader` is a page reader with as many threads that was started ahead; the runtime closes it.
        """
        self.threads = threads
        self.clock = clock
        self.monotonic = monotonic
        self.sleep = sleep
        self.progress = on_progress
        self._state = state
        self._plugins = PluginChoice() if plugins is None else plugins
        self._on_event = on_event
        self._extensions: Extensions | None = None
        self._reader = reader
        self._lock = threading.RLock()

    @property
    def state(self) -> Path:
        """The folder for what outlives a run (`state_directory`); whoever writes there creates it."""
        return state_directory() if self._state is None else self._state

    @property
    def extensions(self) -> Extensions:
        """The plugins. Raises PluginUnusable at the first use if one that was named cannot be used."""
        with self._lock:
            if self._extensions is None:
                from pagewarden.plugins import load_plugins

                choice = self._plugins
                self._extensions = load_plugins(only=choice.only, disabled=choice.disabled, extra=choice.extra)
            return self._extensions

    def beside(self) -> Runtime:
        """Return a runtime with the same plugins, clocks and state, and a page reader of its own, to be closed."""
        other = Runtime(
            plugins=self._plugins,
            threads=self.threads,
            on_progress=self.progress,
            on_event=self._on_event,
            clock=self.clock,
            monotonic=self.monotonic,
            sleep=self.sleep,
            state=self._state,
        )
        other._extensions = self.extensions
        return other

    def load_plugins(self) -> None:
        """Load the plugins now, so that one that cannot be used ends a run before it has touched anything."""
        _ = self.extensions

    @property
    def reader(self) -> PageReader:
        """The process that reads pages; it stays warm between calls."""
        with self._lock:
            if self._reader is None:
                from pagewarden.processes.reader import PageReader

                self._reader = PageReader(threads=self.threads)
            return self._reader

    def warm(self, *, copies: bool = False, stored: bool = False) -> None:
        """Start the page reader without waiting for it, so that it gets ready while the run imports what it needs.

        With `copies` it gets ready to copy pages, too, with `stored` to read page sets.
        """
        self.reader.start(copies=copies, stored=stored)

    def emit(self, name: str, /, database: str = "", seconds: float | None = None, **fields: object) -> None:
        """Tell observers what happened: `name` is dotted, such as "check.finished"; `fields` are plain values."""
        event = Event(name=name, time=self.clock(), database=database, seconds=seconds, fields=fields)
        self._on_event(event)
        self.extensions.emit(event)

    def repository(self, url: str, create: bool = False) -> Repository:
        """Open the repository at `url` through the plugin for its scheme; `create` makes one where there is none."""
        from pagewarden.repository import Repository

        target = self.extensions.target(url, create=create)
        return Repository.open(target, url, create=create, clock=self.clock)

    def close(self) -> None:
        """End the page reader, if it was ever started. The runtime may be used again."""
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
