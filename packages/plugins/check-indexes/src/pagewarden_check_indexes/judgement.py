"""One check: goes through the indexes, in an order that a later run can resume, and names what disagrees."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.sqlite.index import Index, describe, index_names, is_there
from pagewarden.sqlite.names import as_text
from pagewarden.sqlite.refusals import Refusal, refusal_or_raise
from pagewarden.sqlite.statement import NotUnderstood
from pagewarden.values import Finding, Severity, Verdict
from pagewarden_check_indexes.asking import Place, compare_rows, compare_totals
from pagewarden_check_indexes.circle import ROWS_DONE, Part, Round, write_place

FINDINGS = 1000
"""How many disagreements become findings; then nothing more is looked for."""

_CACHE_KIB = 32 << 10
_NAMED = 5  # indexes that could not be judged, by name


def judge(subject: Subject) -> Generator[Finding, None, CheckOutcome]:
    """Yield damage for each row and entry that disagree. An index that needs its application is `unknown` (H7)."""
    connection = subject.connect()
    connection.text_factory = as_text
    try:
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")  # looking up is twice as fast as with SQLite's own
        names = index_names(connection)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        refusal = refusal_or_raise(error)
        if not refusal.damage:
            return CheckOutcome(verdict=Verdict.UNKNOWN, why=refusal.message)
        yield _malformed("the schema", None, refusal)
        return CheckOutcome()
    unjudged: list[str] = []
    found = 0
    circle = Round(connection, names, subject.resume)
    for part in circle.parts:
        tell = partial(_tell, subject, circle, part)
        tell(part.after)
        try:
            for finding in _judge(connection, part, FINDINGS - found, tell):
                found += 1
                yield finding
        except NotUnderstood as error:
            if is_there(connection, part.name):
                unjudged.append(f"{part.name.name} ({error})")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal = refusal_or_raise(error)
            if not is_there(connection, part.name):
                continue  # it was dropped meanwhile, or is another one now, which is for the next run
            if refusal.damage:
                found += 1
                yield _malformed(f"index {part.name.name} of table {part.name.table}", part.name.name, refusal)
            else:
                unjudged.append(f"{part.name.name} ({refusal.message})")
        if found >= FINDINGS:
            return CheckOutcome(why=f"nothing was looked for after {found} findings")
        if unjudged:
            subject.reached("")  # no part of a whole that could be sound
    subject.progress(circle.total, circle.total)
    return _outcome(unjudged)


def _tell(subject: Subject, circle: Round, part: Part, after: int | None) -> None:
    """Tell how far this is, between two read transactions."""
    subject.progress(circle.done(part, after), circle.total)
    subject.reached(write_place(part.name.name, after))


def _judge(
    connection: sqlite3.Connection, part: Part, most: int, tell: Callable[[int | None], None]
) -> Iterator[Finding]:
    """Compare one index, or a part of it; `tell(after)` is called between portions.

    Raises NotUnderstood, sqlite3.DatabaseError.
    """
    if not is_there(connection, part.name):
        return
    index = describe(connection, part.name)
    after, lacking = part.after, 0
    while True:
        rows = compare_rows(connection, index, after=after, until=part.until, most=most - lacking)
        if rows.missing and not is_there(connection, part.name):
            return  # it was replaced meanwhile: what was seen is none of the new one's
        for place in rows.missing:
            lacking += 1
            yield _missing(index, place)
        if rows.reached is None or lacking >= most:
            break
        after = rows.reached
        tell(after)
    if lacking >= most or not (part.totals or lacking):
        return
    if part.totals:
        tell(ROWS_DONE)
    totals = compare_totals(connection, index, lacking=lacking > 0, most=most - lacking)
    if not is_there(connection, part.name):
        return
    yield from (_missing(index, place) for place in totals.missing)
    yield from (_strange(index, place) for place in totals.strange)
    yield from (_double(index, place) for place in totals.doubles)
    if totals.rows != totals.entries and not (lacking or totals.missing or totals.strange):
        yield _miscounted(index, totals.rows, totals.entries)


def _row(place: Place) -> str:
    return "a row" if place.rowid is None else f"row {place.rowid}"


def _missing(index: Index, place: Place) -> Finding:
    return _mismatch(
        index, place, f"{_row(place)} of table {index.table} has no entry in index {index.name}, or another", "the row"
    )


def _strange(index: Index, place: Place) -> Finding:
    return _mismatch(
        index, place, f"index {index.name} has an entry that {_row(place)} of table {index.table} does not have", "it"
    )


def _mismatch(index: Index, place: Place, message: str, who: str) -> Finding:
    return Finding(
        kind="index-mismatch",
        severity=Severity.DAMAGE,
        object=index.name,
        rowid=place.rowid,
        message=message,
        evidence=f"{who} has {place.key}",
    )


def _double(index: Index, place: Place) -> Finding:
    return Finding(
        kind="duplicate-key",
        severity=Severity.DAMAGE,
        object=index.name,
        rowid=place.rowid,
        message=f"the unique index {index.name} of table {index.table} has several entries for one key",
        evidence=f"the key is {place.key}",
    )


def _miscounted(index: Index, rows: int, entries: int) -> Finding:
    return Finding(
        kind="index-mismatch",
        severity=Severity.DAMAGE,
        object=index.name,
        message=f"index {index.name} has {entries} entries, and table {index.table} has {rows} rows for it",
        evidence=f"expected {rows} entries, seen {entries}",
    )


def _malformed(what: str, name: str | None, refusal: Refusal) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        object=name,
        message=f"sqlite cannot read {what}: {refusal.message}",
        evidence=refusal.message,
    )


def _outcome(unjudged: Sequence[str]) -> CheckOutcome:
    if not unjudged:
        return CheckOutcome()
    more = f" and {len(unjudged) - _NAMED} more" if len(unjudged) > _NAMED else ""
    return CheckOutcome(
        verdict=Verdict.UNKNOWN, why=f"these indexes were not judged: {'; '.join(unjudged[:_NAMED])}{more}"
    )
