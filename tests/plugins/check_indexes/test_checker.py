from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker
from pagewarden.testing.contracts import CheckerContract
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Severity, Verdict
from pagewarden_check_indexes import asking, pagewarden_checkers
from pagewarden_check_indexes import judgement as module
from pagewarden_check_indexes.checker import IndexesChecker


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


def judge(path: Path, resume: str = "") -> Collected:
    """Let the checker judge a closed database."""
    collected = Collected()
    with ClosedSubject(path, resume=resume) as subject:
        collected.add(IndexesChecker().check(subject))
    return collected


def told(path: Path) -> list[tuple[str, str | None, int | None, str]]:
    """Return what the checker finds: kind, index, rowid, evidence."""
    return [(found.kind, found.object, found.rowid, found.evidence) for found in judge(path).findings]


def build(path: Path, *statements: str) -> Path:
    """Run statements on a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        for statement in statements:
            connection.execute(statement)
    return path


def graft(path: Path, index: str, table: str, *changes: str) -> Path:
    """Give an index the entries that it would have if `changes` had been made to its table, which they are not.

    A twin of the table with a twin of the index is changed, and the two indexes change their roots.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name IN (?, ?) ORDER BY type DESC", (table, index)
        ).fetchall()
        for _, name, sql in rows:
            connection.execute(sql.replace(name, f"twin_{name}", 1).replace(f" {table}(", f" twin_{table}("))
        connection.execute(f"INSERT INTO twin_{table} SELECT * FROM {table}")
        for change in changes:
            connection.execute(change)
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'index'").fetchall())
        connection.execute("PRAGMA writable_schema=1")
        for one, other in ((index, f"twin_{index}"), (f"twin_{index}", index)):
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (roots[other], one))
        connection.execute("PRAGMA writable_schema=RESET")
        connection.execute(f"DROP TABLE twin_{table}")
    return path


TABLE = "CREATE TABLE t(a TEXT, b INT, c REAL)"
ROWS = (
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
    " SELECT 'name ' || i, nullif(i % 7, 0), i / 4.0 FROM n"
)
MISSING, MORE, OTHER = (
    "DELETE FROM twin_t WHERE b = 3 AND a = 'name 10'",
    "INSERT INTO twin_t(a, b, c) VALUES ('one too many', 3, 7.5)",
    "UPDATE twin_t SET a = 'nobody', b = 30, c = 9.25 WHERE a = 'name 10'",
)
INDEXES = {
    "plain": "CREATE INDEX i ON t(a)",
    "descending": "CREATE INDEX i ON t(b DESC, a)",
    "nocase": "CREATE INDEX i ON t(a COLLATE NOCASE)",
    "rtrim": "CREATE INDEX i ON t(c, a COLLATE RTRIM)",
    "real": "CREATE INDEX i ON t(c)",
    "unique": "CREATE UNIQUE INDEX i ON t(a)",
    "partial": "CREATE INDEX i ON t(a) WHERE b > 2",
    "expression": "CREATE INDEX i ON t(upper(a))",
    "both": "CREATE INDEX i ON t(b + 1, a || 'x' COLLATE NOCASE DESC) WHERE c IS NOT NULL /* ) */ AND a <> ')''('",
}


