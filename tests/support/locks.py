"""What POSIX locks a set of processes holds on a database, sampled from /proc/locks.

Lock bytes are those of SQLite: on the database PENDING 0x40000000, RESERVED one after it, SHARED the 510 after that
(os.h); on the -shm the write lock 120, checkpoint 121, recover 122, readers 123 to 127, "dead man's switch" 128 (wal.c,
os_unix.c).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

WAL_WRITE_LOCK = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One line of /proc/locks."""

    pid: int
    kind: str  # "READ" or "WRITE"
    inode: int
    first: int  # byte
    last: int

    def covers(self, byte: int) -> bool:
        """Return whether the lock covers a byte."""
        return self.first <= byte <= self.last


def held() -> list[Lock]:
    """Return all POSIX locks that are held now; those that somebody waits for are left out."""
    locks = []
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "->" or words[1] != "POSIX":
            continue
        _number, _posix, _advisory, kind, pid, place, first, last = words
        end = 1 << 63 if last == "EOF" else int(last)
        locks.append(Lock(pid=int(pid), kind=kind, inode=int(place.split(":")[2]), first=int(first), last=end))
    return locks


def inode(path: str | Path) -> int:
    """Return a file's inode number, 0 where there is no file."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def write_locks(database: Path, pids: set[int]) -> list[Lock]:
    """Return the locks of `pids` that keep others from committing: any WRITE on the database, byte 120 of the -shm."""
    main, shm = inode(database), inode(f"{database}-shm")
    return [
        lock
        for lock in held()
        if lock.pid in pids
        and lock.kind == "WRITE"
        and (lock.inode == main or (lock.inode == shm and lock.covers(WAL_WRITE_LOCK)))
    ]


class WriteLockSampler:
    """Looks for write locks of some processes all the time while the context is open."""

    def __init__(self, database: Path, pids: Callable[[], set[int]]) -> None:
        """`pids` is asked for each sample, because readers come and go."""
        self.seen: list[Lock] = []
        self.samples = 0
        self.others = 0  # samples in which some other process held one: proof that the sampler can see them
        self._database = database
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.is_set():
            ours = self._pids()
            everyone = {lock.pid for lock in held()}
            self.seen += write_locks(self._database, ours)
            self.others += bool(write_locks(self._database, everyone - ours))
            self.samples += 1
            time.sleep(0.001)

    def __enter__(self) -> WriteLockSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
