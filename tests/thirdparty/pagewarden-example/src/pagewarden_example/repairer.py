"""A repairer that takes empty rows out of a table, on the copy that core makes, and keeps them in the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage


class RowSweeper:
    """Mends findings of kind "empty-rows", which name a table."""

    name = "repair-empty-rows"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return a step for each finding that it knows."""
        return [
            RepairStep(
                text=f"take the empty rows out of {each.object}",
                loses="nothing: the rows are kept in the quarantine",
                loss=Loss.MOVED,
                stage=Stage.ROWS,
                mends=(place,),
                task={"table": each.object},
            )
            for place, each in enumerate(case.findings)
            if each.kind == "empty-rows" and each.object
        ]

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Take the rows out, and keep them."""
        for step in steps:
            name = str(step.task["table"])
            quoted = name.replace('"', '""')
            with closing(bench.connect()) as connection:
                rows = connection.execute(f'DELETE FROM "{quoted}" WHERE body IS NULL RETURNING rowid, *').fetchall()
            kept = bench.keep_rows(name, ("rowid", "id", "body"), rows, step.text)
            bench.note(name, rows_quarantined=kept)
