"""What people read of each report: exact, quiet and verbose."""

from __future__ import annotations

import io
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pagewarden.values import (
    BackupReport,
    BackupsReport,
    CheckerResult,
    CheckReport,
    DoctorFact,
    DoctorReport,
    Finding,
    InjuryReport,
    PluginInfo,
    PluginsReport,
    Position,
    RestorePoint,
    RestoreReport,
    Severity,
    SourceVerdict,
    UndoReport,
    Verdict,
)
from pagewarden_cli.blocks import paint_plain
from pagewarden_cli.render import SHOWN_FINDINGS, Manner, render

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
POSITION = Position(timeline="2b1f93aa" + "0" * 24, txid=3, time=NOW - timedelta(hours=2))
SOURCE = SourceVerdict(verdict=Verdict.SOUND, level="quick")


def text(report: object, *, quiet: bool = False, verbose: bool = False) -> str:
    """Return what a pipe gets."""
    out = io.StringIO()
    paint_plain(render(report, Manner(quiet=quiet, verbose=verbose, now=NOW)), out)
    return out.getvalue()


def block(expected: str) -> str:
    """Return an indented text as it is meant."""
    return textwrap.dedent(expected).lstrip("\n")


CHECK = CheckReport(
    database="/srv/app.db",
    verdict=Verdict.SOUND,
    position=None,
    pages=2048,
    page_size=4096,
    bytes=2048 * 4096,
    seconds=0.41,
    checkers=(CheckerResult(name="check-pragma", verdict=Verdict.SOUND, seconds=0.12, findings=0),),
    findings=(),
)
DAMAGE = Finding(
    checker="check-pages",
    kind="flipped-bit",
    severity=Severity.DAMAGE,
    pgno=812,
    object="note",
    rowid=4711,
    message="one bit of page 812 differs from the baseline",
    evidence="byte 17: 41 became 43",
    hint="pagewarden restore --repo /backup --to /srv/app.db",
)
DAMAGED = replace(
    CHECK,
    verdict=Verdict.DAMAGED,
    position=POSITION,
    checkers=(
        *CHECK.checkers,
        CheckerResult(name="check-pages", verdict=Verdict.DAMAGED, seconds=75.0, findings=1, why="a page differs"),
    ),
    findings=(DAMAGE,),
)


def test_a_sound_database() -> None:
    """Verdict, size, time, and each checker."""
    assert text(CHECK) == block(
        """
        /srv/app.db is sound
          2,048 pages of 4.0 KiB, 8.0 MiB, judged in 0.41 s
          checker       verdict    time  findings
          check-pragma  sound    0.12 s         0
        """
    )
    assert text(CHECK, quiet=True) == ""


def test_a_damaged_database() -> None:
    """Each finding with its kind, place, message, evidence and hint."""
    assert text(DAMAGED) == block(
        """
        /srv/app.db is damaged
          2,048 pages of 4.0 KiB, 8.0 MiB, judged in 0.41 s
          compared with position 2b1f93aa:3 of 2026-11-22 08:15:00Z
          checker       verdict        time  findings  why
          check-pragma  sound        0.12 s         0
          check-pages   damaged  1 min 15 s         1  a page differs
          damage flipped-bit  page 812, note, row 4711
            one bit of page 812 differs from the baseline
            evidence: byte 17: 41 became 43
            hint: pagewarden restore --repo /backup --to /srv/app.db
        """
    )
    assert text(DAMAGED, quiet=True) == block(
        """
        /srv/app.db is damaged
          damage flipped-bit  page 812, note, row 4711
            one bit of page 812 differs from the baseline
            evidence: byte 17: 41 became 43
            hint: pagewarden restore --repo /backup --to /srv/app.db
        """
    )


