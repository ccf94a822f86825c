"""The checker: runs the PRAGMA, turns its lines into findings, and knows what its "ok" does not cover."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.names import as_text
from pagewarden.sqlite.refusals import refusal_of
from pagewarden.values import Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden_check_pragma.messages import Line

MESSAGES = 100_000
"""How many messages SQLite is asked for; it stops at 100 by itself (H6)."""

FINDINGS = 1000
"""How many become findings; the others are counted."""

_CACHE_KIB = 32 << 10
_CODECS = {"UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


class PragmaChecker:
    """Lets SQLite judge the whole database with its integrity_check.

    It holds a read transaction for as long as it runs (H8), and knows nothing of CHECK constraints where the database
    was opened for reading only (`sqlite3AddCheckConstraint` in SQLite's build.c). So it is given a private copy that
    may be written to. What it cannot see is much all the same (H39 and docs/damage.md).
    """

    name = "check-pragma"
    level = Level.DEEP
    in_process = True

    def check(self, subject: Subject) -> CheckOutcome:
        """Return one finding for each line of SQLite's answer."""
        connection, note = _connect(subject)
        # A damaged schema may have names that are no UTF-8; they are shown as far as they are.
        connection.text_factory = as_text
        subject.progress(0, 0)
        answer = _Answer(note)
        try:
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            # A CAST to BLOB gives text in the database's own encoding.
            answer.codec = _CODECS.get(str(connection.execute("PRAGMA encoding").fetchone()[0]), "utf-8")
            answer.roots = _roots(connection)
            # Python's cursor drops the last row before an error, which is the one that says where the damage is. So the
            # rows are taken by a function, while SQLite makes them, as bytes that need not be UTF-8.
            connection.create_function("pagewarden_take", 1, answer.take)
            query = f"SELECT pagewarden_take(CAST(integrity_check AS BLOB)) FROM pragma_integrity_check({MESSAGES})"
            for _ in connection.execute(query):
                pass
            return answer.outcome("" if answer.findings else _blind_spot(connection))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            if refusal.damage:
                return answer.outcome("", _malformed(refusal.message))
            return answer.outcome(unknown=f"integrity_check could not judge all: {refusal.message}")


def _connect(subject: Subject) -> tuple[sqlite3.Connection, str]:
    """Return a connection to a copy, or to the database itself, and what is not judged there."""
    try:
        return subject.connect(copy=True), ""
    except PagewardenError as error:
        return subject.connect(), f"CHECK constraints were not judged, because no copy could be made: {error}"


class _Answer:
    """What SQLite has said so far."""

    def __init__(self, note: str = "") -> None:
        """`note` is said in any case."""
        self._note = note
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
                self.findings.append(_finding(line, self.roots))
            else:
                self._left_out += 1

    def outcome(self, note: str = "", *more: Finding, unknown: str = "") -> CheckOutcome:
        """Return what it comes to; `unknown` says why it is no judgement."""
        if self._undecided:
            unknown = f"integrity_check could not judge all: {self._undecided}"
        left_out = f"{self._left_out} more messages of integrity_check were left out" if self._left_out else ""
        return CheckOutcome(
            findings=(*self.findings, *more),
            verdict=Verdict.UNKNOWN if unknown else None,
            why="; ".join(filter(None, (unknown, left_out, note, self._note))),
        )


def _roots(connection: sqlite3.Connection) -> dict[int, str]:
    """Return which table or index has which root page; none where the schema cannot be read."""
    with contextlib.suppress(sqlite3.DatabaseError):  # the PRAGMA will say so, and better
        rows = connection.execute("SELECT rootpage, name FROM sqlite_master WHERE rootpage > 0").fetchall()
        return {1: "sqlite_schema"} | {root: str(name) for root, name in rows if isinstance(root, int)}
    return {}


def _finding(line: Line, roots: dict[int, str]) -> Finding:
    owner = line.object or roots.get(line.root or 0)
    where = f" ({owner})" if owner is not None and owner not in line.text else ""
    return Finding(
        kind=line.kind,
        severity=line.severity,
        pgno=line.pgno,
        object=owner,
        rowid=line.rowid,
        message=f"integrity_check says: {_begun_small(line.text)}{where}",
        evidence=line.text,
    )


def _begun_small(text: str) -> str:
    """Return a sentence as it stands within another one; "NULL value …" stays as it is."""
    return text if text[:2].isupper() else text[0].lower() + text[1:]


def _malformed(message: str) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        message=f"integrity_check ended at damage that sqlite cannot read: {message}",
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
