"""The application's side of the worker process: one conversation, begun at the first call and again after a crash."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pagewarden.errors import WorkerCrashed, from_wire
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

    It ends when it is closed, when it is garbage, or when the application ends, whichever comes first. After a fork, the
    new process starts a worker of its own.
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
        self._begin()

    def call(self, verb: str, request: Mapping[str, object], kind: type[R]) -> R:
        """Do one run and return its report. Raises what the run raised; WorkerCrashed if the process died.

        An exception in a callback, or Ctrl-C, ends the worker, which cleans up; the next call starts another.
        """
        if self._pid != os.getpid():
            self._begin()  # a fork: the process and its pipes are the parent's
        with self._lock:
            if self._busy:
                raise RuntimeError("a callback of pagewarden.open called the database that called it")
            self._busy = True
            try:
                return self._converse(verb, request, kind)
            finally:
                self._busy = False

    def close(self) -> None:
        """End the process, if there is one. A later call would start another."""
        if self._pid == os.getpid():
            with self._lock:
                _stop(self._children, self._pid)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._children: list[Child] = []  # none or one; a list, so that the finalizer sees what it is then
        weakref.finalize(self, _stop, self._children, self._pid)

    def _converse(self, verb: str, request: Mapping[str, object], kind: type[R]) -> R:
        try:
            child = self._child()
            child.channel.send({"verb": verb, "request": msgspec.to_builtins(request)})
            while True:
                answer = _Answer(child.channel.receive())
                if "report" in answer.parts:
                    return msgspec.convert(answer.parts["report"], kind)
                if "error" in answer.parts:
                    raise answer.error()
                self._tell(answer)
        except (EOFError, BrokenPipeError, ProtocolError, msgspec.ValidationError) as error:
            raise self._crashed(verb) from error
        except WorkerError as error:
            raise error.error from None
        except BaseException:
            _stop(self._children, self._pid)
            raise

    def _child(self) -> Child:
        if not self._children:
            self._children.append(Child(MODULE))
            setup: dict[str, Value] = {
                "plugins": msgspec.to_builtins(self._plugins),
                "threads": self._threads,
                "progress": self._on_progress is not None,
                "events": self._on_event is not None,
            }
            self._children[0].channel.send(setup)
        return self._children[0]
