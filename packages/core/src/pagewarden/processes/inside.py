"""What a child process does first, and meanwhile: it keeps its channel to itself, and ends when its parent does."""

from __future__ import annotations

import io
import os
import select
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
