"""What people read of a repair and of the quarantine: exact, quiet, verbose, and safe."""

from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace

from pagewarden.contracts import Damage, Pattern
from pagewarden.repair.cutouts import CutFile, CutSummary, CutTable
from pagewarden.repair.export import ExportReport
from pagewarden.repair.kept import KeptEntry, KeptFile, KeptReport
from pagewarden.repair.reports import RepairedTable, RepairReport
from pagewarden.repair.shown import ShownPages, ShownRow, ShowReport
from pagewarden.repair.wording import is_lossless, loss
from pagewarden.values import Verdict
from pagewarden_cli.blocks import Block, paint_plain, paint_rich
from pagewarden_cli.keeping import show_entry, show_export, show_kept
from pagewarden_cli.render import Manner
from pagewarden_cli.repairing import show_repair
from tests.cli.test_render import block
from tests.support.repairs import (
    APPLIED,
    CHECK,
    FINDINGS,
    NOTHING,
    NOW,
    PATTERNS,
    PLAN,
    PLANNED,
    REFUSED,
    SOUND,
    position,
)

HOSTILE = "<b>\x1b[2J\x1b]0;owned\x07\u202egnp\n[red]x\udcff"


def plain(blocks: list[Block]) -> str:
    """Return what a pipe gets."""
    out = io.StringIO()
    paint_plain(tuple(blocks), out)
    return out.getvalue()


def text(report: RepairReport, *, quiet: bool = False, verbose: bool = False) -> str:
    """Return what a pipe gets of a repair."""
    return plain(show_repair(report, Manner(quiet=quiet, verbose=verbose, now=NOW)))


def test_a_plan_says_what_is_hurt_what_is_lost_and_what_to_type() -> None:
    """The loss stands at the top, what to type at the end."""
    assert text(PLANNED) == block(
        """
        /srv/app/app.db is damaged, and can be repaired; nothing has been changed yet
          loss: 12 rows leave the database for the quarantine (repair-relations)

        what is hurt
          pages: 3 pages of the table note are zeros, and 1 page of person is an older version of itself
            of: note, person
            pages: 812–814, 1900
            what happened: a run of blocks was zeroed below the file system
            between: a1b2c3d4:17 of 2026-11-21 04:04:05Z and a1b2c3d4:18 of 2026-11-21 05:04:05Z
            to prevent it: look at the disk (smartctl -a)
          relations: 12 rows of note name a person that is not there

        plan
          1. repair-splice: nothing is lost
             4 pages are put back from /backup/pagewarden as they were at a1b2c3d4:18
             why: nothing was committed since the newest restore point
          2. repair-relations: 12 rows leave the database for the quarantine
             12 rows of note whose person is nowhere to be had are taken out
             why: no restore point has the parents

        time: 1.90 s (check 1.25 s, diagnosis 0.40 s)
        next: pagewarden repair /srv/app/app.db --repo /backup/pagewarden --apply
        """
    )
    assert text(PLANNED, quiet=True) == block(
        """
        /srv/app/app.db is damaged, and can be repaired; nothing has been changed yet
          loss: 12 rows leave the database for the quarantine (repair-relations)
        next: pagewarden repair /srv/app/app.db --repo /backup/pagewarden --apply
        """
    )


def test_what_was_done_says_where_the_original_is_and_how_to_have_it_back() -> None:
    """Only tables that something happened to have a row; the others are counted."""
    said = text(APPLIED)
    assert said.startswith(
        block(
            """
            /srv/app/app.db is repaired
              loss: 3 rows lost; 12 rows kept in the quarantine; how many rows there had been in audit cannot be known
              verdict: damaged before, sound after, by a deep check
            """
        )
    )
    assert said.endswith(
        block(
            """
            table   expected     kept  from backup  quarantined  lost
            note     500,000  499,988          118           12
            audit  not known   10,231                               3
            and every row of 1 other table that could be read is there

            time: 9.70 s (check 1.25 s, diagnosis 0.40 s, repair 3.40 s, deep check 4.10 s)
            warning: the ledger was damaged
            kept: the original, and what was cut out of it: /srv/app/.pagewarden/app.db/000001
            report: /srv/app/.pagewarden/app.db/000001/report.html
            undo: pagewarden undo /srv/app/app.db
            next: pagewarden backup /srv/app/app.db --repo /backup/pagewarden
            """
        )
    )
    assert text(APPLIED, quiet=True) == "warning: the ledger was damaged\n"
    assert "setting" in text(APPLIED, verbose=True)
    untouched = replace(APPLIED, tables=APPLIED.tables[:1])
    assert "\nevery row of 1 table that could be read is there\n" in text(untouched)
    assert "no row that could be read or was backed up is lost" in text(untouched)
    elsewhere = text(replace(APPLIED, output="/srv/new.db"))
    assert "is as it was; the repaired copy is /srv/new.db" in elsewhere
    assert "kept: what was cut out: " in elsewhere


