"""Reports as blocks for people: `quiet` leaves what is wrong, and what was asked for; `verbose` cuts nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pagewarden.values import (
    BackupReport,
    BackupsReport,
    CheckReport,
    DoctorReport,
    Finding,
    InjuryReport,
    LedgerReport,
    PluginInfo,
    PluginsReport,
    RestoreReport,
    Severity,
    StatusReport,
    UndoReport,
    Verdict,
    VerifyReport,
)
from pagewarden_cli.blocks import Block, Grid, Line, Span, Style, line
from pagewarden_cli.human import moment, number, safe_command, seconds, size

SHOWN_FINDINGS = 20
SHOWN_RUNS = 10

STYLES: dict[str, Style] = {
    "sound": "good",
    "ok": "good",
    "unknown": "warn",
    "warning": "warn",
    "violation": "warn",
    "damaged": "bad",
    "damage": "bad",
    "missing": "bad",
    "problem": "bad",
    "fault": "bad",
    "seen": "warn",
    "confirmed": "bad",
    "transient": "dim",
    "repaired": "good",
    "gone": "dim",
    "notice": "dim",
    "disabled": "dim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How much is said."""

    quiet: bool = False
    verbose: bool = False
    now: datetime


def render(report: object, manner: Manner) -> tuple[Block, ...]:
    """Return what to show of any report."""
    painter: Callable[[Any, Manner], list[Block]] = _PAINTERS[type(report)]
    return tuple(painter(report, manner))


def _state(word: str) -> Span:
    return Span(word, STYLES.get(word, ""))


def _hint(text: str, indent: int) -> list[Block]:
    return [line(Span("hint: ", "dim"), safe_command(text), indent=indent)] if text else []


def _check(report: CheckReport, manner: Manner) -> list[Block]:
    blocks: list[Block] = []
    if not (manner.quiet and report.exit_code == 0):
        blocks.append(line(Span(report.database, "strong"), " is ", _verdict(report.verdict)))
    if not manner.quiet:
        pages = f"{number(report.pages, 'page')} of {size(report.page_size)}, {size(report.bytes)}"
        blocks.append(line(f"{pages}, judged in {seconds(report.seconds)}", indent=2))
        if report.position is not None:
            compared = f"compared with position {report.position} of {moment(report.position.time)}"
            blocks.append(line(compared, indent=2))
        rows = tuple(
            (
                Span(checker.name),
                _state(checker.verdict),
                Span(seconds(checker.seconds)),
                Span(number(checker.findings)),
                Span(checker.why),
            )
            for checker in report.checkers
        )
        blocks.append(Grid(("checker", "verdict", "time", "findings", "why"), rows, frozenset({2, 3}), indent=2))
    elif report.verdict is Verdict.UNKNOWN:
        blocks += [line(f"{checker.name}: {checker.why}", indent=2) for checker in report.checkers if checker.why]
    return blocks + show_findings(report.findings, manner)


def _verdict(verdict: Verdict) -> Span:
    return _state(verdict.value)


def show_findings(findings: Sequence[Finding], manner: Manner, most: int = SHOWN_FINDINGS) -> list[Block]:
    """Return findings for people: what several checkers say of one place together, and a hint once for all it is for.

    At most `most` of them, unless everything is wanted.
    """
    wanted = [finding for finding in findings if not manner.quiet or finding.severity is not Severity.NOTICE]
    groups: dict[str, list[Finding]] = {}
    for finding in wanted if manner.verbose else wanted[:most]:
        groups.setdefault(_place(finding), []).append(finding)
    blocks: list[Block] = []
    told = ""
    for group in groups.values():
        for place, finding in enumerate(group):
            if told and finding.hint != told:
                blocks += _hint(told, 4)
            told = finding.hint
            if len(group) == 1:
                blocks += _finding(finding)
            else:
                blocks += _beside(finding, first=place == 0)
    blocks += _hint(told, 4)
    left = len(wanted) - sum(map(len, groups.values()))
    if left:
        blocks.append(
            line(Span(f"… and {number(left, 'more finding')}; --verbose or --json show all", "dim"), indent=2)
        )
    return blocks


def _place(finding: Finding) -> str:
    """Return what findings are put together by: the table or index, or the page where it is not known whose that is."""
    if finding.object is not None:
        return finding.object
    return "the database" if finding.pgno is None else f"page {finding.pgno}"


def _finding(finding: Finding) -> list[Block]:
    style = STYLES[finding.severity]
    blocks: list[Block] = [
        line(Span(f"{finding.severity} ", style), Span(finding.kind, "strong"), _where(finding), indent=2),
        line(finding.message, indent=4),
    ]
    if finding.evidence:
        blocks.append(line(Span("evidence: ", "dim"), finding.evidence, indent=4))
    return blocks


def _where(finding: Finding, *, within: bool = False) -> str:
    """Return page, table and row; the table is left out `within` what is said of it."""
    place = [f"page {finding.pgno}"] if finding.pgno is not None else []
    place += [finding.object] if finding.object is not None and not within else []
    place += [f"row {finding.rowid}"] if finding.rowid is not None else []
    return f"  {', '.join(place)}" if place else ""


