"""Let the checker judge a subject to its end, and put together what it yielded and what it returned."""

from __future__ import annotations

from dataclasses import replace

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.values import Finding
from pagewarden_check_pages.checker import PagesChecker


def outcome_of(subject: Subject) -> CheckOutcome:
    """Return everything that the checker says."""
    findings: list[Finding] = []
    judging = PagesChecker().check(subject)
    while True:
        try:
            findings.append(next(judging))
        except StopIteration as end:
            outcome: CheckOutcome = end.value
            return replace(outcome, findings=tuple(findings))
