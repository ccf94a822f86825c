"""What the `wal` verbs report: frozen values, exactly what `--json` prints."""

from __future__ import annotations

from dataclasses import dataclass

from pagewarden.wal.policy import CheckpointPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WalLock:
    """One lock that somebody holds on a file of the database."""

    pid: int  # 0 where the owner cannot be told
    command: str
    file: str  # name of the locked file
    lock: str  # SQLite's name for it, such as "WRITE", "CKPT", "READ 1" or "SHARED"
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WalReader:
    """One process that reads, and what it keeps a checkpoint from."""

    pid: int  # 0 where it cannot be told
    command: str
    slot: int  # of the read locks 0 to 4; 0 reads the database file alone, and keeps anything from being copied to it
    mark: int | None  # it may need the log as it was at this frame, or at a later one (H37); None for slot 0
    behind: int  # frames that were committed since, at the most
    at_most_seconds: float | None  # for how long it can have been reading: since its process began; None: not told


@dataclass(frozen=True, slots=True, kw_only=True)
class WalAdvice:
    """What a checkpoint would be good for now."""

    action: str  # "none", "passive", "restart" or "truncate"
    why: str
    command: str  # to type; empty where there is nothing to do
    held_back: bool  # whether a reader is in the way


@dataclass(frozen=True, slots=True, kw_only=True)
class WalBug:
    """A bug of the linked SQLite that can damage a database in WAL mode."""

    name: str
    what: str
    fixed: str  # releases with the fix
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStatusReport:
    """How the log of one database stands."""

    database: str  # real path
    journal_mode: str  # "wal", "rollback" (which of those modes is each connection's own), or "empty"
    page_size: int  # bytes
    bytes: int  # of the database file
    wal_bytes: int  # of the -wal file, which does not shrink when the log is restarted
    log_bytes: int  # of the frames in it that count
    bound_bytes: int  # what the log should not pass
    over_bound: bool
    live: bool  # whether SQLite has it open, so that frames, marks and readers are true; else the log was read
    frames: int | None  # committed frames in this generation of the log; None where that cannot be told
    backfilled: int | None  # how many of them are in the database file
    salts: str | None  # of this generation of the log, 16 hexadecimal digits
    sequence: int | None  # how often the log was restarted since the -wal was made
    read_marks: tuple[int | None, ...]  # of the read locks 0 to 4, held or not; None where one was never used (H37)
    idle_seconds: float | None  # since the -wal was last written to, by the clock of the machine
    readers: tuple[WalReader, ...]  # the one that is furthest behind first; the guard is one, too, and moves on
    locks: tuple[WalLock, ...]
    holders: tuple[str, ...]  # processes that have the database open, a clause each
    guard: int | None  # process id of the guard that follows it, 0 where it cannot be told; None: there is none
    advice: WalAdvice
    sqlite: str  # version of the linked library; that of each application counts as well
    bugs: tuple[WalBug, ...]
    warnings: tuple[str, ...]  # what a person should know, and what could not be seen
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, 1 where the log has passed its bound, 3 where what stands in it cannot be told."""
        if self.over_bound:
            return 1
        return 3 if self.journal_mode == "wal" and self.frames is None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WalReason:
    """One reason not to switch to WAL mode."""

    name: str  # stable, such as "network-file-system"
    severity: str  # "refused": never; "warning": only with --force; "known": done, and told
    message: str
    instead: str  # what to do about it, or in its place


@dataclass(frozen=True, slots=True, kw_only=True)
class WalEnableReport:
    """A journal mode that is as it was asked for."""

    database: str  # real path
    before: str  # "wal", "rollback" or "empty"
    after: str
    changed: bool
    forced: tuple[WalReason, ...]  # reasons that --force went past
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: what was asked for holds, and was read back from the file."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WalCheckpointReport:
    """What became of a checkpoint."""

    database: str  # real path
    mode: str  # "passive", "full", "restart" or "truncate"
    done: bool  # whether the mode did all that it is for
    busy: bool  # SQLite's own answer: somebody was in the way
    why: str  # what was in the way; empty where it is done
    log: int  # frames in the log, afterwards
    checkpointed: int  # frames of it that are in the database file
    wal_bytes_before: int  # size of the -wal file
    wal_bytes: int
    attempts: int
    held_seconds: float  # the longest time that writers had to wait for it
    held_back_by: tuple[WalReader, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 done, 3 where somebody was in the way: what could be copied was, and nothing is lost."""
        return 0 if self.done else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSetting:
    """One PRAGMA for the application, tried on a scratch database."""

    pragma: str
    value: str  # as the linked SQLite reads it back
    default: str  # of the linked SQLite
    persistent: bool  # whether it is kept in the file; otherwise each connection has to set it
    line: str  # to be put into the application
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WalLoss:
    """What can be lost with one value of `synchronous`. A crash of the application alone loses nothing committed."""

    synchronous: str
    application_crash: str
    machine_crash: str  # power loss, or a crash of the system
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WalTuneReport:
    """What to put into the application, and what the guard does beside it."""

    database: str  # real path
    journal_mode: str
    preset: str
    settings: tuple[WalSetting, ...]
    losses: tuple[WalLoss, ...]  # for the journal mode that the settings ask for
    guard: CheckpointPolicy  # how the guard checkpoints beside it, as [wal] of the configuration has it
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: each line was tried."""
        return 0
