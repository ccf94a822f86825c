"""A repairer that mends nothing, and keeps a note of what it was asked to mend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pagewarden.contracts import RepairStep
from pagewarden.values import Finding


class NoteTaker:
    """Writes down findings of kind "needs-a-note"."""

    name = "repair-note"

    def plan(self, findings: Sequence[Finding]) -> Sequence[RepairStep]:
        """Return a step for each finding that it knows."""
        return [RepairStep(text=f"note: {each.message}") for each in findings if each.kind == "needs-a-note"]

    def apply(self, copy: Path, steps: Sequence[RepairStep], quarantine: Path) -> None:
        """Write the steps into the quarantine."""
        if steps:
            (quarantine / "notes.txt").write_text("".join(f"{step.text}\n" for step in steps))
