"""Whether an index that disagrees with its table speaks against the index, or against the table.

An entry whose row is not there is what a stale index has, and what an index has whose table lost the row: where a page
of the table went back to an older version, its structure is right and only the index remembers (H28). So:

1. An entry pairs with a row that has none, where both have the same rowid or the same key: one of the two was changed,
   and no row is gone. The same number of both is taken for that, too, within some entries of one damaged place.
2. Entries beyond those speak against the table, unless another index of the table agrees with every row of it: an
   index holds every row, so that one that was lost would be missed by all of them.
3. An index whose own pages are damaged is no witness, nor is any while two trees use one page. One with a WHERE, or
   that only the application can judge, confirms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.sqlite.columns import buildable_indexes
from pagewarden.sqlite.statement import NotUnderstood, take_apart
from pagewarden.structure import FlawKind
from pagewarden.values import Finding, Severity

if TYPE_CHECKING:
    from pagewarden.contracts import RepairCase
    from pagewarden.sqlite.schema import SchemaEntry

AT_ONE_PLACE = 3
"""Entries that garbage of some bytes may hit together, so that neither keys nor rowids are what they were."""

_ENTRY, _ROW = "it has ", "the row has "  # how the evidence of check-indexes begins
_COUNTED = re.compile(r"expected (\d+) entries, seen (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """An index that remembers rows which its table does not have."""

    index: str
    table: str
    rows: int  # at least so many


def witnesses(case: RepairCase, entries: Sequence[SchemaEntry]) -> tuple[Witness, ...]:
    """Return the indexes that speak against their tables, by the findings of `case`; `entries` is its schema."""
    indexes = {entry.name: entry for entry in entries if entry.kind == "index"}
    found: dict[str, list[Finding]] = {}
    for finding in case.findings:
        if finding.severity is Severity.DAMAGE and finding.object in indexes:
            found.setdefault(finding.object, []).append(finding)
    suspects = {name: rows for name, told in found.items() if (rows := _lost(told))}
    if not suspects:
        return ()
    flaws = [flaw for flaw in case.flaws() if flaw.tree is not None and flaw.kind is not FlawKind.POINTER_MAP]
    if any(flaw.kind is FlawKind.TWICE for flaw in flaws):
        return ()  # whoever uses a page of somebody else's may look whole, and have its entries
    trees = [tree.name for tree in case.trees]
    flawed = {trees[flaw.tree] for flaw in flaws if flaw.tree is not None}
    told = []
    for name, rows in suspects.items():
        table = indexes[name].table
        if name not in flawed and not _confirmed(table, entries, {*found, *flawed}):
            told.append(Witness(index=name, table=table, rows=rows))
    return tuple(told)


def is_entry(finding: Finding) -> bool:
    """Return whether a finding is about an entry that its table has no such row for."""
    return finding.kind == "index-mismatch" and finding.evidence.startswith(_ENTRY)


def _lost(findings: Sequence[Finding]) -> int:
    """Return how many entries of one index neither pair with a row without one, nor are few enough to be garbage."""
    entries = [finding for finding in findings if is_entry(finding)]
    rows = [finding for finding in findings if finding.kind == "index-mismatch" and finding.evidence.startswith(_ROW)]
    counted = [match for finding in findings if (match := _COUNTED.search(finding.evidence))]
    more = max((int(match[2]) - int(match[1]) for match in counted), default=0)
    rowids = {finding.rowid for finding in rows if finding.rowid is not None}
    keys = {finding.evidence.removeprefix(_ROW) for finding in rows}
    alone = [
        finding
        for finding in entries
        if finding.rowid not in rowids and finding.evidence.removeprefix(_ENTRY) not in keys
    ]
    surplus = len(entries) - len(rows)
    return max(more, surplus, len(alone) if len(alone) > AT_ONE_PLACE else 0, 0)


def _confirmed(table: str, entries: Sequence[SchemaEntry], doubtful: set[str]) -> bool:
    """Return whether an index of the table that is not in doubt holds all of its rows, and no others."""
    mine = [entry for entry in entries if entry.kind == "index" and entry.table == table]
    whole = [entry for entry in mine if entry.name not in doubtful and entry.root and _has_every_row(entry)]
    if not whole:
        return False
    itself = [entry for entry in entries if entry.kind == "table" and entry.name == table]
    known = buildable_indexes((*itself, *mine), table)
    return any(entry.name in known for entry in whole)


def _has_every_row(index: SchemaEntry) -> bool:
    """Return whether an index is surely none of some rows alone."""
    try:
        return not index.sql or not take_apart(index.sql).condition
    except NotUnderstood:
        return False
