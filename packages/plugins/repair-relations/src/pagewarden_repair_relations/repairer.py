"""The repairer: what it plans for broken foreign keys, and what it does about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

from pagewarden.contracts import Loss, Orphans, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.errors import PagewardenError, RepairRefused
from pagewarden.live.connection import failure
from pagewarden.sqlite.refusals import refusal_of
from pagewarden.sqlite.schema import Layout, read_schema
from pagewarden.values import Finding, Severity
from pagewarden_repair_relations.keys import enforceable_keys, fold, touched
from pagewarden_repair_relations.parents import fetch_parents
from pagewarden_repair_relations.policy import settle

_POLICIES: Mapping[Orphans, tuple[str, str]] = {
    Orphans.QUARANTINE: (
        "take the rows that stay without one out",
        "rows whose parent is nowhere leave the database for the quarantine, and rows that name them",
    ),
    Orphans.SET_NULL: (
        "set the keys that stay without one to NULL",
        "keys whose parent is nowhere become NULL; where they cannot, their rows leave the database. The quarantine has"
        " the rows as they were",
    ),
    Orphans.CASCADE: (
        "take the rows that stay without one out, and all rows that name those",
        "rows whose parent is nowhere leave the database for the quarantine, and rows that name them",
    ),
}


class RelationsRepairer:
    """Finds the parents of rows whose foreign key names a row that is not there.

    Parents, and parents of parents, come from restore points. What stays without one is dealt with as the owner chose.
    No other row changes: no trigger fires, and no key's own action runs.
    """

    name = "repair-relations"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return a step for each table; none while anything is damaged: a parent may be there, and not be seen."""
        if case.refused or any(finding.severity is Severity.DAMAGE for finding in case.findings):
            return ()
        broken: dict[str, list[int]] = {}
        for place, finding in enumerate(case.findings):
            if finding.kind == "foreign-key" and finding.object is not None:
                broken.setdefault(finding.object, []).append(place)
        tables = _tables(case) if broken else frozenset()
        steps = []
        for table, places in broken.items():
            mended = tuple(place for place in places if _parent(case.findings[place]) in tables)
            if mended:
                steps.append(_step(case, table, mended))
        return tuple(steps)

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Fetch the parents, then follow the policy. Raises PagewardenError."""
        if not steps:
            return
        try:
            with closing(bench.connect()) as connection:
                keys = touched(enforceable_keys(connection), [str(step.task["table"]) for step in steps])
            history = bench.case.history
            if history is not None:
                fetch_parents(bench, history, keys)
            settle(bench, keys, bench.case.policy.orphans)
        except sqlite3.Error as error:
            raise _told(error, bench) from error


def _step(case: RepairCase, table: str, places: tuple[int, ...]) -> RepairStep:
    rows = f"the {len(places)} rows" if len(places) > 1 else "the row"
    verb, loses = _POLICIES[case.policy.orphans]
    parents = "its parent" if len(places) == 1 else "their parents"
    fetched = f"fetch {parents} from restore points, then " if case.history is not None else ""
    nowhere = " and its newest restore points" if case.history is not None else ""
    return RepairStep(
        text=f"{rows} of table {table} without a parent: {fetched}{verb}",
        why=f"foreign keys of {table} name rows that are not there; nowhere means in the database{nowhere}",
        loses=loses,
        loss=Loss.MOVED,
        stage=Stage.RELATIONS,
        mends=places,
        task={"table": table},
    )


def _tables(case: RepairCase) -> frozenset[str]:
    """Return the names of the tables that can be parents: without one that is gone there are no rows to look for."""
    image = case.image
    layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
    entries = read_schema(image.page, layout)
    return frozenset(fold(entry.name) for entry in entries if entry.kind == "table" and entry.root)


def _parent(finding: Finding) -> str:
    """Return the parent that a finding names, behind "foreign_key_check: TABLE, ROWID, "."""
    _, _, parent = finding.evidence.removeprefix(f"foreign_key_check: {finding.object}, ").partition(", ")
    return fold(parent)


def _told(error: sqlite3.Error, bench: RepairBench) -> PagewardenError:
    refusal = refusal_of(error) if isinstance(error, sqlite3.DatabaseError) else None
    if refusal is None:
        return failure(error, str(bench.database))
    return RepairRefused(f"foreign keys cannot be mended: {refusal.message}")
