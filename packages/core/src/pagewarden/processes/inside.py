"""What a child process does first, and meanwhile: it keeps its channel to itself, and ends when its parent does.

One that is for an object of a plugin loads that plugin alone.
"""

from __future__ import annotations

import faulthandler
import fcntl
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from pagewarden.processes.channel import Channel

if TYPE_CHECKING:
    from pagewarden.plugins import Extensions, Named

N = TypeVar("N", bound="Named")

_LOOK_EVERY = 2000  # milliseconds between two looks for the parent
_GRACE = 1.0  # seconds to end by oneself once the parent is gone


def take_channel() -> Channel:
    """Make standard input and output the channel, and keep everything else away from them."""
    channel = Channel(os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    sys.stdout = sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), errors="backslashreplace", write_through=True
    )
    return channel


def end_group_with_parent(lifeline: int) -> None:
    """Have the system kill this process's group when the pipe `lifeline` ends, which is when the parent is gone.

    Foreign native code may keep Python's lock, and then no thread of ours would see that. Linux alone can do it.
    """
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        ended = select.poll()  # select(2) knows no descriptor above 1023, and an application may have many
        ended.register(lifeline, select.POLLIN)
        if ended.poll(0):  # it has ended before that
            os.killpg(0, signal.SIGKILL)


def end_with_parent() -> None:
    """End this process when the parent is gone, whatever it does then. Called before `take_channel`."""
    parent, reading = os.getppid(), os.dup(0)

    def watch() -> None:
        poll = select.poll()
        poll.register(reading, 0)  # no data, only the end: POLLHUP comes unasked
        while not poll.poll(_LOOK_EVERY) and os.getppid() == parent:
            pass
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def serve_alone(serve: Callable[[Channel], None]) -> None:
    """Be a process for one object of a plugin, which may crash in it or hang: `serve` does its task.

    The first argument of the process is the number of its lifeline; see `end_group_with_parent`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    faulthandler.enable(os.dup(2))  # a crash in native code leaves its stack on standard error
    end_with_parent()
    end_group_with_parent(int(sys.argv[1]))
    serve(take_channel())


def find_brought(home: str, kind: str, name: str, brought: Callable[[Extensions], Iterable[N]]) -> N:
    """Load the plugin at `home`, a module or "module:object", alone, and return what it brings under that name.

    `brought` chooses among all that it brings what is of a `kind`, as errors call it. Raises what the plugin raises;
    PluginUnusable where it cannot be used here, or brings no such thing.
    """
    from pagewarden.errors import PluginUnusable
    from pagewarden.installed import EntryPoint
    from pagewarden.plugins import load_plugins

    plugin = EntryPoint(name=home, value=home, distribution="", version="").load()
    for candidate in brought(load_plugins(only=(), extra=[plugin])):
        if candidate.name == name:
            return candidate
    raise PluginUnusable(f"{home} brings no {kind} {name} in a process of its own", hint="pagewarden plugins")
