"""A repair in words that the terminal and the HTML report share: how it stands, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pagewarden.legible import number
from pagewarden.repair.reports import RepairReport
from pagewarden.values import Verdict


def headline(report: RepairReport) -> str:
    """Return what became of the database, as a clause after its name."""
    if report.applied and report.output is not None:
        return f"is as it was; the repaired copy is {report.output}"
    if report.applied:
        return "is repaired"
    if report.plan and not report.why:
        return f"is {report.verdict_before}, and can be repaired; nothing has been changed yet"
    if report.why:
        return f"is {report.verdict_before}, and was left as it was: {report.why}"
    if report.verdict_before is Verdict.SOUND:
        return "is sound; there is nothing to repair"
    return f"is {report.verdict_before}, and nothing at hand mends it; it was left as it was"


def loss(report: RepairReport) -> str:
    """Return what the repair costs, or cost, in one clause; empty where there is none."""
    if report.applied:
        return _lost(report)
    if not report.plan or report.why:  # of a repair that was refused, nothing
        return ""
    costs = [f"{each.loses} ({each.repairer})" for each in report.plan if each.loses != "nothing"]
    return "; ".join(costs) if costs else "nothing is expected to be lost"


def _lost(report: RepairReport) -> str:
    lost = sum(table.rows_lost for table in report.tables)
    kept_apart = sum(table.rows_quarantined for table in report.tables)
    unknown = [table.name for table in report.tables if table.rows_expected is None]
    text = f"{number(lost, 'row')} lost" if lost else "no row that could be read or was backed up is lost"
    risked = dict.fromkeys(each.loses for each in report.plan if not each.lossless)
    if risked and not lost and not kept_apart:
        text += f"; gone may be: {'; '.join(risked)}"
    if kept_apart:
        text += f"; {number(kept_apart, 'row')} kept in the quarantine"
    if unknown:
        named = ", ".join(unknown[:3]) + (" and others" if len(unknown) > 3 else "")
        text += f"; how many rows there had been in {named} cannot be known"
    return text


def is_lossless(report: RepairReport) -> bool:
    """Whether no row is lost, or, of a plan, is expected to be lost or to leave the database."""
    if report.applied:
        return not any(table.rows_lost for table in report.tables) and all(each.lossless for each in report.plan)
    return all(each.lossless for each in report.plan)


def runs(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending page numbers as runs: the first and the last of each."""
    first = last = 0
    for pgno in pages:
        if first and pgno == last + 1:
            last = pgno
            continue
        if first:
            yield first, last
        first = last = pgno
    if first:
        yield first, last


def ranges(pages: tuple[int, ...], most: int = 12) -> str:
    """Return ascending page numbers, such as "3, 7–9 and 120 more"; at most `most` runs of them."""
    told = 0
    parts: list[str] = []
    for first, last in runs(pages):
        if len(parts) == most:
            return f"{', '.join(parts)} and {len(pages) - told:,} more"
        parts.append(f"{first}" if first == last else f"{first}–{last}")
        told += last - first + 1
    return ", ".join(parts)
