from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker
from pagewarden.sqlite.virtual import VirtualTable, virtual_tables
from pagewarden.testing.contracts import CheckerContract, make_database
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Level, Severity, Verdict
from pagewarden_check_virtual_tables import pagewarden_checkers
from pagewarden_check_virtual_tables.checker import VirtualTablesChecker


class TestContract(CheckerContract):
    """What every checker must do, of a database without virtual tables."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


class TestContractWithVirtualTables(TestContract):
    """The same with some."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        """A sound database of every kind of virtual table."""
        folder = tmp_path / "subject"
        folder.mkdir()
        return build(make_database(folder / "app.db", rows=30), *(sql for kind in KINDS.values() for sql in kind))


def build(path: Path, *statements: str) -> Path:
    """Run statements on a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def judge(path: Path) -> Collected:
    """Let the checker judge a closed database."""
    collected = Collected()
    with ClosedSubject(path, level=Level.DEEP) as subject:
        collected.add(VirtualTablesChecker().check(subject))
    return collected


WORDS = "VALUES ('red green'), ('blue'), ('red')"
KINDS = {
    "fts3": ("CREATE VIRTUAL TABLE three USING fts3(a)", f"INSERT INTO three(a) {WORDS}"),
    "fts4": ("CREATE VIRTUAL TABLE [fo ur] USING FTS4(a, tokenize=porter)", f"INSERT INTO [fo ur](a) {WORDS}"),
    "fts5": ("CREATE VIRTUAL TABLE IF NOT EXISTS 'fi''ve' USING \"fts5\"(a)", f"INSERT INTO 'fi''ve'(a) {WORDS}"),
    "fts4 with its content elsewhere": (
        "CREATE TABLE words4(a)",
        f"INSERT INTO words4 {WORDS}",
        "CREATE VIRTUAL TABLE outer4 USING fts4(content='words4', a)",
        "INSERT INTO outer4(outer4) VALUES('rebuild')",
    ),
    "fts5 with its content elsewhere": (
        "CREATE TABLE words5(a)",
        f"INSERT INTO words5 {WORDS}",
        "CREATE VIRTUAL TABLE main.outer5 USING fts5(a, content=words5, content_rowid=rowid)",
        "INSERT INTO outer5(outer5) VALUES('rebuild')",
    ),
    "fts5 without content": (
        "CREATE VIRTUAL TABLE none5 USING fts5(a, content='')",
        "INSERT INTO none5(rowid, a) VALUES (1, 'red')",
    ),
    "rtree": ("CREATE VIRTUAL TABLE tree USING rtree(id, a, b)", "INSERT INTO tree VALUES (1, 2, 3), (2, 4, 5)"),
    "rtree of integers": (
        "CREATE VIRTUAL TABLE tree32 USING rtree_i32(id, a, b)",
        "INSERT INTO tree32 VALUES (1, 2, 3)",
    ),
    "nothing": ("CREATE VIRTUAL TABLE terms USING fts5vocab(none5, row)",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sound_is_sound(kind: str, tmp_path: Path) -> None:
    """Every kind of table, also without rows of its own, and nothing is left out."""
    collected = judge(build(tmp_path / "a.db", *KINDS[kind]))
    assert (collected.findings, collected.judged, collected.why) == ([], Verdict.SOUND, "")


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        ("fts3", "UPDATE three_content SET c0a = 'other'", "full-text-index"),
        ("fts4", "DELETE FROM [fo ur_segdir]", "full-text-index"),
        ("fts5", "UPDATE [fi've_content] SET c0 = 'other' WHERE id = 2", "full-text-index"),
        ("fts5 with its content elsewhere", "UPDATE outer5_data SET block = x'00' WHERE id > 100", "full-text-index"),
        ("fts4 with its content elsewhere", "INSERT INTO words4 VALUES('new')", "full-text-content"),
        ("fts5 with its content elsewhere", "DELETE FROM words5 WHERE a = 'blue'", "full-text-content"),
        ("rtree", "DELETE FROM tree_rowid WHERE rowid = 1", "spatial-index"),
        ("rtree of integers", "UPDATE tree32_node SET data = zeroblob(3)", "spatial-index"),
    ],
)
def test_what_contradicts_itself_is_found(kind: str, change: str, found: str, tmp_path: Path) -> None:
    """Though its b-trees are whole. An index that only lags behind a table of the owner's is no damage."""
    path = build(tmp_path / "a.db", *KINDS[kind], change)
    with closing(sqlite3.connect(path)) as connection:
        (name,) = (table.name for table in virtual_tables(connection))
    before = path.read_bytes()
    findings = judge(path).findings
    assert {(finding.kind, finding.object) for finding in findings} == {(found, name)}
    severity = Severity.VIOLATION if found == "full-text-content" else Severity.DAMAGE
    assert all(finding.severity is severity and finding.evidence for finding in findings)
    assert path.read_bytes() == before


