"""The checker: table by table, and never a read transaction for longer than a statement.

A statement sees child and parents at one commit, which is all that a key needs; one transaction for all tables would
keep checkpoints from resetting the log for as long as all of them take (H8).
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Callable, Generator, Iterator
from functools import partial

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.sqlite.names import as_text, quote
from pagewarden.sqlite.refusals import Refusal, refusal_or_raise
from pagewarden.sqlite.relations import foreign_keys
from pagewarden.values import Finding, Level, Severity, Verdict
from pagewarden_check_foreign_keys.asking import all_have_parents

FINDINGS = 1000
"""How many violations become findings; the others are counted."""

_CACHE_KIB = 32 << 10
_NAMED = 5  # tables that could not be judged, by name


class ForeignKeyChecker:
    """Finds rows that break a foreign key.

    That is a broken rule of the owner's, not damage of the file: SQLite enforces foreign keys only where each
    connection asks for it. Its integrity_check does not look at them.
    """

    name = "check-foreign-keys"
    level = Level.STANDARD
    in_process = True
    relational = True

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield a violation for each row that names a missing parent, and for each key that cannot be enforced.

        What SQLite cannot read is damage; a table that needs its application is `unknown` (H7). It begins with the
        table at which the time of the last run was over, and goes round.
        """
        connection = subject.connect()
        connection.text_factory = as_text
        try:
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")  # parents are looked up more than twice as fast
            tables = _tables(connection)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal = refusal_or_raise(error)
            if refusal.damage:
                yield _malformed("the schema", None, refusal)
                return CheckOutcome()
            return CheckOutcome(verdict=Verdict.UNKNOWN, why=f"not judged: {refusal.message}")
        found = left_out = 0
        unjudged: list[str] = []
        for number, table in enumerate(_from(tables, subject.resume)):
            subject.progress(number, len(tables))
            subject.reached(table)
            try:
                told = partial(subject.progress, number, len(tables))
                for finding in _violations(connection, subject.path, table, told):
                    if found < FINDINGS:
                        found += 1
                        yield finding
                    else:
                        left_out += 1
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                refusal = refusal_or_raise(error)
                if not refusal.damage and table not in _tables(connection):
                    continue  # it was dropped meanwhile
                if refusal.damage:
                    yield _malformed(f"the foreign keys of table {table}", table, refusal)
                else:
                    unjudged.append(f"{table} ({refusal.message})")
        return _outcome(left_out, unjudged)


def _tables(connection: sqlite3.Connection) -> list[str]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    return [str(name) for (name,) in connection.execute(names).fetchall()]


def _outcome(left_out: int, unjudged: list[str]) -> CheckOutcome:
    whys = [f"{left_out} more violations were left out"] if left_out else []
    if not unjudged:
        return CheckOutcome(why="".join(whys))
    more = f" and {len(unjudged) - _NAMED} more" if len(unjudged) > _NAMED else ""
    whys.append(f"the keys of these tables were not judged: {'; '.join(unjudged[:_NAMED])}{more}")
    return CheckOutcome(verdict=Verdict.UNKNOWN, why="; ".join(whys))


def _malformed(what: str, table: str | None, refusal: Refusal) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        object=table,
        message=f"sqlite cannot read {what}: {refusal.message}",
        evidence=refusal.message,
    )


def _from(tables: list[str], resume: str) -> list[str]:
    """Return all tables, the one to resume at first; the next one by name, where it is gone."""
    begin = next((number for number, table in enumerate(tables) if resume and table >= resume), 0)
    return tables[begin:] + tables[:begin]


def _violations(
    connection: sqlite3.Connection, path: str, table: str, between: Callable[[], None]
) -> Iterator[Finding]:
    """Yield what is wrong with the foreign keys of one table; `between` is called between read transactions."""
    keys = foreign_keys(connection, table)
    try:
        if not keys or all_have_parents(connection, table, keys, between):
            return
        for _, rowid, parent, number in connection.execute(f"PRAGMA foreign_key_check({quote(table)})"):
            columns = ", ".join(child for child, _ in keys[number].columns) if number in keys else ""
            yield _violation(path, table, rowid, str(parent), columns)
    except sqlite3.OperationalError as error:
        if "foreign key mismatch" not in str(error):
            raise
        yield _mismatch(table, error)


def _violation(path: str, table: str, rowid: int | None, parent: str, columns: str) -> Finding:
    row = f"rowid {rowid}" if rowid is not None else "a row"
    return Finding(
        kind="foreign-key",
        severity=Severity.VIOLATION,
        object=table,
        rowid=rowid,
        message=f"table {table}, {row}: column {columns} names a row of {parent} that is not there",
        evidence=f"foreign_key_check: {table}, {rowid}, {parent}",
        hint=shlex.join(["sqlite3", path, f"PRAGMA foreign_key_check({quote(table)})"]),
    )


def _mismatch(table: str, error: sqlite3.OperationalError) -> Finding:
    return Finding(
        kind="foreign-key-mismatch",
        severity=Severity.VIOLATION,
        object=table,
        message=f"table {table} has a foreign key whose parent key is not unique, so that it cannot be enforced",
        evidence=str(error),
    )
