"""The conversation with the page reader: one process, begun at the first call and again after it died.

Handles are numbered here and never used twice, so one of a dead reader is never mistaken for one of its successor's.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from pagewarden.errors import ReaderCrashed, from_wire
from pagewarden.processes.channel import ProtocolError, Value
from pagewarden.processes.shapes import as_nothing
from pagewarden.processes.spawn import Child, gist

MODULE = "pagewarden.processes.reader_main"

PageProgress = Callable[[int, int], None]
"""Told how many pages are done, and of how many. What it raises ends the reader and goes on to the caller."""

R = TypeVar("R")

_HANDLES = frozenset({"handle", "snapshot", "assembly", "proof", "walk", "follower"})  # arguments of one reader
_BEGINNINGS = frozenset(
    {
        "attach",
        "open_file",
        "begin_snapshot",
        "begin_image",
        "begin_segment",
        "begin_assembly",
        "begin_proof",
        "begin_walk",
        "follow_begin",
    }
)
"""Calls that make one of those."""


class ReaderClient:
    """The reader's process, and calls to it. A context manager; safe for many threads, one call at a time.

    It ends when it is closed, when it is garbage, or when its parent ends. After a fork the new process starts a reader
    of its own.
    """

    def __init__(self, *, threads: int = 2) -> None:
        """`threads` read, hash and compress at once. No process is started before `start` or the first call."""
        self._threads = threads
        self._begin()

    @property
    def pid(self) -> int | None:
        """The process id of the reader, None while there is none."""
        return self._children[0].pid if self._children and self._pid == os.getpid() else None

    def start(self, *, copies: bool = False, stored: bool = False) -> None:
        """Start the process without waiting for it, so that it is ready when it is needed.

        `copies` lets it import at once what copying and page sets need, `stored` what reading page sets needs.
        """
        with self._calling():
            self._child(copies=copies, stored=stored)

    def close(self) -> None:
        """End the process, if there is one. A later call would start another."""
        if self._pid == os.getpid():
            with self._lock:
                self._handles.clear()
                _stop(self._children, self._pid)

    def kill(self) -> None:
        """End the process at once, from any thread: a call under way in another one raises ReaderCrashed."""
        for child in self._children[:]:
            child.kill()

    def exclusively(self) -> AbstractContextManager[bool]:
        """Let only the calling thread call, as long as this context lasts.

        Whoever reads under a lock of the database's must not wait meanwhile for what other threads asked for.
        """
        return self._calling()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._next = 0
        self._handles: set[int] = set()  # of the running child
        self._children: list[Child] = []  # none or one; a list, so that the finalizer sees what it is then
        weakref.finalize(self, _stop, self._children, self._pid)

    def _number(self) -> int:
        # Never used twice, so that a handle of a dead child is never mistaken for one of its successor's.
        with self._lock:
            self._next += 1
            return self._next

    def _known(self, handle: int) -> None:
        if handle not in self._handles:
            raise _lost()

    def _end(self, handle: int, call: str, /, **arguments: Value) -> None:
        """Do the last call about `handle`. One that is gone with its reader is no error."""
        if handle in self._handles:
            self._handles.discard(handle)
            try:
                self._call(call, as_nothing, **arguments)
            except ReaderCrashed as error:
                if not error.fields.get("lost"):
                    raise

    def _calling(self) -> AbstractContextManager[bool]:
        if self._pid != os.getpid():
            self._begin()  # a fork: the process and its pipes are the parent's
        return self._lock

    def _child(self, *, copies: bool = False, stored: bool = False) -> Child:
        if self._children and not self._children[0].running:
            self._children.pop().died()
            self._handles.clear()
        if not self._children:
            child = Child(MODULE)
            self._children.append(child)
            child.channel.send({"threads": self._threads, "copies": copies, "stored": stored})
        return self._children[0]

    def _call(
        self, call: str, shape: Callable[[Any], R], progress: PageProgress | None = None, /, **arguments: Value
    ) -> R:
        """Do one call and return what `shape` makes of the answer.

        `progress` is called between messages; whatever it raises, or Ctrl-C, ends the reader.
        """
        with self._calling():
            if self._busy:
                raise RuntimeError("a progress callback called the page reader that called it")
            before = self._children[:]
            child = self._child()
            handle = arguments.get("handle")
            if isinstance(handle, int) and call not in ("attach", "open_file", "detach"):
                self._known(handle)
            if before not in ([], [child]) and call not in _BEGINNINGS and not _HANDLES.isdisjoint(arguments):
                raise _lost()  # it died since it was asked last
            self._busy = True
            try:
                reply = _converse(child, {"call": call, "arguments": arguments}, progress)
            except (EOFError, BrokenPipeError, ProtocolError) as error:
                raise self._crashed(call, error) from error
            except BaseException:
                self._discard()  # the answer that is still to come belongs to nobody
                raise
            finally:
                self._busy = False
            try:
                if "error" not in reply:
                    return shape(reply["value"])
                failure = from_wire(reply["error"])
                failure.fields.update(reply["fields"])
            except (ProtocolError, TypeError, ValueError, KeyError, AttributeError) as error:
                raise self._crashed(call, ProtocolError(str(error))) from error
        raise failure

    def _crashed(self, call: str, error: Exception) -> ReaderCrashed:
        child = self._children.pop()
        self._handles.clear()
        child.kill()  # it may live on and talk nonsense; one that is dead already does not mind
        how, words = child.died()
        if isinstance(error, ProtocolError):
            how = f"answered nonsense ({error})"
        why = gist(words)
        return ReaderCrashed(
            f"the page reader {how} during {call}" + (f": {why}" if why else ""),
            hint="try again; if it happens again, the database holds something that it cannot bear: please report it",
            stderr=words,
        )

    def _discard(self) -> None:
        self._handles.clear()
        self.kill()
        _stop(self._children, self._pid)


def _lost() -> ReaderCrashed:
    return ReaderCrashed(
        "the page reader was started again since; what was attached is gone", hint="try again", lost=True
    )


def _converse(child: Child, message: dict[str, Value], progress: PageProgress | None) -> dict[str, Any]:
    """Send a call and return its reply, with what the reader tells of its progress in between."""
    child.channel.send(message)
    while True:
        reply: Any = child.channel.receive()
        if not isinstance(reply, dict):
            raise ProtocolError("a reply is no map")
        if "progress" not in reply:
            return reply
        if progress is not None:
            progress(*reply["progress"])


def _stop(children: list[Child], pid: int) -> None:
    """Let the children end, unless they are those of the process that this one was forked from."""
    if pid == os.getpid():
        while children:
            children.pop().stop()
