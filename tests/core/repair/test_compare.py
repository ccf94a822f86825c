"""The comparison that stands between a repair and the database's path."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import RepairRefused
from pagewarden.repair import closed
from pagewarden.repair.compare import Before, compare
from pagewarden.repair.cutouts import Cutouts
from pagewarden.testing.injuries import INJURIES
from tests.core.repair.comparing import Scene, leaves, oracle, overwrite, page_of, rows_of


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A database that was repaired and is as it was."""
    return Scene(tmp_path)


def test_what_did_not_change_is_all_there(scene: Scene) -> None:
    """Equal files keep every row, and nothing goes into the quarantine."""
    report = scene.run()
    assert {name: (table.rows_expected, table.rows_kept) for name, table in report.items()} == {
        "item": (300, 300),
        'pl"ain': (300, 300),
        "keyed": (300, 300),
    }
    assert all((table.rows_lost, table.rows_quarantined) == (0, 0) for table in report.values())
    assert not (scene.folder / "cut.db").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM",
        "REINDEX",
        "UPDATE keyed SET value = value",
        "CREATE TABLE another(a)",
        "INSERT INTO item(name) VALUES ('one more')",
        'INSERT INTO "pl""ain" VALUES (\'one more\', 1)',
    ],
)
def test_rows_that_moved_are_there(scene: Scene, statement: str) -> None:
    """It is rows that count, not where they stand: a repair may write every page anew, and add rows."""
    scene.change(statement)
    assert all(table.rows_lost == table.rows_quarantined == 0 for table in scene.run().values())


def test_pages_of_another_size(scene: Scene) -> None:
    """Rows are found again in pages of another size."""
    scene.change("PRAGMA page_size=4096", "VACUUM")
    assert all(table.rows_lost == table.rows_quarantined == 0 for table in scene.run().values())


_LOSSES = [
    ("item", "DELETE FROM item WHERE id = 150"),
    ("item", "UPDATE item SET name = name || ' ' WHERE id = 150"),
    ("item", "UPDATE item SET body = zeroblob(length(body)) WHERE length(body) = 3072"),
    ("item", "UPDATE item SET id = 1000 WHERE id = 150"),
    ('pl"ain', 'DELETE FROM "pl""ain" WHERE _rowid_ = 3'),
    ('pl"ain', 'UPDATE "pl""ain" SET "a b" = 0 WHERE _rowid_ = 300'),
    ("keyed", "DELETE FROM keyed WHERE number = 150"),
    ("keyed", "UPDATE keyed SET value = CAST(value AS TEXT) WHERE number = (SELECT number FROM keyed"
              " WHERE typeof(value) = 'integer')"),
    ("keyed", "UPDATE keyed SET kind = lower(kind) WHERE number = 20"),
    ("item", "DROP TABLE item"),
    ("keyed", "DROP TABLE keyed"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "statement"), _LOSSES)
def test_a_row_that_is_gone_refuses_the_repair(scene: Scene, table: str, statement: str) -> None:
    """One row that is gone or another one, of a page that no repair had to touch, is enough."""
    scene.change("DROP TRIGGER noted", "DROP VIEW seen", statement)
    with pytest.raises(RepairRefused, match="would lose") as refused:
        scene.run()
    assert table in str(refused.value)


@pytest.mark.parametrize(("table", "statement"), _LOSSES)
def test_a_row_that_may_be_gone_is_kept(scene: Scene, table: str, statement: str) -> None:
    """Where the file was put together anew, each version that could be read before goes into the quarantine."""
    before = rows_of(scene.before, table)
    scene.change("DROP TRIGGER noted", statement)
    gone = before - rows_of(scene.after, table)
    report = scene.run(replaced=True)
    assert gone and scene.kept(table) == gone
    assert (report[table].rows_quarantined, report[table].rows_lost) == (len(gone), 0)


def test_a_row_in_the_quarantine_may_be_gone(scene: Scene) -> None:
    """What a repairer put into the quarantine with all its columns is not lost, and is not put there twice."""
    with closing(sqlite3.connect(scene.before)) as connection:
        row = connection.execute("SELECT * FROM item WHERE id = 7").fetchone()
    with Cutouts(scene.folder) as cutouts:
        cutouts.rows("ITEM", ("ID", "name", "body"), [row], "has a double", "repair-reindex")
    scene.change("DROP TRIGGER noted", "DELETE FROM item WHERE id = 7")
    scene.change("DROP TRIGGER noted", path=scene.before)
    report = scene.run()
    assert scene.kept("item") == set()
    assert (report["item"].rows_expected, report["item"].rows_kept) == (300, 299)


