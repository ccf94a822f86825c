from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker
from pagewarden.testing.contracts import CheckerContract
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Level, Severity, Verdict
from pagewarden_check_foreign_keys import pagewarden_checkers
from pagewarden_check_foreign_keys.checker import FINDINGS, ForeignKeyChecker


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


def judge(path: Path, *statements: str) -> Collected:
    """Make a database of these statements and let the checker judge it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    collected = Collected()
    with ClosedSubject(path) as subject:
        collected.add(ForeignKeyChecker().check(subject))
    return collected


def test_it_runs_at_level_standard() -> None:
    """It reads every row that has a foreign key."""
    assert ForeignKeyChecker().level is Level.STANDARD


def test_a_row_without_its_parent_is_a_violation(tmp_path: Path) -> None:
    """Table, row, column and the parent are named, and the command that shows them; it is no damage."""
    path = tmp_path / "a b.db"
    outcome = judge(
        path,
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        'CREATE TABLE "the child"(id INTEGER PRIMARY KEY, a, b REFERENCES parent, FOREIGN KEY(a) REFERENCES parent)',
        "INSERT INTO parent VALUES(1)",
        'INSERT INTO "the child" VALUES(10, 1, 1), (20, 7, 1), (30, NULL, 8)',
    )
    assert {(finding.rowid, finding.message) for finding in outcome.findings} == {
        (20, "table the child, rowid 20: column a names a row of parent that is not there"),
        (30, "table the child, rowid 30: column b names a row of parent that is not there"),
    }
    for finding in outcome.findings:
        assert (finding.kind, finding.severity, finding.object) == ("foreign-key", Severity.VIOLATION, "the child")
        assert shlex.split(finding.hint) == ["sqlite3", str(path), 'PRAGMA foreign_key_check("the child")']
    assert outcome.verdict is None


def test_a_row_without_rowid_is_named_without_one(tmp_path: Path) -> None:
    """SQLite does not say which it is."""
    (finding,) = judge(
        tmp_path / "a.db",
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(k TEXT PRIMARY KEY, a REFERENCES p) WITHOUT ROWID",
        "INSERT INTO c VALUES('x', 1)",
    ).findings
    assert (finding.rowid, finding.message) == (None, "table c, a row: column a names a row of p that is not there")


def test_a_parent_table_that_is_missing_is_found(tmp_path: Path) -> None:
    """Every row that names it is a violation."""
    outcome = judge(tmp_path / "a.db", "CREATE TABLE c(a REFERENCES gone)", "INSERT INTO c VALUES(1), (NULL), (2)")
    assert [finding.rowid for finding in outcome.findings] == [1, 3]


def test_a_key_that_cannot_be_enforced_is_one_finding(tmp_path: Path) -> None:
    """Its parent key is not unique; the other tables are checked all the same."""
    outcome = judge(
        tmp_path / "a.db",
        "CREATE TABLE p(x)",
        "CREATE TABLE a(v REFERENCES p(x))",
        "CREATE TABLE b(v REFERENCES gone)",
        "INSERT INTO a VALUES(1)",
        "INSERT INTO b VALUES(1)",
    )
    assert [(finding.kind, finding.object) for finding in outcome.findings] == [
        ("foreign-key-mismatch", "a"),
        ("foreign-key", "b"),
    ]


def test_only_so_many_violations_are_listed(tmp_path: Path) -> None:
    """The others are counted."""
    count = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FINDINGS + 250})"
    outcome = judge(tmp_path / "a.db", "CREATE TABLE c(a REFERENCES gone)", f"INSERT INTO c {count} SELECT i FROM n")
    assert len(outcome.findings) == FINDINGS
    assert outcome.why == "250 more violations were left out"


def test_damage_that_sqlite_stumbles_over_is_damage_and_hides_no_other_table(tmp_path: Path) -> None:
    """It is a finding that names the table, and no failure of the checker's."""
    path = tmp_path / "a.db"
    judge(
        path,
        "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        "CREATE TABLE c(a REFERENCES p)",
        "INSERT INTO c VALUES(1)",
        "CREATE TABLE d(a REFERENCES p)",
        "INSERT INTO d VALUES(2)",
    )
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    path.write_bytes(data)
    outcome = judge(path)
    assert [(each.kind, each.severity, each.object) for each in outcome.findings] == [
        ("malformed", Severity.DAMAGE, "c"),
        ("foreign-key", Severity.VIOLATION, "d"),
    ]
    assert outcome.findings[0].message.startswith("sqlite cannot read the foreign keys of table c: database disk image")


