"""The values that travel between checks, backups, restores and their reports.

Everything here is frozen, free of I/O, and encodes to JSON as design/cli names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.reports import BackupReport as BackupReport
    from pagewarden.reports import BackupsReport as BackupsReport
    from pagewarden.reports import DatabaseStatus as DatabaseStatus
    from pagewarden.reports import DoctorFact as DoctorFact
    from pagewarden.reports import DoctorReport as DoctorReport
    from pagewarden.reports import InjuryReport as InjuryReport
    from pagewarden.reports import LedgerReport as LedgerReport
    from pagewarden.reports import MarkReport as MarkReport
    from pagewarden.reports import NamedPosition as NamedPosition
    from pagewarden.reports import PastRun as PastRun
    from pagewarden.reports import PinReport as PinReport
    from pagewarden.reports import PluginInfo as PluginInfo
    from pagewarden.reports import PluginsReport as PluginsReport
    from pagewarden.reports import PointCommits as PointCommits
    from pagewarden.reports import PrunedDatabase as PrunedDatabase
    from pagewarden.reports import PrunedPoint as PrunedPoint
    from pagewarden.reports import PruneReport as PruneReport
    from pagewarden.reports import RestorePoint as RestorePoint
    from pagewarden.reports import RestoreReport as RestoreReport
    from pagewarden.reports import RunReport as RunReport
    from pagewarden.reports import SourceVerdict as SourceVerdict
    from pagewarden.reports import StatusReport as StatusReport
    from pagewarden.reports import Suspect as Suspect
    from pagewarden.reports import SyncReport as SyncReport
    from pagewarden.reports import UndeleteReport as UndeleteReport
    from pagewarden.reports import UndoReport as UndoReport
    from pagewarden.reports import Verification as Verification
    from pagewarden.reports import VerifiedPoint as VerifiedPoint
    from pagewarden.reports import VerifyReport as VerifyReport
    from pagewarden.reports import WalCheckpointReport as WalCheckpointReport
    from pagewarden.reports import WalEnableReport as WalEnableReport
    from pagewarden.reports import WalStatusReport as WalStatusReport
    from pagewarden.reports import WalTuneReport as WalTuneReport


class Verdict(StrEnum):
    """What is known about a file: sound, damaged, or unknown because it could not be judged."""

    SOUND = "sound"
    UNKNOWN = "unknown"
    DAMAGED = "damaged"

    @staticmethod
    def worst(verdicts: Iterable[Verdict]) -> Verdict:
        """Return the worst of `verdicts`; `unknown` where there is none, because nothing was judged."""
        order = (Verdict.SOUND, Verdict.UNKNOWN, Verdict.DAMAGED)
        ranks = [order.index(verdict) for verdict in verdicts]
        return order[max(ranks)] if ranks else Verdict.UNKNOWN


class Level(StrEnum):
    """How much a check may cost: `quick` is part of `standard`, which is part of `deep`."""

    QUICK = "quick"
    STANDARD = "standard"
    DEEP = "deep"

    def includes(self, other: Level) -> bool:
        """Return whether a run at this level also does the work of level `other`."""
        order = tuple(Level)
        return order.index(self) >= order.index(other)


class Severity(StrEnum):
    """What a finding says of the file.

    `damage` makes the verdict `damaged`; a `violation` breaks a rule of the owner's (a foreign key,
    CHECK, NOT NULL) and leaves the verdict alone; a `notice` is worth knowing and changes nothing.
    """

    DAMAGE = "damage"
    VIOLATION = "violation"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a checker saw."""

    checker: str = ""  # filled in by the run
    kind: str  # a kind of docs/damage.md, such as "flipped-bit"
    severity: Severity
    pgno: int | None = None  # page number, from 1
    object: str | None = None  # table or index, by name
    rowid: int | None = None
    message: str  # one sentence that names what and where
    evidence: str = ""  # raw message, expected and seen sums or bytes
    hint: str = ""  # the next command to type


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a database's history. Positions of one timeline are ordered by `txid`, never by `time`."""

    timeline: str  # 32 hexadecimal digits
    txid: int  # counts the recorded positions of the timeline, from 1
    time: datetime  # when the position was seen, UTC

    def __str__(self) -> str:
        return f"{self.timeline[:8]}:{self.txid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a long step is."""

    step: str  # what is being done, such as "copying pages"
    done: int
    total: int  # in the unit of `done`; 0 where it is not known
    unit: str = "pages"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckerResult:
    """What became of one checker in a run."""

    name: str
    verdict: Verdict
    seconds: float
    findings: int  # how many findings it reported
    why: str = ""  # why the verdict is not sound, or what was left out
    failed: bool = False  # whether it did not end by itself: it raised, died or hung, or its time was over


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The judgement of one database."""

    database: str  # real path
    verdict: Verdict
    position: Position | None  # of the baseline from a repository, where there was one
    pages: int  # size of the database, in pages
    page_size: int  # bytes
    bytes: int  # pages * page_size
    seconds: float
    checkers: tuple[CheckerResult, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()  # what a person should know beside the database, such as a ledger that is unusable

    @property
    def exit_code(self) -> int:
        """0 sound, 1 damage or violations found, 3 unknown."""
        if self.verdict is Verdict.DAMAGED or any(f.severity is Severity.VIOLATION for f in self.findings):
            return 1
        return 3 if self.verdict is Verdict.UNKNOWN else 0


def __getattr__(name: str) -> object:
    """Return a value that is imported only when it is used."""
    if not name.startswith("_"):
        from pagewarden import reports

        if name in vars(reports):
            return getattr(reports, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