def test_what_several_checkers_say_of_one_place_stands_together() -> None:
    """With who said it; what is found elsewhere comes after it, and a hint once for all that it is for."""
    pointer = replace(
        DAMAGE, checker="check-structure", kind="bad-pointer", rowid=None, message="a bad one", evidence=""
    )
    elsewhere = replace(DAMAGE, pgno=9, object=None, rowid=None, message="another page", evidence="", hint="x")
    report = replace(DAMAGED, position=None, checkers=(), findings=(DAMAGE, elsewhere, pointer))
    assert text(report, quiet=True) == block(
        """
        /srv/app.db is damaged
          note
            damage flipped-bit (check-pages)  page 812, row 4711
              one bit of page 812 differs from the baseline
              evidence: byte 17: 41 became 43
            damage bad-pointer (check-structure)  page 812
              a bad one
            hint: pagewarden restore --repo /backup --to /srv/app.db
          damage flipped-bit  page 9
            another page
            hint: x
        """
    )


def test_an_unknown_database_says_why_even_when_quiet() -> None:
    """`unknown` is never silence."""
    why = CheckerResult(name="check-pragma", verdict=Verdict.UNKNOWN, seconds=1.0, findings=0, why="it took too long")
    report = replace(CHECK, verdict=Verdict.UNKNOWN, checkers=(why,))
    assert text(report, quiet=True) == "/srv/app.db is unknown\n  check-pragma: it took too long\n"


def test_a_violation_is_no_damage_and_a_notice_is_not_loud() -> None:
    """Without a place the line ends after the kind; a notice is dropped when quiet."""
    violation = Finding(kind="foreign-key", severity=Severity.VIOLATION, message="a row has no parent")
    notice = Finding(kind="trailing-bytes", severity=Severity.NOTICE, message="bytes after the last page")
    shown = text(replace(CHECK, findings=(violation, notice)), quiet=True)
    assert shown == block(
        """
        /srv/app.db is sound
          violation foreign-key
            a row has no parent
        """
    )
    assert "notice trailing-bytes" in text(replace(CHECK, findings=(violation, notice)))


def test_many_findings_are_cut_unless_verbose() -> None:
    """And the cut says how to see the rest."""
    many = replace(CHECK, findings=(DAMAGE,) * (SHOWN_FINDINGS + 1))
    assert text(many).count("flipped-bit") == SHOWN_FINDINGS
    assert text(many).endswith("  … and 1 more finding; --verbose or --json show all\n")
    assert text(many, verbose=True).count("flipped-bit") == SHOWN_FINDINGS + 1
    assert "more finding" not in text(many, verbose=True)


BACKUP = BackupReport(
    database="/srv/app.db",
    name="app.db",
    repository="/backup",
    kind="snapshot",
    position=POSITION,
    pages_copied=2048,
    bytes_read=8 << 20,
    bytes_stored=2 << 20,
    seconds=0.5,
    database_sum="0123456789abcdef",
    verified=True,
    source=SOURCE,
)


def test_a_backup() -> None:
    """Size, ratio, speed, proof, and what was known of the source."""
    assert text(BACKUP) == block(
        """
        /srv/app.db → /backup: snapshot 2b1f93aa:3 of 2026-11-22 08:15:00Z
          2,048 pages, 8.0 MiB read, 2.0 MiB stored, 4.00 : 1; 0.50 s, 16.0 MiB/s
          database sum 0123456789abcdef; read back and verified
          source: sound (quick check)
        """
    )
    assert text(BACKUP, quiet=True) == ""


def test_a_backup_of_what_changed() -> None:
    """How many pages that were, and no ratio, which would not be one of compression."""
    report = replace(BACKUP, kind="segment", pages_copied=3, bytes_stored=5000)
    assert text(report) == block(
        """
        /srv/app.db → /backup: segment 2b1f93aa:3 of 2026-11-22 08:15:00Z
          3 pages changed, 8.0 MiB read, 4.9 KiB stored; 0.50 s, 16.0 MiB/s
          database sum 0123456789abcdef; read back and verified
          source: sound (quick check)
        """
    )


def test_a_backup_that_had_nothing_to_store() -> None:
    """It names the restore point that the database still equals."""
    report = replace(BACKUP, kind="unchanged", pages_copied=0, bytes_stored=0)
    assert text(report) == block(
        """
        /srv/app.db → /backup: unchanged 2b1f93aa:3 of 2026-11-22 08:15:00Z
          8.0 MiB read, nothing to store; 0.50 s, 16.0 MiB/s
          database sum 0123456789abcdef; every page is as it was stored then
          source: sound (quick check)
        """
    )


