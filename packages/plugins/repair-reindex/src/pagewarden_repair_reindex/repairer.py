"""The repairers: what they plan, and in which order it is done."""

from __future__ import annotations

from collections.abc import Sequence

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.errors import RepairRefused
from pagewarden_repair_reindex.condemned import Condemned, sentence
from pagewarden_repair_reindex.rebuild import move_duplicates, refill, reindex, root
from pagewarden_repair_reindex.surgery import cut_loose

_NAMED = 5  # what is left as it is, by name


class IndexRepairer:
    """Builds damaged and stale indexes anew from the rows of their tables, which must be sound (H27).

    Where an entry and its row disagree the row stands. It raises where rows share the key of a UNIQUE index: those are
    `DuplicatesRepairer`'s.
    """

    name = "repair-reindex"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return a step for each index; none while a table is damaged.

        Raises RepairRefused where there is nothing but indexes that need their application.
        """
        found = sentence(case)
        if found.left and not found.condemned:
            raise RepairRefused(f"these indexes cannot be built anew here: {_some(found.left)}")
        left = f"; left as they are: {_some(found.left)}" if found.left else ""
        return tuple(_step(one, left) for one in found.condemned)

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Empty the indexes, and fill them again. Raises PagewardenError."""
        self._build(bench, steps, move=False)

    def _build(self, bench: RepairBench, steps: Sequence[RepairStep], *, move: bool) -> None:
        if not steps:
            return
        indexes = [str(step.task["index"]) for step in steps if "index" in step.task]
        texts = [str(step.task["full-text"]) for step in steps if "full-text" in step.task]
        trees = [str(tree) for step in steps for tree in _listed(step.task.get("trees"))]
        if indexes or trees:
            root(bench, cut_loose(bench, (*indexes, *trees)))
        if move:
            move_duplicates(bench, indexes)
        if indexes:
            reindex(bench, indexes)
        if texts:
            refill(bench, texts, trees)


class DuplicatesRepairer(IndexRepairer):
    """Does the same where rows share the key of a UNIQUE index: all but the first of each key leave the database.

    The first is the one with the lowest rowid, or the lowest primary key where there is no rowid.
    """

    name = "repair-duplicates"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return the steps of `IndexRepairer` if one is of a UNIQUE index."""
        found = sentence(case)
        if not any(one.unique for one in found.condemned):
            return ()
        return tuple(_moving_step(one) if one.unique else _step(one, "") for one in found.condemned)

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Empty the indexes, move the rows that share a key, and fill the indexes. Raises PagewardenError."""
        self._build(bench, steps, move=True)


def _step(one: Condemned, left: str) -> RepairStep:
    if one.full_text:
        return RepairStep(
            text=f"build the full-text index of {one.name} anew from its rows",
            why=f"it contradicts itself or its rows, which are all there{left}",
            stage=Stage.INDEXES,
            mends=one.findings,
            task={"full-text": one.name, "trees": list(one.trees)},
        )
    return RepairStep(
        text=f"build index {one.name} anew from the rows of table {one.table}",
        why=f"the index is damaged or stale; its table holds every row, and the row stands where they disagree{left}",
        stage=Stage.INDEXES,
        mends=one.findings,
        task={"index": one.name},
    )


def _moving_step(one: Condemned) -> RepairStep:
    return RepairStep(
        text=(
            f"build the unique index {one.name} of table {one.table} anew; of rows that share a key the first stays,"
            " by rowid or primary key, and the others go to the quarantine"
        ),
        why="the index is damaged, and rows may share its key, which no index can hold",
        loses=f"rows of {one.table} that share a key with an earlier row leave it for the quarantine",
        loss=Loss.MOVED,
        stage=Stage.INDEXES,
        mends=one.findings,
        task={"index": one.name},
    )


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
