"""Checks of several databases as one table, the worst first, and below it what is wrong with which."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from pagewarden.values import CheckReport, Severity, Verdict
from pagewarden_cli.blocks import Block, Grid, Line, Span, line
from pagewarden_cli.human import number, seconds
from pagewarden_cli.render import STYLES, Manner, render, show_findings
from pagewarden_cli.session import Outcome

SHOWN_EACH = 5
"""How many findings of one database are shown unless everything is wanted."""

NAME_WIDTH = 100
"""Characters of a database's name that the table shows; longer ones are cut in the middle."""

_ORDER = ("damaged", "error", "violation", "unknown", "sound")  # the worst first


def summarize(
    outcomes: Sequence[Outcome[CheckReport]], manner: Manner, *, looked_at: int | None, took: float
) -> tuple[Block, ...]:
    """Return the table and what is wrong; only the latter where little is wanted.

    `looked_at` is how many files were looked at to find the databases, `took` how many seconds all of it took.
    """
    ordered = sorted(outcomes, key=lambda outcome: (_ORDER.index(_state(outcome)), -_found(outcome), outcome.database))
    blocks: list[Block] = []
    if not manner.quiet:
        states = Counter(map(_state, outcomes))
        parts = [f"{states[state]} {_WORDS[state]}" for state in _ORDER if states[state]]
        looked = "" if looked_at is None else f"; {number(looked_at, 'file')} looked at"
        blocks.append(line(f"{number(len(outcomes), 'database')}: {', '.join(parts)}{looked}; {seconds(took)}"))
        rows = tuple(_row(outcome) for outcome in ordered)
        blocks.append(Grid(("database", "verdict", "findings", "pages", "time"), rows, frozenset({2, 3, 4})))
    for outcome in ordered:
        if outcome.report is None:
            continue
        apart = [Line()] if blocks else []
        if manner.verbose:
            blocks += [*apart, *render(outcome.report, manner)]
        elif _state(outcome) != "sound" or (outcome.report.findings and not manner.quiet):
            blocks += [*apart, *_details(outcome.report, manner)]
    return tuple(blocks)


_WORDS = {
    "damaged": "damaged",
    "error": "with an error",
    "violation": "sound with a broken rule",
    "unknown": "unknown",
    "sound": "sound",
}


def _state(outcome: Outcome[CheckReport]) -> str:
    if outcome.report is None:
        return "error"
    if outcome.report.verdict is Verdict.DAMAGED:
        return "damaged"
    broken = any(finding.severity is Severity.VIOLATION for finding in outcome.report.findings)
    return "violation" if broken else str(outcome.report.verdict)


def _found(outcome: Outcome[CheckReport]) -> int:
    return len(outcome.report.findings) if outcome.report is not None else 0


def _row(outcome: Outcome[CheckReport]) -> tuple[Span, ...]:
    name, report = Span(_cut(_shown(outcome.database))), outcome.report
    if report is None:
        return (name, Span("error", "bad"), Span(""), Span(""), Span(""))
    return (
        name,
        Span(str(report.verdict), STYLES[report.verdict]),
        Span(number(len(report.findings))),
        Span(number(report.pages)),
        Span(seconds(report.seconds)),
    )


def _shown(path: str) -> str:
    """Return a path as it is found from the current folder, if it lies there."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118 - with a separator at its end
    return path.removeprefix(here)


def _details(report: CheckReport, manner: Manner) -> list[Block]:
    """Return what is wrong with one database; how its sound parts fared is left to --verbose."""
    verdict = str(report.verdict)
    blocks: list[Block] = [line(Span(_shown(report.database), "strong"), " is ", Span(verdict, STYLES[verdict]))]
    for checker in report.checkers:
        if checker.verdict is Verdict.UNKNOWN:
            blocks.append(line(Span(f"{checker.name}: ", "dim"), checker.why, indent=2))
    return blocks + show_findings(report.findings, manner, SHOWN_EACH)


def _cut(name: str) -> str:
    if len(name) <= NAME_WIDTH:
        return name
    half = (NAME_WIDTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
