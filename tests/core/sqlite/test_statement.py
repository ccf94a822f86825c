from __future__ import annotations

import pytest

from pagewarden.sqlite.statement import IndexText, NotUnderstood, take_apart


@pytest.mark.parametrize(
    ("sql", "terms", "condition"),
    [
        ("CREATE INDEX i ON t(a)", ("a",), ""),
        ("CREATE INDEX i ON t (a, b DESC, lower(c) asc )", ("a", "b", "lower(c)"), ""),
        ("CREATE INDEX i ON t(a COLLATE nocase DESC) WHERE b > 2", ("a COLLATE nocase",), "b > 2"),
        ("CREATE UNIQUE INDEX \"a(b\" ON [t)x](`c,)`, 'd''(')", ("`c,)`", "'d''('"), ""),
        ("CREATE INDEX i ON t(a /* ,) */, b -- DESC )\n)where(a) IN (1,2)--", ("a", "b"), "(a) IN (1,2)"),
        ("CREATE INDEX i ON t(a || x'ab', coalesce(b,1e3) DESC)", ("a || x'ab'", "coalesce(b,1e3)"), ""),
        ("CREATE INDEX i ON t(a->>'$.b', ((a) + 1))", ("a->>'$.b'", "((a) + 1)"), ""),
        ("CREATE INDEX ü ON täble(größe)", ("größe",), ""),
    ],
)
def test_terms_and_condition_are_found(sql: str, terms: tuple[str, ...], condition: str) -> None:
    """Whatever is quoted, commented out or nested; without the order of a column."""
    assert take_apart(sql) == IndexText(terms=terms, condition=condition)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "CREATE INDEX i ON t",
        "CREATE INDEX i ON t(a",
        "CREATE INDEX i ON t(a))",
        "CREATE INDEX i ON t(a), b",
        "CREATE INDEX i ON t(a,)",
        "CREATE INDEX i ON t()",
        "CREATE INDEX i ON t(a) HAVING b",
        "CREATE INDEX i ON t(a) WHERE ",
        "CREATE INDEX i ON t(a) WHERE 'b",
        "CREATE INDEX i ON t(a) WHERE b; DROP TABLE t",
        "CREATE INDEX i ON t((SELECT count(*) FROM t))",
        "CREATE INDEX i ON t(a) WHERE a IN (VALUES (1))",
        "CREATE INDEX i ON t(a\0)",
    ],
)
def test_what_is_not_surely_understood_is_refused(sql: str) -> None:
    """H29: the text becomes part of a statement."""
    with pytest.raises(NotUnderstood):
        take_apart(sql)
