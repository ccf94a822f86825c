"""Nothing that the backup held is lost, and what is newer and can be read is kept."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Damage, Loss, Pattern, Repairer
from pagewarden.errors import RepairRefused
from pagewarden.repair import closed
from pagewarden.repair.closed import ClosedFile
from pagewarden.repair.compare import Before, compare
from pagewarden.repair.cutouts import Cutouts
from pagewarden.repair.rows import leaf_cells
from pagewarden.structure import Tree
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.injuries import INJURIES
from pagewarden.values import Finding, Severity
from pagewarden_repair_restore.repairer import RestoreRepairer
from tests.plugins.repair_restore.scene import DAMAGE, SELECTED, Scene, kept, overwrite, rows_of
from tests.support.recorded import History, Recorded, RecordedContract

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
SEEDS = range(1, 40 if FULL else 3)
SCHEMA = (
    "CREATE TABLE fresh(a, b)",
    "WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO fresh SELECT i, hex(i) FROM n",
    "CREATE INDEX fresh_b ON fresh(b)",
    "ALTER TABLE strict ADD COLUMN added TEXT DEFAULT 'x'",
)


class TestContract(RecordedContract):
    """The repairer is what the planner expects of any."""

    damage = DAMAGE
    history = staticmethod(History)

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the repairer."""
        return RestoreRepairer()


_KINDS = [
    name
    for name, injury in INJURIES.items()
    if not (injury.of_wal or injury.needs_older) and name not in ("foreign-wal", "mangled-newlines", "shifted-bytes")
]


_SILENT = ("flipped-bit", "torn-page", "swapped-pages", "overwritten-page")


_CASES = [(kind, seed) for seed in SEEDS for kind in _KINDS] + [
    # Pages that two trees use: which of them is right was to be found out another way in each.
    ("interior-child-pointer", 17),
    ("interior-child-pointer", 25),
    ("interior-child-pointer", 33),
    ("interior-child-pointer", 43),
    ("overflow-pointer", 17),
    ("overflow-pointer", 51),
    ("overflow-pointer", 56),
]


@pytest.mark.parametrize(("kind", "seed"), _CASES)
def test_after_any_injury(tmp_path: Path, kind: str, seed: int) -> None:
    """Every row of the backup and every newer row whose page was not hit is there; the indexes are sound (H28)."""
    scene = Scene(tmp_path, seed=seed, schema=SCHEMA if seed % 2 else ())
    if kind == "freelist-trunk" and not any(scene.good[32:40]):
        return
    INJURIES[kind].apply(scene.database, seed)
    (tmp_path / "before.db").write_bytes(scene.database.read_bytes())
    safe = scene.not_hit()
    bench = scene.repair()
    scene.check()
    found = rows_of(scene.database)
    for table in SELECTED:
        # Nothing shows that a letter, or an overflow page, is another one: then both versions are there.
        unchanged = scene.backed_up[table] & scene.rows[table]
        assert unchanged <= found[table] | kept(bench, table), table
        assert kind in _SILENT or unchanged <= found[table], table
        if kind != "truncated-tail":
            assert safe[table] <= found[table], table
    _compared(tmp_path, scene.database, bench)


@pytest.mark.parametrize("seed", range(80 if FULL else 6))
@pytest.mark.parametrize("kind", ["shifted-bytes", "mangled-newlines"])
def test_what_is_moved_is_not_believed(tmp_path: Path, kind: str, seed: int) -> None:
    """No row whose page, or a part of whose content, stands elsewhere now takes the place of the restore point's."""
    scene = Scene(tmp_path, seed=seed)
    INJURIES[kind].apply(scene.database, seed)
    patterns = (
        [Pattern(damage=Damage.NEWLINES, text="it was transferred as text", findings=())]
        if kind != "shifted-bytes"
        else ()
    )
    scene.repair(patterns=patterns)
    scene.check()
    found = rows_of(scene.database)
    for table in SELECTED:
        assert scene.backed_up[table] & scene.rows[table] <= found[table], table


def _compared(folder: Path, database: Path, bench: ClosedBench) -> None:
    """Let the comparison of a run agree: nothing that could be read is lost."""
    entry = folder / "entry"
    entry.mkdir()
    with Cutouts(entry) as cutouts:
        for table, columns, rows, why in bench.cut_rows:
            cutouts.rows(table, columns, rows, why, "repair-restore")
    with Cutouts(entry) as cutouts:
        report = compare(Before(path=folder / "before.db", replaced=True), database, cutouts, notes=bench.notes)
    assert {table.name for table in report} >= {"item", "keyed", "plain", "strict"}


