"""What an error of SQLite's says of the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.sqlite.refusals import Refusal, refusal_of

TABLE = "CREATE TABLE t(a)"


def refusal(path: Path, statement: str, *, before: str = "SELECT 1") -> Refusal | None:
    """Return what the error of a statement says, on a database whose schema was made by `before`."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for sql in (TABLE, "PRAGMA writable_schema=1", before):
            connection.execute(sql)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA trusted_schema=0")
        try:
            connection.execute(statement).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return refusal_of(error)
        pytest.fail(f"{statement} succeeded")


@pytest.mark.parametrize(
    "before",
    [
        "UPDATE sqlite_master SET sql = 'CREATE XXXXX t(a)'",
        "UPDATE sqlite_master SET sql = 'CREATE XXXXX t(a)', name = CAST(x'ff' AS TEXT)",
        "UPDATE sqlite_master SET rootpage = 99",
    ],
)
def test_damage_is_damage(tmp_path: Path, before: str) -> None:
    """Even where Python cannot make an exception of SQLite's message, which quotes a name that is no text."""
    found = refusal(tmp_path / "a.db", "SELECT * FROM t", before=before)
    assert found is not None and found.damage
    assert "malformed" in found.message


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT * FROM t ORDER BY a COLLATE mine", "no such collation sequence: mine"),
        ("SELECT ours(a) FROM t", "no such function: ours"),
        ("SELECT missing", "no such column: missing"),
    ],
)
def test_what_only_the_application_has_is_no_damage(tmp_path: Path, statement: str, message: str) -> None:
    """H7: also as the first statement of a connection, which has an error code of its own."""
    found = refusal(tmp_path / "a.db", statement)
    assert found == Refusal(damage=False, message=f"it needs what only the application has: {message}")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"SELECT 1{'+1' * 1001}", "Expression tree is too large (maximum depth 1000)"),
        (" UNION ALL ".join(["SELECT 1"] * 501), "too many terms in compound SELECT"),
        (f"SELECT * FROM {', '.join(f't AS t{number}' for number in range(65))}", "at most 64 tables in a join"),
        ("SELECT zeroblob(2000000000)", "string or blob too big"),
    ],
)
def test_a_limit_of_sqlite_is_not_worded_as_the_application_s(tmp_path: Path, statement: str, message: str) -> None:
    """Nor is it damage: no application could give what is lacking."""
    found = refusal(tmp_path / "a.db", statement)
    assert found == Refusal(damage=False, message=f"it goes beyond a limit of this sqlite: {message}")


def test_what_is_not_trusted_is_no_damage(tmp_path: Path) -> None:
    """SQLite calls the schema malformed, or the use unsafe; the file is whole."""
    view = "CREATE VIEW v AS SELECT load_extension(a) FROM t"
    found = refusal(tmp_path / "a.db", "SELECT * FROM v", before=view)
    assert found is not None and not found.damage
    assert "unsafe use of load_extension()" in found.message


def test_a_name_that_is_no_text_is_no_damage_by_itself() -> None:
    """Python's own error has SQLite's message in it."""
    error = UnicodeDecodeError("utf-8", b"no such column: \xff", 16, 17, "invalid start byte")
    assert refusal_of(error) == Refusal(damage=False, message="no such column: �")


def test_an_error_that_says_nothing_of_the_file_is_none(tmp_path: Path) -> None:
    """A lock, an interrupt: whoever meets it raises it on."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as holder:
        holder.execute(TABLE)
        holder.execute("BEGIN EXCLUSIVE")
        with closing(sqlite3.connect(tmp_path / "a.db", timeout=0)) as connection:
            with pytest.raises(sqlite3.OperationalError) as caught:
                connection.execute("SELECT * FROM t")
            assert refusal_of(caught.value) is None
