"""One guard for each database and machine: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pagewarden import durable
from pagewarden.errors import DatabaseBusy
from pagewarden.lineage import file_name


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPlaces:
    """Where the guard of one database keeps its lock, its socket and its spool, all in the state directory."""

    lock: Path
    socket: Path
    spool: Path


def guard_places(state: Path, path: str, where: str) -> GuardPlaces:
    """Return the places of the guard of the database at the real path `path`, which is kept as `where` (`place_of`).

    Lock and socket are the database's, the spool is one for each place that it is kept in.
    """
    folder, name = state / "guards", file_name(path)
    return GuardPlaces(
        lock=folder / f"{name}.lock",
        socket=folder / f"{name}.sock",
        spool=state / "spool" / file_name(where, path),
    )


class _Holder(msgspec.Struct):
    pid: int


class OnlyGuard:
    """The lock of one database's guard. Closing it lets the next one begin."""

    def __init__(self, lock: Path, path: str) -> None:
        """Take the lock. Raises DatabaseBusy, naming who has it; OSError where it cannot be made.

        The file stays when the guard ends: to remove it would let two guards lock two files of one name.
        """
        durable.make_directories(lock.parent)
        self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, durable.FILE_MODE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _holder(self._descriptor)
            self.close()
            who = f"process {pid}" if pid else "another process"
            raise DatabaseBusy(
                f"{path} is guarded already, by {who}",
                hint=f"pagewarden sync {shlex.quote(path)} asks that guard; to end it: kill {pid or 'PID'}",
                pids=[pid] if pid else [],
            ) from error
        except BaseException:
            self.close()
            raise
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, msgspec.json.encode(_Holder(pid=os.getpid())), 0)

    def close(self) -> None:
        """Let go of the lock; safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(descriptor: int) -> int:
    """Return the process that holds the lock, 0 where it has not said so yet."""
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=_Holder).pid
    except msgspec.DecodeError:
        return 0