def test_a_sound_table_keeps_its_deletions(tmp_path: Path) -> None:
    """Where nothing is wrong with a table, what was deleted since the backup stays deleted."""
    scene = Scene(tmp_path)
    INJURIES["freelist-trunk" if any(scene.good[32:40]) else "header-garbage"].apply(scene.database, 5)
    scene.repair()
    assert {row[0] for row in rows_of(scene.database)["strict"]} == {row[0] for row in scene.rows["strict"]}


def test_a_file_of_garbage_gives_way_to_the_restore_point(tmp_path: Path) -> None:
    """Where SQLite refuses the file and nothing of it can be read, the restore point is what is left."""
    scene = Scene(tmp_path)
    scene.database.write_bytes(b"garbage " * 4096)
    scene.repair((), refused="file is not a database")
    assert rows_of(scene.database) == scene.backed_up
    scene.database.write_bytes(b"")
    scene.repair((), refused="file is not a database")
    assert rows_of(scene.database) == scene.backed_up


def test_another_database_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """A file that became another database, with a sound schema, drops no table of the restore point."""
    scene = Scene(tmp_path)
    scene.database.unlink()
    with closing(sqlite3.connect(scene.database)) as connection:
        connection.executescript("CREATE TABLE other(a); INSERT INTO other VALUES (1); CREATE TABLE item(b);")
    scene.repair()
    assert rows_of(scene.database) == scene.backed_up


def test_what_the_first_page_says_is_kept(tmp_path: Path) -> None:
    """user_version and application_id are as in the damaged file, and so is the journal mode."""
    scene = Scene(tmp_path)
    INJURIES["zeroed-run"].apply(scene.database, 4)
    overwrite(scene.database, 18, b"\2\2")
    scene.repair()
    assert scene.database.read_bytes()[18:20] == b"\2\2"
    with closing(sqlite3.connect(scene.database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (9,)
        assert connection.execute("PRAGMA application_id").fetchone() == (77,)


def test_objects_are_those_of_the_newer_schema(tmp_path: Path) -> None:
    """Tables, indexes, views and triggers that are newer than the backup are taken over; what was dropped is gone."""
    schema = (*SCHEMA, "DROP TABLE plain", "DROP VIEW seen", "CREATE VIEW known AS SELECT mail FROM strict")
    scene = Scene(tmp_path, schema=schema)
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
    with closing(sqlite3.connect(scene.database)) as connection:
        wanted = connection.execute(sql).fetchall()
    INJURIES["zeroed-page"].apply(scene.database, 2)
    scene.repair()
    scene.check()
    with closing(sqlite3.connect(scene.database)) as connection:
        assert connection.execute(sql).fetchall() == wanted


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE item RENAME COLUMN name TO title",),
        ("ALTER TABLE item DROP COLUMN body",),
        ("CREATE UNIQUE INDEX item_unique ON item(name)",),
        ("DROP INDEX item_name",),
    ],
)
def test_a_damaged_table_whose_statement_changed(tmp_path: Path, statements: tuple[str, ...]) -> None:
    """The rows of the backup are put into the table as it is now, column by column."""
    scene = Scene(tmp_path, schema=statements)
    with closing(sqlite3.connect(scene.database)) as connection:
        wanted = {row[0] for row in connection.execute("SELECT id FROM item")}
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'item'").fetchone()
    overwrite(scene.database, (root - 1) * 1024, bytes(8))
    scene.repair()
    scene.check()
    with closing(sqlite3.connect(scene.database)) as connection:
        found = connection.execute("SELECT * FROM item ORDER BY id").fetchall()
    assert wanted >= {row[0] for row in found} >= set(range(1, 151))
    assert str(found[2][1]).startswith("näme 2")


def test_a_row_that_stands_in_the_way_is_kept(tmp_path: Path) -> None:
    """A newer row with the UNIQUE key of an older one takes its place, and the older one goes into the quarantine."""
    scene = Scene(tmp_path)
    scene.database.write_bytes(scene.good)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM strict WHERE id = 3")
        connection.execute("INSERT INTO strict(id, mail) VALUES (5000, '2@example')")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'strict'").fetchone()
    data = scene.database.read_bytes()
    child = struct.unpack_from(
        ">I", data, (root - 1) * 1024 + struct.unpack_from(">H", data, (root - 1) * 1024 + 14)[0]
    )
    overwrite(scene.database, (child[0] - 1) * 1024, b"\xff")
    bench = scene.repair()
    scene.check()
    assert (5000, "2@example", 7) in rows_of(scene.database)["strict"]
    assert (3, "2@example", 7) in kept(bench, "strict")


