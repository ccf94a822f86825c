"""A repair as one HTML page that needs nothing else: no script, no font, no picture, no network.

Everything that came from the database or its path is hostile (H29): it is escaped for HTML, its control characters are
shown as escapes, and the page forbids itself whatever could be fetched or run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from pagewarden.contracts import Pattern
from pagewarden.legible import moment, number, safe, safe_command, seconds, size
from pagewarden.repair.cutouts import CutSummary
from pagewarden.repair.reports import PlannedRepair, RepairedTable, RepairReport
from pagewarden.repair.strip import page_strip
from pagewarden.repair.style import CSS
from pagewarden.repair.wording import headline, is_lossless, loss, ranges
from pagewarden.values import CheckReport, Finding

MOST_FINDINGS = 100
"""Findings that are listed; the report in JSON has all."""

MOST_TABLES = 500
MOST_OBJECTS = 20
MOST_TEXT = 2000
"""Characters of one message or name."""


def render(report: RepairReport, cut: CutSummary | None = None) -> str:
    """Return the page, of ASCII characters only. `cut` is what the quarantine holds of the repair, if it holds any."""
    name = report.database.rpartition("/")[2] or report.database
    sections = [
        _head(report, name),
        _cards(report),
        *(f'<article class="warnings"><p class="warn">{_text(warning)}</p></article>' for warning in report.warnings),
        *_diagnosis(report),
        *_plan(report),
        *_tables(report.tables),
        *_kept(report, cut),
        *_judged("What the check saw", report.check),
        *_judged("What the deep check of the repaired copy saw", report.judged),
        _timings(report),
    ]
    body = "\n".join(sections)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(name)}: repair</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _text(text: str, most: int = MOST_TEXT) -> str:
    """Return text for HTML, cut where it is long: a name may be as long as a file."""
    shown = text if len(text) <= most else f"{text[:most]}…"
    return escape(safe(shown))


def _command(command: str) -> str:
    return f'<pre class="command"><code>{escape(safe_command(command))}</code></pre>'


def _verdict(verdict: str) -> str:
    return f'<span class="badge {escape(verdict)}">{escape(verdict)}</span>'


def _section(title: str, *parts: str) -> str:
    inner = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>"


def _head(report: RepairReport, name: str) -> str:
    verdicts = _verdict(report.verdict_before)
    if report.verdict_after is not None:
        verdicts += f' <span class="arrow">becomes</span> {_verdict(report.verdict_after)}'
    when = f'<p class="dim">{escape(moment(report.begun))}</p>' if report.begun else ""
    return (
        f'<header>\n<p class="dim">Repair</p>\n<h1>{_text(name)}</h1>\n<p class="path">{_text(report.database)}</p>\n'
        f'<p class="verdicts">{verdicts}</p>\n<p class="lead">The database {_text(headline(report))}.</p>\n{when}\n'
        "</header>"
    )


def _cards(report: RepairReport) -> str:
    """The three things that a person must know at once."""
    hurt = [f"<li>{_text(pattern.text, 300)}</li>" for pattern in report.patterns[:5]]
    more = len(report.patterns) - len(hurt)
    hurt += [f"<li>and {number(more, 'more pattern')}, below</li>"] if more > 0 else []
    cards = [("What is hurt" if not report.applied else "What was hurt", f"<ul>{''.join(hurt)}</ul>" if hurt else "")]
    cost = loss(report)
    mark = "good" if is_lossless(report) else "warn"
    title = "What was lost" if report.applied else "What a repair would lose"
    cards.append((title, f'<p class="{mark}">{_text(_capital(cost))}.</p>' if cost else ""))
    commands = _command(report.next) if report.next else ""
    if report.undo:
        commands += f'<p class="dim">To take it back:</p>{_command(report.undo)}'
    cards.append(("What to type next", commands))
    shown = "".join(f'<div class="card"><h2>{escape(title)}</h2>{inner}</div>' for title, inner in cards if inner)
    return f'<div class="cards">{shown}</div>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _diagnosis(report: RepairReport) -> Iterator[str]:
    if report.patterns:
        pages = _pages_of(report.patterns)
        picture = page_strip(0 if report.check is None else report.check.pages, pages)
        yield _section("Diagnosis", picture, *(_pattern(pattern) for pattern in report.patterns))


def _pages_of(patterns: Sequence[Pattern]) -> Iterator[tuple[int, str]]:
    """Yield each page that is known to be hurt, and by what."""
    for pattern in patterns:
        for pgno in pattern.pages:
            yield pgno, pattern.damage.value


def _pattern(pattern: Pattern) -> str:
    facts = []
    if pattern.objects:
        more = len(pattern.objects) - MOST_OBJECTS
        names = ", ".join(f"<code>{_text(name, 200)}</code>" for name in pattern.objects[:MOST_OBJECTS])
        facts.append(("of", names + (f" and {number(more)} more" if more > 0 else "")))
    if pattern.pages:
        facts.append(("pages" if len(pattern.pages) > 1 else "page", escape(ranges(pattern.pages))))
    if pattern.happened:
        facts.append(("what happened", _text(pattern.happened)))
    if pattern.between is not None:
        first, last = pattern.between
        when = f"{first} of {moment(first.time)} and {last} of {moment(last.time)}"
        facts.append(("between", escape(when)))
    if pattern.prevent:
        facts.append(("to prevent it", _text(pattern.prevent)))
    return (
        f'<article><h3><span class="tag">{escape(pattern.damage.value)}</span> {_text(pattern.text)}</h3>'
        f"{_facts(facts)}</article>"
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms and what holds for them, which is HTML already."""
    inner = "".join(f"<dt>{escape(term)}</dt><dd>{told}</dd>" for term, told in facts)
    return f"<dl>{inner}</dl>" if inner else ""