@pytest.fixture(params=INDEXES)
def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A sound database with an index of each kind."""
    return build(tmp_path / "a.db", TABLE, ROWS, INDEXES[request.param])


def test_a_sound_index_is_sound(indexed: Path) -> None:
    """Nothing is found, and nothing left out."""
    collected = judge(indexed)
    assert (collected.findings, collected.judged, collected.why) == ([], Verdict.SOUND, "")


def test_a_row_without_an_entry_is_named(indexed: Path) -> None:
    """By its rowid, with what the entry should hold."""
    ((kind, name, rowid, evidence),) = told(graft(indexed, "i", "t", MISSING))
    assert (kind, name, rowid) == ("index-mismatch", "i", 10)
    assert evidence.startswith("the row has ")


def test_an_entry_too_many_is_found(indexed: Path) -> None:
    """Of a row that is not there. Where SQLite has to look at the row, it says itself that there is damage."""
    found = told(graft(indexed, "i", "t", MORE))
    assert {(kind, name) for kind, name, _, _ in found} <= {("index-mismatch", "i"), ("malformed", "i")}
    assert len(found) == 1


def test_an_entry_with_another_key_is_found(indexed: Path) -> None:
    """The numbers of rows and entries are equal, the row is known."""
    found = told(graft(indexed, "i", "t", OTHER))
    assert ("index-mismatch", "i", 10) in [entry[:3] for entry in found]


def test_what_counts_as_equal_is_not_enough(tmp_path: Path) -> None:
    """An entry of a NOCASE index in the wrong case answers no query wrongly, but a bit of it has flipped."""
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["nocase"])
    found = told(graft(path, "i", "t", "UPDATE twin_t SET a = 'NAME 10' WHERE a = 'name 10'"))
    assert found == [
        ("index-mismatch", "i", 10, "the row has 'name 10'"),
        ("index-mismatch", "i", 10, "it has 'NAME 10'"),
    ]


def test_doubles_of_a_unique_index_are_found(tmp_path: Path) -> None:
    """Two rows with one key: table and index agree, and both are wrong. NULLs are no doubles."""
    path = build(tmp_path / "a.db", TABLE, ROWS, "CREATE INDEX i ON t(a, b)")
    build(path, "INSERT INTO t VALUES('name 10', 3, 1), ('name 7', NULL, 2), (NULL, 1, 1), (NULL, 1, 2)")
    build(
        path,
        "PRAGMA writable_schema=1",
        "UPDATE sqlite_master SET sql = 'CREATE UNIQUE INDEX i ON t(a, b)' WHERE name = 'i'",
    )
    assert told(path) == [("duplicate-key", "i", 10, "the key is 'name 10', 3")]


@pytest.mark.parametrize(
    "table", ["CREATE TABLE t(a TEXT, b INT, c REAL)", "CREATE TABLE t(a, b, c PRIMARY KEY) WITHOUT ROWID"]
)
def test_nulls_in_a_unique_index_are_compared(tmp_path: Path, table: str) -> None:
    """They have no place of their own there; so many that one look-up for each among all would take minutes."""
    many = ROWS.replace("i < 200", "i < 8000").replace("nullif(i % 7, 0)", "NULL")
    path = build(tmp_path / "a.db", table, many, "CREATE UNIQUE INDEX i ON t(b, a)")
    assert told(path) == []
    graft(path, "i", "t", "DELETE FROM twin_t WHERE a = 'name 10'")
    ((kind, name, rowid, evidence),) = told(path)
    assert (kind, name, rowid) == ("index-mismatch", "i", None if "WITHOUT" in table else 10)
    assert evidence.startswith("the row has NULL, 'name 10'")


WITHOUT_ROWID = "CREATE TABLE t(a TEXT, b INT, c REAL, PRIMARY KEY(c, a)) WITHOUT ROWID"


@pytest.mark.parametrize(
    "index",
    ["i ON t(b)", "i ON t(b DESC, c)", "i ON t(a COLLATE NOCASE) WHERE b = 3", "i ON t(b * 2)"],
    ids=["plain", "with a key column", "partial", "expression"],
)
def test_tables_without_rowid_are_compared(tmp_path: Path, index: str) -> None:
    """Their rows have no number; the evidence is the key."""
    path = build(tmp_path / "a.db", WITHOUT_ROWID, ROWS, f"CREATE INDEX {index}")
    assert told(path) == []
    for change in (MISSING, OTHER):
        copy = tmp_path / "copy.db"
        copy.write_bytes(path.read_bytes())
        found = told(graft(copy, "i", "t", change))
        assert ("index-mismatch", "i", None) in [entry[:3] for entry in found], change


def test_the_indexes_of_constraints_are_compared(tmp_path: Path) -> None:
    """They have no statement of their own; a generated column that is not stored is computed."""
    path = build(
        tmp_path / "a.db",
        "CREATE TABLE t(a TEXT UNIQUE, b INT, v AS (b * 2), PRIMARY KEY(b, a))",
        "INSERT INTO t VALUES('x', 1), ('y', NULL), (NULL, NULL), (NULL, NULL)",
        "CREATE INDEX i ON t(v, a)",
    )
    assert judge(path).judged is Verdict.SOUND
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'index'").fetchall())
        connection.execute("PRAGMA writable_schema=1")
        one, other = "sqlite_autoindex_t_1", "sqlite_autoindex_t_2"
        for name, root in ((one, roots[other]), (other, roots[one])):
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (root, name))
        connection.commit()
    assert {found.object for found in judge(path).findings} == {one, other}


@pytest.mark.parametrize("kind", ["INDEX", "UNIQUE INDEX"])
def test_indexes_of_any_number_of_columns_are_compared(tmp_path: Path, kind: str) -> None:
    """SQLite nests a chain of ANDs or ORs as deep as it is long, and goes no deeper than 1,000."""
    columns = [f"c{number}" for number in range(1000)]
    path = build(
        tmp_path / "a.db",
        f"CREATE TABLE t({', '.join(f'{column} COLLATE NOCASE' for column in columns)})",
        f"CREATE {kind} i ON t({', '.join(columns)})",
        "INSERT INTO t(c0, c999) VALUES ('a', NULL), ('b', 1)",
        f"INSERT INTO t VALUES ({', '.join(['1'] * 1000)})",
    )
    judged = judge(path)
    assert (judged.findings, judged.judged, judged.why) == ([], Verdict.SOUND, "")
    graft(path, "i", "t", "DELETE FROM t WHERE rowid = 2", "DELETE FROM t WHERE rowid = 3")
    assert sorted((each[0], each[2]) for each in told(path)) == [("index-mismatch", 2), ("index-mismatch", 3)]


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    """H29: names of tables that are numbers, words of SQL, or end a string; columns that take the rowid's names."""
    statements = []
    for table in ("7", "select", 'a"b', "a'); DROP TABLE t; --", "row", "another row"):
        quoted = '"' + table.replace('"', '""') + '"'
        index = '"i ' + table.replace('"', '""') + '"'
        statements += [
            f'CREATE TABLE {quoted}(rowid, "a ""b", k0, r)',
            f"INSERT INTO {quoted} VALUES (1, 'x', 3, 4), (2, 'y', 5, 6)",
            f'CREATE INDEX {index} ON {quoted}("a ""b", r, k0, rowid)',
        ]
    collected = judge(build(tmp_path / "a.db", *statements))
    assert (collected.findings, collected.why) == ([], "")
    path = build(tmp_path / "b.db", "CREATE TABLE t(rowid, oid, _rowid_)", "CREATE INDEX i ON t(oid)")
    collected = judge(path)
    assert collected.judged is Verdict.UNKNOWN
    assert collected.why == "these indexes were not judged: i (columns of t have all names of its rowid)"


