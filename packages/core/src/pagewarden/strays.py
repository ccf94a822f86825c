"""Processes that write past everybody else: to a deleted file (H5), or without the locks that protect them (H1).

Everything is seen in /proc; no file of the database is opened.

1. SQLite opens a -shm for reading and writing, and holds two locks for as long as the connection lives: SHARED on byte
   128 of the -shm and SHARED on the database. A close() of either file anywhere in the process drops that file's locks.
   The next one who opens the database takes it for closed: it cuts the wal-index short, or removes the -wal.
2. A connection that is being opened or closed looks like that for a moment, and /proc/locks is read in parts while it
   changes. So nothing is believed that does not stay the same in several looks.
3. A child that was forked has inherited descriptors but no locks: as long as it does not touch them, nothing happens.
4. The inode of a deleted file still tells whether it was written to since: the deletion changed its status, and a later
   write changed both of its times at once.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pagewarden.holders import Holder, Holders, Lock, OpenFile, files_held, find_locks, is_ours, parent_of

LOOKS = 5
"""How often it must look the same."""

_PAUSE = 0.003  # seconds between two looks
_SHM_IN_USE = 128  # byte of the -shm that every connection locks (os_unix.c, UNIX_SHM_DMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A process whose next writes are in danger, or lost."""

    pid: int
    command: str
    kind: str  # "deleted-files", "lost-locks" or "inherited-files"
    harmful: bool  # whether what it writes is lost; otherwise it would be, if it wrote
    why: str  # what it does, as a clause that follows its name
    saving: str  # command that saves what it has written
    evidence: str  # which of its descriptors are meant, and what it has locked

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


def find_strays(holders: Holders, *, sleep: Callable[[float], None] = time.sleep) -> tuple[Stray, ...]:
    """Return the strays among the processes that have a database open, those of this run left out."""
    return tuple(
        stray
        for holder in holders.holders
        if holder.descriptors and not is_ours(holder.pid)
        for stray in _judge(holder, holders, sleep)
    )


def _judge(holder: Holder, holders: Holders, sleep: Callable[[float], None]) -> Iterator[Stray]:
    name = Path(holders.path).name
    deleted = [file for file in holder.descriptors if file.deleted and _for_writing(file)]
    if deleted:
        # The last connection that closes removes -shm and -wal while it has them open, under an exclusive lock.
        closing = (holder.pid, name)
        if stays := _while_it_looks_so(
            holders.path,
            deleted,
            lambda locks: closing not in {(lock.pid, lock.file) for lock in locks if lock.write},
            sleep,
        ):
            yield _of_deleted(holder, stays, holders.path)
        return
    index = [file for file in holder.descriptors if file.file == f"{name}-shm" and _for_writing(file)]
    if not index:
        return

    def lost(locks: Sequence[Lock]) -> bool:
        return _without(locks, holder.pid, f"{name}-shm", _SHM_IN_USE) or _without(locks, holder.pid, name, None)

    if lost(holders.locks) and _while_it_looks_so(holders.path, index, lost, sleep):
        yield _of_lost(holder, holders)


def _while_it_looks_so(
    path: str, files: Sequence[OpenFile], so: Callable[[Sequence[Lock]], bool], sleep: Callable[[float], None]
) -> tuple[OpenFile, ...]:
    """Return what a process has open if `files` stay open, and the locks stay as they are said to be; else nothing."""
    held: frozenset[OpenFile] = frozenset()
    for _ in range(LOOKS):
        sleep(_PAUSE)
        locks = find_locks(path)
        # After the locks: a connection that is closed meanwhile has given up its locks before its files.
        held = files_held(path, files[0].pid)
        if locks is None or not so(locks) or not held.issuperset(files):
            return ()
    return tuple(sorted(held, key=lambda file: file.number))


