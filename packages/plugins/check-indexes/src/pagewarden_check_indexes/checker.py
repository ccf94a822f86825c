"""The checker of indexes."""

from __future__ import annotations

from collections.abc import Generator

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.values import Finding, Level


class IndexesChecker:
    """Compares every index with its table, in both directions.

    A row that its index lacks is not found by a query that uses the index; an entry too many makes one answer with a
    row that is not there. Nothing that the structure of an index shows says so.
    """

    name = "check-indexes"
    level = Level.STANDARD
    in_process = True
    relational = True

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield damage for each row and entry that disagree. An index that needs its application is `unknown` (H7)."""
        # Imported here: a run that does not call this checker must not pay for it.
        from pagewarden_check_indexes.judgement import judge

        return judge(subject)
