"""A repair for people: what is hurt, what is lost, what to type next; then the details."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pagewarden.contracts import Pattern
from pagewarden.repair.reports import PAGE, PlannedRepair, RepairedTable, RepairReport
from pagewarden.repair.wording import headline, is_lossless, loss, ranges
from pagewarden_cli.blocks import Block, Grid, Line, Span, Style, line
from pagewarden_cli.human import moment, number, safe_command, seconds
from pagewarden_cli.render import STYLES, Manner, show_findings

SHOWN_PATTERNS = 10
SHOWN_STEPS = 8
SHOWN_TABLES = 15
SHOWN_OBJECTS = 6


def show_repair(report: RepairReport, manner: Manner) -> list[Block]:
    """Return a repair, or its plan, for people; quiet leaves what is not done, and what to type."""
    quiet = manner.quiet and report.exit_code == 0
    blocks: list[Block] = [] if quiet else [*_head(report)]
    if not manner.quiet:
        blocks += _patterns(report, manner)
        blocks += _plan(report, manner)
        blocks += _tables(report.tables, manner)
        blocks += _after(report, manner)
    blocks += [line(Span("warning: ", "warn"), warning) for warning in report.warnings]
    return blocks if quiet else blocks + _foot(report)


def _head(report: RepairReport) -> Iterator[Block]:
    style: Style = STYLES[report.verdict_before.value]
    if report.applied:
        style = "" if report.verdict_after is None else STYLES[report.verdict_after.value]
    yield line(Span(report.database, "strong"), " ", Span(headline(report), style))
    cost = loss(report)
    if cost:
        yield line(Span("loss: ", "dim"), Span(cost, "good" if is_lossless(report) else "warn"), indent=2)
    if report.applied and report.verdict_after is not None:
        before = Span(report.verdict_before.value, STYLES[report.verdict_before.value])
        after = Span(report.verdict_after.value, STYLES[report.verdict_after.value])
        yield line(Span("verdict: ", "dim"), before, " before, ", after, " after, by a deep check", indent=2)


def _patterns(report: RepairReport, manner: Manner) -> Iterator[Block]:
    patterns = report.patterns
    if not patterns:
        if report.check is not None and report.check.findings:
            yield Line()
            yield from show_findings(report.check.findings, manner)
        return
    yield Line()
    yield line(Span("what was hurt" if report.applied else "what is hurt", "strong"))
    shown = patterns if manner.verbose else patterns[:SHOWN_PATTERNS]
    for pattern in shown:
        yield from _pattern(pattern, manner)
    left = len(patterns) - len(shown)
    if left:
        yield line(Span(f"… and {number(left, 'more pattern')}; --verbose or --json show all", "dim"), indent=2)


def _pattern(pattern: Pattern, manner: Manner) -> Iterator[Block]:
    yield line(Span(f"{pattern.damage.value}: ", "bad"), pattern.text, indent=2)
    told = pattern.text.rpartition(" (")[2] if pattern.text.endswith(")") else ""  # "… (note; pages 3, 4)"
    if not all(name in re.split("[,;)] ?", told) for name in pattern.objects):
        most = len(pattern.objects) if manner.verbose else SHOWN_OBJECTS
        more = len(pattern.objects) - most
        names = ", ".join(pattern.objects[:most]) + (f" and {number(more)} more" if more > 0 else "")
        yield _fact("of", names)
    if pattern.pages and not (len(pattern.pages) == 1 and told.endswith(f"page {pattern.pages[0]})")):
        most = len(pattern.pages) if manner.verbose else 8
        yield _fact("page" if len(pattern.pages) == 1 else "pages", ranges(pattern.pages, most))
    if pattern.happened:
        yield _fact("what happened", pattern.happened)
    if pattern.between is not None:
        first, last = pattern.between
        yield _fact("between", f"{first} of {moment(first.time)} and {last} of {moment(last.time)}")
    if pattern.prevent:
        yield _fact("to prevent it", pattern.prevent)


def _fact(what: str, text: str) -> Line:
    return line(Span(f"{what}: ", "dim"), text, indent=4)


def _plan(report: RepairReport, manner: Manner) -> Iterator[Block]:
    if not report.plan:
        return
    yield Line()
    yield line(Span("what was done" if report.applied else "plan", "strong"))
    for place, each in enumerate(report.plan, start=1):
        yield from _planned(place, each, manner)


def _planned(place: int, each: PlannedRepair, manner: Manner) -> Iterator[Block]:
    nothing = each.loses == "nothing"
    cost = Span("nothing is lost" if nothing else each.loses, "good" if each.lossless else "warn")
    yield line(f"{place}. ", Span(each.repairer, "strong"), ": ", cost, indent=2)
    shown = each.steps if manner.verbose else each.steps[:SHOWN_STEPS]
    for step in shown:
        yield line(step, indent=5)
    left = len(each.steps) - len(shown)
    if left:
        yield line(Span(f"… and {number(left, 'more step')}; --verbose or --json show all", "dim"), indent=5)
    if each.why:
        yield line(Span("why: ", "dim"), each.why, indent=5)


def _tables(tables: Sequence[RepairedTable], manner: Manner) -> Iterator[Block]:
    """Tell of the tables that something happened to; of all, where everything is wanted."""
    touched = [table for table in tables if _is_touched(table)]
    rest = len(tables) - len(touched)
    shown = list(tables) if manner.verbose else touched[:SHOWN_TABLES]
    if not tables:
        return
    yield Line()
    if shown:
        header = ("table", "expected", "kept", "from backup", "salvaged", "quarantined", "lost")
        yield Grid(header, tuple(_row(table) for table in shown), frozenset(range(1, 7)), less=(4,))
    if len(touched) > len(shown):
        yield line(Span(f"… and {number(len(touched) - len(shown), 'more table')}; --verbose shows all", "dim"))
    if rest and not manner.verbose:
        others = f"{number(rest)} {'other ' if touched else ''}{'table' if rest == 1 else 'tables'}"
        yield line(f"{'and ' if touched else ''}every row of {others} that could be read is there")


def _is_touched(table: RepairedTable) -> bool:
    """Whether something happened to its rows, or nobody can know."""
    counts = table.rows_lost, table.rows_quarantined, table.rows_from_backup, table.rows_salvaged
    return any(counts) or table.rows_expected != table.rows_kept


def _row(table: RepairedTable) -> tuple[Span, ...]:
    return (
        Span(table.name),
        Span("not known" if table.rows_expected is None else number(table.rows_expected)),
        Span(number(table.rows_kept)),
        _count(table.rows_from_backup, ""),
        _count(table.rows_salvaged, ""),
        _count(table.rows_quarantined, "warn"),
        _count(table.rows_lost, "bad"),
    )


def _count(count: int, style: Style) -> Span:
    return Span(number(count) if count else "", style)


def _after(report: RepairReport, manner: Manner) -> Iterator[Block]:
    parts = (
        ("check", report.seconds_check),
        ("diagnosis", report.seconds_diagnosis),
        ("repair", report.seconds_repair),
        ("deep check", report.seconds_judging),
    )
    told = ", ".join(f"{what} {seconds(took)}" for what, took in parts if took)
    yield Line()
    yield line(Span("time: ", "dim"), f"{seconds(report.seconds)}{f' ({told})' if told else ''}")
    if report.position is not None and manner.verbose:
        yield line(Span("backup: ", "dim"), f"newest {report.position} of {moment(report.position.time)}")


def _foot(report: RepairReport) -> list[Block]:
    """What to type stands last, where the eye is."""
    blocks: list[Block] = []
    if report.quarantine:
        if report.applied:
            kept = "what was cut out" if report.output else "the original, and what was cut out of it"
            blocks.append(line(Span("kept: ", "dim"), f"{kept}: {report.quarantine}"))
        blocks.append(line(Span("report: ", "dim"), f"{report.quarantine}/{PAGE}"))
    if report.undo:
        blocks.append(line(Span("undo: ", "dim"), safe_command(report.undo)))
    if report.next:
        blocks.append(line(Span("next: ", "dim"), Span(safe_command(report.next), "strong")))
    return blocks
