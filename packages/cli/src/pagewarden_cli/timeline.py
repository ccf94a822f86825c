"""The restore points of a repository as a time line: the newest in full, older ones by day, still older ones by month.

Time runs downwards, so that the newest stands last, next to the prompt. Pinned restore points are always shown in full.
Commits that were followed without a gap have one row for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby

from pagewarden.values import BackupsReport, NamedPosition, RestorePoint
from pagewarden_cli.blocks import Block, Grid, Line, Span, line
from pagewarden_cli.human import age, moment, number, size
from pagewarden_cli.render import STYLES, Manner

SHOWN_POINTS = 20
"""Newest rows of a database that are shown in full: restore points, and runs of commits."""

SHOWN_MARKS = 10
"""Last named moments of a database that are shown."""

Row = Sequence[RestorePoint]
"""What has one row: a restore point, or a run of batches of commits."""

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
        rows: list[Row] = [[point] for point in points] if everything or manner.verbose else _runs(points)
        shown = rows if everything or manner.verbose else _in_full(rows)
        hidden = _Hidden(rows, shown)
        if hidden.rows:
            blocks.append(hidden.grid())
        blocks.append(Grid(_HEADER, tuple(_row(row, manner) for row in shown), _RIGHT, indent=2, less=_LESS))
        marks = [mark for mark in report.marks if mark.database == name]
        blocks += _marked(marks if everything or manner.verbose else marks[-SHOWN_MARKS:], len(marks))
        if len(shown) < len(points):
            blocks.append(line(Span("--all gives each its row, --json everything", "dim"), indent=2))
    if not report.backups and not manner.quiet:
        blocks.append(line(f"no restore points in {report.repository}"))
    blocks += [line(Span("problem: ", "bad"), problem) for problem in report.problems]
    return blocks + [line(Span("warning: ", "warn"), warning) for warning in report.warnings]


def _marked(marks: Sequence[NamedPosition], count: int) -> Iterator[Block]:
    """Yield the names of moments, the last ones of `count`."""
    if len(marks) < count:
        yield line(Span(f"{number(count - len(marks), 'earlier mark')} not shown", "dim"), indent=2)
    for mark in marks:
        yield line("mark ", Span(mark.text, "strong"), f": {mark.position} of {moment(mark.position.time)}", indent=2)


def _headline(name: str, points: Sequence[RestorePoint]) -> Line:
    """Return what there is of one database in a line."""
    stored = size(sum(point.bytes_stored for point in points))
    first, last = points[0].position.time, points[-1].position.time
    span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first.date() != last.date() else f"{last:%Y-%m-%d}"
    return line(Span(name, "strong"), f": {_counted_points(points)}, {span}, {stored} stored")


def _counted_points(points: Sequence[RestorePoint]) -> str:
    """Return how many restore points there are that were made one by one, and how many commits that were followed."""
    commits = sum(_moments(point) for point in points if _followed(point))
    single = sum(not _followed(point) for point in points)
    return " and ".join(
        number(count, what) for count, what in ((single, "restore point"), (commits, "commit")) if count
    )


def _followed(point: RestorePoint) -> bool:
    return point.commits is not None or point.merged > 0


def _moments(point: RestorePoint) -> int:
    """Return how many positions can be restored with a restore point."""
    return 1 if point.commits is None else point.commits.count


def _runs(points: Sequence[RestorePoint]) -> list[Row]:
    """Gather batches of commits that follow each other; what is pinned or deleted stands by itself."""
    rows: list[list[RestorePoint]] = []
    for point in points:
        last = rows[-1][-1] if rows else None
        if (
            last is not None
            and _joins(last)
            and _joins(point)
            and (point.position.timeline, point.continues) == (last.position.timeline, last.position.txid)
        ):
            rows[-1].append(point)
        else:
            rows.append([point])
    return list(rows)


def _joins(point: RestorePoint) -> bool:
    return _followed(point) and point.pin is None and point.deleted is None


def _in_full(rows: Sequence[Row]) -> list[Row]:
    """Return those that are shown in full: the newest, those that are pinned, and all where few more are left."""
    if len(rows) <= SHOWN_POINTS + 5:
        return list(rows)
    newest = len(rows) - SHOWN_POINTS
    return [row for at, row in enumerate(rows) if at >= newest or row[0].pin is not None]


class _Hidden:
    """What is not shown in full, counted by day and by month."""

    def __init__(self, rows: Sequence[Row], shown: Sequence[Row]) -> None:
        full = {id(row) for row in shown}
        left = [point for row in rows if id(row) not in full for point in row]
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


def _row(row: Row, manner: Manner) -> tuple[Span, ...]:
    point = row[-1]
    stored = sum(each.bytes_stored for each in row)
    kind = point.kind if point.chain == 1 else f"{point.kind} {point.chain - 1:,}"
    where, when = str(point.position), moment(point.position.time)
    if _followed(point):
        count, span = sum(map(_moments, row)), point.position.txid - row[0].continues
        kind = number(span, "commit") if count == span else f"{count:,} of {number(span, 'commit')}"
        if span > 1:
            where = f"{point.position.timeline[:8]}:{row[0].continues + 1}-{point.position.txid}"
        when = _from_to(row)
    return (
        Span(where),
        Span(when),
        Span(age(point.position.time, manner.now)),
        Span(kind, "strong" if point.kind == "snapshot" else ""),
        Span(size(point.bytes)),
        Span(size(stored)),
        Span(f"{100 * stored / point.bytes:.1f} %" if point.bytes else ""),
        _counts(map(_source, row)),
        _counts(map(_verified, row)),
        Span("; ".join(_notes(point)), "warn" if point.deleted is not None else ""),
    )


def _from_to(row: Row) -> str:
    """Return when the first and the last commit of a run were seen, as far as clocks can be believed (H23)."""
    times = [each.position.time if each.commits is None else each.commits.earliest for each in row]
    first, last = moment(min(times)), moment(row[-1].position.time)
    if first == last:
        return last
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _notes(point: RestorePoint) -> Iterator[str]:
    if point.gap:
        yield f"gap: {point.gap}"
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
