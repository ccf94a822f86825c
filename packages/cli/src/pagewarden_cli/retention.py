"""What `prune`, `pin`, `unpin` and `undelete` did, for people: a table of what stays and what goes, and why."""

from __future__ import annotations

from pagewarden.values import PinReport, PrunedDatabase, PrunedPoint, PruneReport, UndeleteReport
from pagewarden_cli.blocks import Block, Grid, Line, Span, Style, line
from pagewarden_cli.human import age, moment, number, size
from pagewarden_cli.render import Manner

SHOWN = {"kept": 20, "goes": 40, "deleted": 10, "purged": 40}
"""How many restore points of each state are shown, the newest."""

_STYLES: dict[str, Style] = {"kept": "good", "goes": "warn", "deleted": "dim", "purged": "bad"}
_HEADER = ("restore point", "time", "age", "kind", "stored", "", "why")
_WOULD = {"goes": "would go", "purged": "would be purged"}
_DONE = {"goes": "deleted now"}


def show_prune(report: PruneReport, manner: Manner) -> list[Block]:
    """Return what became of each restore point, or would."""
    blocks: list[Block] = []
    for database in report.databases:
        if blocks:
            blocks.append(Line())
        blocks += _database(database, report, manner)
    if not report.databases and not manner.quiet:
        blocks.append(line(f"no restore points in {report.repository}"))
    if not report.applied and not manner.quiet and any(_goes(each) for each in report.databases):
        blocks += [Line(), line("a dry run: nothing was changed; --apply does it")]
    return blocks


def _database(database: PrunedDatabase, report: PruneReport, manner: Manner) -> list[Block]:
    blocks: list[Block] = []
    if not manner.quiet or database.frozen:
        blocks.append(line(Span(database.database, "strong"), f": {database.policy}"))
    if database.frozen:
        blocks.append(line(Span("nothing goes now: ", "bad"), database.frozen, indent=2))
    if not manner.quiet:
        shown = database.points if manner.verbose else _shown(database.points)
        words = _DONE if report.applied else _WOULD
        # The commits of batches have a column only where a database is followed.
        followed = any(point.commits > 1 for point in database.points)
        header = (*_HEADER[:-2], "commits", *_HEADER[-2:]) if followed else _HEADER
        rows = tuple(_row(point, words, manner, followed=followed) for point in shown)
        blocks.append(Grid(header, rows, frozenset({2, 4, 5} if followed else {2, 4}), indent=2))
        left = len(database.points) - len(shown)
        if left:
            more = f"… and {number(left, 'more restore point')}, older ones; --verbose or --json show all"
            blocks.append(line(Span(more, "dim"), indent=2))
        blocks += [
            line(f"{'folded' if report.applied else 'would be folded'}: {why}", indent=2) for why in database.folds
        ]
        blocks.append(line(_sum(database, applied=report.applied), indent=2))
    return blocks + [line(Span("warning: ", "warn"), warning, indent=2) for warning in database.warnings]


def _goes(database: PrunedDatabase) -> bool:
    going = any(point.state in ("goes", "purged") or point.commits_gone for point in database.points)
    return going or bool(database.folds)


def _shown(points: tuple[PrunedPoint, ...]) -> list[PrunedPoint]:
    """Return the newest of each state, in order."""
    hidden: set[int] = set()
    for state, most in SHOWN.items():
        hidden.update(point.number for point in [each for each in points if each.state == state][:-most])
    return [point for point in points if point.number not in hidden]


def _row(point: PrunedPoint, words: dict[str, str], manner: Manner, *, followed: bool) -> tuple[Span, ...]:
    time = point.position.time
    left = point.commits - point.commits_gone
    commits = Span(f"{point.commits:,} → {left:,}", "warn") if point.commits_gone else Span(f"{point.commits:,}")
    return (
        Span(str(point.position)),
        Span(moment(time)),
        Span(age(time, manner.now)),
        Span(point.kind),
        Span(size(point.bytes_stored)),
        *((commits,) if followed else ()),
        Span(words.get(point.state, point.state), _STYLES[point.state]),
        Span(point.why),
    )


def _sum(database: PrunedDatabase, *, applied: bool) -> str:
    counts = {state: sum(1 for point in database.points if point.state == state) for state in _STYLES}
    parts = [f"{number(counts['kept'])} kept"]
    parts += [f"{number(counts['goes'])} {'deleted now' if applied else 'to go'}"] if counts["goes"] else []
    parts += [f"{number(counts['deleted'])} deleted earlier"] if counts["deleted"] else []
    parts += [f"{number(counts['purged'])} {'purged' if applied else 'to be purged'}"] if counts["purged"] else []
    gone = sum(point.commits_gone for point in database.points)
    parts += [f"{number(gone, 'commit')} {'gone' if applied else 'to go'}"] if gone else []
    stored = f", {size(database.bytes_stored)} stored anew" if database.bytes_stored else ""
    return f"{', '.join(parts)}; {size(database.bytes_freed)} {'freed' if applied else 'would be freed'}{stored}"


def show_pin(report: PinReport, manner: Manner) -> list[Block]:
    """Return what was pinned, or is no more."""
    if manner.quiet:
        return []
    note = f": {report.note}" if report.note else ""
    what = f"pinned{note}" if report.pinned else "no longer pinned"
    return [line(Span(report.database, "strong"), f" at {report.position} of {moment(report.position.time)} is {what}")]


def show_undelete(report: UndeleteReport, manner: Manner) -> list[Block]:
    """Return what is listed again."""
    blocks: list[Block] = []
    if not manner.quiet:
        blocks += [
            line(Span(report.database, "strong"), f" at {position} of {moment(position.time)} is listed again")
            for position in report.positions
        ]
    return blocks + [line(Span("note: ", "dim"), warning) for warning in report.warnings if not manner.quiet]
