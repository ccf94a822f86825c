from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import RepairRefused
from pagewarden.testing.benches import ClosedCase
from pagewarden.values import Finding, Severity
from tests.plugins.repair_reindex.mending import Rows, all_rows, change, findings, integrity, mend, pages_of, repairers

TABLES = ("f5", "f4", "f3", "e5", "e4")
WORDS = ["".join(random.Random(number).choices("abcdefgh", k=4)) for number in range(600)]
INDEXES = ("_data", "_idx", "_docsize", "_segments", "_segdir", "_stat")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database with full-text tables of all kinds."""
    path = tmp_path_factory.mktemp("text") / "app.db"
    chance = random.Random(3)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            PRAGMA page_size=512;
            CREATE TABLE texts(id INTEGER PRIMARY KEY, t);
            CREATE VIRTUAL TABLE f5 USING fts5(title, body);
            CREATE VIRTUAL TABLE f4 USING fts4(title, body);
            CREATE VIRTUAL TABLE f3 USING fts3(title, body);
            CREATE VIRTUAL TABLE e5 USING fts5(t, content=texts, content_rowid=id);
            CREATE VIRTUAL TABLE e4 USING fts4(t, content="texts");
            CREATE VIRTUAL TABLE bare USING fts5(t, content='');
            """
        )
        with connection:
            for number in range(1, 80):
                text = " ".join(chance.choices(WORDS, k=20))
                for table in ("f5", "f4", "f3"):
                    connection.execute(f"INSERT INTO {table} VALUES(?, ?)", (text[:20], text))
                connection.execute("INSERT INTO texts VALUES(?, ?)", (number, text))
                for table, key in (("e5", "rowid"), ("e4", "docid"), ("bare", "rowid")):
                    connection.execute(f"INSERT INTO {table}({key}, t) VALUES(?, ?)", (number, text))
    yield path


def answers(path: Path) -> list[object]:
    """Ask for some words."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT rowid FROM {table} WHERE {table} MATCH ? ORDER BY rowid", (word,)).fetchall()
            for table in TABLES
            for word in WORDS[:30]
        ]


def of_the_owner(rows: Rows) -> Rows:
    """Return rows without those of full-text indexes."""
    return {table: found for table, found in rows.items() if not table.endswith(INDEXES)}


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("f5", "data"), ("f5", "idx"), ("f5", "docsize"), ("f4", "segments"), ("f4", "segdir"), ("f4", "docsize"),
        ("f4", "stat"), ("f3", "segments"), ("f3", "segdir"), ("e5", "data"), ("e4", "segdir"),
    ],
)  # fmt: skip
def test_an_index_in_tables_of_its_own_is_derived_from_the_rows(
    table: str, part: str, sound: Path, tmp_path: Path
) -> None:
    """Whichever of its pages cannot be read: it finds every word again, and no row of the owner's was touched."""
    copy = Path(shutil.copy(sound, tmp_path / "app.db"))
    change(copy, random.Random(part).choice(pages_of(copy, "table", name=f"{table}_{part}")), lambda page: bytes(512))
    _, steps = mend(copy, tmp_path / "scratch", found=findings(copy, deep=True))
    assert [step.task["full-text"] for step in steps] == [[table]]
    assert answers(copy) == answers(sound)
    assert of_the_owner(all_rows(copy)) == of_the_owner(all_rows(sound))
    assert (integrity(copy), findings(copy, deep=True)) == ([], ())


@pytest.mark.parametrize(("table", "part"), [("f5", "data"), ("f4", "segdir"), ("e5", "docsize")])
def test_a_stale_index_is_rebuilt(table: str, part: str, sound: Path, tmp_path: Path) -> None:
    """Entries are gone, though every page is whole."""
    copy = Path(shutil.copy(sound, tmp_path / "app.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute(f"DELETE FROM {table}_{part} WHERE rowid NOT IN (1, 10) OR 'data' <> '{part}'")
    found = findings(copy, deep=True)
    assert found
    mend(copy, tmp_path / "scratch", found=found)
    assert (answers(copy), findings(copy, deep=True)) == (answers(sound), ())


def test_an_index_that_does_not_say_what_its_content_says_is_rebuilt(sound: Path, tmp_path: Path) -> None:
    """A violation of the owner's, who writes to one table alone: its rows stand."""
    copy = Path(shutil.copy(sound, tmp_path / "app.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE texts SET t = 'unheard' WHERE id = 7")
    found = findings(copy, deep=True)
    assert {finding.kind for finding in found} == {"full-text-content"}
    mend(copy, tmp_path / "scratch", found=found)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT rowid FROM e5 WHERE e5 MATCH 'unheard'").fetchall() == [(7,)]


def test_one_that_keeps_no_rows_is_left(sound: Path) -> None:
    """Nothing is there to build it from, and that is said."""
    found = Finding(kind="full-text-index", severity=Severity.DAMAGE, object="bare", message="it contradicts itself")
    with pytest.raises(RepairRefused, match="bare: it keeps no rows, and names no table that does"):
        repairers()[0].plan(ClosedCase(sound, (found,)))


def test_one_that_needs_a_tokenizer_is_left(sound: Path, tmp_path: Path) -> None:
    """H7: what the application brings is not here."""
    copy = Path(shutil.copy(sound, tmp_path / "app.db"))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'body)', 'body, tokenize=theirs)')")
        connection.commit()
    found = Finding(kind="full-text-index", severity=Severity.DAMAGE, object="f5", message="it contradicts itself")
    with pytest.raises(RepairRefused, match=r"f5: .*theirs"):
        repairers()[0].plan(ClosedCase(copy, (found,)))


def test_a_table_of_the_owners_is_no_index_by_its_name(tmp_path: Path) -> None:
    """H29: without sizes of columns FTS5 has no _docsize; what has that name then holds rows, and comes first."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(t, columnsize=0)")
        connection.execute("CREATE TABLE f_docsize(x)")
        connection.executemany("INSERT INTO f_docsize VALUES(?)", [("row " * 40,)] * 40)
        connection.commit()
    change(path, pages_of(path, "table", name="f_docsize")[-1], lambda page: bytes(512))
    assert repairers()[0].plan(ClosedCase(path, findings(path))) == ()
