"""The application's side of the worker process: one conversation, begun at the first call and again after a crash."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pagewarden.errors import ConfigurationInvalid, PagewardenError, WorkerCrashed, from_wire
from pagewarden.events import Event
from pagewarden.processes.channel import ProtocolError, Value
from pagewarden.processes.spawn import Child

if TYPE_CHECKING:
    from pagewarden.contracts import ProgressSink
    from pagewarden.runtime import PluginChoice

MODULE = "pagewarden.processes.worker_main"

R = TypeVar("R")


class Worker:
    """A worker process that does one run at a time; threads wait for each other.

    It ends when it is closed, when it is garbage, or when the application ends, whichever comes first. After a fork,
    the new process starts a worker of its own.
    """

    def __init__(
        self,
        *,
        plugins: PluginChoice,
        threads: int,
        on_progress: ProgressSink | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """No process is started before the first call. Callbacks run in the calling thread and must not call back."""
        self._plugins = plugins
        self._threads = threads
        self._on_progress = on_progress
        self._on_event = on_event
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._closed = False
        self._children: list[Child] = []  # none or one; a list, so that the finalizer sees what it is then
        weakref.finalize(self, _stop, self._children, self._pid)

    @property
    def plugins(self) -> PluginChoice:
        """Which plugins it uses."""
        return self._plugins

    def call(self, verb: str, request: Mapping[str, object], kind: type[R]) -> R:
        """Do one run and return its report. Raises what the run raised; WorkerCrashed if the process died.

        ConfigurationInvalid after `close`. An exception in a callback, or Ctrl-C, ends the worker, which cleans up; the
        next call starts another.
        """
        if self._pid != os.getpid():
            self._begin_after_fork()
        with self._lock:
            if self._closed:
                raise ConfigurationInvalid(
                    f"{verb} was called on a database that was closed",
                    hint="pagewarden.open(path) gives another handle",
                )
            if self._busy:
                raise RuntimeError("a callback of pagewarden.open called the database that called it")
            self._busy = True
            try:
                return self._converse(verb, msgspec.to_builtins(request), kind)
            except BaseException as error:
                if not isinstance(error, PagewardenError) or isinstance(error, WorkerCrashed):
                    _stop(self._children, self._pid)
                raise
            finally:
                self._busy = False

    def interrupt(self, *, at_once: bool = False) -> None:
        """End the run that another thread waits for, as Ctrl-C would: its call raises WorkerCrashed.

        The process cleans up first, unless it is to end `at_once`.
        """
        for child in tuple(self._children):
            if at_once:
                child.kill()
            else:
                child.interrupt()

    def close(self) -> None:
        """End the process, if there is one, and start none any more; a call that another thread waits for is done."""
        if self._pid != os.getpid():
            self._begin_after_fork()
        with self._lock:
            self._closed = True
            _stop(self._children, self._pid)

    def _begin_after_fork(self) -> None:
        """Forget the parent's process and pipes, and a lock that some thread of the parent's may have held."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        for child in self._children:
            child.channel.close()
        self._children = []
        weakref.finalize(self, _stop, self._children, self._pid)

    def _converse(self, verb: str, request: Value, kind: type[R]) -> R:
        child = self._child()
        try:
            child.channel.send({"verb": verb, "request": request})
        except BrokenPipeError as error:
            raise self._crashed(verb) from error
        while True:
            message = self._receive(child, verb)
            if message.error is not None:
                raise _rebuild(message.error, message.traceback)
            if message.report is not None:
                return _convert(message.report, kind, verb)
            if message.progress is not None and self._on_progress is not None:
                self._on_progress(*message.progress)
            if message.event is not None and self._on_event is not None:
                self._on_event(message.event)

    def _receive(self, child: Child, verb: str) -> _Message:
        try:
            return _convert(child.channel.receive(), _Message, verb)
        except EOFError as error:
            raise self._crashed(verb) from error
        except ProtocolError as error:
            raise WorkerCrashed(f"the worker process answered nonsense during {verb}: {error}") from error

    def _child(self) -> Child:
        """Return the process, started and set up if there is none."""
        if not self._children:
            self._children.append(Child(MODULE))
            setup = {
                "plugins": msgspec.to_builtins(self._plugins),
                "threads": self._threads,
                "progress": self._on_progress is not None,
                "events": self._on_event is not None,
            }
            try:
                self._children[0].channel.send(setup)
            except BrokenPipeError as error:
                raise self._crashed("its start") from error
        return self._children[0]

    def _crashed(self, verb: str) -> WorkerCrashed:
        """Return the error that tells how the process ended; it is gone afterwards."""
        how, last_words = self._children.pop().died()
        error = WorkerCrashed(
            f"the worker process {how} during {verb}", hint="call again: the next call starts a new worker"
        )
        if last_words:
            error.add_note(last_words)
        return error


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer of the worker: one of these is set."""

    report: Any = None
    error: dict[str, Any] | None = None
    traceback: str = ""  # with an error of our own, where it came from
    progress: tuple[str, int, int] | None = None
    event: Event | None = None


def _convert(value: object, kind: type[R], verb: str) -> R:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WorkerCrashed(f"the worker process answered nonsense during {verb}: {error}") from error


def _rebuild(error: dict[str, object], traceback: str) -> PagewardenError:
    rebuilt = from_wire(error)
    if traceback:
        rebuilt.add_note(traceback)
    return rebuilt


def _stop(children: list[Child], pid: int) -> None:
    """End the process in `children`, if process `pid` asks, which started it."""
    if children and pid == os.getpid():
        children.pop().stop()
