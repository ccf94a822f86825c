"""What people read of the ledger: exact, quiet and verbose."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pagewarden.values import CheckerResult, LedgerReport, PastRun, Suspect, Verdict
from tests.cli.test_render import NOW, block, text

SUSPECT = Suspect(
    pgno=1812,
    kind="flipped-bit",
    object="note",
    state="confirmed",
    checker="check-pages",
    first_seen=NOW - timedelta(days=2),
    last_seen=NOW,
    settled=None,
    page_sum="0123456789abcdef",
    evidence="byte 17: 41 became 43",
)
PAST = PastRun(
    started=NOW,
    level="standard",
    verdict=Verdict.UNKNOWN,
    seconds=0.41,
    findings=0,
    checkers=(CheckerResult(name="open", verdict=Verdict.UNKNOWN, seconds=0.0, findings=0, why="app.db is locked"),),
)
LEDGER = LedgerReport(
    database="/srv/app.db",
    suspects=(SUSPECT, replace(SUSPECT, pgno=3, state="gone", object=None)),
    runs=(replace(PAST, verdict=Verdict.SOUND, checkers=()), PAST),
    warnings=("the ledger was damaged",),
)


def test_the_ledger_lists_suspect_pages_and_checks() -> None:
    """What each check could not judge, and why; quiet leaves what is open."""
    assert text(LEDGER) == block(
        """
        state       page  kind         object  first seen            last seen             evidence
        confirmed  1,812  flipped-bit  note    2026-11-20 10:15:00Z  2026-11-22 10:15:00Z  byte 17: 41 became 43
        gone           3  flipped-bit          2026-11-20 10:15:00Z  2026-11-22 10:15:00Z  byte 17: 41 became 43

        check                 level     verdict    time  findings  unknown because
        2026-11-22 10:15:00Z  standard  sound    0.41 s         0
        2026-11-22 10:15:00Z  standard  unknown  0.41 s         0  open: app.db is locked
        warning: the ledger was damaged
        """
    )
    assert len(text(LEDGER, quiet=True).splitlines()) == 3
    assert text(LedgerReport(database="/srv/app.db", suspects=(), runs=())) == block(
        """
        no page of /srv/app.db was ever suspect
        no check of it is remembered
        """
    )
    many = replace(LEDGER, runs=(PAST,) * 12)
    assert "… and 2 earlier checks; --verbose or --json show all" in text(many)
    assert text(many, verbose=True).count("app.db is locked") == 12
