"""What the quarantine keeps, for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pagewarden.repair.cutouts import CutSummary
from pagewarden.repair.export import ExportReport
from pagewarden.repair.kept import KeptEntry, KeptReport
from pagewarden.repair.shown import ShownRow, ShowReport
from pagewarden.repair.wording import ranges
from pagewarden_cli.blocks import Block, Grid, Line, Span, Style, line
from pagewarden_cli.human import age, moment, number, safe_command, size
from pagewarden_cli.render import Manner

SHOWN_FILES = 20
SHOWN_TABLES = 5
SHOWN_VALUE = 60
"""Characters of a value in a row."""

_PHASES: dict[str, Style] = {"done": "good", "undone": "dim", "under way": "warn", "not applied": "warn"}


def show_kept(report: KeptReport, manner: Manner) -> list[Block]:
    """Return a list of what is kept, a database after the other."""
    warnings = [line(Span("warning: ", "warn"), warning) for warning in report.warnings]
    if not report.entries:
        nothing = [] if manner.quiet else [line("nothing is kept: no restore and no repair was made there")]
        return [*nothing, *warnings]
    blocks: list[Block] = []
    for database, entries in groupby(report.entries, lambda entry: entry.database):
        rows = tuple(_row(entry, manner) for entry in entries)
        header = ("", "what", "state", "when", "age", "size", "cut out", "from")
        blocks += [line(Span(database, "strong")), Grid(header, rows, frozenset({0, 5}), indent=2, less=(4, 7, 3))]
    undoable = [entry.undo for entry in report.entries if entry.undo]
    if not manner.quiet:
        blocks.append(line(f"{size(report.bytes)} in all; nothing of it is ever removed by itself"))
        if len(undoable) == 1:
            blocks.append(line(Span("undo: ", "dim"), safe_command(undoable[0])))
    return [*blocks, *warnings]


def _row(entry: KeptEntry, manner: Manner) -> tuple[Span, ...]:
    origin = f"{entry.position} in {entry.repository}" if entry.position is not None else ""
    return (
        Span(str(entry.number)),
        Span(_what(entry)),
        Span(entry.phase, _PHASES.get(entry.phase, "")),
        Span(moment(entry.begun)),
        Span(age(entry.begun, manner.now)),
        Span(size(entry.bytes)),
        Span(_cut(entry.cut) or entry.why, "warn" if entry.why else ""),
        Span(origin),
    )


def _what(entry: KeptEntry) -> str:
    if entry.verdict_before is None:
        return entry.kind
    after = "" if entry.verdict_after is None else f" → {entry.verdict_after}"
    return f"{entry.kind}: {entry.verdict_before}{after}"


def _cut(cut: CutSummary | None) -> str:
    if cut is None:
        return ""
    rows = sum(table.rows for table in cut.tables)
    parts = [
        number(count, what) for count, what in ((rows, "row"), (cut.pages, "page"), (len(cut.files), "file")) if count
    ]
    return ", ".join(parts)


def show_entry(report: ShowReport, manner: Manner) -> list[Block]:
    """Return one entry, with a look at what was cut out."""
    entry = report.entry
    blocks: list[Block] = [
        line(Span(entry.database, "strong"), f" {entry.number}: {_what(entry)}, {entry.phase}, {moment(entry.begun)}")
    ]
    if entry.position is not None:
        when = moment(entry.position.time)
        blocks.append(line(f"restored {entry.position} of {when} from {entry.repository}", indent=2))
    blocks.append(line(Span("folder: ", "dim"), entry.folder, indent=2))
    if entry.why:
        blocks.append(line(Span(entry.why, "warn"), indent=2))
    if not manner.quiet:
        blocks += _files(entry, manner)
    blocks += _pages(report, manner)
    blocks += _rows(report, manner)
    if entry.cut is not None and entry.cut.anything:
        blocks += [Line(), line(Span("export: ", "dim"), safe_command(entry.cut.export))]
    if entry.undo:
        blocks.append(line(Span("undo: ", "dim"), safe_command(entry.undo)))
    return blocks


def _files(entry: KeptEntry, manner: Manner) -> Iterator[Block]:
    files = [file for file in entry.files if manner.verbose or file.what != "other"]
    why = {file.name: file.why for file in entry.cut.files} if entry.cut is not None else {}
    shown = files if manner.verbose else files[:SHOWN_FILES]
    rows = tuple(
        (Span(file.what), Span(size(file.size)), Span(file.name), Span(why.get(file.name.removeprefix("files/"), "")))
        for file in shown
    )
    if rows:
        yield Line()
        yield Grid(("file", "size", "name", "why"), rows, frozenset({1}), indent=2)
    if len(files) > len(shown):
        yield line(Span(f"… and {number(len(files) - len(shown), 'more file')}; --verbose shows all", "dim"), indent=2)


def _pages(report: ShowReport, manner: Manner) -> Iterator[Block]:
    if not report.pages:
        return
    yield Line()
    for each in report.pages:
        which = ranges(each.pages, len(each.pages) if manner.verbose else 12)
        yield line(Span(number(each.count, "page"), "strong"), f" cut out by {each.repairer}: {which}", indent=2)
        if each.why:
            yield line(Span("why: ", "dim"), each.why, indent=4)


def _rows(report: ShowReport, manner: Manner) -> Iterator[Block]:
    cut = report.entry.cut
    counts = {} if cut is None else {each.name: each.rows for each in cut.tables}
    for table, shown in groupby(report.rows, lambda row: row.table):
        rows = list(shown)
        yield Line()
        yield line(Span(number(counts.get(table, len(rows)), "row"), "strong"), " of ", Span(table, "strong"), indent=2)
        for (repairer, why), same in groupby(rows, lambda row: (row.repairer, row.why)):
            yield line(Span("why: ", "dim"), f"{why} ({repairer})", indent=4)
            for row in same:
                yield _row_line(row, manner)
        left = counts.get(table, len(rows)) - len(rows)
        if left > 0:
            yield line(Span(f"… and {number(left, 'more row')}; --rows N shows more, export gets all", "dim"), indent=4)


def _row_line(row: ShownRow, manner: Manner) -> Line:
    """Return a row as one line, which has room for any number of columns."""
    parts: list[Span | str] = []
    for name, value in zip(row.columns, row.values, strict=True):
        cut = not manner.verbose and len(value) > SHOWN_VALUE
        parts += [", " if parts else "", Span(f"{name} ", "dim"), f"{value[:SHOWN_VALUE]}…" if cut else value]
    return line(*parts, indent=6)


def show_export(report: ExportReport, manner: Manner) -> list[Block]:
    """Return what was got out."""
    if manner.quiet:
        return []
    told = f"{number(report.rows, 'row')}, {number(report.pages, 'page')}, {size(report.bytes)} in all"
    blocks: list[Block] = [line(f"{told}: ", Span(report.to, "strong"))]
    shown = report.files if manner.verbose else report.files[:SHOWN_FILES]
    blocks += [line(name, indent=2) for name in shown]
    left = len(report.files) - len(shown)
    return blocks + ([line(Span(f"… and {number(left, 'more file')}", "dim"), indent=2)] if left else [])
