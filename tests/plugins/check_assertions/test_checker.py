from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker
from pagewarden.testing.contracts import CheckerContract, make_database
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Level, Severity, Verdict
from pagewarden_check_assertions import pagewarden_checkers
from pagewarden_check_assertions.checker import AssertionsChecker


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A sound database of 30 customers."""
    return make_database(tmp_path / "app.db", rows=30)


def judge(path: Path, *assertions: str) -> Collected:
    """Let the checker judge a closed database."""
    collected = Collected()
    with ClosedSubject(path, level=Level.DEEP, assertions=assertions) as subject:
        collected.add(AssertionsChecker().check(subject))
    return collected


@pytest.mark.parametrize(
    "assertion",
    [
        "SELECT count(*) = 30 FROM customers",
        "SELECT 1, 0, NULL",
        "SELECT -0.5",
        "SELECT '1 apple'",
        "SELECT x'31'",
        "SELECT NOT EXISTS (SELECT 1 FROM orders WHERE customer > 30);  -- no other",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9) SELECT max(i) = 9 FROM n",
    ],
)
def test_an_assertion_that_holds_is_silent(database: Path, assertion: str) -> None:
    """One row whose first column is true, as SQL means it."""
    collected = judge(database, assertion)
    assert (collected.findings, collected.judged, collected.why) == ([], Verdict.SOUND, "")


@pytest.mark.parametrize(
    ("assertion", "returned"),
    [
        ("SELECT count(*) > 30 FROM customers", "0"),
        ("SELECT NULL", "NULL"),
        ("SELECT 0.0, 7", "0.0, 7"),
        ("SELECT 'yes'", "'yes'"),
        ("SELECT 1 WHERE 0", "no row"),
        ("SELECT id FROM customers", "more than one row"),
    ],
)
def test_one_that_does_not_is_a_violation(database: Path, assertion: str, returned: str) -> None:
    """With the statement and what it returned; the verdict stays."""
    collected = judge(database, "SELECT 1", assertion)
    ((kind, severity, message),) = [(found.kind, found.severity, found.message) for found in collected.findings]
    assert (kind, severity) == ("assertion", Severity.VIOLATION)
    assert message == f"an assertion does not hold: {assertion} returned {returned}"
    assert collected.judged is Verdict.SOUND


@pytest.mark.parametrize(
    "assertion",
    [
        "SELECT nothing FROM nowhere",
        "SELECT 1; SELECT 1",
        "SELEKT 1",
        "SELECT ?",
        "DELETE FROM orders",
        "ATTACH 'other.db' AS other",
        "PRAGMA query_only=0",
        "BEGIN IMMEDIATE",
        "CREATE TEMP TABLE t(a)",
        "SELECT load_extension('x')",
        "SELECT ours(id) FROM customers",
        "SELECT length(zeroblob(2000000000))",
    ],
)
def test_one_that_cannot_be_run_is_unknown_and_named(
    database: Path, assertion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it tries: nothing is written or attached, and the next one is judged."""
    monkeypatch.chdir(database.parent)
    before = database.read_bytes()
    collected = judge(database, assertion, "SELECT 0")
    assert collected.verdict is Verdict.UNKNOWN
    assert collected.why.startswith(f"these assertions could not be run: {assertion} (")
    assert [finding.kind for finding in collected.findings] == ["assertion"]
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == ["app.db"]


def test_many_and_long_ones_are_cut(database: Path) -> None:
    """A screen is not filled by one statement."""
    collected = judge(database, *(f"SELECT missing{number}" for number in range(9)), f"SELECT '{'x' * 9000}' = 'y'")
    assert collected.why.endswith(" and 4 more")
    (finding,) = collected.findings
    assert len(finding.message) < 300 and len(finding.evidence) < 4000


def test_damage_on_the_way_is_damage(database: Path) -> None:
    """Nothing is concluded from what a statement returns over it."""
    data = bytearray(database.read_bytes())
    with closing(sqlite3.connect(database)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders'").fetchone()
    data[(root - 1) * 4096 : root * 4096] = b"\7" * 4096
    database.write_bytes(data)
    collected = judge(database, "SELECT count(body) = 0 FROM orders")
    assert [(finding.kind, finding.severity) for finding in collected.findings] == [("malformed", Severity.DAMAGE)]


def test_an_interrupt_is_passed_on(database: Path) -> None:
    """It makes the run say unknown."""

    class Interrupted(ClosedSubject):
        def connect(self, *, copy: bool = False) -> sqlite3.Connection:
            connection = super().connect(copy=copy)
            connection.set_progress_handler(lambda: 1, 10)
            return connection

    statement = "SELECT count(*) FROM customers"
    with Interrupted(database, assertions=[statement]) as subject, pytest.raises(sqlite3.Error, match="interrupted"):
        list(AssertionsChecker().check(subject))