def test_what_only_the_application_has_leaves_the_others_to_be_judged(tmp_path: Path) -> None:
    """H7: an unknown collation makes its index unknown, by name; damage elsewhere is found all the same."""
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["plain"])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.create_function("ours", 1, lambda a: a, deterministic=True)
        connection.execute("CREATE TABLE u(a TEXT COLLATE mine)")
        connection.execute("CREATE INDEX ua ON u(a)")
        connection.execute("CREATE INDEX uo ON u(ours(a))")
        connection.execute("INSERT INTO u VALUES('x'), ('y')")
    collected = judge(path)
    assert (collected.findings, collected.judged) == ([], Verdict.UNKNOWN)
    assert "ua (it needs what only the application has: no such collation sequence: mine)" in collected.why
    assert "uo (it needs what only the application has: no such function: ours)" in collected.why
    collected = judge(graft(path, "i", "t", MISSING))
    assert [finding.object for finding in collected.findings] == ["i"]
    assert "ua (" in collected.why


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_every_encoding_is_compared(tmp_path: Path, encoding: str) -> None:
    """The evidence is text."""
    path = build(tmp_path / "a.db", f"PRAGMA encoding='{encoding}'", TABLE, ROWS, INDEXES["plain"])
    assert told(path) == []
    assert told(graft(path, "i", "t", MISSING)) == [("index-mismatch", "i", 10, "the row has 'name 10'")]


