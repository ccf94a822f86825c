"""What scrubbing found, into the ledger: as the findings of a check that looked at pages alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagewarden.ledger.notebook import Notebook
from pagewarden.values import CheckerResult, CheckReport, Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagewarden.repository.mapfacts import MapFacts
    from pagewarden.runtime import Runtime

SCRUB = "scrub"
"""The name under which the ledger has what the guard found."""


def note_rot(path: str, pgnos: Sequence[int], facts: MapFacts, runtime: Runtime) -> tuple[str, ...]:
    """Write into the ledger that pages of the database at the real path `path` changed though no commit wrote to them.

    Return what a person should know, such as that the ledger cannot be used.
    """
    now = runtime.clock()
    findings = tuple(
        Finding(
            checker=SCRUB,
            kind="changed-page",
            severity=Severity.DAMAGE,
            pgno=pgno,
            message=f"page {pgno} changed on the disk, and no commit wrote to it",
            evidence=f"it differs from what was followed up to txid {facts.txid}",
        )
        for pgno in pgnos
    )
    result = CheckerResult(
        name=SCRUB, verdict=Verdict.DAMAGED, seconds=0.0, findings=len(findings), why="pages that were looked at alone"
    )
    report = CheckReport(
        database=path,
        verdict=Verdict.DAMAGED,
        position=None,
        pages=facts.pages,
        page_size=facts.page_size,
        bytes=facts.pages * facts.page_size,
        seconds=0.0,
        checkers=(result,),
        findings=findings,
    )
    notebook = Notebook(lambda: runtime.state, path, runtime.clock)
    try:
        notebook.write(report, level=Level.QUICK, started=now, resumes={}, look=lambda _: None)
    finally:
        notebook.close()
    return tuple(notebook.warnings)