def test_why_every_page_was_copied_is_told() -> None:
    """Where less could have been expected."""
    shown = text(replace(BACKUP, why_full="more than half of the pages changed"))
    assert "  every page was copied: more than half of the pages changed\n" in shown


def test_a_backup_of_a_damaged_database_is_loud() -> None:
    """It was made, and it says what it is a copy of (H18)."""
    report = replace(BACKUP, source=SourceVerdict(verdict=Verdict.DAMAGED, level="deep", findings=2, why="2 pages"))
    assert text(report, quiet=True) == block(
        """
        source /srv/app.db: damaged (deep check: 2 pages)
          hint: pagewarden check /srv/app.db
        """
    )
    assert "  source: damaged (deep check: 2 pages)\n" in text(report)


def test_a_backup_without_time_or_bytes_divides_nothing_by_zero() -> None:
    """An empty database, a coarse clock."""
    empty = replace(BACKUP, pages_copied=0, bytes_read=0, bytes_stored=0, seconds=0.0)
    assert "  0 pages, 0 B read, 0 B stored; 0 ms\n" in text(empty)


def test_what_was_hard_about_a_backup_is_told() -> None:
    """Locks always, attempts to those who ask; a source that nobody judged is said to be so."""
    unjudged = SourceVerdict(verdict=Verdict.UNKNOWN, level="none")
    report = replace(BACKUP, attempts=3, lock_seconds=0.05, verified=False, source=unjudged, warnings=("w",))
    shown = text(report, verbose=True)
    assert "  one whole commit was read at attempt 3\n" in shown
    assert "  a SHARED lock was held for 50 ms at most\n" in shown
    assert "not verified" in shown
    assert shown.endswith("  source: unknown (not judged)\nwarning: w\n")
    assert "attempt" not in text(report)


POINT = RestorePoint(
    database="app.db",
    position=POSITION,
    kind="snapshot",
    pages=2048,
    page_size=4096,
    bytes=8 << 20,
    bytes_stored=2 << 20,
    database_sum="0123456789abcdef",
    source=SOURCE,
    verified_at=NOW,
    key="app.db/objects/x",
)


def test_the_list_of_backups() -> None:
    """One row each, and what cannot be read by name; quiet changes nothing, because a list was asked for."""
    unjudged = replace(POINT, source=SourceVerdict(verdict=Verdict.UNKNOWN, level="none"))
    report = BackupsReport(
        repository="/backup", backups=(POINT, unjudged), problems=("m.json cannot be read",), warnings=("w",)
    )
    expected = block(
        """
        app.db: 2 restore points, 2026-11-22, 4.0 MiB stored
          restore point  time                      age  kind         size   stored  of size  source      verified
          2b1f93aa:3     2026-11-22 08:15:00Z  2 h ago  snapshot  8.0 MiB  2.0 MiB   25.0 %  sound       not yet
          2b1f93aa:3     2026-11-22 08:15:00Z  2 h ago  snapshot  8.0 MiB  2.0 MiB   25.0 %  not judged  not yet
        problem: m.json cannot be read
        warning: w
        """
    )
    assert text(report) == text(report, quiet=True) == expected


def test_no_backups() -> None:
    """An empty repository says so, unless quiet."""
    assert text(BackupsReport(repository="/backup", backups=())) == "no restore points in /backup\n"
    assert text(BackupsReport(repository="/backup", backups=()), quiet=True) == ""


RESTORE = RestoreReport(
    to="/srv/app.db",
    position=POSITION,
    time=POSITION.time,
    pages=2048,
    bytes=8 << 20,
    seconds=0.5,
    database_sum="0123456789abcdef",
    verified=True,
    undo="pagewarden undo /srv/app.db",
    warnings=("process 7 goes on with the old file",),
)


