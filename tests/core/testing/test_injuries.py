from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, NotADatabase, RestoreRefused
from pagewarden.testing import INJURIES
from pagewarden.testing.contracts import make_database
from pagewarden.values import InjuryReport

SEEDS = range(12)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database."""
    return make_database(tmp_path_factory.mktemp("original") / "app.db")


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(database, tmp_path / "copy.db"))


@pytest.fixture
def older(database: Path, copy: Path, tmp_path: Path) -> Path:
    """The copy as it was before its notes were changed."""
    older = Path(shutil.copy(database, tmp_path / "older.db"))
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE customers SET notes = upper(notes) WHERE id % 7 = 0")
        connection.execute("DELETE FROM orders WHERE id > 250")
    return older


def differences(first: Path, second: Path) -> list[int]:
    """Return at which bytes two files of one size differ."""
    one, two = first.read_bytes(), second.read_bytes()
    assert len(one) == len(two)
    return [index for index in range(len(one)) if one[index] != two[index]]


def integrity(path: Path) -> list[str]:
    """Return what SQLite says."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            return [row[0] for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            return [str(error)]


def proved(report: InjuryReport, before: bytes, after: bytes, page_size: int = 4096) -> bool:
    """Whether a report says what was done, and all of it."""
    changed = [index for index in range(len(before)) if before[index] != after[index]]
    begin = (report.pgno - 1) * page_size + report.offset
    shown = min(report.length, 32)
    return (
        (changed[0], changed[-1]) == (begin, begin + report.length - 1)
        and report.before == before[begin : begin + shown].hex()
        and report.after == after[begin : begin + shown].hex()
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flipped_bit_is_one_that_sqlite_cannot_see(database: Path, copy: Path, seed: int) -> None:
    """One bit, in the text that the report names; integrity_check still says ok."""
    report = INJURIES["flipped-bit"].apply(copy, seed)
    before, after = database.read_bytes(), copy.read_bytes()
    (index,) = differences(database, copy)
    assert (before[index] ^ after[index]).bit_count() == 1
    assert proved(report, before, after)
    assert integrity(copy) == ["ok"]
    row, column = report.message.split("table customers, rowid ")[1].split(", column ")
    assert column in ("name", "notes")
    query = f"SELECT {column} FROM customers WHERE id = {row}"
    texts = []
    for path in (database, copy):
        with closing(sqlite3.connect(path)) as connection:
            texts.append(connection.execute(query).fetchone()[0])
    assert texts[0] != texts[1]
    assert len(texts[0]) == len(texts[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_zeroed_page_is_one_in_use(database: Path, copy: Path, seed: int) -> None:
    """A page of a table or index that is not the first one becomes zeros, and SQLite's check sees it."""
    report = INJURIES["zeroed-page"].apply(copy, seed)
    begin = (report.pgno - 1) * 4096
    assert report.pgno > 1
    assert copy.read_bytes()[begin : begin + 4096] == bytes(4096)
    assert any(database.read_bytes()[begin : begin + 4096])
    assert proved(report, database.read_bytes(), copy.read_bytes())
    assert integrity(copy) != ["ok"]
    assert "(table " in report.message or "(index " in report.message


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_write_brings_an_old_page_back(copy: Path, older: Path, seed: int) -> None:
    """The page is the older image's, the rest is untouched, and integrity_check still says ok."""
    before = copy.read_bytes()
    report = INJURIES["lost-write"].apply(copy, seed, older=older)
    after = copy.read_bytes()
    page = slice((report.pgno - 1) * 4096, report.pgno * 4096)
    assert after[page] == older.read_bytes()[page] != before[page]
    assert proved(report, before, after)
    assert integrity(copy) == ["ok"]


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_copy_with_a_journal_is_refused(copy: Path, suffix: str) -> None:
    """SQLite would lay the journal over the injury; an empty one says nothing."""
    journal = copy.with_name(copy.name + suffix)
    journal.write_bytes(b"x")
    before = copy.read_bytes()
    with pytest.raises(RestoreRefused, match=f"{suffix} is not empty"):
        INJURIES["flipped-bit"].apply(copy, 1)
    assert copy.read_bytes() == before
    journal.write_bytes(b"")
    INJURIES["flipped-bit"].apply(copy, 1)
    assert copy.read_bytes() != before


def test_what_cannot_be_injured_is_said(copy: Path, tmp_path: Path) -> None:
    """No file, no database, no older image, one that is of another page size, one that is equal."""
    with pytest.raises(DatabaseNotFound):
        INJURIES["zeroed-page"].apply(tmp_path / "missing", 1)
    (tmp_path / "text").write_text("this is no database" * 100)
    with pytest.raises(NotADatabase):
        INJURIES["zeroed-page"].apply(tmp_path / "text", 1)
    with pytest.raises(RestoreRefused, match="needs an older image") as caught:
        INJURIES["lost-write"].apply(copy, 1)
    assert "--older OLDER" in caught.value.hint
    with closing(sqlite3.connect(tmp_path / "small.db")) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
    with pytest.raises(RestoreRefused, match="another size"):
        INJURIES["lost-write"].apply(copy, 1, older=tmp_path / "small.db")
    with pytest.raises(RestoreRefused, match="no page but its first that differs"):
        INJURIES["lost-write"].apply(copy, 1, older=Path(shutil.copy(copy, tmp_path / "equal.db")))
    with pytest.raises(RestoreRefused, match="no b-tree page but its first"):
        empty = tmp_path / "empty.db"
        with closing(sqlite3.connect(empty)) as connection:
            connection.execute("PRAGMA user_version=7")
        INJURIES["zeroed-page"].apply(empty, 1)


def single(path: Path, *statements: str) -> Path:
    """Make a database of these statements."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.mark.parametrize(
    ("statements", "where"),
    [
        (
            ("CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER)", "INSERT INTO t VALUES(70, 80000)"),
            ": table t, rowid 70",
        ),
        (("CREATE TABLE t(a TEXT UNIQUE)", "INSERT INTO t VALUES('only an indexed text')"), ": table t, rowid 1"),
        (("CREATE TABLE t(a TEXT CHECK(a > ''))", "INSERT INTO t VALUES('checked text')"), ": table t, rowid 1"),
        (("CREATE TABLE t(a TEXT PRIMARY KEY) WITHOUT ROWID", "INSERT INTO t VALUES('key')"), ": table t"),
        (("CREATE VIRTUAL TABLE s USING fts5(a)", "INSERT INTO s VALUES('words')"), ": table s_"),
        (("CREATE TABLE t(a)",), ": no table has a row"),
    ],
    ids=["numbers", "indexed", "checked", "without-rowid", "full-text", "empty"],
)
def test_without_a_hidden_text_any_payload_is_flipped(tmp_path: Path, statements: tuple[str, ...], where: str) -> None:
    """Numbers, indexed or checked texts, keys, full-text tables: a byte of a row; without rows any byte."""
    path = single(tmp_path / "a.db", *statements)
    before = path.read_bytes()
    report = INJURIES["flipped-bit"].apply(path, 1)
    assert proved(report, before, path.read_bytes(), 512)
    assert where in report.message


def test_texts_that_begin_in_overflow_pages_are_passed_over(tmp_path: Path) -> None:
    """Only bytes on the leaf itself are flipped; a page whose records cannot be read has none."""
    path = single(
        tmp_path / "a.db",
        "CREATE TABLE t(a BLOB, b TEXT)",
        "INSERT INTO t VALUES(zeroblob(4000), 'far away')",
        "INSERT INTO t VALUES(NULL, 'near')",
    )
    for seed in SEEDS:
        copy = Path(shutil.copy(path, tmp_path / "copy.db"))
        assert "rowid 2, column b" in INJURIES["flipped-bit"].apply(copy, seed).message


def test_a_page_that_is_zero_already_gives_way_to_the_next(tmp_path: Path) -> None:
    """The report says so."""
    path = single(tmp_path / "a.db", "CREATE TABLE t(a)", "CREATE TABLE u(a)", "INSERT INTO u VALUES('x')")
    data = bytearray(path.read_bytes())
    data[512:1024] = bytes(512)
    messages = set()
    for seed in SEEDS:
        path.write_bytes(data)
        report = INJURIES["zeroed-page"].apply(path, seed)
        assert report.pgno == 3
        messages.add(report.message.partition("; ")[2])
    assert messages == {"", "page 2 was passed over: nothing in use would have changed there"}
    path.write_bytes(data[:1024])
    with pytest.raises(RestoreRefused):
        INJURIES["zeroed-page"].apply(path, 1)


def test_a_lost_write_takes_what_there_is(tmp_path: Path) -> None:
    """Where rows came and went, or the page was no table's, it is an old page all the same."""
    path = single(tmp_path / "a.db", "CREATE TABLE t(a TEXT UNIQUE)", "INSERT INTO t VALUES('one')")
    older = Path(shutil.copy(path, tmp_path / "older.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO t VALUES('two')")
    assert {
        INJURIES["lost-write"].apply(Path(shutil.copy(path, tmp_path / "c.db")), seed, older=older).pgno
        for seed in SEEDS
    } == {2}
    damaged = bytearray(path.read_bytes())
    damaged[512 + 3 : 512 + 5] = b"\xff\xff"
    path.write_bytes(damaged)
    assert INJURIES["lost-write"].apply(path, 1, older=older).pgno in (2, 3)
