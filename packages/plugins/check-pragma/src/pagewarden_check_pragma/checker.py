"""The checker: runs the PRAGMA, turns its lines into findings, and knows what its "ok" does not cover."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.values import Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden_check_pragma.messages import Line

MESSAGES = 100_000
"""How many messages SQLite is asked for; it stops at 100 by itself (H6)."""

FINDINGS = 1000
"""How many become findings; the others are counted."""

_CACHE_KIB = 32 << 10
_CODECS = {"UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class PragmaChecker:
    """Lets SQLite judge: quick_check, and integrity_check at level deep.

    What it cannot see is much (H39 and docs/damage.md): most single bit flips, every lost write. Nor does SQLite know
    CHECK constraints of a database that was opened for reading only (`sqlite3AddCheckConstraint` in its build.c).
    """

    name = "check-pragma"
    level = Level.STANDARD

    def check(self, subject: Subject) -> CheckOutcome:
        """Return one finding for each line of SQLite's answer."""
        connection = subject.connect()
        # A damaged schema may have names that are no UTF-8; they are shown as far as they are.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        pragma = "integrity_check" if subject.level is Level.DEEP else "quick_check"
        subject.progress(0, 0)
        answer = _Answer(pragma)
        try:
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            # A CAST to BLOB gives text in the database's own encoding.
            answer.codec = _CODECS.get(str(connection.execute("PRAGMA encoding").fetchone()[0]), "utf-8")
            answer.roots = _roots(connection)
            # Python's cursor drops the last row before an error, which is the one that says where the damage is. So the
            # rows are taken by a function, while SQLite makes them, as bytes that need not be UTF-8.
            connection.create_function("pagewarden_take", 1, answer.take)
            query = f"SELECT pagewarden_take(CAST({pragma} AS BLOB)) FROM pragma_{pragma}({MESSAGES})"
            for _ in connection.execute(query):
                pass
            return answer.outcome("" if answer.findings else _blind_spot(connection))
        except sqlite3.DatabaseError as error:
            return _refused(error, pragma, answer)
        except UnicodeDecodeError as error:
            # Python could not make an exception of SQLite's message, which quotes a name of the schema.
            message = error.object.decode("utf-8", "replace")
            if "malformed" not in message:
                raise
            return answer.outcome("", _malformed(pragma, message))


class _Answer:
    """What SQLite has said so far."""

    def __init__(self, pragma: str) -> None:
        self.pragma = pragma
        self.codec = "utf-8"  # of the rows
        self.roots: dict[int, str] = {}
        self.findings: list[Finding] = []
        self._undecided = ""
        self._left_out = 0

    def take(self, row: bytes) -> None:
        """Take one row of the answer."""
        text = row.decode(self.codec, "replace")
        if text == "ok":
            return
        # Imported here, because its patterns take longer to compile than a small database to judge.
        from pagewarden_check_pragma.messages import lines_of, parse_line

        for line in map(parse_line, lines_of(text)):
            if line.undecided:
                self._undecided = self._undecided or line.text
            elif len(self.findings) < FINDINGS:
                self.findings.append(_finding(line, self.pragma, self.roots))
            else:
                self._left_out += 1

    def outcome(self, note: str = "", *more: Finding, unknown: str = "") -> CheckOutcome:
        """Return what it comes to; `unknown` says why it is no judgement."""
        if self._undecided:
            unknown = f"{self.pragma} could not judge all: {self._undecided}"
        left_out = f"{self._left_out} more messages of {self.pragma} were left out" if self._left_out else ""
        return CheckOutcome(
            findings=(*self.findings, *more),
            verdict=Verdict.UNKNOWN if unknown else None,
            why="; ".join(filter(None, (unknown, left_out, note))),
        )


def _roots(connection: sqlite3.Connection) -> dict[int, str]:
    """Return which table or index has which root page; none where the schema cannot be read."""
    with contextlib.suppress(sqlite3.DatabaseError):  # the PRAGMA will say so, and better
        rows = connection.execute("SELECT rootpage, name FROM sqlite_master WHERE rootpage > 0").fetchall()
        return {1: "sqlite_schema"} | {root: str(name) for root, name in rows if isinstance(root, int)}
    return {}


def _finding(line: Line, pragma: str, roots: dict[int, str]) -> Finding:
    owner = line.object or roots.get(line.root or 0)
    where = f" ({owner})" if owner is not None and owner not in line.text else ""
    return Finding(
        kind=line.kind,
        severity=line.severity,
        pgno=line.pgno,
        object=owner,
        rowid=line.rowid,
        message=f"{pragma} says: {_begun_small(line.text)}{where}",
        evidence=line.text,
    )


def _begun_small(text: str) -> str:
    """Return a sentence as it stands within another one; "NULL value …" stays as it is."""
    return text if text[:2].isupper() else text[0].lower() + text[1:]


def _refused(error: sqlite3.DatabaseError, pragma: str, answer: _Answer) -> CheckOutcome:
    """Tell damage from a database that this SQLite alone cannot judge. Raises what is neither."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if "unsafe use of" in str(error):  # SQLite calls a schema malformed for a function that it does not trust in it
        return answer.outcome(unknown=f"{pragma} needs a function that is not trusted in a schema: {error}")
    # No SQLite writes a schema format above 4, and this error is the only sign of one.
    if code in _DAMAGED or "unsupported file format" in str(error):
        return answer.outcome("", _malformed(pragma, str(error)))
    if code == sqlite3.SQLITE_ERROR:  # no such tokenizer, collation or module: the application would have it (H7)
        return answer.outcome(unknown=f"{pragma} needs what only the application has: {error}")
    raise error


def _malformed(pragma: str, message: str) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        message=f"{pragma} ended at damage that sqlite cannot read: {message}",
        evidence=message,
    )


def _blind_spot(connection: sqlite3.Connection) -> str:
    """Say what an "ok" may not cover (H39).

    If a view or a virtual table comes first in SQLite's internal table hash, an order that cannot be asked for, the
    check takes itself for a partial one and skips the three things that only a whole one looks at.
    """
    row = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'view' OR (type = 'table' AND coalesce(rootpage, 0) = 0) LIMIT 1"
    ).fetchone()
    if row is None:
        return ""
    return f"sqlite may have skipped the freelist, unused pages and ptrmap pages, because {row[0]} is no ordinary table"
