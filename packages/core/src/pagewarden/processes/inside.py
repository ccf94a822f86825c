"""What a child process does first, and meanwhile: it keeps its channel to itself, and ends when its parent does."""

from __future__ import annotations

import fcntl
import io
import os
import select
import signal
import sys
import threading
import time

from pagewarden.processes.channel import Channel

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
