"""What the lines of integrity_check say.

The text differs between SQLite's versions (H9): 3.40 says "On tree page 5 cell 3: …" and "Page 9 is never used", 3.42
and later "Tree 2 page 5 cell 3: …" and "Page 9: never used". So a line is looked at for what it surely says, each part
by itself, and what is not understood stays a finding of kind "structure" with the line as its evidence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pagewarden.values import Severity

OK = "ok"

_HEADING = re.compile(r"\*\*\* in database (.*) \*\*\*")
_ROOT = re.compile(r"^tree (\d+)\b", re.IGNORECASE)
_PAGES = (
    re.compile(r"^tree \d+ page (\d+)", re.IGNORECASE),
    re.compile(r"^on (?:tree )?page (\d+)", re.IGNORECASE),
    re.compile(r"\bpage (?:number )?(\d+)", re.IGNORECASE),
)
_ROWID = re.compile(r"^(?:.*: )?rowid (-?\d+) out of order", re.IGNORECASE)
_CELL = re.compile(r"^(?:tree \d+|on tree) page \d+ cell (\d+)", re.IGNORECASE)
_INDEX = re.compile(r"\b(?:in|from|of) index (.+)$")
_COLUMN = re.compile(r"^(?:NULL|NUMERIC|TEXT|non-[A-Z]+) value in (.+)\.([^.]+)$")
_CHECK = re.compile(r"^CHECK constraint failed in (.+)$")
_FULL_TEXT = re.compile(r"\bfor (?:FTS\d|.*) table (?:[^.]+)\.(.+?)(?:: .*)?$")

# Patterns in SQLite's btree.c and pragma.c, oldest wording and newest; the first that is found names the kind.
_KINDS = (
    ("full-text-index", re.compile(r"malformed inverted index", re.IGNORECASE)),
    ("index-mismatch", re.compile(r"missing from index|wrong # of entries in index|values differ from index")),
    ("index-mismatch", re.compile(r"rowid not at end-of-record")),
    ("duplicate-key", re.compile(r"non-unique entry in index")),
    ("wrong-type", re.compile(r"^(?:NUMERIC|TEXT|non-[A-Z]+) value in ")),
    ("double-reference", re.compile(r"\bnd reference to page|2nd reference|pointer map.*referenced", re.IGNORECASE)),
    ("unused-page", re.compile(r"never used", re.IGNORECASE)),
    ("bad-freelist", re.compile(r"freelist|free-page count|free space corruption", re.IGNORECASE)),
    ("bad-pointer-map", re.compile(r"ptr ?map|max rootpage|incremental_vacuum", re.IGNORECASE)),
    ("bad-overflow", re.compile(r"overflow list|size is \d+ but should be", re.IGNORECASE)),
    ("out-of-order", re.compile(r"out of order|keys out of|depth differs", re.IGNORECASE)),
    ("bad-pointer", re.compile(r"invalid page number", re.IGNORECASE)),
    ("bad-page", re.compile(r"btreeinitpage|unable to get the page|failed to get page", re.IGNORECASE)),
    ("bad-cell", re.compile(r"out of range|extends off end|multiple uses|fragmentation|corruption", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an answer, understood as far as it can be."""

    text: str  # as SQLite said it
    kind: str = "structure"
    severity: Severity = Severity.DAMAGE
    pgno: int | None = None
    root: int | None = None  # root page of the tree it is about
    cell: int | None = None
    object: str | None = None
    rowid: int | None = None
    undecided: bool = False  # SQLite says that it could not judge, not that something is wrong


def lines_of(answer: str) -> list[str]:
    """Return the complaints in one row of the answer; older versions put many into one row, below a heading."""
    lines = (line.strip() for line in answer.splitlines())
    return [line for line in lines if line not in ("", OK) and not _HEADING.fullmatch(line)]


def parse_line(text: str) -> Line:
    """Understand one line. Never fails."""
    if "unable to validate" in text:  # a full-text table whose module or tokenizer failed (H7)
        return Line(text=text, kind="full-text-index", object=_group(_FULL_TEXT, text), undecided=True)
    if text.startswith("NULL value in ") and (column := _COLUMN.match(text)):
        return Line(text=text, kind="not-null", severity=Severity.VIOLATION, object=column[1])
    if check := _CHECK.match(text):
        return Line(text=text, kind="check-constraint", severity=Severity.VIOLATION, object=check[1])
    kind = next((name for name, pattern in _KINDS if pattern.search(text)), "structure")
    # "row 7 missing from index" counts rows of the scan; it is no rowid, and its digits are no page.
    about_rows = kind in ("index-mismatch", "duplicate-key", "wrong-type", "full-text-index")
    named = _group(_INDEX, text) or _group(_COLUMN, text) or (_group(_FULL_TEXT, text) if about_rows else None)
    return Line(
        text=text,
        kind=kind,
        pgno=None if about_rows else _number(next((m for p in _PAGES if (m := p.search(text))), None)) or None,
        root=_number(_ROOT.match(text)),
        cell=_number(_CELL.match(text)),
        object=named,
        rowid=_number(_ROWID.match(text)),
    )


def _group(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _number(match: re.Match[str] | None) -> int | None:
    """Return the number that was matched; None for one that is longer than any of SQLite's."""
    return int(match[1]) if match is not None and len(match[1]) < 20 else None
