"""What a repair is going to do, or did, as a report that travels and encodes to JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pagewarden.contracts import Pattern
from pagewarden.values import CheckReport, Position, Verdict

REPORT = "report.json"
PAGE = "report.html"
"""The two reports of a repair, in the folder of its quarantine entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRepair:
    """What one repairer is to do."""

    repairer: str
    why: str
    loses: str  # "nothing", or what is expected to be lost
    lossless: bool  # whether `--only-lossless` allows it
    steps: tuple[str, ...]  # one sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedTable:
    """What became of the rows of one table. `rows_expected` is what was readable before, or what the history proves."""

    name: str
    rows_expected: int | None  # None where nobody can know
    rows_kept: int  # that stand in the repaired database
    rows_salvaged: int = 0  # of these, read from pages that SQLite could not read
    rows_from_backup: int = 0  # of these, put back from a repository
    rows_lost: int = 0
    rows_quarantined: int = 0  # versions that left the database, and are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """A repair that is planned, or was made."""

    database: str  # real path
    applied: bool  # whether the repaired copy stands at `database`, or at `output`
    verdict_before: Verdict
    verdict_after: Verdict | None  # of the repaired copy, by a deep check; None where nothing was applied
    patterns: tuple[Pattern, ...]
    plan: tuple[PlannedRepair, ...]
    tables: tuple[RepairedTable, ...]
    undo: str  # the command that takes it back; empty where nothing was applied
    seconds: float
    why: str = ""  # why nothing was applied though it was asked for, or why there is no plan
    output: str | None = None  # where the repaired copy was written instead
    position: Position | None = None  # of the repository's newest restore point, where one was named
    check: CheckReport | None = None  # what the damage was found by
    judged: CheckReport | None = None  # the deep check of the copy
    quarantine: str = ""  # folder of what was cut out, of the original, and of the reports
    seconds_check: float = 0.0
    seconds_diagnosis: float = 0.0
    seconds_repair: float = 0.0  # copying, the steps, and the comparison of what was readable
    seconds_judging: float = 0.0
    warnings: tuple[str, ...] = ()
    begun: datetime | None = None  # UTC
    next: str = ""  # the command to type next; empty where there is nothing to do

    @property
    def exit_code(self) -> int:
        """0 sound or made so, 1 damage that is still there, 3 not known."""
        verdict = self.verdict_after if self.applied and self.verdict_after is not None else self.verdict_before
        if verdict is Verdict.SOUND and not (self.plan and not self.applied):
            return 0
        return 3 if verdict is Verdict.UNKNOWN else 1
