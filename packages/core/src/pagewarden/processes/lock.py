"""SQLite's EXCLUSIVE lock on a database, held by a process without SQLite: see `processes.lock_main`."""

from __future__ import annotations

import errno
import os
import shlex
from types import TracebackType
from typing import Any, Self

from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, RepairRefused, from_wire
from pagewarden.holders import COMPANIONS, find_holders, is_ours
from pagewarden.processes.channel import ProtocolError
from pagewarden.processes.spawn import Child

MODULE = "pagewarden.processes.lock_main"

LOCK_SECONDS = 3.0
"""How long a lock is waited for."""


class FileLock:
    """A database that nobody can open through SQLite. A context manager: leaving it lets go."""

    def __init__(self, path: str, *, seconds: float = LOCK_SECONDS) -> None:
        """Lock the database at the real path `path`, which changes no byte of it.

        Raises DatabaseNotFound, DatabaseBusy, RepairRefused where this user may not write to it, DatabaseUnsettled
        where it was replaced just now, DatabaseUnreadable where it is no file or cannot be locked.
        """
        self._path = path
        self._child = Child(MODULE)
        answer = self._ask(seconds)
        try:
            if "busy" in answer:
                raise _busy(path)
            if "error" in answer:
                raise from_wire(answer["error"])
            if "failed" in answer:
                raise _failed(path, answer["failed"])
            self._inode = tuple(answer["locked"])
            self.check()
        except BaseException:
            self._child.stop()
            raise

    def check(self) -> None:
        """Raise DatabaseUnsettled unless the lock is still held on what stands at the path."""
        if not self._child.running:
            raise DatabaseUnsettled(f"the lock on {self._path} was lost: the process that held it died", hint=_AGAIN)
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            raise DatabaseUnsettled(f"{self._path} went away while it was locked", hint=_AGAIN) from None
        if (found.st_dev, found.st_ino) != self._inode:
            raise DatabaseUnsettled(f"{self._path} was replaced while it was locked", hint=_AGAIN)

    def close(self) -> None:
        """Let go."""
        self._child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, seconds: float) -> Any:
        try:
            self._child.channel.send({"path": self._path, "seconds": seconds})
            return self._child.channel.receive()
        except (BrokenPipeError, EOFError, ProtocolError) as error:
            how, words = self._child.died()
            lost = DatabaseUnreadable(f"{self._path} could not be locked: the process for it {how}", hint=_AGAIN)
            lost.add_note(words)
            raise lost from error
        except BaseException:
            self._child.stop()
            raise


_AGAIN = "try again"


def _busy(path: str) -> DatabaseBusy:
    holders = [holder for holder in find_holders(path).holders if not is_ours(holder.pid)]
    who = "; ".join(map(str, holders)) or "a process that cannot be seen has it locked"
    return DatabaseBusy(
        f"cannot repair {path}: {who}",
        hint="end the programs that use it, then try again",
        pids=[holder.pid for holder in holders],
    )


def _failed(path: str, number: int) -> DatabaseUnreadable | RepairRefused:
    reason = os.strerror(number).lower()
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        copied = shlex.join(["cp", *(file for suffix in COMPANIONS if os.path.lexists(file := path + suffix)), "DIR"])
        return RepairRefused(f"{path} may not be written to: {reason}", hint=f"repair a copy of it: {copied}")
    return DatabaseUnreadable(f"{path} cannot be locked: {reason}", hint=f"ls -l {shlex.quote(path)}")