def _without(locks: Sequence[Lock], pid: int, file: str, byte: int | None) -> bool:
    """Whether a process holds no lock on a file, or on one byte of it. A lock whose owner is not told may be its."""
    return not any(
        lock.file == file and lock.pid in (0, pid) and (byte is None or lock.first <= byte <= (lock.last or byte))
        for lock in locks
    )


def _of_deleted(holder: Holder, files: Sequence[OpenFile], path: str) -> Stray:
    deleted = [file for file in files if file.deleted and _for_writing(file)]
    written = [file for file in deleted if _written_since(file)]
    log = {Path(path).name, f"{Path(path).name}-wal"}
    # What is written to a log that lies beside another file is never found, or is laid over the wrong database.
    parted = {file.deleted for file in files if file.file in log and _for_writing(file)} == {True, False}
    names = ", ".join(sorted({file.file for file in written or deleted}))
    if written:
        why = f"has gone on writing to {names} since it was deleted, which nobody else will ever see"
    elif parted:
        why = f"goes on using {names}, which was deleted, though not all of the database was: its next commits are lost"
    else:
        why = f"still has {names} open for writing, which was deleted or replaced: what it writes there would be lost"
    return Stray(
        pid=holder.pid,
        command=holder.command,
        kind="deleted-files",
        harmful=bool(written) or parted,
        why=why,
        saving=_saving(files, path),
        evidence=_evidence(deleted, ()),
    )


def _of_lost(holder: Holder, holders: Holders) -> Stray:
    lost = Stray(
        pid=holder.pid,
        command=holder.command,
        kind="lost-locks",
        harmful=True,
        why="has the database open in WAL mode and holds no lock on it: a close() in that process dropped them, and "
        "whoever opens or closes the database next takes its log away",
        saving=_saving(holder.descriptors, holders.path),
        evidence=_evidence(holder.descriptors, [lock for lock in holders.locks if lock.pid == holder.pid]),
    )
    if not _inherited(holder, holders):
        return lost
    files = ", ".join(holder.files)
    why = f"has inherited {files} from its parent, without a lock: a connection must not be used across a fork"
    return replace(lost, kind="inherited-files", harmful=False, why=why)


def _inherited(holder: Holder, holders: Holders) -> bool:
    """Whether an ancestor has the same files under the same numbers, and its locks."""
    ours = {(file.number, file.file) for file in holder.descriptors}
    by_pid = {other.pid: other for other in holders.holders}
    pid = holder.pid
    while pid > 1:
        pid = parent_of(pid)
        parent = by_pid.get(pid)
        if parent is not None and ours <= {(file.number, file.file) for file in parent.descriptors}:
            return any(lock.pid == pid for lock in holders.locks)
    return False


def _for_writing(file: OpenFile) -> bool:
    """Whether a descriptor is open for writing (proc_pid_fdinfo(5)); one that cannot be seen is not."""
    try:
        lines = Path(file.path.replace("/fd/", "/fdinfo/")).read_text().splitlines()
    except OSError:  # closed meanwhile
        return False
    flags = next((int(line.split()[1], 8) for line in lines if line.startswith("flags:")), 0)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _written_since(file: OpenFile) -> bool:
    try:
        found = Path(file.path).stat()
    except OSError:  # closed meanwhile
        return False
    return found.st_nlink == 0 and found.st_mtime_ns >= found.st_ctime_ns


def _evidence(files: Sequence[OpenFile], locks: Sequence[Lock]) -> str:
    held = ", ".join(f"{file.path} is {file}" for file in files)
    locked = ", ".join(f"{lock.file} bytes {lock.first} to {lock.last}" for lock in locks)
    return f"{held}; locks: {locked or 'none'}"


def _saving(files: Sequence[OpenFile], path: str) -> str:
    """Return the commands that copy what a process has open, under another name."""
    name = Path(path).name
    saved = {file.file: file for file in files if file.file in (name, f"{name}-wal")}
    return " && ".join(
        shlex.join(["cp", file.path, f"{path}.saved{name_of.removeprefix(name)}"]) for name_of, file in saved.items()
    )
