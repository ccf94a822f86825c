from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Repairer, Stage
from pagewarden.errors import RepairRefused
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts import RepairerContract
from pagewarden.testing.injuries import INJURIES
from pagewarden.values import Finding, Severity
from tests.plugins.repair_reindex.mending import (
    Rows,
    all_rows,
    change,
    findings,
    integrity,
    make,
    mend,
    pages_of,
    repairers,
)

PAGE = 512
FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
SEEDS = 40 if FULL else 1
KINDS = ("PRAGMA page_size=512", "PRAGMA page_size=512; PRAGMA auto_vacuum=FULL; PRAGMA encoding='UTF-16be'")


class TestContract(RepairerContract):
    """What every repairer must do."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """The one that loses nothing."""
        return repairers()[0]

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Zero a page of an index."""
        change(copy, pages_of(copy, "index")[-1], lambda page: bytes(len(page)), 4096)
        return findings(copy)


class TestContractOfDuplicates(TestContract):
    """What every repairer must do, by the one that moves rows."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """The other one."""
        return repairers()[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Rows, list[int], list[int]]]:
    """Sound databases by their pragmas, with their rows, and the pages of their indexes and of their tables."""
    folder = tmp_path_factory.mktemp("sound")
    made = {}
    for number, pragmas in enumerate(KINDS):
        path = make(folder / f"{number}.db", rows=120, pragmas=pragmas)
        assert (integrity(path), findings(path)) == ([], ())
        made[pragmas] = (path, all_rows(path), pages_of(path, "index"), pages_of(path, "table"))
    return made


@pytest.fixture
def copy(tmp_path: Path, sound: dict[str, tuple[Path, Rows, list[int], list[int]]]) -> Path:
    """A copy of the first."""
    return Path(shutil.copy(sound[KINDS[0]][0], tmp_path / "app.db"))


def zeroed(page: bytes) -> bytes:
    """Return a page of zeros."""
    return bytes(len(page))


def injured(injury: str, data: bytes, indexes: list[int], tables: list[int], chance: random.Random) -> bytes:
    """Return a file with damaged pages of indexes."""

    def page(pgno: int) -> bytes:
        return data[(pgno - 1) * PAGE : pgno * PAGE]

    interior = [pgno for pgno in indexes if page(pgno)[0] == 2]
    one, other = chance.sample(interior if injury == "pointer" else indexes, 2)
    wrong, at = chance.choice(tables), chance.randrange(PAGE - 8 if FULL else 8)
    old = page(one)
    changed = {
        "zero": {one: bytes(PAGE)},
        "two": {one: bytes(PAGE), other: chance.randbytes(PAGE)},
        "tear": {one: old[: PAGE // 2] + page(other)[PAGE // 2 :]},
        "swap": {one: page(other), other: old},
        "noise": {one: old[:at] + chance.randbytes(8) + old[at + 8 :]},
        "table page": {one: page(wrong)},
        "pointer": {one: old[:8] + wrong.to_bytes(4, "big") + old[12:]},
    }[injury]
    for pgno, content in changed.items():
        data = data[: (pgno - 1) * PAGE] + content + data[pgno * PAGE :]
    return data


def judge(path: Path, before: Rows) -> None:
    """SQLite finds nothing wrong, our checkers neither, and every row is as it was."""
    assert integrity(path) == []
    assert findings(path) == ()
    assert all_rows(path) == before


@pytest.mark.parametrize("pragmas", KINDS)
@pytest.mark.parametrize("injury", ["zero", "tear", "swap", "noise", "table page", "pointer", "two"])
def test_pages_of_indexes_cost_no_row(
    pragmas: str,
    injury: str,
    sound: dict[str, tuple[Path, Rows, list[int], list[int]]],
    tmp_path: Path,
) -> None:
    """Zeroed, torn, swapped, overwritten by a table's page, or with pointers into tables: all rows stay (H27, H28)."""
    source, before, indexes, tables = sound[pragmas]
    data = source.read_bytes()
    mended = 0
    for seed in range(SEEDS):
        copy = tmp_path / f"{seed}.db"
        copy.write_bytes(injured(injury, data, indexes, tables, random.Random(f"{seed} {injury} {pragmas}")))
        found = findings(copy)
        _, steps = mend(copy, tmp_path / "scratch", found=found)
        assert bool(steps) == bool(found)  # a change of bytes that nobody uses is none
        assert all(step.stage is Stage.INDEXES for step in steps)
        mended += bool(steps)
        judge(copy, before)
    assert mended or injury == "tear"