def test_text_that_is_no_utf_8_is_compared(tmp_path: Path) -> None:
    """Applications store what they like."""
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["plain"], "UPDATE t SET a = CAST(x'ff00fe' AS TEXT)")
    assert told(path) == []


def test_a_damaged_index_is_damage(tmp_path: Path) -> None:
    """SQLite ends with an error: the index is named, and the next one is judged."""
    path = build(tmp_path / "a.db", TABLE, ROWS, "CREATE INDEX j ON t(b)", INDEXES["plain"])
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'i'").fetchone()
    data = bytearray(path.read_bytes())
    data[(root - 1) * 512 : root * 512] = bytes(512)
    path.write_bytes(data)
    ((kind, name, _, evidence),) = told(path)
    assert (kind, name, evidence) == ("malformed", "i", "database disk image is malformed")


@pytest.mark.parametrize(
    ("old", "new"), [(b"CREATE TABLE", b"CREATE XXXXX"), (b"tablett\2CREATE TABLE", b"table\xff\xff\2CREATE XXXXX")]
)
def test_a_schema_that_sqlite_cannot_read_is_damage(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Even where Python cannot make an exception of SQLite's message, which quotes a name that is no text."""
    path = build(tmp_path / "a.db", "CREATE TABLE t(a)")
    path.write_bytes(path.read_bytes().replace(old, new))
    (finding,) = judge(path).findings
    assert (finding.kind, finding.severity) == ("malformed", Severity.DAMAGE)


def test_findings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty index of a large table is named by its first rows."""
    monkeypatch.setattr(module, "FINDINGS", 12)
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["plain"])
    collected = judge(graft(path, "i", "t", "DELETE FROM twin_t"))
    assert [finding.rowid for finding in collected.findings] == list(range(1, 13))
    assert collected.why == "nothing was looked for after 12 findings"


class _Over(BaseException):
    """The run's time is over."""


class _Stopping(ClosedSubject):
    """A subject whose time is over after some portions."""

    portions = 4

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))
        self.portions -= 1
        if self.portions < 0:
            raise _Over


Found = set[tuple[str | None, int | None]]


def test_what_was_not_reached_is_reached_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with time for a few portions each find in the end what one run finds, wherever it begins.

    An entry too many is found, too, though no run looks at an index whole; one that has found no row of an index
    wanting may say that its entries are too few.
    """
    monkeypatch.setattr(asking, "PORTION", 30)
    path = build(tmp_path / "a.db", TABLE, ROWS, "CREATE INDEX h ON t(b)", INDEXES["plain"], "CREATE INDEX j ON t(c)")
    graft(path, "i", "t", MISSING, "DELETE FROM twin_t WHERE a = 'name 190'")
    graft(path, "j", "t", MISSING)
    graft(path, "h", "t", "INSERT INTO twin_t VALUES('more', 1, 1)")
    expected: Found = {("i", 10), ("i", 190), ("j", 10), ("h", 201)}
    counted: Found = {("i", None), ("j", None)}
    found: Found = set()
    resume, runs = "", 0
    while not found >= expected:
        runs += 1
        assert runs < 20
        with _Stopping(path, resume=resume) as subject, pytest.raises(_Over):
            for finding in IndexesChecker().check(subject):
                found.add((finding.object, finding.rowid))
        resume = subject.places[-1]
    assert runs > 3 and found <= expected | counted
    for place in (resume, '["i", 100]', '["j", null]', '["gone", 3]', "nonsense", "[1, 2]"):
        once = {(finding.object, finding.rowid) for finding in judge(path, place).findings}
        assert expected <= once <= expected | counted, place


def test_progress_counts_from_where_a_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows with each place from 0 to the whole, wherever the beginning is, and so do the parts of short runs."""
    monkeypatch.setattr(asking, "PORTION", 30)
    path = build(tmp_path / "a.db", TABLE, ROWS, "CREATE INDEX h ON t(b)", INDEXES["plain"], "CREATE INDEX j ON t(c)")
    for place in ("", '["i", 100]', f'["i", {(1 << 63) - 1}]', '["i", -5]', '["ha", 100]', '["z", null]'):
        with ClosedSubject(path, resume=place) as subject:
            assert list(IndexesChecker().check(subject)) == []
        done = [done for done, _ in subject.told]
        assert done == sorted(done) and done[0] == 0 and len(set(done)) > 10, place
        assert {total for _, total in subject.told} == {done[-1]}, place
    resume, covered, whole = "", 0, 1
    for _ in range(40):
        with _Stopping(path, resume=resume) as subject, pytest.raises(_Over):
            list(IndexesChecker().check(subject))
        (done_now, whole), resume = subject.told[len(subject.places) - 1], subject.places[-1]
        assert done_now > 0
        covered += done_now
        if covered >= whole:
            break
    assert covered >= whole


