"""What a guard is told to do, and what it tells of itself: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pagewarden.values import Position
from pagewarden.wal.policy import DEFAULT_POLICY, CheckpointPolicy

SPOOL_BYTES = 1 << 30
"""Bytes that wait on this machine's disk while the repository cannot be reached, unless it is configured otherwise."""

INTERVAL = 0.02
"""Seconds between two looks at a database that is written to, unless it is configured otherwise."""

MOST_BYTES = 32 << 20
"""Bytes of frames of which a batch keeps every commit; of more, only the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRequest:
    """Which database to guard, and how."""

    database: str
    repository: str  # URL; made where there is none
    name: str | None = None  # of the database in the repository; None: its file name
    compression: int = 1  # zstd's level, 1 to 22
    check: str = "quick"  # how the source is judged by the backups that begin, or heal, its history
    interval: float = INTERVAL  # seconds between two looks while something is committed
    spool: int = SPOOL_BYTES  # bytes that may wait for the repository
    scrub: float = 4.0  # MiB a second of the database file that are compared with what was followed; 0: none
    policy: CheckpointPolicy = field(default=DEFAULT_POLICY)


class GuardState(StrEnum):
    """What a guard is at."""

    STARTING = "starting"
    FOLLOWING = "following"
    HEALING = "healing"  # comparing the database with what is stored, because commits were missed
    WAITING = "waiting"  # for the database, or for the repository; `why` says for which
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatus:
    """What a guard says of itself."""

    database: str  # real path
    name: str  # in the repository
    repository: str  # URL
    pid: int
    since: datetime  # when it began, UTC
    state: GuardState
    why: str = ""  # what it waits for, or why it heals or stopped
    taken: Position | None = None  # the newest commit that it has read
    stored: Position | None = None  # the newest one that is durable in the repository
    lag: float = 0.0  # seconds since the oldest commit was seen that is not stored yet; 0 where all are
    commits: int = 0  # that were stored since it began
    merged: int = 0  # of them those that are no restore points of their own
    gaps: int = 0  # how often commits were missed, and the difference was stored instead
    spooled: int = 0  # batches that wait for the repository
    spool_bytes: int = 0
    wal_bytes: int = 0  # of the -wal file
    held_back: str = ""  # who keeps the log from being restarted, where it is larger than it should be
    rot: tuple[int, ...] = ()  # pages that scrubbing found changed though no commit wrote to them
    scrubbed: float = 0.0  # how often the whole database was compared since the guard began