def test_a_repair_that_was_not_made_says_why() -> None:
    """What it would have cost is not told as if it had; a command leads on."""
    said = text(REFUSED)
    assert said.startswith("/srv/app/app.db is damaged, and was left as it was: the repaired copy is still damaged\n\n")
    assert said.endswith("next: pagewarden restore --repo R --to app.db\n")
    assert text(replace(REFUSED, quarantine="/q"), quiet=True).splitlines()[1] == "report: /q/report.html"
    assert "nothing at hand mends it" in text(NOTHING)
    assert text(SOUND).startswith("/srv/app/app.db is sound; there is nothing to repair\n")
    assert text(SOUND, quiet=True) == ""


def test_findings_without_a_pattern_are_told_as_they_are() -> None:
    """Where no pattern was made of them, a person still sees what the check saw."""
    assert "page 812 of the table note is all zeros" in text(replace(NOTHING, patterns=()))


def test_what_a_pattern_has_said_is_not_said_again() -> None:
    """Its table and its page, where it ends with them; more of them have lines of their own."""
    pattern = Pattern(
        damage=Damage.PAGES, text="a page is damaged (note; page 7)", findings=(), pages=(7,), objects=("note",)
    )
    said = text(replace(NOTHING, patterns=(pattern, replace(pattern, pages=(7, 8), objects=("note", "a")))))
    assert said.count("    of: ") == 1
    assert "    of: note, a\n    pages: 7–8\n" in said
    assert "    page: 7" not in said


def test_what_is_long_is_cut_and_verbose_cuts_nothing() -> None:
    """Patterns, objects, pages, steps and tables."""
    long = replace(
        APPLIED,
        patterns=(
            Pattern(
                damage=Damage.INDEX,
                text="many",
                findings=(),
                pages=tuple(range(1, 41, 2)),
                objects=tuple(f"o{n}" for n in range(9)),
            ),
        )
        * 12,
        plan=(replace(PLAN[0], steps=tuple(f"step {n}" for n in range(10))),),
        tables=tuple(RepairedTable(name=f"t{n}", rows_expected=2, rows_kept=1, rows_lost=1) for n in range(17)),
    )
    said = text(long)
    for words in ("and 3 more", "and 12 more", "and 2 more steps", "and 2 more tables", "and 2 more patterns"):
        assert words in said
    assert " more" not in text(long, verbose=True)


ENTRY = KeptEntry(
    database="/srv/app/app.db",
    number=2,
    kind="repair",
    phase="done",
    begun=NOW,
    folder="/srv/app/.pagewarden/app.db/000002",
    bytes=214_000_000,
    files=(
        KeptFile(name="cut.db", what="cut out", size=24_576),
        KeptFile(name="entry.json", what="other", size=900),
        KeptFile(name="files/app.db-wal", what="cut out", size=4096),
        KeptFile(name="previous.raw", what="original", size=213_000_000),
    ),
    cut=CutSummary(
        pages=4,
        tables=(CutTable(name="note", rows=12),),
        files=(CutFile(name="app.db-wal", size=4096, why="it belongs to another database", repairer="repair-wal"),),
        show="pagewarden quarantine show /srv/app/app.db 2",
        export="pagewarden quarantine export /srv/app/app.db 2 --to FOLDER",
    ),
    verdict_before=Verdict.DAMAGED,
    verdict_after=Verdict.SOUND,
    undo="pagewarden undo /srv/app/app.db",
)
RESTORE = replace(
    ENTRY,
    number=1,
    kind="restore",
    phase="undone",
    cut=None,
    repository="/backup",
    position=position(17),
    verdict_before=None,
    verdict_after=None,
    undo="",
    bytes=1000,
)
SHOWN = ShowReport(
    entry=ENTRY,
    pages=(
        ShownPages(why="it is not what was committed", repairer="repair-splice", pages=(812, 813, 814, 1900), count=4),
    ),
    rows=tuple(
        ShownRow(
            table="note",
            columns=("id", "text"),
            values=(str(number), f"'{'x' * 70}'"),
            why="its person is nowhere to be had",
            repairer="repair-relations",
            source="",
        )
        for number in (1, 2)
    ),
)


