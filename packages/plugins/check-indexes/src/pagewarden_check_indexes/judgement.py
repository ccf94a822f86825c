"""One check: goes through the indexes, in an order that a later run can resume, and names what disagrees."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.sqlite.refusals import Refusal, refusal_of
from pagewarden.values import Finding, Severity, Verdict
from pagewarden_check_indexes.asking import Place, compare_rows, compare_totals
from pagewarden_check_indexes.index import Index, IndexName, describe, index_names
from pagewarden_check_indexes.statement import NotUnderstood

FINDINGS = 1000
"""How many disagreements become findings; then nothing more is looked for."""

_CACHE_KIB = 32 << 10
_NAMED = 5  # indexes that could not be judged, by name


def judge(subject: Subject) -> Generator[Finding, None, CheckOutcome]:
    """Yield damage for each row and entry that disagree. An index that needs its application is `unknown` (H7)."""
    connection = subject.connect()
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")  # looking up is twice as fast as with SQLite's own
        names = index_names(connection)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        refusal = _refusal(error)
        if not refusal.damage:
            return CheckOutcome(verdict=Verdict.UNKNOWN, why=refusal.message)
        yield _malformed("the schema", None, refusal)
        return CheckOutcome()
    unjudged: list[str] = []
    found = 0
    parts = _parts(names, subject.resume)
    for number, part in enumerate(parts):
        tell = partial(subject.progress, number, len(parts))
        tell()
        try:
            for finding in _judge(subject, connection, part, FINDINGS - found, tell):
                found += 1
                yield finding
        except NotUnderstood as error:
            unjudged.append(f"{part.name.name} ({error})")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal = _refusal(error)
            if refusal.damage:
                found += 1
                yield _malformed(f"index {part.name.name} of table {part.name.table}", part.name.name, refusal)
            else:
                unjudged.append(f"{part.name.name} ({refusal.message})")
        if found >= FINDINGS:
            return CheckOutcome(why=f"nothing was looked for after {found} findings")
    subject.progress(len(parts), len(parts))
    return _outcome(unjudged)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """An index, or the rows of its table between two rowids."""

    name: IndexName
    after: int | None = None
    until: int | None = None
    totals: bool = True  # whether its entries are counted, too


def _parts(names: Sequence[IndexName], resume: str) -> list[_Part]:
    """Return all indexes, from the place that an earlier run reached, and round to it."""
    place = _read_place(resume)
    parts = [_Part(name=name) for name in names]
    at = next((number for number, name in enumerate(names) if place is not None and name.name == place[0]), None)
    if place is None or at is None:
        return parts
    rest = parts[at + 1 :] + parts[:at]
    if place[1] is None:
        return [parts[at], *rest]
    later = _Part(name=names[at], after=place[1], totals=False)
    return [later, *rest, _Part(name=names[at], until=place[1])]


def _write_place(name: str, after: int | None) -> str:
    return json.dumps([name, after])


def _read_place(text: str) -> tuple[str, int | None] | None:
    """Understand what `_write_place` wrote; None for anything else, as another version may have written it."""
    try:
        name, after = json.loads(text)
    except (ValueError, TypeError):
        return None
    return (name, after) if isinstance(name, str) and (after is None or type(after) is int) else None


def _judge(
    subject: Subject, connection: sqlite3.Connection, part: _Part, most: int, tell: Callable[[], None]
) -> Iterator[Finding]:
    """Compare one index, or a part of it; `tell` is called between portions.

    Raises NotUnderstood, sqlite3.DatabaseError.
    """
    subject.reached(_write_place(part.name.name, part.after))
    index = describe(connection, part.name)
    after, lacking = part.after, 0
    while True:
        rows = compare_rows(connection, index, after=after, until=part.until, most=most - lacking)
        for place in rows.missing:
            lacking += 1
            yield _missing(index, place)
        if rows.reached is None or lacking >= most:
            break
        after = rows.reached
        subject.reached(_write_place(part.name.name, after))
        tell()
    if not part.totals or lacking >= most:
        return
    totals = compare_totals(connection, index, lacking=lacking > 0, most=most - lacking)
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


def _refusal(error: sqlite3.DatabaseError | UnicodeDecodeError) -> Refusal:
    """Return what an error says of the database; raise what says nothing of it."""
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return refusal


def _outcome(unjudged: Sequence[str]) -> CheckOutcome:
    if not unjudged:
        return CheckOutcome()
    more = f" and {len(unjudged) - _NAMED} more" if len(unjudged) > _NAMED else ""
    return CheckOutcome(
        verdict=Verdict.UNKNOWN, why=f"these indexes were not judged: {'; '.join(unjudged[:_NAMED])}{more}"
    )