def test_another_version_in_the_quarantine_saves_no_row(scene: Scene) -> None:
    """The version that is kept must be the one that could be read, to the last byte."""
    with Cutouts(scene.folder) as cutouts:
        cutouts.rows("item", ("id", "name", "body"), [(7, "another", b"")], "has a double", "repair-reindex")
    scene.change("DROP TRIGGER noted", "DELETE FROM item WHERE id = 7")
    scene.change("DROP TRIGGER noted", path=scene.before)
    with pytest.raises(RepairRefused, match="item"):
        scene.run()


def test_objects_are_not_lost(scene: Scene) -> None:
    """An index, trigger or view that is gone refuses the repair, too, and so does AUTOINCREMENT that goes back."""
    for statement in (
        "DROP INDEX item_name",
        "DROP VIEW seen",
        "DROP TRIGGER noted",
        "UPDATE sqlite_sequence SET seq=9",
    ):
        scene.after.write_bytes(scene.before.read_bytes())
        scene.change(statement)
        with pytest.raises(RepairRefused, match="sqlite_"):
            scene.run()


def test_rows_of_a_page_that_was_cut_out_are_kept(scene: Scene) -> None:
    """A flipped letter on a page that was spliced: the version that could be read goes to the quarantine."""
    pgno = leaves(scene.before, 'pl"ain')[2]
    page = scene.before.read_bytes()[(pgno - 1) * 1024 : pgno * 1024]
    overwrite(scene.before, (pgno - 1) * 1024 + page.index(b"text "), b"t3xt ")
    with pytest.raises(RepairRefused):
        scene.run()
    scene.cut(pgno)
    report = scene.run()
    assert [row[1][:5] for row in scene.kept('pl"ain')] == ["t3xt "]  # type: ignore[index]
    assert (report['pl"ain'].rows_kept, report['pl"ain'].rows_quarantined) == (300, 1)


def test_an_overflow_page_changes_its_row(scene: Scene) -> None:
    """A b-tree page that is byte for byte the same holds another row if an overflow page of it differs."""
    scene.change("UPDATE item SET body = zeroblob(3072) WHERE id = 100", path=scene.before)
    scene.after.write_bytes(scene.before.read_bytes())
    scene.change("UPDATE item SET body = CAST(replace(hex(zeroblob(1536)), '00', '11') AS BLOB) WHERE id = 100")
    assert {len(row[2]) for row in rows_of(scene.after, "item") if row[0] == 100} == {3072}  # type: ignore[arg-type]
    with pytest.raises(RepairRefused, match="id '100'"):
        scene.run()