def test_the_list_has_a_row_for_each_restore_and_repair() -> None:
    """What it was, how far it came, how old and large it is, what was cut out, and what undo would take back."""
    report = KeptReport(entries=(RESTORE, ENTRY), bytes=214_001_000)
    head, *rows = plain(show_kept(report, Manner(now=NOW))).splitlines()
    assert head == "/srv/app/app.db"
    assert [re.split(r"  +", row.strip()) for row in rows] == [
        ["what", "state", "when", "age", "size", "cut out", "from"],
        ["1", "restore", "undone", "2026-11-22 03:04:05Z", "0 s ago", "1000 B", "a1b2c3d4:17 in /backup"],
        [
            "2",
            "repair: damaged → sound",
            "done",
            "2026-11-22 03:04:05Z",
            "0 s ago",
            "204.1 MiB",
            "12 rows, 4 pages, 1 file",
        ],
        ["204.1 MiB in all; nothing of it is ever removed by itself"],
        ["undo: pagewarden undo /srv/app/app.db"],
    ]
    assert "undo:" not in plain(show_kept(report, Manner(quiet=True, now=NOW)))
    assert plain(show_kept(KeptReport(entries=(), bytes=0), Manner(now=NOW))).startswith("nothing is kept")
    assert show_kept(KeptReport(entries=(), bytes=0), Manner(quiet=True, now=NOW)) == []
    for entries in ((), (RESTORE,)):
        warned = KeptReport(entries=entries, bytes=0, warnings=("lock is a directory",))
        assert plain(show_kept(warned, Manner(quiet=True, now=NOW))).rstrip().endswith("warning: lock is a directory")
    damaged = replace(ENTRY, cut=None, why="what was cut out cannot be read")
    assert "cannot be read" in plain(show_kept(KeptReport(entries=(damaged,), bytes=0), Manner(now=NOW)))


def test_an_entry_is_shown_with_a_look_at_what_was_cut_out() -> None:
    """Files, pages by reason, rows as literals, and the command that gets all of it out."""
    assert plain(show_entry(SHOWN, Manner(now=NOW))) == block(
        f"""
        /srv/app/app.db 2: repair: damaged → sound, done, 2026-11-22 03:04:05Z
          folder: /srv/app/.pagewarden/app.db/000002

          file           size  name              why
          cut out    24.0 KiB  cut.db
          cut out     4.0 KiB  files/app.db-wal  it belongs to another database
          original  203.1 MiB  previous.raw

          4 pages cut out by repair-splice: 812–814, 1900
            why: it is not what was committed

          12 rows of note
            why: its person is nowhere to be had (repair-relations)
              id 1, text '{"x" * 59}…
              id 2, text '{"x" * 59}…
            … and 10 more rows; --rows N shows more, export gets all

        export: pagewarden quarantine export /srv/app/app.db 2 --to FOLDER
        undo: pagewarden undo /srv/app/app.db
        """
    )
    verbose = plain(show_entry(SHOWN, Manner(verbose=True, now=NOW)))
    assert "entry.json" in verbose
    assert "x" * 70 in verbose
    restore = plain(show_entry(ShowReport(entry=replace(RESTORE, why="odd"), pages=(), rows=()), Manner(now=NOW)))
    assert "restored a1b2c3d4:17 of 2026-11-21 04:04:05Z from /backup" in restore
    assert "  odd\n" in restore
    many = replace(ENTRY, files=ENTRY.files * 10)
    assert "and 10 more files" in plain(show_entry(replace(SHOWN, entry=many), Manner(now=NOW)))


