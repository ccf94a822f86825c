"""A checker that looks at a database through SQLite."""

from __future__ import annotations

from collections.abc import Iterator

from pagewarden.contracts import Subject
from pagewarden.values import Finding, Level, Severity


class EmptyTables:
    """Notices tables without a row: a migration may have been forgotten."""

    name = "check-empty-tables"
    level = Level.QUICK

    def check(self, subject: Subject) -> Iterator[Finding]:
        """Yield a notice for each empty table. Findings that were yielded stay, should a later table fail."""
        connection = subject.connect()
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
        names = [name for (name,) in connection.execute(query)]
        for number, name in enumerate(names):
            subject.progress(number, len(names))
            quoted = name.replace('"', '""')
            if connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is None:
                yield Finding(
                    kind="empty-table", severity=Severity.NOTICE, object=name, message=f"table {name} has no rows"
                )