def _plan(report: RepairReport) -> Iterator[str]:
    if report.plan:
        steps = "".join(_planned(each) for each in report.plan)
        yield _section("What was done" if report.applied else "Plan", f'<ol class="plan">{steps}</ol>')


def _planned(each: PlannedRepair) -> str:
    steps = "".join(f"<li>{_text(step)}</li>" for step in each.steps)
    mark = "good" if each.lossless else "warn"
    cost = "nothing is lost" if each.loses == "nothing" else each.loses
    return (
        f'<li><h3>{_text(each.repairer)} <span class="tag {mark}">{_text(cost)}</span></h3>'
        f"<ul>{steps}</ul>" + (f'<p class="dim">{_text(each.why)}</p>' if each.why else "") + "</li>"
    )


def _tables(tables: Sequence[RepairedTable]) -> Iterator[str]:
    if not tables:
        return
    # The tables that something happened to come first.
    ordered = sorted(tables, key=lambda table: (not table.rows_lost, not table.rows_quarantined, _untouched(table)))
    rows = [
        (
            _text(table.name, 200),
            "not known" if table.rows_expected is None else number(table.rows_expected),
            number(table.rows_kept),
            _count(table.rows_from_backup),
            _count(table.rows_salvaged),
            _count(table.rows_quarantined, "warn"),
            _count(table.rows_lost, "bad"),
        )
        for table in ordered[:MOST_TABLES]
    ]
    header = ("table", "rows expected", "kept", "from backup", "salvaged", "quarantined", "lost")
    left = len(tables) - len(rows)
    note = f'<p class="dim">and {number(left, "more table")}; report.json has all</p>' if left > 0 else ""
    yield _section("Rows", _grid(header, rows, numbers=range(1, 7)), note)


def _untouched(table: RepairedTable) -> bool:
    return not (table.rows_from_backup or table.rows_salvaged)


def _count(count: int, mark: str = "") -> str:
    if not count:
        return '<span class="dim">0</span>'
    return f'<span class="{mark}">{number(count)}</span>' if mark else number(count)


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Return a table; its cells are HTML already."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{cell}</{tag}>' if place in right else f"<{tag}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    head = cells("th", [escape(name) for name in header])
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _kept(report: RepairReport, cut: CutSummary | None) -> Iterator[str]:
    if not report.quarantine:
        return
    parts = [f"<p>In <code>{_text(report.quarantine)}</code>:</p>"]
    kept = ["the original as it was, with its log"] if report.applied and report.output is None else []
    commands = []
    if cut is not None and cut.anything:
        kept += [f"{number(cut.pages, 'page')} with what stood there before"] if cut.pages else []
        kept += [f"{number(each.rows, 'row')} of <code>{_text(each.name, 200)}</code>" for each in cut.tables]
        kept += [
            f"the file <code>{_text(file.name, 200)}</code>, {size(max(file.size, 0))}: {_text(file.why)}"
            for file in cut.files
        ]
        commands = [_command(cut.show), _command(cut.export)]
    kept += ["this report, and report.json, which has all that is cut short here"]
    items = "".join(f"<li>{each}</li>" for each in kept)
    yield _section("What is kept", *parts, f"<ul>{items}</ul>", *commands)


def _judged(title: str, check: CheckReport | None) -> Iterator[str]:
    if check is None:
        return
    about = (
        f"<p>{_verdict(check.verdict)} {number(check.pages, 'page')} of {size(check.page_size)}, {size(check.bytes)}; "
        f"judged in {seconds(check.seconds)}</p>"
    )
    rows = [
        (
            _text(each.name),
            _verdict(each.verdict),
            seconds(each.seconds),
            number(each.findings),
            _text(each.why, 500),
        )
        for each in check.checkers
    ]
    grid = _grid(("checker", "verdict", "time", "findings", "why"), rows, numbers=(2, 3))
    yield _section(title, about, grid, *_findings(check.findings))


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        return
    rows = [
        (
            f'<span class="tag {escape(each.severity.value)}">{escape(each.severity.value)}</span>',
            _text(each.kind, 100),
            "" if each.pgno is None else str(each.pgno),
            _text(each.object or "", 200),
            _text(each.message, 500),
        )
        for each in findings[:MOST_FINDINGS]
    ]
    yield _grid(("severity", "kind", "page", "of", "what"), rows, numbers=(2,))
    left = len(findings) - len(rows)
    if left > 0:
        yield f'<p class="dim">and {number(left, "more finding")}; report.json has all</p>'


def _timings(report: RepairReport) -> str:
    parts = (
        ("check", report.seconds_check),
        ("diagnosis", report.seconds_diagnosis),
        ("copy, repair and comparison", report.seconds_repair),
        ("deep check of the copy", report.seconds_judging),
    )
    rows = [(escape(what), seconds(took)) for what, took in parts if took]
    rows.append(("in all", seconds(report.seconds)))
    return _section("Time taken", _grid(("step", "time"), rows, numbers=(1,)))
