"""The checker: one foreign_key_check per table that has foreign keys, all in one read transaction."""

from __future__ import annotations

import shlex
import sqlite3

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.values import Finding, Level, Severity

FINDINGS = 1000
"""How many violations become findings; the others are counted."""


class ForeignKeyChecker:
    """Finds rows that break a foreign key.

    That is a broken rule of the owner's, not damage of the file: SQLite enforces foreign keys only where each
    connection asks for it. Its integrity_check does not look at them.
    """

    name = "check-foreign-keys"
    level = Level.STANDARD
    in_process = True

    def check(self, subject: Subject) -> CheckOutcome:
        """Return a violation for each row that names a missing parent, and for each key that cannot be enforced."""
        connection = subject.connect()
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("BEGIN")  # so that all tables are seen at one commit
        tables = [
            str(name)
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
            ).fetchall()
        ]
        findings: list[Finding] = []
        left_out = 0
        for number, table in enumerate(tables):
            subject.progress(number, len(tables))
            keys = _keys(connection, table)
            if not keys:
                continue
            try:
                for _, rowid, parent, key in connection.execute(f"PRAGMA foreign_key_check({_quote(table)})"):
                    if len(findings) < FINDINGS:
                        findings.append(_violation(subject.path, table, rowid, str(parent), keys.get(key, "")))
                    else:
                        left_out += 1
            except sqlite3.OperationalError as error:
                if "foreign key mismatch" not in str(error):
                    raise
                findings.append(_mismatch(table, error))
        connection.execute("ROLLBACK")
        why = f"{left_out} more violations were left out" if left_out else ""
        return CheckOutcome(findings=tuple(findings), why=why)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _keys(connection: sqlite3.Connection, table: str) -> dict[int, str]:
    """Return the foreign keys of a table: their number, and their columns as a list."""
    keys: dict[int, list[str]] = {}
    for row in connection.execute(f"PRAGMA foreign_key_list({_quote(table)})"):
        keys.setdefault(row[0], []).append(str(row[3]))
    return {number: ", ".join(columns) for number, columns in keys.items()}


def _violation(path: str, table: str, rowid: int | None, parent: str, columns: str) -> Finding:
    row = f"rowid {rowid}" if rowid is not None else "a row"
    return Finding(
        kind="foreign-key",
        severity=Severity.VIOLATION,
        object=table,
        rowid=rowid,
        message=f"table {table}, {row}: column {columns} names a row of {parent} that is not there",
        evidence=f"foreign_key_check: {table}, {rowid}, {parent}",
        hint=shlex.join(["sqlite3", path, f"PRAGMA foreign_key_check({_quote(table)})"]),
    )


def _mismatch(table: str, error: sqlite3.OperationalError) -> Finding:
    return Finding(
        kind="foreign-key-mismatch",
        severity=Severity.VIOLATION,
        object=table,
        message=f"table {table} has a foreign key whose parent key is not unique, so that it cannot be enforced",
        evidence=str(error),
    )
