"""Backups, prunes and sessions under way: what one means to store, who runs it, and whether it is dead.

An intent is put before anything else is, and removed after everything else. Whether its process lives is exact on one
machine and a guess from another one; so nothing rests on it but tidiness (see `Repository.clean`).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import UNSET, UnsetType

from pagewarden.repository.format import Kind, PageSetHeader, pages_per_frame
from pagewarden.repository.keys import LAST
from pagewarden.repository.manifest import FORMAT, Manifest
from pagewarden.values import Position

FOREIGN_LIFE = timedelta(days=7)
"""How long a run of a process that cannot be looked at is believed to last, unless it is renewed."""

GATHERING_LIFE = timedelta(hours=1)
"""Likewise one that only gathers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A process, told apart from every other one on every other machine, and from a later one with its number."""

    host: str  # host name
    machine: str  # /etc/machine-id, empty where there is none
    boot: str  # Linux's boot id, empty elsewhere
    namespace: str  # the process's pid namespace, empty elsewhere
    pid: int
    started: str  # clock ticks from boot to its start, empty elsewhere

    def __post_init__(self) -> None:
        if not 0 < self.pid < 1 << 31:
            raise ValueError(f"process {self.pid}")

    @staticmethod
    def current(proc: Path = Path("/proc")) -> Runner:
        """Return this process. `proc` is where proc(5) is mounted."""
        pid = os.getpid()
        return Runner(
            host=socket.gethostname(),
            machine=_text(Path("/etc/machine-id")),
            boot=_text(proc / "sys/kernel/random/boot_id"),
            namespace=_link(proc / "self/ns/pid"),
            pid=pid,
            started=_started(proc, pid),
        )

    def is_dead(self, here: Runner, proc: Path = Path("/proc")) -> bool | None:
        """Return whether the process has ended, as seen from process `here`; None where that cannot be known."""
        if (self.host, self.machine) != (here.host, here.machine) or not self.boot:
            return None
        if self.boot != here.boot:
            return True
        if self.namespace != here.namespace:
            return None
        started = _started(proc, self.pid)
        if started:
            return started != self.started
        # No such process, or one of another user's where /proc hides those (hidepid).
        return None if _exists(self.pid) else True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What stands in the repository of a backup under way."""

    format: int = FORMAT
    database: str  # name in the repository
    sequence: int
    key: str  # of the object
    time: datetime  # when it began, UTC
    runner: Runner

    def __post_init__(self) -> None:
        if not 1 <= self.sequence <= LAST or self.time.utcoffset() != timedelta(0):
            raise ValueError(f"number {self.sequence}, begun at {self.time}")

    def is_dead(self, here: Runner, now: datetime, proc: Path = Path("/proc")) -> bool:
        """Return whether it will never end, as far as process `here` can tell."""
        return _is_dead(self.runner, self.time, here, now, proc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What stands in the repository of a prune under way: every object of the database with its nonce is its own."""

    format: int = FORMAT
    database: str  # name in the repository
    time: datetime  # when it began, UTC
    runner: Runner
    gathering: bool | UnsetType = UNSET  # whether it only makes one batch of many, which takes moments

    def __post_init__(self) -> None:
        if self.time.utcoffset() != timedelta(0):
            raise ValueError(f"a time that is not UTC: {self.time}")

    def is_dead(self, here: Runner, now: datetime, proc: Path = Path("/proc")) -> bool:
        """Return whether it will never end, as far as process `here` can tell."""
        life = GATHERING_LIFE if self.gathering is True else FOREIGN_LIFE
        return _is_dead(self.runner, self.time, here, now, proc, life)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What stands in the repository of a guard that follows a database: every object of it with its nonce is its own.

    A session commits again and again, and renews its intent by taking another nonce.
    """

    format: int = FORMAT
    database: str  # name in the repository
    time: datetime  # when it began, or was renewed, UTC
    runner: Runner

    def __post_init__(self) -> None:
        if self.time.utcoffset() != timedelta(0):
            raise ValueError(f"a time that is not UTC: {self.time}")

    def is_dead(self, here: Runner, now: datetime, proc: Path = Path("/proc")) -> bool:
        """Return whether it will never commit again, as far as process `here` can tell."""
        return _is_dead(self.runner, self.time, here, now, proc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A backup under way, for the one who makes it: write the page set to `staging`, prove it, then commit."""

    database: str  # name in the repository
    sequence: int  # the number that its manifest will have
    timeline: str  # 32 hexadecimal digits
    txid: int
    parent: Position | None  # what it continues
    nonce: str
    key: str  # that the object will have
    staging: Path  # where to write the page set; nothing is there yet

    def header(self, *, page_size: int, pages: int, time: datetime) -> PageSetHeader:
        """Return the header of its snapshot. `time` is when the commit was pinned, UTC."""
        return PageSetHeader(
            kind=Kind.SNAPSHOT,
            page_size=page_size,
            pages=pages,
            pages_per_frame=pages_per_frame(page_size),
            timeline=self.timeline,
            txid=self.txid,
            time=time,
        )

    def segment_header(self, base: Manifest, *, time: datetime) -> PageSetHeader:
        """Return the header of its segment from the position of `base`; its pages are settled when they are read."""
        return replace(
            self.header(page_size=base.page_size, pages=base.pages, time=time),
            kind=Kind.SEGMENT,
            txid_from=base.position.txid,
        )


def _is_dead(
    runner: Runner, begun: datetime, here: Runner, now: datetime, proc: Path, life: timedelta = FOREIGN_LIFE
) -> bool:
    dead = runner.is_dead(here, proc)
    return now - begun > life if dead is None else dead


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not Linux, or a container without it: then the process cannot be told apart, which callers know
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(proc: Path, pid: int) -> str:
    """Return field 22 of /proc/PID/stat, empty where there is no such process. proc(5)."""
    # The second field is the command in parentheses and may hold anything, parentheses included.
    fields = _text(proc / str(pid) / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""