def _beside(finding: Finding, *, first: bool) -> list[Block]:
    """Return one of several findings of one place, with who found it; the first one is preceded by the place."""
    by = f" ({finding.checker})" if finding.checker else ""
    style = STYLES[finding.severity]
    said = (Span(f"{finding.severity} ", style), Span(finding.kind, "strong"), by, _where(finding, within=True))
    blocks: list[Block] = [line(Span(_place(finding), "strong"), indent=2)] if first else []
    blocks += [line(*said, indent=4), line(finding.message, indent=6)]
    if finding.evidence:
        blocks.append(line(Span("evidence: ", "dim"), finding.evidence, indent=6))
    return blocks


def _backup(report: BackupReport, manner: Manner) -> list[Block]:
    blocks: list[Block] = []
    if not manner.quiet:
        blocks += [
            line(Span(report.database, "strong"), f" → {report.repository}: {report.kind} ", _position(report)),
            line(_copied(report), indent=2),
        ]
        if report.why_full:
            blocks.append(line(f"every page was copied: {report.why_full}", indent=2))
        proof = "read back and verified" if report.verified else "not verified"
        same = "every page is as it was stored then" if report.kind == "unchanged" else proof
        blocks.append(line(f"database sum {report.database_sum}; {same}", indent=2))
        if report.attempts > 1 and manner.verbose:
            blocks.append(line(f"one whole commit was read at attempt {report.attempts}", indent=2))
        if report.lock_seconds:
            blocks.append(line(f"a SHARED lock was held for {seconds(report.lock_seconds)} at most", indent=2))
    if not manner.quiet or report.exit_code:
        source = report.source
        judged = "not judged" if source.level == "none" else f"{source.level} check"
        why = f": {source.why}" if source.why else ""
        of = f" {report.database}" if manner.quiet else ""
        blocks.append(
            line(f"source{of}: ", _state(source.verdict), f" ({judged}{why})", indent=0 if manner.quiet else 2)
        )
    if report.exit_code:
        blocks += _hint(shlex.join(["pagewarden", "check", report.database]), 2)
    return blocks + _warnings(report.warnings)


def _copied(report: BackupReport) -> str:
    """Return what was read and stored, in words."""
    speed = f", {size(round(report.bytes_read / report.seconds))}/s" if report.seconds > 0 else ""
    took = f"{seconds(report.seconds)}{speed}"
    read = f"{size(report.bytes_read)} read"
    if report.kind == "unchanged":
        return f"{read}, nothing to store; {took}"
    pages = number(report.pages_copied, "page")
    stored = f"{read}, {size(report.bytes_stored)} stored"
    if report.kind == "segment":  # of which a ratio would say how little changed, and nothing about its compression
        return f"{pages} changed, {stored}; {took}"
    ratio = f", {report.bytes_read / report.bytes_stored:.2f} : 1" if report.bytes_stored else ""
    return f"{pages}, {stored}{ratio}; {took}"


def _position(report: BackupReport) -> Span:
    return Span(f"{report.position} of {moment(report.position.time)}")


def _backups(report: BackupsReport, manner: Manner) -> list[Block]:
    from pagewarden_cli.timeline import show_backups

    return show_backups(report, manner)


def _verify(report: VerifyReport, manner: Manner) -> list[Block]:
    from pagewarden_cli.proofs import show_verify

    return show_verify(report, manner)


def _status(report: StatusReport, manner: Manner) -> list[Block]:
    from pagewarden_cli.standing import show_status

    return show_status(report, manner)


def _restore(report: RestoreReport, manner: Manner) -> list[Block]:
    if report.dry_run:
        place = f" would be restored to {report.position} of {moment(report.time)}"
        plan: list[Block] = [line(f"{n}. {step}", indent=2) for n, step in enumerate(report.steps, start=1)]
        return [line(Span(report.to, "strong"), place), *plan, *_warnings(report.warnings)]
    if manner.quiet:
        return _warnings(report.warnings)
    speed = f", {size(round(report.bytes / report.seconds))}/s" if report.seconds > 0 else ""
    proof = "verified" if report.verified else "not verified"
    blocks: list[Block] = [
        line(Span(report.to, "strong"), f" is restored to {report.position} of {moment(report.time)}"),
        line(f"{number(report.pages, 'page')}, {size(report.bytes)}; {seconds(report.seconds)}{speed}", indent=2),
        line(f"database sum {report.database_sum}; {proof}", indent=2),
    ]
    beside = [
        f"right {word} it {at} of {moment(at.time)}"
        for word, at in (("before", report.before), ("after", report.after))
        if at is not None
    ]
    if beside and manner.verbose:
        blocks.append(line("; ".join(beside), indent=2))
    if report.undo:
        blocks.append(line(Span("undo: ", "dim"), safe_command(report.undo), indent=2))
    return blocks + _warnings(report.warnings)


