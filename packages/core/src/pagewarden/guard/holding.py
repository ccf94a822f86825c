"""Who keeps a log from being restarted: those who read through it, as /proc/locks has them."""

from __future__ import annotations

import os

from pagewarden.holders import SHM_READ_LOCKS, command_of, find_locks


def held_back_by(path: str) -> str:
    """Return the processes that read through the log of the database at the real path `path`, for people.

    Empty where none but this one does, or the system does not tell.
    """
    in_the_log = SHM_READ_LOCKS[1:]  # on the first one a reader needs the database file alone
    pids = {
        lock.pid
        for lock in find_locks(path) or ()
        if lock.file.endswith("-shm") and lock.first <= in_the_log[-1] and (lock.last or lock.first) >= in_the_log[0]
    }
    return ", ".join(f"{command_of(pid)} (pid {pid})" for pid in sorted(pids - {os.getpid()}))
