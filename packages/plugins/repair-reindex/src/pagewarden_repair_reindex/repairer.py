"""The repairers: what they plan, and in which order it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.errors import RepairRefused

# What reads trees is imported where it is called: whoever only checks loads this module, too.
if TYPE_CHECKING:
    from pagewarden_repair_reindex.condemned import Sentence

_NAMED = 10  # in one sentence


class IndexRepairer:
    """Builds damaged and stale indexes anew from the rows of their tables, which must be sound (H27).

    Where an entry and its row disagree the row stands. It raises where rows share the key of a UNIQUE index: those are
    `DuplicatesRepairer`'s.
    """

    name = "repair-reindex"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return one step for all indexes, since none can be mended while another is damaged; none while a table is.

        Raises RepairRefused where there is nothing but indexes that need their application.
        """
        from pagewarden_repair_reindex.condemned import sentence

        found = sentence(case)
        if found.left and not found.condemned:
            raise RepairRefused(f"these indexes cannot be built anew here: {_some(found.left)}")
        if not found.findings:
            return ()
        left = f"; left as they are: {_some(found.left)}" if found.left else ""
        return (
            RepairStep(
                text=_text(found),
                why=_why(found) + left,
                loses=_loses(found),
                loss=Loss.ROWS if found.witnesses else Loss.NOTHING,
                stage=Stage.INDEXES,
                mends=found.findings,
                task=_task(found),
            ),
        )

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Empty the indexes, and fill them again. Raises PagewardenError."""
        for step in steps:
            self._build(bench, step, move=False)

    def _build(self, bench: RepairBench, step: RepairStep, *, move: bool) -> None:
        from pagewarden_repair_reindex.entries import keep_entries
        from pagewarden_repair_reindex.rebuild import move_duplicates, refill, reindex, root
        from pagewarden_repair_reindex.surgery import cut_loose

        indexes, texts, trees = (_listed(step.task[name]) for name in ("indexes", "full-text", "trees"))
        keep_entries(bench, _listed(step.task["told"]), _listed(step.task["witnesses"]))
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
        """Return the step of `IndexRepairer`, with what it costs, if an index is UNIQUE."""
        from pagewarden_repair_reindex.condemned import sentence

        found = sentence(case)
        unique = _unique(found)
        if not unique or not found.findings:
            return ()
        return (
            RepairStep(
                text=(
                    f"{_text(found)}; of rows that share a key the first stays, by rowid or primary key, and the others"
                    " go to the quarantine"
                ),
                why="they are damaged, and rows may share a key of a unique one, which no index can hold",
                loses=f"rows of {_some(unique)} that share a key with an earlier row leave it for the quarantine"
                + (f"; {_forgotten(found)}" if found.witnesses else ""),
                loss=Loss.ROWS if found.witnesses else Loss.MOVED,
                stage=Stage.INDEXES,
                mends=found.findings,
                task=_task(found),
            ),
        )

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Empty the indexes, move the rows that share a key, and fill the indexes. Raises PagewardenError."""
        for step in steps:
            self._build(bench, step, move=True)


def _why(found: Sentence) -> str:
    if found.witnesses:
        return "they do not agree with their tables, which have lost rows: build them anew where no backup has these"
    return "they are damaged or stale, and their tables hold every row; a row stands where they differ"


def _unique(found: Sentence) -> list[str]:
    """Return the tables whose rows may share a key that they must not share."""
    return sorted({one.table for one in found.condemned if one.unique})


def _loses(found: Sentence) -> str:
    if found.witnesses:
        return _forgotten(found)
    if not _unique(found):
        return "nothing"
    return (
        f"nothing, unless rows of {_some(_unique(found))} share a key of a unique index: then all but the first of each"
        " leave for the quarantine, by repair-duplicates, which --only-lossless forbids"
    )


def _forgotten(found: Sentence) -> str:
    """Say what tables must have lost, by what their indexes remember."""
    lost = _some([f"{each.rows} rows of {each.table}" for each in found.witnesses])
    return f"{lost} that only an index remembers: the table has lost them, and the quarantine gets their keys"


def _text(found: Sentence) -> str:
    """Return what is done, as one sentence."""
    indexes = [f"{one.name} of table {one.table}" for one in found.condemned if not one.full_text]
    texts = [one.name for one in found.condemned if one.full_text]
    parts = [f"index{'es' if len(indexes) > 1 else ''} {_some(indexes)}"] if indexes else []
    parts += [f"the full-text index{'es' if len(texts) > 1 else ''} of {_some(texts)}"] if texts else []
    return f"build {' and '.join(parts)} anew from the rows"


def _task(found: Sentence) -> dict[str, object]:
    return {
        "indexes": [one.name for one in found.condemned if not one.full_text],
        "full-text": [one.name for one in found.condemned if one.full_text],
        "trees": [tree for one in found.condemned for tree in one.trees],
        "told": list(found.told),
        "witnesses": [each.index for each in found.witnesses],
    }


def _listed(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
