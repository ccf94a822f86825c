from __future__ import annotations

import pytest

from pagewarden.values import Severity
from pagewarden_check_pragma.messages import lines_of, parse_line

# Lines as SQLite 3.40 and 3.53 write them: the older wording first.
LINES: list[tuple[str, str, int | None, int | None, int | None, str | None, int | None]] = [
    # text, kind, pgno, root, cell, object, rowid
    ("On tree page 5 cell 3: Rowid 12 out of order", "out-of-order", 5, None, 3, None, 12),
    ("Tree 2 page 5 cell 3: Rowid -12 out of order", "out-of-order", 5, 2, 3, None, -12),
    ("On page 5 at right child: Child page depth differs", "out-of-order", 5, None, None, None, None),
    ("Tree 2 page 5 right child: Child page depth differs", "out-of-order", 5, 2, None, None, None),
    ("Page 9 is never used", "unused-page", 9, None, None, None, None),
    ("Page 9: never used", "unused-page", 9, None, None, None, None),
    ("Page 7: btreeInitPage() returns error code 11", "bad-page", 7, None, None, None, None),
    ("Tree 3 page 7: btreeInitPage() returns error code 11", "bad-page", 7, 3, None, None, None),
    ("On tree page 2 cell 0: 2nd reference to page 4", "double-reference", 2, None, 0, None, None),
    ("Main freelist: invalid page number 99999", "bad-freelist", 99999, None, None, None, None),
    ("Freelist: size is 3 but should be 5", "bad-freelist", None, None, None, None, None),
    ("Freelist: freelist leaf count too big on page 7", "bad-freelist", 7, None, None, None, None),
    ("On tree page 2 cell 7: invalid page number 218103808", "bad-pointer", 2, None, 7, None, None),
    ("Pointer map page 2 is referenced", "double-reference", 2, None, None, None, None),
    ("Bad ptr map entry key=5 expected=(5,2) got=(3,4)", "bad-pointer-map", None, None, None, None, None),
    ("Tree 4 page 8 cell 1: overflow list length is 2 but should be 3", "bad-overflow", 8, 4, 1, None, None),
    ("On tree page 6 cell 2: Offset 4099 out of range 100..4092", "bad-cell", 6, None, 2, None, None),
    ("Multiple uses for byte 210 of page 6", "bad-cell", 6, None, None, None, None),
    ("Fragmentation of 3 bytes reported as 0 on page 6", "bad-cell", 6, None, None, None, None),
    ("row 7 missing from index item_name", "index-mismatch", None, None, None, "item_name", None),
    ("wrong # of entries in index item name", "index-mismatch", None, None, None, "item name", None),
    ("rowid not at end-of-record for row 7 of index i", "index-mismatch", None, None, None, "i", None),
    ("non-unique entry in index i", "duplicate-key", None, None, None, "i", None),
    ("NUMERIC value in item.name", "wrong-type", None, None, None, "item", None),
    ("non-INTEGER value in item.id", "wrong-type", None, None, None, "item", None),
    ("malformed inverted index for FTS5 table main.words", "full-text-index", None, None, None, "words", None),
    ("something that no version says yet", "structure", None, None, None, None, None),
    ("page 123456789012345678901234 does not exist", "structure", None, None, None, None, None),
]


@pytest.mark.parametrize("line", LINES, ids=[line[0] for line in LINES])
def test_a_line_is_understood_in_each_version(
    line: tuple[str, str, int | None, int | None, int | None, str | None, int | None],
) -> None:
    """Kind, page, tree, cell, object and rowid, as far as the line says them (H9)."""
    text, *expected = line
    parsed = parse_line(text)
    assert [parsed.kind, parsed.pgno, parsed.root, parsed.cell, parsed.object, parsed.rowid] == expected
    assert (parsed.text, parsed.severity, parsed.undecided) == (text, Severity.DAMAGE, False)


@pytest.mark.parametrize(
    ("text", "kind", "table"),
    [("NULL value in item.name", "not-null", "item"), ("CHECK constraint failed in item", "check-constraint", "item")],
)
def test_broken_rules_of_the_owner_are_violations(text: str, kind: str, table: str) -> None:
    """They say nothing of the file."""
    parsed = parse_line(text)
    assert (parsed.kind, parsed.object, parsed.severity) == (kind, table, Severity.VIOLATION)


def test_what_could_not_be_judged_is_no_finding() -> None:
    """H7: a full-text table whose module or tokenizer failed."""
    parsed = parse_line("unable to validate the inverted index for FTS5 table main.words: SQL logic error")
    assert (parsed.undecided, parsed.object) == (True, "words")


def test_a_row_of_the_answer_may_have_many_lines() -> None:
    """Below a heading that names the database; "ok" is no complaint."""
    assert lines_of("*** in database main ***\nPage 9 is never used\n\nPage 10 is never used\n") == [
        "Page 9 is never used",
        "Page 10 is never used",
    ]
    assert lines_of("ok") == []