def test_an_autoincrement_does_not_go_back(tmp_path: Path) -> None:
    """A rowid that was given since the backup is not given again, though its row was deleted."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 100000")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'item'").fetchone()
    overwrite(scene.database, (root - 1) * 1024, bytes(8))
    scene.repair()
    with closing(sqlite3.connect(scene.database)) as connection:
        assert connection.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(100000,)]


def test_texts_that_are_none_keep_their_bytes(tmp_path: Path) -> None:
    """A text that is no UTF-8 is the same afterwards, byte for byte."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("UPDATE item SET name = CAST(x'ff41fe' AS TEXT) WHERE id = 5")
        connection.execute("UPDATE keyed SET value = CAST(x'80' AS TEXT) WHERE number = 1")
    INJURIES["header-garbage"].apply(scene.database, 2)
    scene.repair()
    with closing(sqlite3.connect(scene.database)) as connection:
        connection.text_factory = bytes
        assert connection.execute("SELECT name FROM item WHERE id = 5").fetchone() == (b"\xff\x41\xfe",)
        assert connection.execute("SELECT value FROM keyed WHERE number = 1").fetchone() == (b"\x80",)


def test_a_table_that_needs_its_application(tmp_path: Path) -> None:
    """Where SQLite alone cannot write to a table, it stays as backed up, and newer rows go into the quarantine."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.create_collation("HOUSE", lambda one, other: (one > other) - (one < other))
        connection.execute("CREATE TABLE own(a TEXT COLLATE HOUSE)")
        connection.execute("CREATE INDEX own_a ON own(a)")
        connection.executemany("INSERT INTO own VALUES (?)", [(f"older {number}",) for number in range(100)])
    scene.recorded = Recorded(scene.database)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.create_collation("HOUSE", lambda one, other: (one > other) - (one < other))
        connection.execute("INSERT INTO own VALUES ('newer')")
    INJURIES["zeroed-run"].apply(scene.database, 9)
    bench = scene.repair()
    assert kept(bench, "own") == {(101, "newer")}
    with closing(sqlite3.connect(scene.database)) as connection:
        assert connection.execute("SELECT count(*) FROM own NOT INDEXED").fetchone() == (100,)


def test_the_log_counts(tmp_path: Path) -> None:
    """Rows that stand in the -wal alone are newer rows, whether SQLite can open the file or not."""
    for damage in (b"", b"garbage"):  # SQLite refuses a file that does not begin as a database does
        folder = tmp_path / f"with{len(damage)}"
        folder.mkdir()
        scene = Scene(folder)
        with closing(sqlite3.connect(scene.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection = sqlite3.connect(scene.database, isolation_level=None)
        connection.execute("INSERT INTO strict(id, mail) VALUES (9000, 'in the log')")
        data, log = scene.database.read_bytes(), Path(f"{scene.database}-wal").read_bytes()
        connection.close()
        scene.database.write_bytes(data)
        Path(f"{scene.database}-wal").write_bytes(log)
        overwrite(scene.database, 0, damage)
        scene.repair(refused="file is not a database" if damage else "")
        assert (9000, "in the log", 7) in rows_of(scene.database)["strict"]


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    """Texts in UTF-16 are the same afterwards."""
    scene = Scene(tmp_path, encoding=encoding, page_size=4096, rows=60)
    INJURIES["interior-child-pointer" if scene.good.count(b"\5") > 99999 else "zeroed-page"].apply(scene.database, 1)
    safe = scene.not_hit()
    scene.repair()
    scene.check()
    found = rows_of(scene.database)
    assert all(safe[table] <= found[table] for table in SELECTED)


def test_pages_of_another_size(tmp_path: Path) -> None:
    """A database that was vacuumed into other pages since the backup keeps these, and auto_vacuum."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=2048")
        connection.execute("VACUUM")
    INJURIES["zeroed-page"].apply(scene.database, 3)
    scene.repair()
    scene.check()
    assert scene.database.read_bytes()[16:18] == struct.pack(">H", 2048)
    assert scene.backed_up["item"] & scene.rows["item"] <= rows_of(scene.database)["item"]


def test_where_the_last_commit_is_proven_it_is_that(tmp_path: Path) -> None:
    """With a history that proves the present, that comes back, and nothing else."""
    scene = Scene(tmp_path)
    history = History(scene.recorded, present=Recorded(scene.database, txid=8))
    assert scene.step(history).loss is Loss.PROVEN
    INJURIES["header-garbage"].apply(scene.database, 1)
    scene.repair(history=history)
    assert scene.database.read_bytes() == scene.good


