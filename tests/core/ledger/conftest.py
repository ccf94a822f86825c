"""A state directory, and checks that are written into its ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.ledger.notebook import Notebook
from pagewarden.values import CheckerResult, CheckReport, Finding, Level, Severity, Verdict


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


def damage(pgno: int = 2, kind: str = "flipped-bit", **fields: object) -> Finding:
    """Return a finding of damage."""
    what = {"checker": "check-pages", "message": "a page is bad", "evidence": "what was seen", **fields}
    return Finding(kind=kind, severity=Severity.DAMAGE, pgno=pgno, **what)  # type: ignore[arg-type]


def report(*findings: Finding, database: str = "/srv/app.db") -> CheckReport:
    """Return the report of a check with these findings."""
    verdict = Verdict.DAMAGED if findings else Verdict.SOUND
    result = CheckerResult(name="check-pages", verdict=verdict, seconds=0.25, findings=len(findings))
    return CheckReport(
        database=database,
        verdict=verdict,
        position=None,
        pages=10,
        page_size=4096,
        bytes=40960,
        seconds=0.5,
        checkers=(result,),
        findings=findings,
    )


def write(state: Path, said: CheckReport, **resumes: str) -> list[str]:
    """Write a report as a check does, without a look at pages; return the warnings."""
    notebook = Notebook(lambda: state, said.database, lambda: datetime.now(UTC))
    notebook.open()
    notebook.write(
        said,
        level=Level.STANDARD,
        started=datetime.now(UTC),
        resumes={name.replace("_", "-"): (place, None) for name, place in resumes.items()},
        look=lambda _: None,
    )
    notebook.close()
    return notebook.warnings