def _undo(report: UndoReport, manner: Manner) -> list[Block]:
    if manner.quiet:
        return _warnings(report.warnings)
    stands = "holds the previous file again" if report.restored == "previous file" else "is gone, as before the restore"
    blocks: list[Block] = [line(Span(report.path, "strong"), f" {stands} ({seconds(report.seconds)})")]
    if report.kept:
        blocks.append(line(f"what stood there is kept as {report.kept}", indent=2))
    return blocks + _warnings(report.warnings)


def _warnings(warnings: tuple[str, ...]) -> list[Block]:
    return [line(Span("warning: ", "warn"), warning) for warning in warnings]


def _ledger(report: LedgerReport, manner: Manner) -> list[Block]:
    blocks: list[Block] = []
    suspects = [suspect for suspect in report.suspects if not manner.quiet or suspect.state in ("seen", "confirmed")]
    if suspects:
        rows = tuple(
            (
                _state(suspect.state),
                Span(number(suspect.pgno)),
                Span(suspect.kind),
                Span(suspect.object or ""),
                Span(moment(suspect.first_seen)),
                Span(moment(suspect.last_seen)),
                Span(suspect.evidence),
            )
            for suspect in suspects
        )
        header = ("state", "page", "kind", "object", "first seen", "last seen", "evidence")
        blocks.append(Grid(header, rows, frozenset({1})))
    elif not manner.quiet:
        blocks.append(line("no page of ", Span(report.database, "strong"), " was ever suspect"))
    if not manner.quiet:
        blocks += _past_runs(report, manner)
    return blocks + _warnings(report.warnings)


def _past_runs(report: LedgerReport, manner: Manner) -> list[Block]:
    if not report.runs:
        return [line("no check of it is remembered")]
    shown = report.runs if manner.verbose else report.runs[-SHOWN_RUNS:]
    rows = tuple(
        (
            Span(moment(run.started)),
            Span(run.level),
            _state(run.verdict),
            Span(seconds(run.seconds)),
            Span(number(run.findings)),
            Span("; ".join(f"{each.name}: {each.why}" for each in run.checkers if each.verdict is Verdict.UNKNOWN)),
        )
        for run in shown
    )
    grid = Grid(("check", "level", "verdict", "time", "findings", "unknown because"), rows, frozenset({3, 4}))
    left = len(report.runs) - len(shown)
    more = [line(Span(f"… and {number(left, 'earlier check')}; --verbose or --json show all", "dim"))] if left else []
    return [Line(), grid, *more]


def _doctor(report: DoctorReport, manner: Manner) -> list[Block]:
    facts = [fact for fact in report.facts if not manner.quiet or fact.state != "ok"]
    rows = tuple((_state(fact.state), Span(fact.name), Span(fact.value)) for fact in facts)
    blocks: list[Block] = [Grid(("state", "fact", "value"), rows)] if rows else []
    for fact in facts:
        if fact.why and (fact.state != "ok" or manner.verbose):
            blocks += [Line(), line(Span(fact.name, STYLES.get(fact.state, "")), f": {fact.why}"), *_hint(fact.hint, 2)]
    return blocks


def _plugins(report: PluginsReport, manner: Manner) -> list[Block]:
    rows = tuple(
        (Span(plugin.name), Span(plugin.version), Span(_brings(plugin)), _plugin_state(plugin))
        for plugin in report.plugins
        if not manner.quiet or plugin.fault
    )
    blocks: list[Block] = [Grid(("plugin", "version", "brings", "state"), rows)] if rows else []
    if not report.plugins and not manner.quiet:
        blocks.append(line("no plugins are installed"))
    return blocks + [line(Span("fault: ", "bad"), fault) for fault in report.faults]


def _brings(plugin: PluginInfo) -> str:
    parts = [f"checker {name}" for name in plugin.checkers]
    parts += [f"repairer {name}" for name in plugin.repairers]
    parts += [f"target {scheme}:" if scheme else "target for plain paths" for scheme in plugin.targets]
    parts += [f"notifier {name}" for name in plugin.notifiers]
    return ", ".join(parts + (["observer"] if plugin.observes else []))


def _plugin_state(plugin: PluginInfo) -> Span:
    return _state("fault" if plugin.fault else "disabled" if plugin.disabled else "ok")


def _injury(report: InjuryReport, manner: Manner) -> list[Block]:
    if manner.quiet:
        return []
    blocks: list[Block] = [
        line(Span(report.path, "strong"), f": {report.kind}, seed {report.seed}"),
        line(report.message, indent=2),
    ]
    if report.before or report.after:
        blocks.append(line(f"before {report.before}  after {report.after}", indent=2))
    return blocks


_PAINTERS: dict[type, Callable[[Any, Manner], list[Block]]] = {
    CheckReport: _check,
    BackupReport: _backup,
    BackupsReport: _backups,
    VerifyReport: _verify,
    StatusReport: _status,
    RestoreReport: _restore,
    UndoReport: _undo,
    LedgerReport: _ledger,
    DoctorReport: _doctor,
    PluginsReport: _plugins,
    InjuryReport: _injury,
}
