"""How databases stand, for people: one row each, and below it what is overdue or wrong."""

from __future__ import annotations

from datetime import datetime

from pagewarden.values import DatabaseStatus, StatusReport
from pagewarden_cli.blocks import Block, Grid, Span, line
from pagewarden_cli.human import age, number
from pagewarden_cli.render import STYLES, Manner

_HEADER = ("database", "verdict", "last check", "level", "newest backup", "source", "points", "verified")


def show_status(report: StatusReport, manner: Manner) -> list[Block]:
    """Return a row for each database; quiet leaves those that need somebody."""
    shown = [each for each in report.databases if not manner.quiet or each.exit_code]
    blocks: list[Block] = []
    if shown:
        rows = tuple(_row(each, manner) for each in shown)
        blocks.append(Grid(_HEADER, rows, frozenset({6}), less=(3, 6)))
    elif not manner.quiet:
        blocks.append(line("no database to tell of"))
    for each in shown:
        blocks += [line(Span("overdue: ", "bad"), f"{_label(each)}: {text}") for text in each.overdue]
        blocks += [line(Span("problem: ", "warn"), f"{_label(each)}: {text}") for text in each.problems]
        if each.broken:
            text = f"{number(each.broken, 'restore point')} cannot be restored; verify says which can"
            blocks.append(line(Span("damaged: ", "bad"), f"{_label(each)}: {text}"))
        if each.suspects:
            text = f"{number(each.suspects, 'suspect page')}; ledger says which"
            blocks.append(line(Span("damaged: ", "bad"), f"{_label(each)}: {text}"))
    return blocks


def _label(status: DatabaseStatus) -> str:
    return status.database or status.name


def _row(status: DatabaseStatus, manner: Manner) -> tuple[Span, ...]:
    def ago(time: datetime | None) -> str:
        return "never" if time is None else age(time, manner.now)

    backed_up = status.repository is not None
    source = "" if status.source is None else status.source.verdict
    return (
        Span(_label(status), "strong"),
        Span(status.verdict, STYLES[status.verdict]) if status.database else Span(""),
        Span(ago(status.checked) if status.database else ""),
        Span(status.level or ""),
        Span(
            ago(None if status.position is None else status.position.time) if backed_up else "no repository",
            "" if backed_up else "dim",
        ),
        Span(source, STYLES.get(source, "")),
        Span(_points(status) if backed_up else ""),
        _verified(status, manner) if backed_up else Span(""),
    )


def _points(status: DatabaseStatus) -> str:
    """Return how many restore points there are, and how many commits can be restored with them."""
    points = number(status.restore_points)
    return f"{points}, {number(status.commits, 'commit')}" if status.commits else points


def _verified(status: DatabaseStatus, manner: Manner) -> Span:
    """Return what is known of the newest restore point, else when an older one was proved."""
    newest = status.verification
    if newest is not None and newest.state != "ok":
        return Span(newest.state, STYLES.get(newest.state, ""))
    if status.verified is None:
        return Span("not yet" if status.restore_points else "", "dim")
    return Span(age(status.verified, manner.now), "good")
