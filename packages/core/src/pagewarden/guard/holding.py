"""Who keeps a log from being copied or restarted: those who read beside it, as /proc/locks has them."""

from __future__ import annotations

import os

from pagewarden.holders import SHM_READ_LOCKS, command_of, find_locks


def held_back_by(path: str) -> str:
    """Return the processes that read the database at the real path `path`, for people.

    On read lock 0 nothing can be copied to the database file, on the others the log cannot be restarted. Empty where
    none but this one reads, or the system does not tell.
    """
    first, last = SHM_READ_LOCKS[0], SHM_READ_LOCKS[-1]
    pids = {
        lock.pid
        for lock in find_locks(path) or ()
        if lock.file.endswith("-shm") and lock.first <= last and (lock.last or lock.first) >= first
    }
    return ", ".join(f"{command_of(pid)} (pid {pid})" for pid in sorted(pids - {os.getpid()}))
