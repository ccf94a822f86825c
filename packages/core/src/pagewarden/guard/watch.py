"""How the guard learns that something was committed: told by the system where it can, else by looking now and then.

A watcher saves looks while nothing happens; nothing rests on it. What it misses is found at the next look.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

LONGEST_POLL = 0.25
"""Seconds between two looks where nothing tells of a change."""

LONGEST_WAIT = 2.0
"""Seconds between two looks where something does: it may miss a log that was replaced, and a commit through `mmap`."""

_IN_MODIFY = 0x2  # <sys/inotify.h>
_IN_ONESHOT = 0x80000000
_EVENTS = 64 << 10  # bytes of events that are read at once


class Watcher(Protocol):
    """Waits for the log of one database to change. One thread arms it and waits; any thread may wake that one."""

    def arm(self) -> None:
        """Notice changes from now on. Whoever arms looks once more before it waits."""

    def wait(self, seconds: float) -> bool:
        """Return true once something changed since `arm`, or was woken; false at the latest after `seconds`."""

    def wake(self) -> None:
        """Let the thread that waits, or the next one that does, return at once."""

    def close(self) -> None:
        """Notice nothing any more."""


MakeWatcher = Callable[[str], Watcher]
"""Makes the watcher of the log at a path."""


class PollingWatcher:
    """Notices nothing: whoever waits looks again soon."""

    def __init__(self, path: str) -> None:
        """`path` is the log's, as for every watcher."""
        self.path = path
        self._woken = threading.Event()

    def arm(self) -> None:
        """See `Watcher.arm`."""

    def wait(self, seconds: float) -> bool:
        """See `Watcher.wait`."""
        woken = self._woken.wait(max(0.0, min(seconds, LONGEST_POLL)))
        self._woken.clear()
        return woken

    def wake(self) -> None:
        """See `Watcher.wake`."""
        self._woken.set()

    def close(self) -> None:
        """See `Watcher.close`."""


class InotifyWatcher:
    """Told by Linux that the log was written to. inotify(7).

    It watches by path and inode and opens nothing, so no lock of a SQLite connection of this process is lost (H1). A
    watch reports one change and is gone, so that a busy writer pays for none but the first.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError where the system has no inotify, or no more of it for this user."""
        self.path = path
        self._library = ctypes.CDLL(None, use_errno=True)
        self._events = self._call(self._library.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def arm(self) -> None:
        """See `Watcher.arm`."""
        with suppress(OSError):  # there is no log yet, or no leave to watch it: then `wait` ends by its time
            name = os.fsencode(self.path)
            self._call(self._library.inotify_add_watch, self._events, name, ctypes.c_uint32(_IN_MODIFY | _IN_ONESHOT))

    def wait(self, seconds: float) -> bool:
        """See `Watcher.wait`."""
        poll = select.poll()
        poll.register(self._events, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        ready = poll.poll(max(0.0, min(seconds, LONGEST_WAIT)) * 1000)
        for descriptor, _ in ready:
            with suppress(BlockingIOError):
                os.read(descriptor, _EVENTS)
        return bool(ready)

    def wake(self) -> None:
        """See `Watcher.wake`."""
        with suppress(BlockingIOError, OSError):  # woken often enough already, or closed
            os.write(self._waking, b"w")

    def close(self) -> None:
        """See `Watcher.close`."""
        for descriptor in (self._events, self._woken, self._waking):
            os.close(descriptor)
        self._waking = -1

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        value = function(*arguments)
        if value < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return value


def make_watcher(path: str) -> Watcher:
    """Return the best watcher that the system has for the log at `path`."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            return InotifyWatcher(path)
    return PollingWatcher(path)
