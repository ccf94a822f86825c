"""The lock process: holds SQLite's EXCLUSIVE lock on a database that is to be read and replaced as it is.

SQLite itself would do more than lock: it plays a hot journal back, recovers a log and checkpoints it at the last close.
What is damaged, or of another database, would be in the file then. So this process takes the locks as SQLite does, and
holds no SQLite and reads and changes no byte. It ends with its parent, and so does the lock (H1: nobody else closes the
file in this process).

Lock bytes: https://www.sqlite.org/src/file/src/os.h (PENDING_BYTE and what follows).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from typing import Any

from pagewarden.errors import PagewardenError, to_wire
from pagewarden.processes.attach import open_regular
from pagewarden.processes.channel import Channel, Value
from pagewarden.processes.inside import end_with_parent, take_channel

PENDING_BYTE = 0x40000000
_SHARED_SIZE = 510

_BUSY = frozenset({errno.EACCES, errno.EAGAIN})
_PAUSE = 0.02  # seconds between two attempts


def take(path: str, seconds: float) -> dict[str, Value]:
    """Lock the file at the real path `path`, and say what became of it: `locked` or `busy`.

    The descriptor is never closed. Raises PagewardenError for what is no file, OSError.
    """
    os.close(open_regular(path))  # no link, no device; nothing is locked yet that this could drop
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    until = time.monotonic() + seconds
    while not _lock(descriptor):
        if time.monotonic() >= until:
            return {"busy": True}
        time.sleep(_PAUSE)
    found = os.fstat(descriptor)
    return {"locked": [found.st_dev, found.st_ino]}


def _lock(descriptor: int) -> bool:
    """Take the lock at once or not at all: PENDING, RESERVED and the SHARED range, which stand side by side."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 2 + _SHARED_SIZE, PENDING_BYTE)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        return False
    return True


def serve(channel: Channel) -> None:
    """Take one lock, and keep it until the input ends."""
    task: Any = channel.receive()
    try:
        answer = take(task["path"], task["seconds"])
    except PagewardenError as error:
        answer = {"error": {key: str(value) for key, value in to_wire(error).items()}}
    except OSError as error:
        answer = {"failed": error.errno or errno.EIO}
    channel.send(answer)
    channel.receive()  # nothing comes but the end


def main() -> None:
    """Be the lock process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    end_with_parent()
    try:
        serve(take_channel())
    except EOFError:
        pass  # the run has ended, or let go


if __name__ == "__main__":
    main()
