from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Checker, CheckOutcome
from pagewarden.errors import OutOfSpace
from pagewarden.testing.contracts import CheckerContract, make_database
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Level, Severity, Verdict
from pagewarden_check_pragma import checker as module
from pagewarden_check_pragma import pagewarden_checkers
from pagewarden_check_pragma.checker import PragmaChecker


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


def judge(path: Path) -> CheckOutcome:
    """Let the checker judge a closed database."""
    with ClosedSubject(path, level=Level.DEEP) as subject:
        return PragmaChecker().check(subject)


class Full(ClosedSubject):
    """A subject that has no space for a copy."""

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Refuse to copy."""
        if copy:
            raise OutOfSpace("the disk of /tmp is full")
        return super().connect()


def build(path: Path, *statements: str) -> Path:
    """Make a database of these statements."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def root_of(path: Path, name: str) -> int:
    """Return the root page of a table or index."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return int(root)


TABLE = "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)"
ROWS = "INSERT INTO t SELECT value, hex(randomblob(40)) FROM json_each('[1,2,3,4,5]')"


def test_sqlite_says_where_the_damage_is(tmp_path: Path) -> None:
    """Page and table are in the finding, also where SQLite ends with an error right after its message."""
    path = build(tmp_path / "a.db", TABLE, ROWS)
    root = root_of(path, "t")
    patch(path, (root - 1) * 4096, bytes(4096))
    outcome = judge(path)
    assert (outcome.findings[0].kind, outcome.findings[0].pgno) == ("bad-page", root)
    assert all(finding.severity is Severity.DAMAGE and finding.evidence for finding in outcome.findings)


def test_indexes_are_compared_with_their_tables(tmp_path: Path) -> None:
    """And named."""
    path = build(tmp_path / "a.db", TABLE, ROWS, "CREATE INDEX i ON t(b)")
    root = root_of(path, "i")
    count = (root - 1) * 4096 + 3
    patch(path, count, b"\0\4")
    patch(path, count + 2, path.read_bytes()[count + 2 : count + 4])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=1")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t(b COLLATE NOCASE)' WHERE name = 'i'")
        connection.commit()
    found = judge(path).findings
    assert {finding.kind for finding in found} >= {"index-mismatch"}
    assert all(finding.object == "i" for finding in found if finding.kind == "index-mismatch")


def test_broken_rules_are_violations(tmp_path: Path) -> None:
    """NOT NULL: findings that leave the verdict alone."""
    path = build(tmp_path / "a.db", "CREATE TABLE t(a, b)", "INSERT INTO t VALUES(NULL, 1), (1, NULL)")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=1")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE t(a NOT NULL, b)' WHERE name = 't'")
        connection.commit()
    outcome = judge(path)
    assert [(finding.kind, finding.severity, finding.object, finding.message) for finding in outcome.findings] == [
        ("not-null", Severity.VIOLATION, "t", "integrity_check says: NULL value in t.a")
    ]
    assert outcome.verdict is None


def test_a_schema_whose_names_are_no_text_is_judged(tmp_path: Path) -> None:
    """Python cannot even make an exception of SQLite's message, which quotes one of them."""
    broken = build(tmp_path / "b.db", TABLE, ROWS)
    content = broken.read_bytes()
    broken.write_bytes(content.replace(b"tablett\2CREATE TABLE", b"table\xff\xff\2CREATE XXXXX"))
    finding = judge(broken).findings[0]
    assert (finding.kind, finding.severity) == ("malformed", Severity.DAMAGE)


@pytest.mark.parametrize(
    ("offset", "data"),
    [(100, bytes(8)), (44, b"\0\0\0\7"), (0, b"SQLite format 4\0")],
    ids=["schema page", "schema format", "magic"],
)
def test_what_sqlite_refuses_to_read_is_damage(tmp_path: Path, offset: int, data: bytes) -> None:
    """The error itself is the finding."""
    path = build(tmp_path / "a.db", TABLE, ROWS)
    with Full(path) as subject:
        patch(path, offset, data)
        outcome = PragmaChecker().check(subject)
    assert outcome.findings
    assert all(finding.severity is Severity.DAMAGE for finding in outcome.findings)
    assert "malformed" in {finding.kind for finding in outcome.findings}


def test_what_only_the_application_has_is_unknown(tmp_path: Path) -> None:
    """H7: a collation that is not registered here makes no damage, and no silence either."""
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(a TEXT COLLATE mine)")
        connection.execute("CREATE INDEX i ON t(a)")
        connection.execute("INSERT INTO t VALUES('x'), ('y')")
    outcome = judge(tmp_path / "a.db")
    assert (outcome.verdict, outcome.findings) == (Verdict.UNKNOWN, ())
    assert "no such collation sequence: mine" in outcome.why


