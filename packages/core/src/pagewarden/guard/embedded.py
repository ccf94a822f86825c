"""`Database.guard`: a guard for an application that embeds Pagewarden, in a process of its own.

The application's process opens no database file and imports no SQLite (H1, H2). The guard follows for as long as it is
not closed, garbage, or without its parent; then it stores what it has taken, and ends.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from pagewarden.errors import GuardFailed, from_wire
from pagewarden.guard.control import answered
from pagewarden.guard.values import GuardStatus
from pagewarden.processes.channel import ProtocolError
from pagewarden.processes.spawn import Child
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.guard.values import GuardRequest
    from pagewarden.runtime import PluginChoice


MODULE = "pagewarden.processes.guard_main"


class Guard:
    """A database that is guarded by a process of its own. Close it, or use it as a context manager.

    Threads may share it; their calls wait for each other. Where the process died, calls raise GuardFailed; a new guard
    goes on where it ended.
    """

    def __init__(self, request: GuardRequest, *, plugins: PluginChoice, threads: int, log: str | None = None) -> None:
        """Start the process, and wait until it has the database's lock. `log` is a file for events.

        Raises what a guard raises at its beginning: DatabaseNotFound, DatabaseBusy where there is one already, and so
        on; what it meets later it waits for, and tells with `status`.
        """
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._children = [Child(MODULE)]  # one or none; a list, so that the finalizer sees what it is then
        self._finalizer = weakref.finalize(self, _stop, self._children, self._pid)
        setup = {"request": request, "plugins": plugins, "threads": threads, "log": log}
        try:
            self._ask(msgspec.to_builtins(setup))
        except BaseException:
            self._finalizer()
            raise

    @property
    def pid(self) -> int | None:
        """The process that guards, None where it has ended."""
        return self._children[0].pid if self._children else None

    def flush(self, seconds: float | None = None) -> Position:
        """Return once all that was committed before this call is durable in the repository, and the position of it.

        Raises GuardFailed where that is not so after `seconds`; None waits as long as it takes.
        """
        return self._position({"verb": "flush", "seconds": seconds})

    def mark(self, text: str, seconds: float | None = None) -> Position:
        """Give the present moment a name, once all that was committed before is durable; return its position.

        Raises ConfigurationInvalid for what cannot be a name, and as `flush` does.
        """
        return self._position({"verb": "mark", "text": text, "seconds": seconds})

    def status(self) -> GuardStatus:
        """Return what it is at."""
        return answered(self._ask({"verb": "status"}), "status", GuardStatus)

    def close(self) -> None:
        """Let it take what is committed until now, store it, within bounds, and end; safe to repeat."""
        if self._children and self._pid == os.getpid():
            try:
                self._ask({"verb": "stop"})
            except GuardFailed:  # it died before; the next guard goes on from there
                pass
            finally:
                self._finalizer()

    def _position(self, message: Mapping[str, Any]) -> Position:
        return answered(self._ask(message), "position", Position)

    def _ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._pid != os.getpid():
            raise GuardFailed("this guard is of the process that was forked", hint="let that process ask it")
        with self._lock:
            if not self._children:
                raise GuardFailed("the guard has ended", hint="begin another one: Database.guard()")
            child = self._children[0]
            try:
                child.channel.send(message)
                reply: Any = child.channel.receive()
            except (EOFError, BrokenPipeError, ProtocolError) as error:
                self._children.clear()
                how, words = child.died()
                failed = GuardFailed(f"the guard's process {how}", hint="begin another one: Database.guard()")
                if words:
                    failed.add_note(words)
                raise failed from error
        if "error" in reply:
            raise from_wire(reply["error"])
        answer: Mapping[str, Any] = reply
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _stop(children: list[Child], pid: int) -> None:
    """End the process in `children`, if process `pid` asks, which started it."""
    if children and pid == os.getpid():
        children.pop().stop()
