"""The checker: runs each statement that the owner configured, on a connection that can only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.sqlite.names import as_text
from pagewarden.sqlite.refusals import refusal_of
from pagewarden.values import Finding, Level, Severity, Verdict

_SHOWN = 200  # characters of a statement, or of what it returned, that are shown
_NAMED = 5  # statements that could not be run, by name
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
# Errors that only the statement can be to blame for; Python's own have no code.
_OWN_FAULTS = frozenset({0, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})


class AssertionsChecker:
    """Asks what only the owner can know: that no account is below zero, that every order has a line.

    Each assertion is one SELECT, which must return one row whose first column is true, as SQL means it. An assertion
    that does not hold is a broken rule of the owner's, not damage.
    """

    name = "check-assertions"
    level = Level.DEEP
    in_process = True

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield a violation for each assertion that does not hold; one that cannot be run is `unknown`, and named."""
        if not subject.assertions:
            return CheckOutcome()
        connection = subject.connect()
        connection.text_factory = as_text
        connection.set_authorizer(_authorize)
        unjudged: list[str] = []
        for number, statement in enumerate(subject.assertions):
            subject.progress(number, len(subject.assertions))
            try:
                rows = connection.execute(statement).fetchmany(2)
                holds = len(rows) == 1 and _true(connection, rows[0][0])
            except sqlite3.DatabaseError as error:
                refusal = refusal_of(error)
                if refusal is None and getattr(error, "sqlite_errorcode", 0) not in _OWN_FAULTS:
                    raise
                if refusal is not None and refusal.damage:
                    yield _malformed(statement, refusal.message)
                else:
                    unjudged.append(f"{_short(statement)} ({error})")
            except (sqlite3.Warning, UnicodeError) as error:  # two statements, or bytes that no message can quote
                unjudged.append(f"{_short(statement)} ({error})")
            else:
                if not holds:
                    yield _violated(statement, rows)
        subject.progress(len(subject.assertions), len(subject.assertions))
        return _outcome(unjudged)


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _true(connection: sqlite3.Connection, value: object) -> bool:
    """Return whether SQL takes a value for true: a text or BLOB for the number that it begins with."""
    return bool(connection.execute("SELECT ? IS TRUE", (value,)).fetchone()[0])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _returned(rows: Sequence[tuple[object, ...]]) -> str:
    if not rows:
        return "no row"
    if len(rows) > 1:
        return "more than one row"
    return _short(", ".join("NULL" if value is None else repr(value)[:_SHOWN] for value in rows[0]))


def _violated(statement: str, rows: Sequence[tuple[object, ...]]) -> Finding:
    returned = _returned(rows)
    return Finding(
        kind="assertion",
        severity=Severity.VIOLATION,
        message=f"an assertion does not hold: {_short(statement)} returned {returned}",
        evidence=f"{statement[:3000]} → {returned}",
    )


def _malformed(statement: str, message: str) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        message=f"sqlite met damage at the assertion {_short(statement)}: {message}",
        evidence=message,
    )


def _outcome(unjudged: Sequence[str]) -> CheckOutcome:
    if not unjudged:
        return CheckOutcome()
    more = f" and {len(unjudged) - _NAMED} more" if len(unjudged) > _NAMED else ""
    return CheckOutcome(
        verdict=Verdict.UNKNOWN, why=f"these assertions could not be run: {'; '.join(unjudged[:_NAMED])}{more}"
    )
