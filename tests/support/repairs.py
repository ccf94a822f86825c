"""Reports of repairs, made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pagewarden.contracts import Damage, Pattern
from pagewarden.repair.reports import PlannedRepair, RepairedTable, RepairReport
from pagewarden.values import CheckerResult, CheckReport, Finding, Position, Severity, Verdict

NOW = datetime(2026, 11, 22, 3, 4, 5, tzinfo=UTC)


def position(txid: int) -> Position:
    """Return a position of the repository."""
    return Position(timeline="a1b2c3d4" + "0" * 24, txid=txid, time=NOW - timedelta(hours=40 - txid))


FINDINGS = tuple(
    Finding(
        checker="check-structure",
        kind="zeroed-page",
        severity=Severity.DAMAGE,
        pgno=number,
        object="note",
        message=f"page {number} of the table note is all zeros",
        hint="pagewarden repair /srv/app/app.db",
    )
    for number in (812, 813, 814, 1900)
)
CHECK = CheckReport(
    database="/srv/app/app.db",
    verdict=Verdict.DAMAGED,
    position=position(18),
    pages=52_428,
    page_size=4096,
    bytes=52_428 * 4096,
    seconds=1.25,
    checkers=(
        CheckerResult(name="check-structure", verdict=Verdict.DAMAGED, seconds=0.4, findings=4),
        CheckerResult(name="check-indexes", verdict=Verdict.UNKNOWN, seconds=0.0, findings=0, why="no such collation"),
    ),
    findings=FINDINGS,
)
PATTERNS = (
    Pattern(
        damage=Damage.PAGES,
        text="3 pages of the table note are zeros, and 1 page of person is an older version of itself",
        findings=(0, 1, 2, 3),
        pages=(812, 813, 814, 1900),
        objects=("note", "person"),
        happened="a run of blocks was zeroed below the file system",
        between=(position(17), position(18)),
        prevent="look at the disk (smartctl -a)",
    ),
    Pattern(damage=Damage.RELATIONS, text="12 rows of note name a person that is not there", findings=()),
)
PLAN = (
    PlannedRepair(
        repairer="repair-splice",
        why="nothing was committed since the newest restore point",
        loses="nothing",
        lossless=True,
        steps=("4 pages are put back from /backup/pagewarden as they were at a1b2c3d4:18",),
    ),
    PlannedRepair(
        repairer="repair-relations",
        why="no restore point has the parents",
        loses="12 rows leave the database for the quarantine",
        lossless=False,
        steps=("12 rows of note whose person is nowhere to be had are taken out",),
    ),
)
TABLES = (
    RepairedTable(name="setting", rows_expected=17, rows_kept=17),
    RepairedTable(name="note", rows_expected=500_000, rows_kept=499_988, rows_from_backup=118, rows_quarantined=12),
    RepairedTable(name="audit", rows_expected=None, rows_kept=10_231, rows_lost=3),
)
PLANNED = RepairReport(
    database="/srv/app/app.db",
    applied=False,
    verdict_before=Verdict.DAMAGED,
    verdict_after=None,
    patterns=PATTERNS,
    plan=PLAN,
    tables=(),
    undo="",
    seconds=1.9,
    position=position(18),
    check=CHECK,
    seconds_check=1.25,
    seconds_diagnosis=0.4,
    begun=NOW,
    next="pagewarden repair /srv/app/app.db --repo /backup/pagewarden --apply",
)
APPLIED = replace(
    PLANNED,
    applied=True,
    verdict_after=Verdict.SOUND,
    tables=TABLES,
    undo="pagewarden undo /srv/app/app.db",
    next="pagewarden backup /srv/app/app.db --repo /backup/pagewarden",
    seconds=9.7,
    seconds_repair=3.4,
    seconds_judging=4.1,
    quarantine="/srv/app/.pagewarden/app.db/000001",
    judged=replace(CHECK, verdict=Verdict.SOUND, findings=(), checkers=()),
    warnings=("the ledger was damaged",),
)
REFUSED = replace(PLANNED, why="the repaired copy is still damaged", next="pagewarden restore --repo R --to app.db")
NOTHING = replace(PLANNED, plan=(), position=None, next="pagewarden repair /srv/app/app.db --repo URL")
SOUND = replace(PLANNED, plan=(), patterns=(), check=None, verdict_before=Verdict.SOUND, next="")
