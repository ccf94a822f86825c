"""Who reads a database in WAL mode, who holds which lock, and what that keeps a checkpoint from.

From /proc/locks and the read-marks of the wal-index; no file of the database is opened. Lock bytes are SQLite's: on the
database those of os.h, on the -shm those of wal.c and os_unix.c.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pagewarden.holders import SHM_READ_LOCKS, Lock, command_of, is_ours
from pagewarden.wal.reports import WalLock, WalReader

_PENDING = 0x40000000  # first lock byte of the database file
_SHARED = range(_PENDING + 2, _PENDING + 512)
_SHM_LOCKS = {120: "WRITE", 121: "CKPT", 122: "RECOVER", 128: "open"} | {
    byte: f"READ {slot}" for slot, byte in enumerate(SHM_READ_LOCKS)
}


def name_locks(locks: Iterable[Lock]) -> tuple[WalLock, ...]:
    """Return locks under SQLite's own names, those of this run left out."""
    return tuple(
        WalLock(pid=lock.pid, command=_command(lock.pid), file=lock.file, lock=name, exclusive=lock.write)
        for lock in sorted(locks, key=lambda lock: (lock.pid, lock.file, lock.first))
        if not is_ours(lock.pid)
        for name in _names(lock)
    )


def find_readers(
    locks: Iterable[Lock],
    marks: Sequence[int | None],
    frames: int,
    *,
    ours: Callable[[int], bool] = is_ours,
    age: Callable[[int], float | None] | None = None,
) -> tuple[WalReader, ...]:
    """Return who holds a read lock, the one that is furthest behind first; processes that are `ours` left out.

    `marks` are the read-marks of the wal-index, `frames` its mxFrame.
    """
    readers = []
    for lock in locks:
        if lock.write or not lock.file.endswith("-shm") or ours(lock.pid):
            continue
        for slot, byte in enumerate(SHM_READ_LOCKS):
            if lock.first <= byte <= (lock.last or lock.first):
                mark = marks[slot] if slot and slot < len(marks) else None
                readers.append(
                    WalReader(
                        pid=lock.pid,
                        command=_command(lock.pid),
                        slot=slot,
                        mark=mark,
                        behind=frames if slot == 0 else max(0, frames - (mark or 0)),
                        at_most_seconds=(age or process_age)(lock.pid),
                    )
                )
    return tuple(sorted(readers, key=lambda reader: (-reader.behind, reader.pid, reader.slot)))


def lowest_mark(readers: Iterable[WalReader], frames: int, backfilled: int) -> int | None:
    """Return what a checkpoint cannot get past, for `WalState.reader_mark`; None where nobody is in the way.

    A reader on read lock 0 reads the database file alone: nothing at all can be copied to it meanwhile.
    """
    waiting = frames > backfilled
    marks = [reader.mark or 0 for reader in readers if reader.slot or waiting]
    return min(marks) if marks else None


def process_age(pid: int) -> float | None:
    """Return for how many seconds a process has run, None where that is not told. proc_pid_stat(5), field 22."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended, or the system has no /proc
        return None
    ticks = int(line.rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def describe(reader: WalReader) -> str:
    """Say who a reader is, and what it reads, in a clause."""
    who = f"{reader.command} (pid {reader.pid})" if reader.pid else reader.command
    what = (
        "reads the database file alone, which nothing can be copied to meanwhile"
        if reader.slot == 0
        else f"may need the log as it was at frame {reader.mark}"
        if reader.mark is not None
        else "reads the log"
    )
    return f"{who} {what}"


def _names(lock: Lock) -> Iterator[str]:
    """Yield SQLite's names of what a lock covers."""
    last = lock.first if lock.last is None else lock.last
    if lock.file.endswith("-shm"):
        yield from (name for byte, name in sorted(_SHM_LOCKS.items()) if lock.first <= byte <= last)
    elif not lock.file.endswith(("-wal", "-journal")):
        end = _SHARED[-1] if lock.last is None else last
        if lock.first <= _PENDING <= end:
            yield "PENDING"
        if lock.first <= _PENDING + 1 <= end:
            yield "RESERVED"
        if lock.first <= _SHARED[-1] and end >= _SHARED[0]:
            yield "EXCLUSIVE" if lock.write else "SHARED"


def _command(pid: int) -> str:
    return command_of(pid) if pid else "a process that cannot be told"
