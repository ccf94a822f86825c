"""The reports of all verbs but `check`, and what stands in them.

They are `pagewarden.values` like those, which gives them away; they stand apart because each costs a check time at its
start, and checks of small databases are frequent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pagewarden.values import CheckerResult, Position, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A page that a check reported as damaged, and what became of it."""

    pgno: int
    kind: str  # of the finding
    object: str | None  # table or index, by name
    state: str  # "seen" by one run, "confirmed" by a later one, "transient", "repaired" or "gone"
    checker: str
    first_seen: datetime
    last_seen: datetime
    settled: datetime | None  # when it was found to be transient, repaired or gone
    page_sum: str | None  # 16 hexadecimal digits, when it was last seen; None where it could not be read
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """One check that is remembered."""

    started: datetime
    level: str
    verdict: Verdict
    seconds: float
    findings: int
    checkers: tuple[CheckerResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What the ledger has of one database, oldest first."""

    database: str  # real path
    suspects: tuple[Suspect, ...]
    runs: tuple[PastRun, ...]
    warnings: tuple[str, ...] = ()  # what a person should know, such as a damaged ledger that was set aside

    @property
    def exit_code(self) -> int:
        """0, or 1 where a suspect page is open: seen or confirmed, and neither transient, repaired nor gone."""
        return 1 if any(suspect.state in ("seen", "confirmed") for suspect in self.suspects) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceVerdict:
    """What was known of a database when it was backed up (H18)."""

    verdict: Verdict
    level: str  # the level it was judged at; "none" where it was not judged
    findings: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """One backup that was read back, verified and committed to its repository, or had nothing to store."""

    database: str
    name: str  # the database's name in the repository
    repository: str  # URL
    kind: str  # "snapshot", "segment", or "unchanged": then nothing was stored, and `position` is the newest
    position: Position
    pages_copied: int
    bytes_read: int  # of the database
    bytes_stored: int
    seconds: float
    database_sum: str  # 16 hexadecimal digits
    verified: bool
    source: SourceVerdict
    attempts: int = 1  # how often the copy was begun until one whole commit was read
    lock_seconds: float = 0.0  # rollback-journal mode: the longest time a SHARED lock was held
    why_full: str = ""  # why it is a snapshot, though a segment was asked for and there were restore points
    warnings: tuple[str, ...] = ()  # what a person should know, such as files that SQLite made beside the database

    @property
    def exit_code(self) -> int:
        """0 done, 1 where the source was found damaged: the backup was made all the same, and is marked (H18)."""
        return 1 if self.source.verdict is Verdict.DAMAGED else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """A position that can be restored, as `backups` lists it."""

    database: str  # name in the repository
    position: Position
    kind: str
    pages: int
    page_size: int
    bytes: int  # of the restored database
    bytes_stored: int
    database_sum: str
    source: SourceVerdict
    verified_at: datetime  # when the stored object was last read back and verified
    key: str  # of the object in the repository


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsReport:
    """The restore points of a repository, newest last."""

    repository: str
    backups: tuple[RestorePoint, ...]
    problems: tuple[str, ...] = ()  # manifests that could not be read, one sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPoint:
    """What `verify` found of one restore point."""

    database: str
    position: Position | None  # None where the manifest itself could not be read
    key: str
    state: str  # "ok", "damaged", "missing", or "unknown" where the object could not be judged
    why: str = ""
    data: bool = False  # whether the pages were read and the database sum was proved


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a repository's verification proved."""

    repository: str
    verdict: Verdict
    read_data: bool
    bytes_read: int
    seconds: float
    points: tuple[VerifiedPoint, ...]
    leftovers: tuple[str, ...] = ()  # objects of backups that never finished; removed by the next backup

    @property
    def exit_code(self) -> int:
        """0 all ok, 1 something damaged or missing, 3 nothing could be judged."""
        return {Verdict.SOUND: 0, Verdict.DAMAGED: 1, Verdict.UNKNOWN: 3}[self.verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """A database that was brought back."""

    to: str
    position: Position
    time: datetime  # of the position
    pages: int
    bytes: int
    seconds: float
    database_sum: str
    verified: bool
    undo: str  # the command that takes it back; empty in a dry run
    objects: int = 1  # how many page sets make it: a snapshot, and the segments since
    bytes_fetched: int = 0  # of those objects
    expected_seconds: float = 0.0  # as planned, from the speed of earlier restores or an assumed one
    dry_run: bool = False
    steps: tuple[str, ...] = ()  # the plan
    warnings: tuple[str, ...] = ()  # what a person should know, such as a process that goes on using the old file


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoReport:
    """A restore that was taken back."""

    path: str
    restored: str  # what stands at `path` now: "previous file" or "nothing"
    kept: str  # where the file that was taken away is kept; empty where there was none
    seconds: float
    warnings: tuple[str, ...] = ()  # what a person should know, such as a process that goes on using the old file


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFact:
    """One thing that `doctor` looked at."""

    name: str  # such as "sqlite-version"
    state: str  # "ok", "warning" or "problem"
    value: str
    why: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """The machine, and a database's surroundings where one was named."""

    database: str | None
    facts: tuple[DoctorFact, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 without a problem, 1 with one."""
        return 1 if any(fact.state == "problem" for fact in self.facts) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InjuryReport:
    """What `injure` did to a copy."""

    path: str
    kind: str
    seed: int
    pgno: int
    offset: int  # first changed byte, from the beginning of the page
    length: int  # bytes from the first changed one to the last
    message: str
    before: str = ""  # hexadecimal, at most 32 bytes
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One installed plugin, as `plugins` lists it."""

    name: str
    version: str
    module: str
    checkers: tuple[str, ...] = ()
    repairers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()  # URL schemes
    notifiers: tuple[str, ...] = ()
    observes: bool = False
    disabled: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginsReport:
    """Everything installed, faults included."""

    plugins: tuple[PluginInfo, ...]
    faults: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 without faults, 1 with."""
        return 1 if self.faults or any(plugin.fault for plugin in self.plugins) else 0
