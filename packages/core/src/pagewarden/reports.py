"""The reports of all verbs but `check`, and what stands in them.

They are `pagewarden.values` like those, which gives them away; they stand apart because each costs a check time at its
start, and checks of small databases are frequent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pagewarden.guard.reports import MarkReport as MarkReport
from pagewarden.guard.reports import RunReport as RunReport
from pagewarden.guard.reports import SyncReport as SyncReport
from pagewarden.values import CheckerResult, Position, Verdict
from pagewarden.wal.reports import WalCheckpointReport as WalCheckpointReport
from pagewarden.wal.reports import WalEnableReport as WalEnableReport
from pagewarden.wal.reports import WalStatusReport as WalStatusReport
from pagewarden.wal.reports import WalTuneReport as WalTuneReport


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
class Verification:
    """What `verify` last found of a restore point, by all objects that it needs."""

    state: str  # "ok", "damaged", "missing" or "unknown"
    data: bool  # whether every page was read and the database sum was proved, and not the stored bytes alone
    time: datetime  # when; of several objects the one that was proved longest ago
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointCommits:
    """Commits that lead to a restore point and can be restored, too, each by itself."""

    count: int  # that of the restore point included
    earliest: datetime  # the earliest time at which one of them was seen
    bytes: int  # of their object
    key: str  # of their object in the repository


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """A position that can be restored, as `backups` lists it."""

    database: str  # name in the repository
    position: Position
    kind: str
    pages: int
    page_size: int
    bytes: int  # of the restored database
    bytes_stored: int  # of its objects
    database_sum: str
    source: SourceVerdict
    verified_at: datetime  # when the stored object was read back and verified, as it was stored
    key: str  # of the object in the repository
    continues: int = 0  # txid of the restore point before it on its timeline; 0 where it continues none there
    commits: PointCommits | None = None  # None where only the restore point itself can be restored
    merged: int = 0  # commits that were followed and are stored as one; 0 where it is a backup, or all can be restored
    gap: str = ""  # why the commits before it were not followed; empty where none was missed
    # What only `backups` fills in:
    ratio: float = 0.0  # bytes of the database for each byte of the object
    chain: int = 1  # how many objects make it: a snapshot, and the segments since
    chain_bytes: int = 0  # of all of them
    verification: Verification | None = None  # None where no run of `verify` has looked at all of them
    pin: str | None = None  # the note of its pin, which may be empty; None where it is not pinned
    deleted: datetime | None = None  # since when it is deleted, softly; None where it is not


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPosition:
    """A moment that somebody named."""

    database: str  # name in the repository
    position: Position
    text: str
    time: datetime  # when it was named


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsReport:
    """The restore points of a repository, newest last."""

    repository: str
    backups: tuple[RestorePoint, ...]
    problems: tuple[str, ...] = ()  # manifests that could not be read, one sentence each
    marks: tuple[NamedPosition, ...] = ()  # the moments that are named, of each database by their txids
    bytes_stored: int = 0  # of the objects of all that is listed, each counted once
    warnings: tuple[str, ...] = ()  # what a person should know, such as results of verification that were damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPoint:
    """What `verify` found of one restore point."""

    database: str
    position: Position | None  # None where the manifest itself could not be read
    key: str
    state: str  # "ok", "damaged", "missing", or "unknown" where the object could not be judged
    why: str = ""
    data: bool = False  # whether the pages were read and the database sum was proved
    read: bool = True  # whether its object was read in this run, which may be for a part only
    needs: str = ""  # the key of the damaged or missing object that it depends on; empty where that is its own
    instead: Position | None = None  # where it cannot be restored: the last one before it that can
    commits: int = 0  # commits right before the restore point that this is about, and not that itself; mostly 0


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
    objects: int = 0  # that manifests name
    objects_read: int = 0  # in this run
    warnings: tuple[str, ...] = ()  # what a person should know, such as results that could not be kept

    @property
    def exit_code(self) -> int:
        """0 all ok, 1 something damaged or missing, 3 nothing could be judged."""
        return {Verdict.SOUND: 0, Verdict.DAMAGED: 1, Verdict.UNKNOWN: 3}[self.verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedPoint:
    """What becomes of one restore point."""

    number: int  # of its manifest: the order of commits
    position: Position
    kind: str
    bytes_stored: int
    state: str  # "kept"; "goes": marked as deleted; "deleted": marked earlier; "purged": everything of it is removed
    why: str
    commits: int = 1  # that can be restored: its own, and those of its batch before it
    commits_gone: int = 0  # how many of those go, because every commit is kept for a time only


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedDatabase:
    """What a prune did to the restore points of one database, or would do."""

    database: str  # name in the repository
    policy: str  # what is kept, in words
    frozen: str  # why nothing goes now; empty where it may
    points: tuple[PrunedPoint, ...]  # in order of commit
    folds: tuple[str, ...]  # why page sets are made anew inside the repository, one sentence for each
    bytes_freed: int  # by what is purged and superseded; in a dry run, by what would be purged
    bytes_stored: int  # of page sets that were made anew
    warnings: tuple[str, ...] = ()  # what a person should know, such as a page set that could not be folded


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What a prune did, or would do."""

    repository: str  # URL
    applied: bool  # false for a dry run
    databases: tuple[PrunedDatabase, ...]
    bytes_freed: int
    bytes_stored: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PinReport:
    """A restore point that was pinned, or is pinned no more."""

    repository: str  # URL
    database: str  # name in the repository
    position: Position
    pinned: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteReport:
    """Restore points that are listed again."""

    repository: str  # URL
    database: str  # name in the repository
    positions: tuple[Position, ...]  # in order of commit
    warnings: tuple[str, ...] = ()  # what a person should know, such as that the next prune marks them again


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """How one database stands: when it was last checked, backed up and verified, and what is overdue."""

    database: str  # path; empty where only its repository is known
    name: str  # in the repository
    repository: str | None  # URL
    verdict: Verdict  # of its last check on this machine; unknown without one
    checked: datetime | None  # when that check began
    level: str | None  # of that check
    suspects: int  # pages that are seen or confirmed as damaged
    position: Position | None  # of its newest restore point
    lag_seconds: float | None  # since then: what would be lost now, as far as it was written since
    source: SourceVerdict | None  # what was known of it then
    restore_points: int
    commits: int  # that were followed and can be restored, those that are restore points themselves included
    verification: Verification | None  # of the newest restore point
    verified: datetime | None  # when one of its restore points was last proved
    broken: int  # restore points that a verification found damaged or missing
    overdue: tuple[str, ...] = ()  # a clause each
    problems: tuple[str, ...] = ()  # what could not be looked at, one sentence each

    @property
    def exit_code(self) -> int:
        """1 where something is overdue or damaged, 3 where something could not be looked at, else 0."""
        if self.overdue or self.broken or self.suspects or self.verdict is Verdict.DAMAGED:
            return 1
        return 3 if self.problems else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """How databases stand."""

    databases: tuple[DatabaseStatus, ...]

    @property
    def exit_code(self) -> int:
        """1 where something is overdue or damaged anywhere, else 3 where something could not be looked at, else 0."""
        codes = [each.exit_code for each in self.databases]
        return 1 if 1 in codes else 3 if 3 in codes else 0


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
    before: Position | None = None  # the moment right before it that could be restored, in the order of commits
    after: Position | None = None  # the one right after it
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