def test_a_full_text_table_without_content_has_no_check_in_fts4(tmp_path: Path) -> None:
    """That is said, and makes nothing unknown."""
    path = build(tmp_path / "a.db", "CREATE VIRTUAL TABLE none4 USING fts4(content='', a)")
    collected = judge(path)
    assert (collected.findings, collected.judged) == ([], Verdict.SOUND)
    assert collected.why == "there is nothing to compare these tables of FTS4 with: none4"


def write_statement(path: Path, name: str, sql: str) -> Path:
    """Change a statement of the schema."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=1")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))
        connection.commit()
    return path


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("CREATE VIRTUAL TABLE three USING spellfix1", "three (of module spellfix1)"),
        ("CREATE VIRTUAL TABLE three USING fts5(a, tokenize=mine)", "no such tokenizer: mine"),
        ("CREATE VIRTUAL TABLE three USING fts3(a, tokenize=mine)", "unknown tokenizer: mine"),
        ("CREATE VIRTUAL TABLE three/**/USING fts3(a)", "three (of a statement that was not understood)"),
    ],
)
def test_what_only_the_application_has_is_unknown(sql: str, why: str, tmp_path: Path) -> None:
    """H7: by name; the other tables are judged."""
    path = build(tmp_path / "a.db", *KINDS["fts3"], *KINDS["rtree"], "DELETE FROM tree_rowid WHERE rowid = 1")
    collected = judge(write_statement(path, "three", sql))
    assert collected.judged is Verdict.DAMAGED
    assert {finding.object for finding in collected.findings} == {"tree"}
    assert collected.verdict is Verdict.UNKNOWN
    assert why in collected.why


def test_content_that_is_gone_is_unknown(tmp_path: Path) -> None:
    """There is nothing to compare with, and that may be meant so."""
    kind = KINDS["fts5 with its content elsewhere"]
    collected = judge(build(tmp_path / "a.db", *kind, "DROP TABLE words5"))
    assert (collected.findings, collected.judged) == ([], Verdict.UNKNOWN)
    assert collected.why.startswith("these virtual tables were not judged: outer5 (")


def test_a_schema_that_sqlite_cannot_read_is_damage(tmp_path: Path) -> None:
    """The error itself is the finding."""
    path = build(tmp_path / "a.db", "CREATE TABLE t(a)")
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE XXXXX"))
    (finding,) = judge(path).findings
    assert (finding.kind, finding.severity) == ("malformed", Severity.DAMAGE)


def test_no_copy_is_made_where_there_is_nothing_to_judge(tmp_path: Path) -> None:
    """It would cost as much space as the database."""
    asked: list[bool] = []

    class Watched(ClosedSubject):
        def connect(self, *, copy: bool = False) -> sqlite3.Connection:
            asked.append(copy)
            return super().connect(copy=copy)

    with Watched(build(tmp_path / "a.db", "CREATE TABLE t(a)", "CREATE VIEW v AS SELECT 1")) as subject:
        assert list(VirtualTablesChecker().check(subject)) == []
    assert asked == [False]


def test_an_error_that_says_nothing_of_the_file_is_passed_on(tmp_path: Path) -> None:
    """An interrupt makes the run say unknown."""
    path = build(tmp_path / "a.db", *KINDS["fts5"])

    class Interrupted(ClosedSubject):
        def connect(self, *, copy: bool = False) -> sqlite3.Connection:
            connection = super().connect(copy=copy)
            if copy:
                connection.set_progress_handler(lambda: 1, 1)
            return connection

    with Interrupted(path) as subject, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        list(VirtualTablesChecker().check(subject))


def test_statements_are_understood(tmp_path: Path) -> None:
    """Module and content, however they are quoted."""
    path = build(tmp_path / "a.db", *(sql for kind in KINDS.values() for sql in kind))
    with closing(sqlite3.connect(path)) as connection:
        found = virtual_tables(connection)
    assert [(table.name, table.module, table.content) for table in found] == [
        ("fi've", "fts5", None),
        ("fo ur", "fts4", None),
        ("none5", "fts5", ""),
        ("outer4", "fts4", "words4"),
        ("outer5", "fts5", "words5"),
        ("terms", "fts5vocab", None),
        ("three", "fts3", None),
        ("tree", "rtree", None),
        ("tree32", "rtree_i32", None),
    ]
    assert isinstance(found[0], VirtualTable)