ODD = """
    PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA secure_delete=ON;
    CREATE TABLE kept(a);
    CREATE TABLE nameless(rowid, oid, _rowid_);
    CREATE TABLE whole(rowid, oid, _rowid_);
    CREATE TABLE partly(id INTEGER PRIMARY KEY, k, live);
    CREATE UNIQUE INDEX partly_k ON partly(k) WHERE live;
    CREATE TABLE worded(word TEXT PRIMARY KEY, n) WITHOUT ROWID;
    CREATE VIRTUAL TABLE text3 USING fts3(words);
    CREATE VIRTUAL TABLE text4 USING fts4(words);
    CREATE VIRTUAL TABLE boxes USING rtree(id, low, high);
    CREATE VIEW seen AS SELECT * FROM partly;
    WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        INSERT INTO partly SELECT i, i, 1 FROM n;
    INSERT INTO nameless SELECT id, 'first', hex(zeroblob(20)) FROM partly;
    INSERT INTO whole SELECT id, 'first', 0 FROM partly;
    INSERT INTO worded SELECT CAST(x'ff' || id AS TEXT), id FROM partly;
    INSERT INTO text3 SELECT 'older ' || id FROM partly;
    INSERT INTO text4 SELECT 'older ' || id FROM partly;
    INSERT INTO boxes SELECT id, id, id + 1 FROM partly;
"""
LATER = """
    PRAGMA secure_delete=ON; PRAGMA application_id=-294967296; PRAGMA auto_vacuum=FULL;
    UPDATE whole SET oid = 'second' WHERE rowid % 50 = 0;
    DELETE FROM worded WHERE n % 50 = 0;
    UPDATE partly SET k = 1000 WHERE id = 3;
    UPDATE partly SET k = 3 WHERE id = 150;
    UPDATE nameless SET oid = 'second' WHERE rowid > 190;
    INSERT INTO text4 VALUES ('newer');
    INSERT INTO boxes VALUES (1000, 5, 6);
"""


@pytest.fixture
def odd(tmp_path: Path) -> Scene:
    """A database with what is seldom met, and what was committed to it since its backup."""
    scene = Scene(tmp_path, rows=1)
    scene.database.unlink()
    for script in (ODD, LATER):
        scene.recorded = Recorded(scene.database) if script is LATER else scene.recorded
        with closing(sqlite3.connect(scene.database)) as connection:
            connection.executescript(script)
    scene.good = scene.database.read_bytes()
    return scene


def leaf_with(scene: Scene, table: str, rowid: int) -> int:
    """Return the leaf page of a table that holds a rowid."""
    with ClosedFile(scene.database) as file:
        with closing(sqlite3.connect(scene.database)) as connection:
            (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        pages = file.usage([Tree(name=table, root=root, index=False)], lambda: None).by_tree()[0]
        found = {pgno: leaf_cells(file, pgno, index=False) for pgno in pages}
    return next(pgno for pgno, page in found.items() if page and rowid in [cell.rowid for cell in page[1].cells])


def test_what_is_seldom_met(odd: Scene) -> None:
    """Rows without a name, partial UNIQUE indexes, old modules: what cannot be put in is in the quarantine."""
    for table, rowid in (("partly", 3), ("nameless", 1), ("text4_content", 1), ("boxes_node", 1)):
        overwrite(odd.database, (leaf_with(odd, table, rowid) - 1) * 1024, b"\xff")
    bench = odd.repair()
    with closing(sqlite3.connect(odd.database)) as connection:
        connection.text_factory = bytes
        assert connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (1,)
        assert connection.execute("PRAGMA application_id").fetchone() == (-294967296,)
        # A partial index has no say in who must give way: the newer version waits in the quarantine.
        assert connection.execute("SELECT k FROM partly WHERE id IN (3, 150)").fetchall() == [(3,), (150,)]
        assert connection.execute("SELECT count(*) FROM nameless WHERE oid = 'first'").fetchone() == (200,)
        assert connection.execute("SELECT count(*) FROM whole WHERE oid = 'second'").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM worded").fetchone() == (196,)
        assert connection.execute("SELECT count(*) FROM text4 WHERE text4 MATCH 'newer'").fetchone() == (1,)
        assert connection.execute("SELECT count(*), count(id) FROM boxes").fetchone() == (200, 200)
    assert (150, 3, 1) in kept(bench, "partly")
    assert {row[1] for row in kept(bench, "nameless")} == {"second"}


def test_more_damage_than_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pages of the damaged file cannot be judged within bounds, the restore point is what is left."""
    monkeypatch.setattr(closed, "MOST_FLAWS", 0)
    scene = Scene(tmp_path)
    INJURIES["zeroed-run"].apply(scene.database, 4)
    scene.repair()
    assert rows_of(scene.database) == scene.backed_up


def test_a_page_of_another_table(tmp_path: Path) -> None:
    """A page that holds what another table's page did when it was backed up was written to the wrong place."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE many(a, b)")
        connection.execute("CREATE TABLE more(a, b)")
        for table in ("many", "more"):
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(i, f"{table} {i}") for i in range(200)])
    scene.recorded = Recorded(scene.database)
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO many VALUES ('newer', 1)")
    many, more = leaf_with(scene, "many", 5), leaf_with(scene, "more", 5)
    data = scene.database.read_bytes()
    overwrite(scene.database, (many - 1) * 1024, data[(more - 1) * 1024 : more * 1024])
    scene.repair()
    with closing(sqlite3.connect(scene.database)) as connection:
        found = connection.execute("SELECT a, b FROM many").fetchall()
    assert set(found) == {(i, f"many {i}") for i in range(200)} | {("newer", 1)}