def test_an_index_that_is_dropped_meanwhile_is_left_out(tmp_path: Path) -> None:
    """In a live database others drop indexes and make them anew, with other columns: those are for the next run."""
    path = build(tmp_path / "a.db", "PRAGMA journal_mode=WAL", TABLE, ROWS, "CREATE INDEX a ON t(b)")
    build(path, "CREATE INDEX b ON t(b)", "CREATE INDEX c ON t(b)", "CREATE TABLE v(k PRIMARY KEY)")

    class Dropping(ClosedSubject):
        def progress(self, done: int, total: int) -> None:
            if self.places and not done_so:
                done_so.append(True)
                build(Path(self.path), "DROP INDEX b", "DROP INDEX c", "CREATE INDEX c ON t(a)", "DROP TABLE v")

    done_so: list[bool] = []
    collected = Collected()
    with Dropping(path) as subject:
        collected.add(IndexesChecker().check(subject))
    assert done_so
    assert (collected.findings, collected.judged, collected.why) == ([], Verdict.SOUND, "")


def test_an_index_that_cannot_be_judged_keeps_parts_from_being_a_whole(tmp_path: Path) -> None:
    """H7: a run that is cut short later has said that it is no part of one."""
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["plain"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("ours", 1, lambda value: value, deterministic=True)
        connection.execute("CREATE INDEX a ON t(ours(a))")
    with ClosedSubject(path) as subject:
        list(IndexesChecker().check(subject))
    assert "" in subject.places


def test_no_read_transaction_outlives_a_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H8: whenever the checker tells how far it is, it holds no transaction, and checkpoints can go on."""
    monkeypatch.setattr(asking, "PORTION", 50)
    path = build(tmp_path / "a.db", "PRAGMA journal_mode=WAL", TABLE, ROWS, INDEXES["plain"], "CREATE INDEX j ON t(c)")
    held: list[bool] = []

    class Watching(ClosedSubject):
        def progress(self, done: int, total: int) -> None:
            with closing(sqlite3.connect(self.path, timeout=0)) as other:
                other.execute("INSERT INTO t VALUES('more', 1, 1)")
                other.commit()
                held.append(other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] != 0)

    with Watching(path) as subject:
        assert list(IndexesChecker().check(subject)) == []
    assert len(held) > 8 and not any(held)


def test_what_says_nothing_of_the_file_is_passed_on(tmp_path: Path) -> None:
    """An interrupt makes the run say unknown."""
    path = build(tmp_path / "a.db", TABLE, ROWS, INDEXES["plain"])

    class Interrupted(ClosedSubject):
        def connect(self, *, copy: bool = False) -> sqlite3.Connection:
            connection = super().connect(copy=copy)
            connection.set_progress_handler(lambda: 1, 10)
            return connection

    with Interrupted(path) as subject, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        list(IndexesChecker().check(subject))
