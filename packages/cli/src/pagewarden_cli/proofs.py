"""What `verify` found, for people: what is not whole, what depends on it, and what can still be restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from pagewarden.values import VerifiedPoint, VerifyReport
from pagewarden_cli.blocks import Block, Grid, Span, line
from pagewarden_cli.human import moment, number, seconds, size
from pagewarden_cli.render import STYLES, Manner

SHOWN_POINTS = 20
"""Restore points that are shown where all of a database are ok."""


def show_verify(report: VerifyReport, manner: Manner) -> list[Block]:
    """Return a verification for people; quiet leaves what is not ok."""
    blocks: list[Block] = []
    if not (manner.quiet and report.exit_code == 0):
        verdict = Span(report.verdict.value, STYLES[report.verdict.value])
        blocks.append(line(Span(report.repository, "strong"), " is ", verdict))
    if not manner.quiet:
        blocks += _summary(report)
    rows = tuple(row for _, found in groupby(report.points, _database) for row in _rows(list(found), manner))
    if rows:
        blocks.append(Grid(("database", "position", "time", "state", "why"), rows, indent=2))
    if report.leftovers and not manner.quiet:
        left = number(len(report.leftovers), "object")
        blocks.append(line(f"{left} of backups that never finished; the next backup removes them", indent=2))
        blocks += [line(leftover, indent=4) for leftover in report.leftovers if manner.verbose]
    return blocks + [line(Span("warning: ", "warn"), warning) for warning in report.warnings]


def _summary(report: VerifyReport) -> Iterator[Block]:
    strays = sum(point.position is None and point.state == "missing" for point in report.points)
    counted = number(len(report.points) - strays, "restore point")
    counted += f", {number(strays, 'object')} without a manifest" if strays else ""
    proved = (
        "data read, page sums and database sums proved"
        if report.read_data
        else "stored bytes proved; --read-data proves the pages in them, too"
    )
    yield line(f"{counted}, {size(report.bytes_read)} read in {seconds(report.seconds)}: {proved}", indent=2)
    if report.objects_read < report.objects:
        part = f"{number(report.objects_read)} of {number(report.objects, 'object')} read"
        yield line(f"{part}; the next run for a part goes on from there", indent=2)


def _rows(points: Sequence[VerifiedPoint], manner: Manner) -> Iterator[tuple[Span, ...]]:
    """Yield a row for each restore point that is not ok, but one for all that need the same object.

    Where there are few, those that are ok have theirs, too.
    """
    told: set[str] = set()
    few = len(points) <= SHOWN_POINTS
    for point in points:
        if point.state == "ok":
            if not manner.quiet and (few or manner.verbose):
                yield _row(point, point.why)
        elif not point.needs or manner.verbose:
            yield _row(point, _why(point, points))
        elif point.needs not in told and all(each.key != point.needs or each.state == "ok" for each in points):
            told.add(point.needs)
            yield _row(point, _why(point, points))


def _why(point: VerifiedPoint, points: Sequence[VerifiedPoint]) -> str:
    """Return what is wrong, how many others need the same, and what can be restored instead."""
    above = [each for each in points if each.needs == point.key]
    parts = [point.why] if point.why else []
    if above:
        verb = "needs it, too" if len(above) == 1 else "need it, too"
        last = "" if len(above) == 1 else f" up to {above[-1].position}"
        parts.append(f"{number(len(above), 'restore point')} after it{last} {verb}")
    if point.instead is not None:
        parts.append(f"the last whole one before it is {point.instead} of {moment(point.instead.time)}")
    elif point.position is not None:
        parts.append("no one before it is whole")
    return "; ".join(parts)


def _row(point: VerifiedPoint, why: str) -> tuple[Span, ...]:
    return (
        Span(point.database),
        Span("" if point.position is None else str(point.position)),
        Span("" if point.position is None else moment(point.position.time)),
        Span(point.state, STYLES.get(point.state, "")),
        Span(why),
    )


def _database(point: VerifiedPoint) -> str:
    return point.database
