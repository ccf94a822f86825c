"""What several runs of one checker, each cut short by its deadline, judged together.

A run goes on where the one before was stopped, and round to the beginning: runs that follow each other cover arcs of a
circle. Their lengths are added up in the ledger; when they reach the whole, the worst verdict of the parts is one of
the whole. Lengths are rounded down, and shrink where the whole grew, so that nothing is called judged that was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pagewarden.values import Verdict

WHOLE = 1_000_000_000
"""What a circle that is closed has covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """The parts that were judged until now."""

    of: str  # which file was judged, and how: parts of different ones do not make a whole
    begun: datetime  # when its first run began
    runs: int
    covered: int  # of WHOLE
    total: float  # of the last run that said so: what `progress` calls the whole, in units of the checker's
    verdict: Verdict  # the worst of the parts
    findings: int

    @property
    def closed(self) -> bool:
        """Whether everything was judged."""
        return self.covered >= WHOLE

    def told(self, whole_only: str) -> str:
        """Say what the runs judged; `whole_only` is what a checker cannot judge in parts."""
        since = f"{self.runs} runs since {self.begun.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        found = f", with {self.findings} finding{'s' if self.findings > 1 else ''}" if self.findings else ""
        if not self.closed:
            return f"{since} judged {100 * self.covered // WHOLE} % of it{found}"
        left = f"; not judged in parts: {whole_only}" if whole_only else ""
        return f"judged whole over {since}, each part at the commit of its run{found}{left}"


class Arc:
    """How much one call judged up to the place that it told last."""

    def __init__(self) -> None:
        self.place: str | None = None  # what it told `reached`
        self.apart = False  # whether it said that it is no part of a whole
        self.covered = 0  # of WHOLE
        self.total = 0
        self.last = (0, 0)  # what it told `progress`
        self._first: tuple[int, int] | None = None

    def progress(self, done: int, total: int) -> None:
        """Take what the checker tells."""
        self.last = done, total
        if total > 0 and self._first is None:
            self._first = self.last

    def reached(self, place: str) -> None:
        """Take a place: what was told before is what lies before it."""
        self.place = place
        self.apart = self.apart or not place
        done, total = self.last
        if self._first is not None and total == self._first[1]:  # another total is one of something else
            self.total = total
            self.covered = min(WHOLE, max(0, done - self._first[0]) * WHOLE // total)


def extended(before: Circle | None, arc: Arc, *, of: str, began: datetime, verdict: Verdict, findings: int) -> Circle:
    """Return the circle with the arc of one more run, which `began` then and found what is told."""
    if before is None or before.of != of:
        return Circle(
            of=of, begun=began, runs=1, covered=arc.covered, total=arc.total, verdict=verdict, findings=findings
        )
    covered = before.covered
    if arc.total > before.total > 0:
        covered = int(covered * (before.total / arc.total))
    return Circle(
        of=of,
        begun=before.begun,
        runs=before.runs + 1,
        covered=covered + arc.covered,
        total=arc.total or before.total,
        verdict=Verdict.worst([before.verdict, verdict]),
        findings=before.findings + findings,
    )
