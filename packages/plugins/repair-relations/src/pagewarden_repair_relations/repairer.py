"""The repairer: what it plans for broken foreign keys, and what it does about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pagewarden.contracts import Loss, Orphans, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.values import Finding, Severity

_POLICIES: Mapping[Orphans, tuple[str, str]] = {
    Orphans.LEAVE: ("leave the rows that stay without one", "nothing"),
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

    Parents, and parents of parents, come from restore points: from the newest one, and from older ones only where rows
    are to be moved otherwise. What stays without one is dealt with as the owner chose: it is left, unless they did.
    No other row changes: no trigger fires, and no key's own action runs.
    """

    name = "repair-relations"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return a step for each table; none while anything is damaged: a parent may be there, and not be seen."""
        if case.refused or any(finding.severity is Severity.DAMAGE for finding in case.findings):
            return ()
        if case.policy.orphans is Orphans.LEAVE and case.history is None:
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
        if steps:
            # Imported here: whoever only checks loads this module, too.
            from pagewarden_repair_relations.work import relate

            relate(bench, [str(step.task["table"]) for step in steps])


def _step(case: RepairCase, table: str, places: tuple[int, ...]) -> RepairStep:
    rows = f"the {len(places)} rows" if len(places) > 1 else "the row"
    parents = "its parent" if len(places) == 1 else "their parents"
    leave = case.policy.orphans is Orphans.LEAVE
    whence = "the newest restore point" if leave else "restore points"
    what, loses = _POLICIES[case.policy.orphans]
    fetched = f"fetch {parents} from {whence}, then " if case.history is not None else ""
    nowhere = "" if leave else "; nowhere means in the database"
    nowhere += " and its newest restore points" if nowhere and case.history is not None else ""
    return RepairStep(
        text=f"{rows} of table {table} without a parent: {fetched}{what}",
        why=f"foreign keys of {table} name rows that are not there{nowhere}",
        loses=loses,
        loss=Loss.NOTHING if leave else Loss.MOVED,
        stage=Stage.RELATIONS,
        mends=places,
        task={"table": table},
    )


def _tables(case: RepairCase) -> frozenset[str]:
    """Return the names of the tables that can be parents: without one that is gone there are no rows to look for."""
    from pagewarden.sqlite.schema import Layout, read_schema

    image = case.image
    layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
    entries = read_schema(image.page, layout)
    return frozenset(entry.name.lower() for entry in entries if entry.kind == "table" and entry.root)


def _parent(finding: Finding) -> str:
    """Return the parent that a finding names, behind "foreign_key_check: TABLE, ROWID, "."""
    _, _, parent = finding.evidence.removeprefix(f"foreign_key_check: {finding.object}, ").partition(", ")
    return parent.lower()