def test_a_schema_that_sqlite_cannot_read_is_damage(tmp_path: Path) -> None:
    """One finding; no table of it can be told."""
    path = tmp_path / "a.db"
    judge(path, "CREATE TABLE c(a REFERENCES gone)")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE c", b"CREATE XXXXX c"))
    (finding,) = judge(path).findings
    assert (finding.kind, finding.severity, finding.object) == ("malformed", Severity.DAMAGE, None)
    assert finding.message.startswith("sqlite cannot read the schema: malformed database schema")


def test_what_only_the_application_has_leaves_the_others_to_be_judged(tmp_path: Path) -> None:
    """H7: a collation of the parent's, which the look-up needs."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_collation("theirs", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE p(id TEXT COLLATE theirs UNIQUE)")
    outcome = judge(
        path,
        "CREATE TABLE c(a REFERENCES p(id))",
        "INSERT INTO c VALUES('x')",
        "CREATE TABLE d(a REFERENCES gone)",
        "INSERT INTO d VALUES(2)",
    )
    assert [each.object for each in outcome.findings] == ["d"]
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.why.startswith("the keys of these tables were not judged: c (it needs what only the application has")


class _Interrupted(ClosedSubject):
    """A database of which nothing can be asked to the end."""

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Return a connection that is interrupted at once."""
        connection = super().connect(copy=copy)
        connection.set_progress_handler(lambda: 1, 1)
        return connection


def test_what_says_nothing_of_the_file_is_passed_on(tmp_path: Path) -> None:
    """An interrupt is no finding."""
    path = tmp_path / "a.db"
    judge(path, "CREATE TABLE p(id INTEGER PRIMARY KEY)", "CREATE TABLE c(a REFERENCES p)", "INSERT INTO c VALUES(1)")
    with _Interrupted(path) as subject, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        list(ForeignKeyChecker().check(subject))


def test_it_begins_where_the_time_was_over_and_goes_round(tmp_path: Path) -> None:
    """At the table that it had reached, or at the next one where that is gone; every table has its turn."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in ("a", "b", "c", "d"):
            connection.execute(f"CREATE TABLE {name}(x REFERENCES gone)")
            connection.execute(f"INSERT INTO {name} VALUES(1)")
    orders = {"": "abcd", "c": "cdab", "bb": "cdab", "z": "abcd"}
    for resume, order in orders.items():
        collected = Collected()
        with ClosedSubject(path, resume=resume) as subject:
            collected.add(ForeignKeyChecker().check(subject))
        assert subject.places == list(order), resume
        assert [finding.object for finding in collected.findings] == list(order)


def test_what_it_found_until_its_time_was_over_stays(tmp_path: Path) -> None:
    """It yields each violation as it is found."""
    path = tmp_path / "a.db"
    judge(path, "CREATE TABLE a(x REFERENCES gone)", "INSERT INTO a VALUES(1)", "CREATE TABLE b(x)")
    collected = Collected()
    with ClosedSubject(path) as subject:
        findings = ForeignKeyChecker().check(subject)
        collected.findings.append(next(findings))
        subject.signal = TimeoutError()
        with pytest.raises(TimeoutError):
            collected.add(findings)
    assert [finding.object for finding in collected.findings] == ["a"]
    assert subject.places == ["a"]


def test_it_holds_up_no_checkpoint_between_two_tables(tmp_path: Path) -> None:
    """A log that cannot be reset while many tables are looked at would grow and grow (H8)."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE a(id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE b(a REFERENCES a)")
        connection.execute("CREATE TABLE c(a REFERENCES a)")
    busy: list[int] = []

    class Restarted(ClosedSubject):
        def progress(self, done: int, total: int) -> None:
            writer.execute("INSERT INTO a DEFAULT VALUES")
            busy.append(writer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0])

    with Restarted(path) as subject, closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
        assert list(ForeignKeyChecker().check(subject)) == []
    assert len(busy) >= 3 and not any(busy)
