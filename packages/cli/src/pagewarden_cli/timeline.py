"""The restore points of a repository as a time line: the newest in full, older ones by day, still older ones by month.

Time runs downwards, so that the newest stands last, next to the prompt. Pinned restore points are always shown in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby

from pagewarden.values import BackupsReport, RestorePoint
from pagewarden_cli.blocks import Block, Grid, Line, Span, line
from pagewarden_cli.human import age, moment, number, size
from pagewarden_cli.render import STYLES, Manner

SHOWN_POINTS = 20
"""Newest restore points of a database that are shown in full."""

SHOWN_DAYS = 14
"""Days before those that have a row each; what is older has one for each month."""

_HEADER = ("restore point", "time", "age", "kind", "size", "stored", "of size", "source", "verified", "note")
_RIGHT = frozenset({2, 4, 5, 6})
_LESS = (2, 4, 6)  # columns that a narrow terminal does without, in this order


def show_backups(report: BackupsReport, manner: Manner, *, everything: bool = False) -> list[Block]:
    """Return the time line of each database; `everything` gives each restore point its row."""
    blocks: list[Block] = []
    for name, found in groupby(report.backups, key=lambda point: point.database):
        points = list(found)
        if blocks:
            blocks.append(Line())
        blocks.append(_headline(name, points))
        shown = points if everything or manner.verbose else _in_full(points)
        hidden = _Hidden(points, shown)
        if hidden.rows:
            blocks.append(hidden.grid())
        blocks.append(Grid(_HEADER, tuple(_row(point, manner) for point in shown), _RIGHT, indent=2, less=_LESS))
        if hidden.rows:
            blocks.append(line(Span("--all gives each its row, --json everything", "dim"), indent=2))
    if not report.backups and not manner.quiet:
        blocks.append(line(f"no restore points in {report.repository}"))
    blocks += [line(Span("problem: ", "bad"), problem) for problem in report.problems]
    return blocks + [line(Span("warning: ", "warn"), warning) for warning in report.warnings]


def _headline(name: str, points: Sequence[RestorePoint]) -> Line:
    """Return what there is of one database in a line."""
    stored = size(sum(point.bytes_stored for point in points))
    first, last = points[0].position.time, points[-1].position.time
    span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first.date() != last.date() else f"{last:%Y-%m-%d}"
    return line(Span(name, "strong"), f": {number(len(points), 'restore point')}, {span}, {stored} stored")


def _in_full(points: Sequence[RestorePoint]) -> list[RestorePoint]:
    """Return those that are shown in full: the newest, those that are pinned, and all where few more are left."""
    if len(points) <= SHOWN_POINTS + 5:
        return list(points)
    newest = len(points) - SHOWN_POINTS
    return [point for at, point in enumerate(points) if at >= newest or point.pin is not None]


class _Hidden:
    """What is not shown in full, counted by day and by month."""

    def __init__(self, points: Sequence[RestorePoint], shown: Sequence[RestorePoint]) -> None:
        full = {id(point) for point in shown}
        left = [point for point in points if id(point) not in full]
        # Clocks step back (H23): what belongs to one day is counted once, wherever it stands. Times are UTC.
        days: dict[date, list[RestorePoint]] = {}
        for point in left:
            days.setdefault(point.position.time.date(), []).append(point)
        since = max(days, default=date.min) - timedelta(days=SHOWN_DAYS - 1) if days else date.min
        groups: dict[str, list[RestorePoint]] = {}
        for day in sorted(days):
            groups.setdefault(f"{day:%Y-%m}" if day < since else f"{day:%Y-%m-%d}", []).extend(days[day])
        self.rows = tuple(_counted(when, found) for when, found in groups.items())

    def grid(self) -> Grid:
        """Return the table."""
        header = ("earlier", "restore points", "snapshots", "stored", "source", "verified", "note")
        return Grid(header, self.rows, frozenset({1, 2, 3}), indent=2)


def _counted(when: str, points: Sequence[RestorePoint]) -> tuple[Span, ...]:
    snapshots = sum(point.kind == "snapshot" for point in points)
    deleted = sum(point.deleted is not None for point in points)
    return (
        Span(when),
        Span(number(len(points))),
        Span(number(snapshots) if snapshots else ""),
        Span(size(sum(point.bytes_stored for point in points))),
        _counts(_source(point) for point in points),
        _counts(_verified(point) for point in points),
        Span(f"{number(deleted)} deleted" if deleted else "", "warn"),
    )


def _counts(spans: Iterable[Span]) -> Span:
    """Return one word where all say the same, else each with its count; in the style of the worst."""
    counted = Counter((span.text, span.style) for span in spans)
    order = ("bad", "warn", "dim", "", "strong", "good")
    style = min((style for _, style in counted), key=order.index)
    if len(counted) == 1:
        return Span(next(text for text, _ in counted), style)
    return Span(", ".join(f"{number(count)} {text}" for (text, _), count in counted.most_common()), style)


def _row(point: RestorePoint, manner: Manner) -> tuple[Span, ...]:
    kind = point.kind if point.chain == 1 else f"{point.kind} {point.chain - 1:,}"
    share = f"{100 * point.bytes_stored / point.bytes:.1f} %" if point.bytes else ""
    return (
        Span(str(point.position)),
        Span(moment(point.position.time)),
        Span(age(point.position.time, manner.now)),
        Span(kind, "strong" if point.kind == "snapshot" else ""),
        Span(size(point.bytes)),
        Span(size(point.bytes_stored)),
        Span(share),
        _source(point),
        _verified(point),
        Span("; ".join(_notes(point)), "warn" if point.deleted is not None else ""),
    )


def _notes(point: RestorePoint) -> Iterator[str]:
    if point.deleted is not None:
        yield f"deleted {point.deleted:%Y-%m-%d}"
    if point.pin is not None:
        yield f"pinned: {point.pin}" if point.pin else "pinned"


def _source(point: RestorePoint) -> Span:
    word = point.source.verdict if point.source.level != "none" else "not judged"
    return Span(word, STYLES.get(word, ""))


def _verified(point: RestorePoint) -> Span:
    """Return what `verify` knows of a restore point; it was read back when it was stored in any case."""
    found = point.verification
    if found is None:
        return Span("not yet", "dim")
    if found.state == "ok":
        return Span("data" if found.data else "bytes", "good")
    return Span(found.state, STYLES.get(found.state, ""))
