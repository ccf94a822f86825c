"""The checker of structure: every b-tree, the freelist and the pointer map."""

from __future__ import annotations

from collections.abc import Generator

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.values import Finding, Level


class StructureChecker:
    """Walks every b-tree of one commit, the freelist and the pointer map.

    It sees what SQLite's integrity_check sees of a database's structure and, beyond that, the order of index keys,
    record headers and every overlap. What it cannot see is a value that changed within its column.
    """

    name = "check-structure"
    level = Level.STANDARD
    in_process = True  # the page reader parses the hostile bytes, not this
    whole_only = "the freelist, pages that nothing uses, pages that two use"

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield a finding for each flaw, in the order in which they are seen."""
        # Imported here: a run that does not call this checker must not pay for what reads trees.
        from pagewarden_check_structure.judgement import Judgement

        return Judgement(subject).findings()