def test_a_changed_entry_is_mended(copy: Path, tmp_path: Path) -> None:
    """One byte of an entry: the row stands, and the index follows it. Every damage is a step's to mend."""
    before = all_rows(copy)
    for seed in range(2):
        INJURIES["index-entry"].apply(copy, seed)
        found = findings(copy)
        _, steps = mend(copy, tmp_path / "scratch", found=found)
        damage = {place for place, finding in enumerate(found) if finding.severity is Severity.DAMAGE}
        assert {*steps[0].mends} == damage
        judge(copy, before)


@pytest.mark.parametrize("pragmas", KINDS if FULL else KINDS[1:])
@pytest.mark.parametrize(
    "roots",
    [
        {"people_name": "people_partial"},
        {"people_name": "people_partial", "people_partial": "people_name"},
        {"people_name": "plain", "child_up": "keyed", "keyed_c": "people"},
        {"sqlite_autoindex_people_1": "log"},
        {"people_name": 1 << 30, "people_partial": -3, "child_up": 0},
        {"people_name": None, "child_up": "no number", "people_partial": 2},
    ],
    ids=str,
)
def test_a_wrong_root_page_is_given_back(
    pragmas: str,
    roots: dict[str, object],
    sound: dict[str, tuple[Path, Rows, list[int], list[int]]],
    tmp_path: Path,
) -> None:
    """A root page that is a table's, another index's or none, though SQLite may refuse the whole schema for it."""
    source, before, *_ = sound[pragmas]
    copy = Path(shutil.copy(source, tmp_path / "app.db"))
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        known = dict(connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
        connection.execute("PRAGMA writable_schema=ON")
        for name, root in roots.items():
            page = known.get(root, root)
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (page, name))
    refused = ""
    with closing(sqlite3.connect(copy)) as connection:
        try:
            connection.execute("SELECT 1 FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            refused = str(error)
    mend(copy, tmp_path / "scratch", refused=refused)
    judge(copy, before)


def test_pages_of_the_old_tree_become_free_and_are_used_again(copy: Path, tmp_path: Path) -> None:
    """Building an index anew leaves no page behind that nobody uses, and the file does not grow by its size."""
    size = copy.stat().st_size
    for pgno in pages_of(copy, "index", name="people_padded")[1:]:
        change(copy, pgno, zeroed)
    mend(copy, tmp_path / "scratch")
    assert copy.stat().st_size <= size + 4 * PAGE
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DELETE FROM people")
        connection.commit()
        connection.execute("VACUUM")
    assert copy.stat().st_size < size


def test_free_pages_stay_what_they_are_in_a_database_that_shrinks_by_itself(tmp_path: Path) -> None:
    """After the repair auto_vacuum moves pages by the pointer map that was written anew, and finds it right."""
    path = make(tmp_path / "app.db", rows=120, pragmas="PRAGMA page_size=512; PRAGMA auto_vacuum=INCREMENTAL")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM plain")
    for pgno in pages_of(path, "index", name="people_name")[::2]:
        change(path, pgno, zeroed)
    mend(path, tmp_path / "scratch")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA incremental_vacuum")
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert (integrity(path), findings(path)) == ([], ())


class TestTablesComeFirst:
    """H27: an index is never built from rows that are not known to be right."""

    def test_a_damaged_table(self, copy: Path) -> None:
        """A page of a table and one of an index are damaged: nothing is planned."""
        change(copy, pages_of(copy, "table", name="people")[3], zeroed)
        change(copy, pages_of(copy, "index", name="child_up")[1], zeroed)
        for repairer in repairers():
            assert repairer.plan(ClosedCase(copy, findings(copy))) == ()

    def test_a_table_without_rowid_is_a_table(self, copy: Path) -> None:
        """Though its b-tree is like an index's."""
        change(copy, pages_of(copy, "table", name="keyed")[2], zeroed)
        assert repairers()[0].plan(ClosedCase(copy, findings(copy))) == ()

    @pytest.mark.parametrize("kind", ["flipped-bit", "lost-write", "wrong-type", "truncated", "shifted-bytes"])
    def test_a_finding_that_no_walk_sees(self, copy: Path, kind: str) -> None:
        """A page sum that differs condemns the table, whatever its structure; and page numbers must mean something."""
        change(copy, pages_of(copy, "index", name="child_up")[1], zeroed)
        table = None if kind in ("truncated", "shifted-bytes") else "people"
        sum_differs = Finding(kind=kind, severity=Severity.DAMAGE, object=table, pgno=9, message="not as it was")
        assert repairers()[0].plan(ClosedCase(copy, (*findings(copy), sum_differs))) == ()

    def test_a_tree_that_was_not_planned_for(self, copy: Path, tmp_path: Path) -> None:
        """What a damaged tree uses cannot be known, so that nothing is free: refused before anything is written."""
        change(copy, pages_of(copy, "index", name="child_up")[1], zeroed)
        found = findings(copy)
        (step,) = repairers()[0].plan(ClosedCase(copy, found))
        change(copy, pages_of(copy, "table", name="people")[3], zeroed)
        before = copy.read_bytes()
        with pytest.raises(RepairRefused, match="people is damaged on page"):
            repairers()[0].apply(ClosedBench(copy, tmp_path, ClosedCase(copy, found)), [step])
        assert copy.read_bytes() == before

    def test_the_schema_changed(self, copy: Path, tmp_path: Path) -> None:
        """An index that is not there any more cannot be built."""
        change(copy, pages_of(copy, "index", name="child_up")[1], zeroed)
        found = findings(copy)
        (step,) = repairers()[0].plan(ClosedCase(copy, found))
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("DELETE FROM sqlite_master WHERE name = 'child_up'")
            connection.commit()
        with pytest.raises(RepairRefused, match="as it was when the repair was planned"):
            repairers()[0].apply(ClosedBench(copy, tmp_path, ClosedCase(copy, found)), [step])


class TestWhatOnlyTheApplicationHas:
    """H27: its collations and functions are not here, and nobody pretends that they are."""

    @staticmethod
    def build(path: Path, *statements: str) -> Path:
        """Make a database as the application would."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_collation("theirs", lambda one, other: (one > other) - (one < other))
            connection.create_function("theirs", 1, lambda value: value, deterministic=True)
            connection.execute("PRAGMA page_size=512")
            connection.execute("CREATE TABLE t(a, b COLLATE NOCASE UNIQUE)")
            connection.execute("CREATE INDEX ours ON t(a)")
            for statement in statements:
                connection.execute(statement)
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO t VALUES(?, ?)", [(f"word {i}", f"{i}") for i in range(100)])
            connection.execute("COMMIT")
        return path

    @pytest.mark.parametrize("index", ["t(a COLLATE theirs)", "t(theirs(a))", "t(a) WHERE theirs(b) > 1"])
    def test_its_index_is_left_and_named(self, index: str, tmp_path: Path) -> None:
        """Where another one can be built its step says what is left; alone it is refused with the reason."""
        path = self.build(tmp_path / "app.db", f"CREATE INDEX other ON {index}")
        stale = Finding(kind="index-mismatch", severity=Severity.DAMAGE, object="ours", message="a row has no entry")
        change(path, pages_of(path, "index", name="other")[1], zeroed)
        theirs = Finding(kind="bad-page", severity=Severity.DAMAGE, object="other", message="no page of its kind")
        (step,) = repairers()[0].plan(ClosedCase(path, (theirs, stale)))
        assert step.task["indexes"] == ["ours"] and "other: it needs what only the application has" in step.why
        with pytest.raises(RepairRefused, match="other: it needs what only the application has"):
            repairers()[0].plan(ClosedCase(path, (theirs,)))

    def test_an_index_of_another_one_is_no_matter(self, tmp_path: Path) -> None:
        """REINDEX needs only what the index itself does."""
        path = self.build(tmp_path / "app.db", "CREATE INDEX other ON t(a COLLATE theirs)")
        change(path, pages_of(path, "index", name="ours")[1], zeroed)
        before = path.read_bytes()
        _, steps = mend(path, tmp_path / "scratch")
        assert [step.task["indexes"] for step in steps] == [["ours"]]
        assert (findings(path), before == path.read_bytes()) == ((), False)


def without_entries(path: Path, table: str, index: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows of which the index gets no entry."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        kept = connection.execute("SELECT rowid, * FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (index,))
        connection.execute("PRAGMA writable_schema=RESET")
        connection.executemany(f"INSERT INTO {table} VALUES({', '.join('?' for _ in rows[0])})", rows)
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "INSERT INTO sqlite_master(rowid, type, name, tbl_name, rootpage, sql) VALUES(?, ?, ?, ?, ?, ?)", kept
        )


class TestRowsThatShareAKey:
    """The row with the lowest rowid stays, the others go to the quarantine, and nothing else happens to anybody."""

    def test_nothing_is_moved_by_who_loses_nothing(self, copy: Path, tmp_path: Path) -> None:
        """The repair that loses nothing gives up."""
        without_entries(copy, "keyed", "keyed_c", [("x", 1, b"same"), ("y", 1, b"same")])
        with pytest.raises(RepairRefused, match="rows share its key"):
            mend(copy, tmp_path / "scratch")

    @pytest.mark.parametrize(
        ("index", "rows", "kept"),
        [
            ("t(a)", [(5, "one", 0), (3, "one", 1), (9, "One", 2), (-4, None, 3), (8, None, 4)], [5]),
            ("t(a COLLATE NOCASE)", [(5, "one", 0), (3, "ONE", 1), (9, "oNe", 2)], [5, 9]),
            ("t(a COLLATE RTRIM DESC)", [(5, "one ", 0), (3, "one", 1), (9, "one   ", 2), (10, " one", 2)], [5, 9]),
            ("t(lower(a), b)", [(5, "A", 0), (3, "a", 0), (9, "a", 2)], [5]),
            ("t(a) WHERE b > 1", [(5, "a", 0), (3, "a", 1), (9, "a", 2), (8, "a", 3)], [9]),
            ("t(a, b)", [(1, 1, 1), (2, 1.0, 1), (3, "1", 1), (4, b"1", 1), (5, 1, None), (6, 1, None)], [2]),
        ],
    )
    def test_the_lowest_rowid_stays(
        self, index: str, rows: list[tuple[object, ...]], kept: list[int], tmp_path: Path
    ) -> None:
        """By the collation, the terms and the WHERE of the index; NULLs are never equal."""
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c AS (b + 1))")
            connection.execute("CREATE INDEX another ON t(b)")
            connection.execute("CREATE TABLE log(x)")
            connection.execute("CREATE TRIGGER g BEFORE DELETE ON t BEGIN INSERT INTO log VALUES(old.id); END")
            connection.execute(f"CREATE UNIQUE INDEX i ON {index}")
        without_entries(path, "t", "i", rows)
        bench, steps = mend(path, tmp_path / "scratch", moving=True)
        assert [step.loss for step in steps] == [Loss.MOVED]
        assert (integrity(path), findings(path)) == ([], ())
        assert {row[0] for row in all_rows(path)["t"]} == {row[0] for row in rows} - set(kept)
        ((table, columns, moved, _),) = bench.cut_rows
        assert (table, columns) == ("t", ("id", "a", "b"))
        assert sorted(moved) == sorted(row for row in rows if row[0] in kept)
        assert bench.notes == {"t": {"rows_quarantined": len(kept)}}
        assert all_rows(path)["log"] == []

    def test_a_table_without_rowid_keeps_its_lowest_primary_key(self, copy: Path, tmp_path: Path) -> None:
        """In the order of the key, which may be descending, and whatever its columns are like."""
        before = all_rows(copy)
        rows = [("a", 1, b"same"), ("B", 1, b"same"), ("c", 7, b"same"), ("c", 5, b"same")]
        without_entries(copy, "keyed", "keyed_c", rows)
        bench, _ = mend(copy, tmp_path / "scratch", moving=True)
        ((_, _, moved, _),) = bench.cut_rows
        assert sorted(moved) == sorted(row for row in rows if row[0] != "B")
        after = all_rows(copy)
        assert sorted(after["keyed"]) == sorted([*before["keyed"], (b"B", 1, b"same")])
        assert {table: after[table] for table in after if table != "keyed"} == {
            table: before[table] for table in before if table != "keyed"
        }
        assert integrity(copy) == []

    def test_no_unique_index_no_rows_to_move(self, copy: Path) -> None:
        """Where a damaged index is not unique there is nothing for it to do."""
        change(copy, pages_of(copy, "index", name="child_up")[1], zeroed)
        assert repairers()[1].plan(ClosedCase(copy, findings(copy))) == ()
