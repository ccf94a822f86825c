"""What `verify` found, for people: what is not whole, what depends on it, and what can still be restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from pagewarden.values import VerifiedPoint, VerifyReport
from pagewarden_cli.blocks import Block, Grid, Span, line
from pagewarden_cli.human import moment, number, seconds, size
from pagewarden_cli.render import STYLES, Manner

SHOWN_POINTS = 20
"""Restore points of a database that have a row each; where there are more, only what is wrong is told."""


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
        blocks.append(Grid(("database", "position", "time", "state"), rows, indent=2))
    for _, found in groupby(report.points, _database):
        blocks += _wrong(list(found), manner)
    if report.leftovers and not manner.quiet:
        left = number(len(report.leftovers), "object")
        blocks.append(line(f"{left} of backups that never finished; the next backup removes them", indent=2))
        blocks += [line(leftover, indent=4) for leftover in report.leftovers if manner.verbose]
    return blocks + [line(Span("warning: ", "warn"), warning) for warning in report.warnings]


def _summary(report: VerifyReport) -> Iterator[Block]:
    strays = sum(point.position is None and point.state == "missing" for point in report.points)
    lost = sum(point.commits > 0 for point in report.points)
    counted = number(len(report.points) - strays - lost, "restore point")
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
    """Yield a row for each restore point, where they are few or all are wanted."""
    if manner.quiet or (len(points) > SHOWN_POINTS and not manner.verbose):
        return
    for point in points:
        if point.position is not None and not point.commits:
            state = Span(point.state, STYLES.get(point.state, ""))
            yield Span(point.database), Span(str(point.position)), Span(moment(point.position.time)), state


def _wrong(points: Sequence[VerifiedPoint], manner: Manner) -> Iterator[Block]:
    """Yield what is wrong: once for all that need the same object, unless everything is wanted."""
    own = {point.key for point in points if point.state != "ok" and not point.needs}
    told: set[str] = set()
    for point in points:
        if point.state == "ok" or (point.needs and not manner.verbose and point.needs in own | told):
            continue
        told.add(point.needs)
        at = "" if point.position is None else f" {point.position}"
        label = Span(f"{point.state}: ", STYLES.get(point.state, ""))
        yield line(label, Span(f"{point.database}{at}", "strong"), f": {point.why}" if point.why else "", indent=2)
        for text in _consequences(point, points):
            yield line(text, indent=4)


def _consequences(point: VerifiedPoint, points: Sequence[VerifiedPoint]) -> Iterator[str]:
    """Yield how many others need the same, and what can be restored instead."""
    above = [each for each in points if each.needs == point.key]
    if len(above) == 1:
        yield f"{above[0].position} needs it, too"
    elif above:
        yield f"{number(len(above), 'restore point')} after it, up to {above[-1].position}, need it, too"
    if point.instead is not None:
        yield f"the last whole one before it is {point.instead} of {moment(point.instead.time)}"
    elif point.position is not None:
        yield "no one before it is whole"


def _database(point: VerifiedPoint) -> str:
    return point.database