def test_a_full_text_table_that_could_not_be_validated_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H7: as SQLite 3.44 and later say it, beside findings that stay."""
    text = "unable to validate the inverted index for FTS5 table main.words: SQL logic error"
    answer = module._Answer()
    answer.take(f"{text}\nPage 9 is never used".encode())
    outcome = answer.outcome()
    assert (outcome.verdict, len(outcome.findings)) == (Verdict.UNKNOWN, 1)
    assert outcome.why == f"integrity_check could not judge all: {text}"


def test_an_error_that_says_nothing_of_the_file_is_passed_on(tmp_path: Path) -> None:
    """An interrupt makes the run say unknown."""
    path = make_database(tmp_path / "a.db")

    class Interrupted(ClosedSubject):
        def connect(self, *, copy: bool = False) -> sqlite3.Connection:
            connection = super().connect(copy=copy)
            connection.set_progress_handler(lambda: 1, 10)
            return connection

    with Interrupted(path) as subject, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        PragmaChecker().check(subject)


@pytest.mark.parametrize(
    "statement", ["CREATE VIEW looks AS SELECT 1", "CREATE VIRTUAL TABLE looks USING fts5(a)"], ids=["view", "virtual"]
)
def test_ok_says_what_it_may_not_cover(tmp_path: Path, statement: str) -> None:
    """H39: with a view or a virtual table in the schema, three things may have been skipped; without, none are."""
    path = build(tmp_path / "a.db", TABLE, ROWS)
    assert judge(path).why == ""
    build(path, statement)
    outcome = judge(path)
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert outcome.why == (
        "sqlite may have skipped the freelist, unused pages and ptrmap pages, because looks is no ordinary table"
    )


def test_a_sea_of_messages_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H6: SQLite is asked for more than 100; so many become findings, and the others are counted."""
    path = make_database(tmp_path / "a.db", rows=1500)
    data = path.read_bytes()
    path.write_bytes(data + bytes(4096) * 400)
    patch(path, 28, (len(data) // 4096 + 400).to_bytes(4, "big"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP VIEW totals")  # or SQLite would be blind to unused pages (H39)
        connection.commit()
    monkeypatch.setattr(module, "FINDINGS", 150)
    outcome = judge(path)
    assert len(outcome.findings) == 150
    assert {finding.kind for finding in outcome.findings} == {"unused-page"}
    assert outcome.why == "250 more messages of integrity_check were left out"


def test_noise_is_survived(tmp_path: Path) -> None:
    """Names that are no UTF-8 and pages of noise: an outcome, or an error of SQLite's."""
    original = make_database(tmp_path / "a.db", rows=60).read_bytes()
    chance = random.Random(3)
    for number in range(30):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 30)):
            data[chance.randrange(100, len(data))] = chance.randrange(256)
        data[chance.randrange(3000, 4000)] = 0xFF
        copy = tmp_path / "noise.db"
        copy.write_bytes(data)
        try:
            outcome = judge(copy)
        except sqlite3.DatabaseError:
            continue
        assert isinstance(outcome, CheckOutcome), number


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_encoding_is_understood(encoding: str, tmp_path: Path) -> None:
    """SQLite's answer comes in the database's own encoding, an "ok" as well as a message."""
    path = build(tmp_path / "a.db", f"PRAGMA encoding='{encoding}'", TABLE, ROWS)
    assert judge(path).findings == ()
    patch(path, (root_of(path, "t") - 1) * 4096, b"\0" * 4096)
    (finding, *_) = judge(path).findings
    assert finding.severity is Severity.DAMAGE
    assert "\0" not in finding.message


CHECKED = (
    "CREATE TABLE t(a INTEGER CHECK (a < 10))",
    "PRAGMA ignore_check_constraints=1",
    "INSERT INTO t VALUES(5), (50)",
)


def test_check_constraints_are_judged_on_the_copy(tmp_path: Path) -> None:
    """SQLite forgets them where a database is opened for reading only. The database itself is not touched."""
    path = build(tmp_path / "a.db", *CHECKED)
    before = path.read_bytes()
    ((kind, severity, name),) = [(found.kind, found.severity, found.object) for found in judge(path).findings]
    assert (kind, severity, name) == ("check-constraint", Severity.VIOLATION, "t")
    assert path.read_bytes() == before


def test_without_space_for_a_copy_it_judges_what_it_can(tmp_path: Path) -> None:
    """And says what it could not."""
    path = build(tmp_path / "a.db", *CHECKED)

    with Full(path, level=Level.DEEP) as subject:
        outcome = PragmaChecker().check(subject)
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert outcome.why == ("CHECK constraints were not judged, because no copy could be made: the disk of /tmp is full")