def test_findings_accuse(tmp_path: Path) -> None:
    """A page that a finding names is not believed, nor is a table whose index is sound and disagrees with it."""
    scene = Scene(tmp_path)
    with closing(sqlite3.connect(scene.database)) as connection:
        connection.execute("DELETE FROM strict WHERE id = 60")
        connection.commit()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'plain'").fetchone()
    data = scene.database.read_bytes()
    leaf = next(pgno for pgno in range(2, len(data) // 1024) if pgno != root and data[(pgno - 1) * 1024] == 13)
    named = Finding(kind="changed-page", severity=Severity.DAMAGE, message="it differs", pgno=leaf)
    beyond = Finding(kind="truncated", severity=Severity.DAMAGE, message="pages are missing", pgno=100_000)
    index = Finding(
        kind="index-mismatch", severity=Severity.DAMAGE, message="it disagrees", object="sqlite_autoindex_strict_1"
    )
    notice = Finding(kind="note", severity=Severity.NOTICE, message="nothing", pgno=leaf)
    unknown = Finding(kind="odd", severity=Severity.DAMAGE, message="something")
    scene.repair((named, beyond, index, notice, unknown))
    assert 60 in {row[0] for row in rows_of(scene.database)["strict"]}


def test_nothing_is_planned_without_a_history(tmp_path: Path) -> None:
    """Without a repository there is nothing to restore from; violations alone are no damage."""
    scene = Scene(tmp_path)
    violation = Finding(kind="orphan", severity=Severity.VIOLATION, message="a row without its parent")
    assert RestoreRepairer().plan(ClosedCase(scene.database, DAMAGE)) == ()
    assert RestoreRepairer().plan(ClosedCase(scene.database, [violation], history=History(scene.recorded))) == ()
    case = ClosedCase(scene.database, [violation, *DAMAGE], history=History(scene.recorded))
    assert [step.mends for step in RestoreRepairer().plan(case)] == [(1,)]


def test_an_outdated_plan_is_refused(tmp_path: Path) -> None:
    """A plan for a restore point that is not the newest any more touches nothing."""
    scene = Scene(tmp_path)
    step = scene.step(History(scene.recorded))
    case = ClosedCase(scene.database, DAMAGE, history=History(Recorded(scene.database, txid=9)))
    with pytest.raises(RepairRefused, match="not the one"):
        RestoreRepairer().apply(ClosedBench(scene.database, tmp_path, case), [step])
    assert scene.database.read_bytes() == scene.good


def test_a_value_of_a_dropped_column_never_stands_in_another(tmp_path: Path) -> None:
    """Columns are matched by name, though there are as many as before; what was dropped is in the quarantine."""
    schema = ("ALTER TABLE item DROP COLUMN name", "ALTER TABLE item ADD COLUMN note DEFAULT 'none'")
    scene = Scene(tmp_path, schema=("DROP INDEX item_name", "DROP VIEW seen", *schema))
    selected = "SELECT id, body, note FROM item ORDER BY id"
    with closing(sqlite3.connect(scene.database)) as connection:
        wanted = connection.execute(selected).fetchall()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'item'").fetchone()
    overwrite(scene.database, (root - 1) * 1024, bytes(8))
    bench = scene.repair()
    with closing(sqlite3.connect(scene.database)) as connection:
        found = {row[0]: row for row in connection.execute(selected)}
    backed_up = {row[0] for row in found.values() if row in wanted}
    assert backed_up and all(row[2] == "none" for row in found.values())
    assert any("näme" in str(row) for row in kept(bench, "item"))