def test_a_restore() -> None:
    """What stands there now, and how to take it back."""
    assert text(RESTORE) == block(
        """
        /srv/app.db is restored to 2b1f93aa:3 of 2026-11-22 08:15:00Z
          2,048 pages, 8.0 MiB; 0.50 s, 16.0 MiB/s
          database sum 0123456789abcdef; verified
          undo: pagewarden undo /srv/app.db
        warning: process 7 goes on with the old file
        """
    )
    assert text(RESTORE, quiet=True) == "warning: process 7 goes on with the old file\n"
    assert "undo" not in text(replace(RESTORE, undo="", seconds=0.0))
    assert "undo: pagewarden undo $'a\\012b'\n" in text(replace(RESTORE, undo="pagewarden undo 'a\nb'"))


def test_a_plan_is_shown_even_when_quiet() -> None:
    """It was asked for."""
    report = replace(RESTORE, dry_run=True, verified=False, steps=("write", "swap"))
    expected = block(
        """
        /srv/app.db would be restored to 2b1f93aa:3 of 2026-11-22 08:15:00Z
          1. write
          2. swap
        warning: process 7 goes on with the old file
        """
    )
    assert text(report) == text(report, quiet=True) == expected


def test_an_undo() -> None:
    """What stands there now, and where the other file is."""
    report = UndoReport(path="/srv/app.db", restored="previous file", kept="/srv/q/1", seconds=0.01, warnings=("w",))
    assert text(report) == block(
        """
        /srv/app.db holds the previous file again (10 ms)
          what stood there is kept as /srv/q/1
        warning: w
        """
    )
    assert text(report, quiet=True) == "warning: w\n"
    gone = replace(report, restored="nothing", kept="", warnings=())
    assert text(gone) == "/srv/app.db is gone, as before the restore (10 ms)\n"


def test_the_doctor() -> None:
    """All facts in a table, then what is wrong and what to do; quiet leaves what is wrong."""
    facts = (
        DoctorFact(name="locks", state="ok", value="none", why="nobody has it open"),
        DoctorFact(name="sqlite", state="problem", value="3.40.1", why="it has a bug", hint="update it"),
        DoctorFact(name="space", state="warning", value="1.0 GiB"),
    )
    report = DoctorReport(database=None, facts=facts, seconds=0.1)
    assert text(report) == block(
        """
        state    fact    value
        ok       locks   none
        problem  sqlite  3.40.1
        warning  space   1.0 GiB

        sqlite: it has a bug
          hint: update it
        """
    )
    assert "locks" not in text(report, quiet=True)
    assert "locks: nobody has it open" in text(report, verbose=True)
    assert text(replace(report, facts=facts[:1]), quiet=True) == ""


def test_the_plugins() -> None:
    """What each brings, and what is wrong."""
    good = PluginInfo(
        name="much",
        version="1.0",
        module="much",
        checkers=("check-x",),
        repairers=("fix-x",),
        targets=("", "s3"),
        notifiers=("mail",),
        observes=True,
    )
    bad = PluginInfo(name="bad", version="", module="bad", fault="failed to load")
    off = PluginInfo(name="off", version="2", module="off", disabled=True)
    report = PluginsReport(plugins=(good, bad, off), faults=("plugin bad: failed to load",))
    brings = "checker check-x, repairer fix-x, target for plain paths, target s3:, notifier mail, observer"
    assert text(report) == (
        f"plugin  version  {'brings':{len(brings)}}  state\n"
        f"much    1.0      {brings}  ok\n"
        f"bad              {'':{len(brings)}}  fault\n"
        f"off     2        {'':{len(brings)}}  disabled\n"
        "fault: plugin bad: failed to load\n"
    )
    assert text(report, quiet=True) == "plugin  state\nbad     fault\nfault: plugin bad: failed to load\n"
    assert text(PluginsReport(plugins=())) == "no plugins are installed\n"
    assert text(PluginsReport(plugins=()), quiet=True) == ""


def test_an_injury() -> None:
    """What was done, and what the bytes were."""
    report = InjuryReport(
        path="/c.db",
        kind="flipped-bit",
        seed=7,
        pgno=3,
        offset=17,
        length=1,
        message="bit 2 of page 3",
        before="41",
        after="45",
    )
    assert text(report) == "/c.db: flipped-bit, seed 7\n  bit 2 of page 3\n  before 41  after 45\n"
    assert text(report, quiet=True) == ""
    assert "before" not in text(replace(report, before="", after=""))