def test_an_export_says_what_it_wrote() -> None:
    """And where."""
    report = ExportReport(
        database="/srv/app.db", number=1, to="/srv/out", files=("rows.sql",) * 22, rows=12, pages=4, bytes=2048
    )
    said = plain(show_export(report, Manner(now=NOW)))
    assert said.startswith("12 rows, 4 pages, 2.0 KiB in all: /srv/out\n  rows.sql\n")
    assert said.endswith("… and 2 more files\n")
    assert show_export(report, Manner(quiet=True, now=NOW)) == []


def test_nothing_hostile_reaches_a_terminal() -> None:
    """H29: no control character, no override of direction, no markup, whatever a database or a path is called."""
    evil = replace(
        APPLIED,
        database=HOSTILE,
        patterns=tuple(
            replace(each, text=HOSTILE, objects=(HOSTILE,), happened=HOSTILE, prevent=HOSTILE) for each in PATTERNS
        ),
        plan=tuple(replace(each, repairer=HOSTILE, why=HOSTILE, loses=HOSTILE, steps=(HOSTILE,)) for each in PLAN),
        tables=(RepairedTable(name=HOSTILE, rows_expected=None, rows_kept=0, rows_lost=1),),
        undo=f"pagewarden undo '{HOSTILE}'",
        quarantine=HOSTILE,
        warnings=(HOSTILE,),
        check=replace(CHECK, findings=tuple(replace(each, message=HOSTILE) for each in FINDINGS)),
    )
    cut = CutSummary(
        pages=1,
        tables=(CutTable(name=HOSTILE, rows=1),),
        files=(CutFile(name=HOSTILE, size=1, why=HOSTILE, repairer=HOSTILE),),
        show=HOSTILE,
        export=f"pagewarden quarantine export '{HOSTILE}' 1 --to FOLDER",
    )
    entry = replace(
        ENTRY,
        database=HOSTILE,
        folder=HOSTILE,
        files=(KeptFile(name=HOSTILE, what="cut out", size=1),),
        cut=cut,
        why=HOSTILE,
        repository=HOSTILE,
        position=position(1),
    )
    row = ShownRow(table=HOSTILE, columns=(HOSTILE,), values=(HOSTILE,), why=HOSTILE, repairer=HOSTILE, source=HOSTILE)
    pages = ShownPages(why=HOSTILE, repairer=HOSTILE, pages=(1,), count=1)
    manner = Manner(now=NOW)
    blocks = [
        *show_repair(evil, manner),
        *show_kept(KeptReport(entries=(entry,), bytes=1), manner),
        *show_entry(ShowReport(entry=entry, pages=(pages,), rows=(row,)), manner),
        *show_export(
            ExportReport(database=HOSTILE, number=1, to=HOSTILE, files=(HOSTILE,), rows=1, pages=1, bytes=1), manner
        ),
    ]
    from rich.console import Console

    terminal = io.StringIO()
    paint_rich(tuple(blocks), Console(file=terminal, width=80, force_terminal=False, color_system=None))
    for said in (plain(blocks), terminal.getvalue()):
        assert not {c for c in said if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
        assert "[red]" in said


def test_what_may_be_gone_is_said_where_no_row_is_counted() -> None:
    """Rows that nobody could read before are in no count; that a step gave their pages up is said all the same."""
    gone = "rows that no table leads to"
    step = replace(PLAN[1], repairer="repair-header", loses=gone)
    tables = (RepairedTable(name="setting", rows_expected=17, rows_kept=17),)
    report = replace(APPLIED, plan=(PLAN[0], step), tables=tables)
    assert loss(report) == f"no row that could be read or was backed up is lost; gone may be: {gone}"
    assert not is_lossless(report)
    assert loss(replace(report, plan=PLAN[:1])) == "no row that could be read or was backed up is lost"