def test_a_leaf_that_another_table_took_over(scene: Scene) -> None:
    """A pointer to a leaf of another table lets SQLite read that one's rows there; repaired, they are kept."""
    ours, theirs = leaves(scene.before, "item"), leaves(scene.before, 'pl"ain')
    data = bytearray(scene.before.read_bytes())
    parent = next(
        pgno for pgno in range(2, len(data) // 1024) if data[(pgno - 1) * 1024] == 5
        and struct.pack(">I", ours[4]) in data[(pgno - 1) * 1024 : pgno * 1024]
    )  # fmt: skip
    at = data.index(struct.pack(">I", ours[4]), (parent - 1) * 1024)
    overwrite(scene.before, at, struct.pack(">I", theirs[0]))
    seen = oracle(scene.before, "item", "id, name, body")
    assert any(row[1] == 0.0 or isinstance(row[2], float) for row in seen if len(row) > 2)
    scene.cut(parent)
    scene.run()
    assert seen <= rows_of(scene.after, "item") | scene.kept("item")


_KINDS = (
    "zeroed-page", "zeroed-sector", "torn-page", "swapped-pages", "overwritten-page", "truncated-tail",
    "freelist-trunk", "overflow-pointer", "cell-pointer", "interior-child-pointer", "flipped-bit", "index-entry",
)  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_could_be_read_is_kept(tmp_path: Path, kind: str, seed: int) -> None:
    """Over any injury, each row that SQLite can be made to read is there after, or in the quarantine (H28)."""
    scene = Scene(tmp_path, seed=seed, rows=120)
    if kind == "freelist-trunk":
        scene.change("DELETE FROM item WHERE id < 30", path=scene.before)
        scene.after.write_bytes(scene.before.read_bytes())
    INJURIES[kind].apply(scene.before, seed)
    injured = scene.before.read_bytes()
    seen = {
        "item": oracle(scene.before, "item", "id, name, body"),
        'pl"ain': oracle(scene.before, '"pl""ain"', 'oid, rowid, "a b"'),
        "keyed": oracle(scene.before, "keyed", "kind, number, value"),
    }
    scene.before.write_bytes(injured)
    scene.run(proven=True)
    for table, rows in seen.items():
        assert rows <= rows_of(scene.after, table) | scene.kept(table)


def test_a_file_that_sqlite_refuses_has_nothing_to_lose(scene: Scene) -> None:
    """Where nothing could be read, the tables are counted, and what there should be is not known."""
    overwrite(scene.before, 0, b"garbage")
    report = scene.run()
    assert (report["item"].rows_expected, report["item"].rows_kept) == (None, 300)


def test_what_a_log_holds_could_be_read(tmp_path: Path) -> None:
    """The rows of the -wal and those that a hot journal brings back are what could be read before."""
    scene = Scene(tmp_path)
    scene.change("PRAGMA journal_mode=WAL", path=scene.before)
    connection = sqlite3.connect(scene.before, isolation_level=None)
    connection.execute("INSERT INTO item(name) VALUES ('in the log')")
    log = Path(f"{scene.before}-wal").read_bytes()
    data = scene.before.read_bytes()
    connection.close()
    scene.before.write_bytes(data)
    Path(f"{scene.before}-wal").write_bytes(log)
    with pytest.raises(RepairRefused, match="id '301'"):
        scene.run()


def test_what_only_an_index_said_is_kept(tmp_path: Path) -> None:
    """An index that holds all columns may have a row that its table has lost: it goes to the quarantine (H28)."""
    scene = Scene(tmp_path, rows=3)
    scene.change(
        "CREATE TABLE narrow(a TEXT, b REAL)",
        "CREATE INDEX narrow_all ON narrow(b, a)",
        "WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
        " INSERT INTO narrow SELECT 'w' || i, i FROM n",
        path=scene.before,
    )
    scene.after.write_bytes(scene.before.read_bytes())
    older = scene.before.read_bytes()
    scene.change("INSERT INTO narrow VALUES ('lost', 2.5)", path=scene.before)
    (leaf,) = (pgno for pgno in leaves(scene.before, "narrow") if b"lost" in page_of(scene.before, pgno))
    overwrite(scene.before, (leaf - 1) * 1024, older[(leaf - 1) * 1024 : leaf * 1024])
    report = scene.run()
    assert scene.kept("narrow") == {(201, "lost", 2.5)}
    assert (report["narrow"].rows_kept, report["narrow"].rows_quarantined) == (200, 1)


def test_rows_that_have_no_name(tmp_path: Path) -> None:
    """A table whose columns have all names of the rowid is compared by the bytes of its rows."""
    scene = Scene(tmp_path, rows=3)
    scene.change("CREATE TABLE nameless(rowid, oid, _rowid_)", path=scene.before)
    scene.change("INSERT INTO nameless VALUES (1, 'one', 1.0), (2, 'two', NULL)", path=scene.before)
    scene.after.write_bytes(scene.before.read_bytes())
    scene.run()
    scene.change("DELETE FROM nameless WHERE oid = 'two'")
    with pytest.raises(RepairRefused, match="nameless"):
        scene.run()
    scene.run(replaced=True)
    assert scene.kept("nameless") == {(2, "two", None)}


def test_a_table_of_other_columns_keeps_nothing(tmp_path: Path) -> None:
    """Rows of a table whose columns are others now are all put into the quarantine, if they may be gone."""
    scene = Scene(tmp_path, rows=3)
    scene.change("ALTER TABLE item RENAME COLUMN name TO title")
    with pytest.raises(RepairRefused):
        scene.run()
    report = scene.run(replaced=True)
    assert (len(scene.kept("item")), report["item"].rows_quarantined) == (0, 0)  # the bytes of the rows are there
    scene.change("UPDATE item SET title = 'another' WHERE id = 2")
    scene.run(replaced=True)
    assert {row[0] for row in scene.kept("item")} >= {2}


@pytest.mark.parametrize("module", ["fts4", "fts5"])
def test_an_index_of_full_text_is_no_row(tmp_path: Path, module: str) -> None:
    """What a full-text table makes of its rows may be made anew; its rows themselves may not be lost."""
    scene = Scene(tmp_path, rows=3)
    scene.change(f"CREATE VIRTUAL TABLE words USING {module}(word)", path=scene.before)
    for number in range(30):
        scene.change(f"INSERT INTO words VALUES ('word{number} common')", path=scene.before)
    scene.after.write_bytes(scene.before.read_bytes())
    scene.change("INSERT INTO words(words) VALUES ('rebuild')", "INSERT INTO words(words) VALUES ('optimize')")
    report = scene.run()
    made = "words_segdir" if module == "fts4" else "words_data"
    with closing(sqlite3.connect(scene.before)) as connection:
        assert (report[made].rows_kept,) < connection.execute(f"SELECT count(*) FROM {made}").fetchone()
    assert {name for name, each in report.items() if each.rows_lost} == set()
    scene.change("DELETE FROM words WHERE rowid = 4")
    with pytest.raises(RepairRefused, match="words_content"):
        scene.run()


def test_what_a_journal_brings_back_could_be_read(tmp_path: Path) -> None:
    """A hot journal beside the file is played back before anything is compared."""
    scene = Scene(tmp_path, rows=60)
    with closing(sqlite3.connect(scene.before, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM keyed")
        data, journal = scene.before.read_bytes(), Path(f"{scene.before}-journal").read_bytes()
        connection.execute("ROLLBACK")
    scene.before.write_bytes(data)
    Path(f"{scene.before}-journal").write_bytes(journal)
    scene.change("DELETE FROM keyed WHERE number = 1")
    with pytest.raises(RepairRefused, match="keyed"):
        scene.run()


def test_texts_of_any_bytes_are_compared(tmp_path: Path) -> None:
    """Half a character of UTF-16 is one more thing that a row may hold."""
    scene = Scene(tmp_path, rows=20, encoding="UTF-16le")
    scene.change(
        "UPDATE keyed SET value = CAST(x'00d841' AS TEXT) WHERE number = 3",
        "UPDATE keyed SET kind = CAST(x'00d8' AS TEXT) WHERE number = 4",
        path=scene.before,
    )
    scene.after.write_bytes(scene.before.read_bytes())
    scene.change("VACUUM")
    scene.run()
    scene.change("DELETE FROM keyed WHERE number IN (3, 4)")
    scene.run(replaced=True)
    assert len(scene.kept("keyed")) == 2


def test_more_damage_than_can_be_followed_refuses(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be judged for its damage is refused: no silence."""
    monkeypatch.setattr(closed, "MOST_FLAWS", 0)
    INJURIES["zeroed-run"].apply(scene.before, 3)
    with pytest.raises(RepairRefused, match="cannot be judged"):
        scene.run(proven=True)


def test_rows_that_nobody_wrote_are_kept(tmp_path: Path) -> None:
    """A cell of zeros is a row of NULLs to SQLite: what could be read of it is kept, too (H28)."""
    scene = Scene(tmp_path, rows=60)
    data = scene.after.read_bytes()
    item = next(pgno for pgno in leaves(scene.after, "item") if page_of(scene.after, pgno)[4] > 2)
    keyed = next(
        number
        for number in range(2, len(data) // 1024)
        if data[(number - 1) * 1024] == 10 and b"Kind" in page_of(scene.after, number)
    )
    for table, columns, pgno in (("item", "id, name, body", item), ("keyed", "kind, number, value", keyed)):
        scene.before.write_bytes(data)
        (cell,) = struct.unpack_from(">H", data, (pgno - 1) * 1024 + 8)
        overwrite(scene.before, (pgno - 1) * 1024 + cell, bytes(4))
        seen = oracle(scene.before, table, columns)
        scene.run(proven=True)
        assert seen <= rows_of(scene.after, table) | scene.kept(table)


def test_a_comparison_ends_in_time(scene: Scene) -> None:
    """What could not be judged in the time that there is refuses the repair: no silence."""
    ticks = iter(range(10**6))
    scene.change("VACUUM")
    with Cutouts(scene.folder) as cutouts, pytest.raises(RepairRefused, match="in 50 seconds"):
        compare(Before(path=scene.before), scene.after, cutouts, seconds=50, clock=lambda: float(next(ticks)))


def test_circles_end(scene: Scene) -> None:
    """A file whose pages lead to each other in circles is judged all the same (H29)."""
    data = bytearray(scene.before.read_bytes())
    for pgno in range(2, len(data) // 1024):
        if data[(pgno - 1) * 1024] in (2, 5):
            data[(pgno - 1) * 1024 + 8 : (pgno - 1) * 1024 + 12] = struct.pack(">I", pgno)
    scene.before.write_bytes(data)
    report = scene.run(proven=True)
    assert report["item"].rows_kept == 300


def test_progress_is_told(scene: Scene) -> None:
    """Whoever waits is told how many pages are compared."""
    told: list[tuple[int, int]] = []
    with Cutouts(scene.folder) as cutouts:
        compare(
            Before(path=scene.before), scene.after, cutouts, progress=lambda done, total: told.append((done, total))
        )
    assert told[-1][0] == told[-1][1] > 0


def test_notes_are_in_the_report(scene: Scene) -> None:
    """What repairers counted is told with the table, whatever the case of its name."""
    with Cutouts(scene.folder) as cutouts:
        notes = {"Item": {"rows_from_backup": 3, "rows_salvaged": 2, "rows_quarantined": 1}}
        report = compare(Before(path=scene.before), scene.after, cutouts, notes=notes)
    (item,) = [table for table in report if table.name == "item"]
    assert (item.rows_from_backup, item.rows_salvaged, item.rows_quarantined, item.rows_lost) == (3, 2, 1, 0)
