"""Header, freelist and pointer map are what the pages say; where those do not say it without doubt, nothing is done."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Repairer, Stage
from pagewarden.errors import RepairRefused
from pagewarden.pages import PageSource, backend, lock_page
from pagewarden.repair.derivation import derive
from pagewarden.repair.inference import CONTRACTED, EXPANDED
from pagewarden.repair.pointermap import last_entry, map_places
from pagewarden.sqlite.header import DatabaseHeader
from pagewarden.sqlite.infer import PageShape
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts.repairer import RepairerContract
from pagewarden.values import Finding, Severity
from pagewarden_repair_header.repairer import HeaderRepairer
from tests.core.pages.trees import Database, build
from tests.plugins.repair_header.damage import MALFORMED, mend, opinion, rows
from tests.support.cksumvfs import build_reserved, seal


class TestContract(RepairerContract):
    """It is what the planner expects of any repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the repairer."""
        return HeaderRepairer()

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Put garbage over the whole header."""
        put(copy, 0, random.Random(5).randbytes(100))
        return MALFORMED


def put(path: Path, offset: int, new: bytes) -> None:
    """Write bytes into a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)


@contextmanager
def quick(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that nobody needs to be durable."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA secure_delete=OFF")
        yield connection


def insert(connection: sqlite3.Connection, new: Sequence[tuple[object, ...]]) -> None:
    """Insert rows into table t, at once."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES(?)", new)
    connection.execute("COMMIT")


def header(path: Path) -> DatabaseHeader:
    """Return a file's header."""
    with path.open("rb") as file:
        return DatabaseHeader.parse(file.read(100))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound database with free pages and without ptrmap pages."""
    made = tmp_path / "app.db"
    made.write_bytes(build(rows=60).data)
    return made


def fields(path: Path, scratch: Path) -> str:
    """Mend, and return what the one step says."""
    steps, _ = mend(path, scratch)
    assert [(step.loss, step.stage, step.loses) for step in steps] == [(Loss.NOTHING, Stage.PAGES, "nothing")]
    return steps[0].text


FIELDS = [
    (0, b"SQLite format 4\0", "magic"),
    (16, b"\x20\x00", "page size"),
    (18, b"\x03\x01", "journal mode"),
    (19, b"\x09", "journal mode"),
    (20, b"\x05", "reserved bytes"),
    (22, b"\x21", "payload fractions"),
    (28, b"\x00\x00\x00\x02", "page count"),
    (44, b"\x00\x00\x01\x00", "schema format"),
    (48, b"\x7f\xff\xff\xff", "cache size"),
    (52, b"\x00\x00\x00\x09", "largest root page"),
    (56, b"\x00\x00\x00\x02", "text encoding"),
    (64, b"\x00\x00\x00\x01", "incremental vacuum"),
    (72, b"\x01", "bytes kept for later"),
    (96, b"\xff\xff\xff\xff", "version number"),
]


@pytest.mark.parametrize(("offset", "new", "name"), FIELDS, ids=[f"{field[2]} {field[0]}" for field in FIELDS])
def test_a_field_is_named_and_becomes_what_it_was(
    path: Path, tmp_path: Path, offset: int, new: bytes, name: str
) -> None:
    """The step names the field alone; afterwards it is what it was, and the counter has gone on by one."""
    before = path.read_bytes()
    put(path, offset, new)
    assert fields(path, tmp_path / "scratch") == f"write the database header anew ({name})"
    after = bytearray(path.read_bytes())
    (counter,) = struct.unpack_from(">I", before, 24)
    assert after[24:28] == after[92:96] == struct.pack(">I", counter + 1)
    if name != "version number":
        after[24:28], after[92:96] = before[24:28], before[92:96]
        assert after == before
    assert opinion(path) == ["ok"]


def test_what_is_in_order_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    """Where the pages say what stands there, there is no step, whatever was found."""
    before = path.read_bytes()
    assert mend(path, tmp_path / "scratch")[0] == ()
    assert path.read_bytes() == before


def test_every_page_that_is_written_is_kept(path: Path, tmp_path: Path) -> None:
    """What stood on page 1 and on each new trunk page is in the quarantine, and the tail that is cut off."""
    before = path.read_bytes()
    put(path, 32, b"\xff" * 8)
    put(path, len(before), b"more")
    damaged = path.read_bytes()
    _, bench = mend(path, tmp_path / "scratch")
    size = header(path).page_size
    assert bench.cut_ends == [(len(before), b"more", "it is behind the last page")]
    kept = {pgno: data for pgno, data, _ in bench.cut_pages}
    assert kept == {pgno: damaged[(pgno - 1) * size : pgno * size] for pgno in kept} and 1 in kept
    assert {pgno for pgno in range(1, len(before) // size + 1) if differs(path, damaged, pgno, size)} <= set(kept)


def differs(path: Path, before: bytes, pgno: int, size: int) -> bool:
    """Return whether a page has changed."""
    place = slice((pgno - 1) * size, pgno * size)
    return path.read_bytes()[place] != before[place]


def test_a_freelist_in_order_is_kept_where_only_its_count_is_wrong(path: Path, tmp_path: Path) -> None:
    """No trunk page is written for a count."""
    count = header(path).freelist_pages
    assert count
    put(path, 36, struct.pack(">I", count + 5))
    steps, bench = mend(path, tmp_path / "scratch")
    assert [pgno for pgno, _, _ in bench.cut_pages] == [1]
    assert "freelist" in steps[0].text and header(path).freelist_pages == count


def test_lost_pages_that_were_free_are_let_go(tmp_path: Path) -> None:
    """A file that was cut off within its free pages is as long as its pages then, and the freelist names no other."""
    path = tmp_path / "cut.db"
    with quick(path) as connection:
        connection.execute("CREATE TABLE t(x)")
        insert(connection, [(b"x" * 900,) for _ in range(400)])
        connection.execute("DELETE FROM t WHERE rowid > 100")
    before, size = rows(path), header(path).page_size
    os.truncate(path, 60 * size + 100)
    assert opinion_or_error(path) != ["ok"]
    mend(path, tmp_path / "scratch")
    assert opinion(path) == ["ok"] and rows(path) == before
    assert (path.stat().st_size, header(path).page_count) == (60 * size, 60)


def opinion_or_error(path: Path) -> list[str]:
    """Return what integrity_check says, or how SQLite fails."""
    try:
        return opinion(path)
    except sqlite3.DatabaseError as error:
        return [str(error)]


def test_pages_that_nothing_uses_become_free(tmp_path: Path) -> None:
    """Unless the freelist itself broke, those that look like pages of a tree count as a loss: a tree may miss them."""
    path = tmp_path / "unused.db"
    with quick(path) as connection:
        connection.execute("CREATE TABLE t(x)")
        insert(connection, [(b"x" * 900,) for _ in range(100)])
        connection.execute("DELETE FROM t WHERE rowid > 50")
    put(path, 32, bytes(8))
    case = ClosedCase(path, (Finding(kind="unused-page", severity=Severity.DAMAGE, message="", pgno=9),))
    (step,) = HeaderRepairer().plan(case)
    assert step.mends == (0,) and "make the freelist anew of" in step.text
    assert step.loss is Loss.ROWS and "look like pages of a tree" in step.loses
    put(path, 36, b"\0\0\0\1")  # the header contradicts itself
    (step,) = HeaderRepairer().plan(ClosedCase(path, case.findings))
    assert step.loss is Loss.NOTHING and step.loses == "nothing"
    mend(path, tmp_path / "scratch")
    assert opinion(path) == ["ok"]


def test_a_broken_tree_stops_everything(path: Path, tmp_path: Path) -> None:
    """With a page that does not hold, nothing is derived: pages that no tree knows of may be its children."""
    database = Database.read(path)
    put(path, (database.root("a") - 1) * 1024, bytes(1024))
    put(path, 32, bytes(8))
    damaged = path.read_bytes()
    case = ClosedCase(path, MALFORMED)
    assert HeaderRepairer().plan(case) == ()
    assert "of a does not hold (page type)" in HeaderRepairer().why_not(case)
    with pytest.raises(RepairRefused, match="does not hold"):
        HeaderRepairer().apply(bench_of(path, tmp_path), HeaderRepairer().plan(sound_case(tmp_path)))
    assert path.read_bytes() == damaged


def bench_of(path: Path, tmp_path: Path) -> ClosedBench:
    """Return a bench over a file."""
    scratch = tmp_path / "bench"
    scratch.mkdir()
    return ClosedBench(path, scratch, ClosedCase(path))


def sound_case(tmp_path: Path) -> ClosedCase:
    """Return a case that has a step."""
    other = tmp_path / "other.db"
    other.write_bytes(build(rows=60).data)
    put(other, 0, bytes(16))
    return ClosedCase(other, MALFORMED)


@pytest.mark.parametrize("word", [b"tabke", b"TABLE", b"\0\0\0\0\0"])
def test_a_schema_row_of_no_kind_stops_everything(path: Path, word: bytes) -> None:
    """The pages of a table that the schema does not name any more never become free."""
    data = path.read_bytes()
    at = data.rindex(b"table", 100, 1024)
    put(path, at, word)
    case = ClosedCase(path, MALFORMED, refused="malformed")
    assert HeaderRepairer().plan(case) == ()
    assert "a row of sqlite_schema cannot be read" in HeaderRepairer().why_not(case)


def test_a_schema_row_without_a_root_stops_everything(path: Path) -> None:
    """A table whose root page is none is not left out."""
    with quick(path) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 0 WHERE name = 'b'")
    assert "names page 0 as the root of table b" in HeaderRepairer().why_not(ClosedCase(path, MALFORMED))


def test_views_triggers_and_virtual_tables_have_no_root(tmp_path: Path) -> None:
    """A schema with all kinds of rows, long ones among them, and a text encoding that only it tells."""
    path = tmp_path / "kinds.db"
    with quick(path) as connection:
        connection.execute("PRAGMA encoding='UTF-16be'")
        connection.execute("CREATE TABLE t(x, y)")
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(body)")
        connection.execute(f"CREATE VIEW v AS SELECT '{'long ' * 3000}' AS z FROM t")
        connection.execute("CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO f VALUES(new.x); END")
        for number in range(60):  # page 1 becomes an interior page
            connection.execute(f"CREATE TABLE many_{number}(one, two, three UNIQUE)")
        connection.execute("INSERT INTO t VALUES('word', 2)")
    before = rows(path)
    put(path, 0, b"\xaa" * 100)
    mend(path, tmp_path / "scratch")
    assert opinion(path) == ["ok"] and rows(path) == before
    assert header(path).text_encoding == 3


def test_an_empty_database_is_one_again(tmp_path: Path) -> None:
    """One page, no table."""
    path = tmp_path / "empty.db"
    with quick(path) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA user_version=1")
    put(path, 0, b"\xff" * 100)
    mend(path, tmp_path / "scratch")
    assert opinion(path) == ["ok"] and (header(path).page_size, path.stat().st_size) == (512, 512)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_order_of_keys_tells_the_schema_format(tmp_path: Path, legacy: bool) -> None:
    """DESC is what old formats passed over: the format is taken with which all keys are in order."""
    path = tmp_path / "order.db"
    with quick(path) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute(f"CREATE INDEX i ON t(x{'' if legacy else ' DESC'})")
        insert(connection, [(i,) for i in range(99)])
        if legacy:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(x DESC)' WHERE name = 'i'")
    put(path, 44, b"\x10\x00\x00\x00")
    mend(path, tmp_path / "scratch")
    assert header(path).schema_format == (1 if legacy else 4)
    assert opinion(path) == ["ok"]


@pytest.mark.parametrize("way", [EXPANDED, CONTRACTED])
def test_mangled_newlines_are_undone_where_that_is_proven(tmp_path: Path, way: str) -> None:
    """What comes out is the file as it was, byte for byte; a file where some CRLF were LF before is left alone."""
    path = tmp_path / "text.db"
    newline = "\r\n" if way == CONTRACTED else "\n"
    with quick(path) as connection:
        connection.execute("CREATE TABLE t(x)")
        insert(connection, [(f"a{newline}b{newline}" * 40,) for _ in range(350)])
    data = path.read_bytes()
    old, new = (b"\r\n", b"\n") if way == CONTRACTED else (b"\n", b"\r\n")
    exact = way == EXPANDED or data.count(b"\n") == data.count(b"\r\n")
    path.write_bytes(data.replace(old, new))
    steps, _ = mend(path, tmp_path / "scratch")
    if exact:
        assert [step.text for step in steps] == [f"undo that {way}"]
        assert path.read_bytes() == data
    else:
        assert steps == () and path.read_bytes() == data.replace(old, new)


def test_checksums_of_cksumvfs_are_kept_true(tmp_path: Path) -> None:
    """In a database whose reserved bytes hold checksums, the pages that are written get theirs (H10)."""
    path = build_reserved(
        tmp_path / "sums.db",
        "CREATE TABLE t(x)",
        "INSERT INTO t WITH c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c LIMIT 300) SELECT zeroblob(200) FROM c",
        "DELETE FROM t WHERE rowid < 200",
        page_size=1024,
    )
    seal(path)
    put(path, 16, random.Random(3).randbytes(40))
    mend(path, tmp_path / "scratch")
    assert opinion(path) == ["ok"] and header(path).reserved == 8
    with path.open("rb") as file:
        pages = header(path).page_count
        source = PageSource(database=file.fileno(), page_size=1024, pages=pages, file_size=1024 * pages)
        assert backend().reserved_sums(source, 1, pages) == b"\1" * pages


# The log


def logged(tmp_path: Path, *, page_one: bool, spoiled: bool = False) -> tuple[Path, int]:
    """Return a copy of a database in WAL mode with its log, and how many rows the two have together.

    With `page_one` the log holds page 1; with `spoiled` the count of free pages was wrong before that.
    """
    live, path = tmp_path / "live.db", tmp_path / "app.db"
    with quick(live) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(x)")
        insert(connection, [(b"a" * 500,) for _ in range(100)])
        connection.execute("DELETE FROM t WHERE rowid > 90")
    if spoiled:
        put(live, 36, struct.pack(">I", 3))
    with quick(live) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        if page_one:
            connection.execute("CREATE TABLE later(x)")
        connection.execute("UPDATE t SET x = 'short' WHERE rowid = 5")
        for name in ("", "-wal"):
            shutil.copyfile(f"{live}{name}", f"{path}{name}")
    return path, 90


def test_a_header_beside_a_log_is_mended_and_the_log_stays(tmp_path: Path) -> None:
    """The pages are those of the log where it has them; it is no part of the repair."""
    path, count = logged(tmp_path, page_one=False)
    put(path, 0, random.Random(8).randbytes(100))
    steps, _ = mend(path, tmp_path / "scratch")
    assert "fold" not in steps[0].text
    assert path.with_name("app.db-wal").stat().st_size
    assert opinion(path) == ["ok"] and sum(rows(path).values()) == count
    assert header(path).wal


def test_a_page_of_the_log_is_mended_in_the_file_and_the_log_is_kept(tmp_path: Path) -> None:
    """Where the log holds what is wrong, its pages are written into the file first, and it is set aside."""
    path, count = logged(tmp_path, page_one=True, spoiled=True)
    steps, bench = mend(path, tmp_path / "scratch")
    assert steps[0].text.startswith("fold the -wal into the file")
    assert list(bench.cut_files) == ["folded-wal"] and not path.with_name("app.db-wal").exists()
    assert opinion(path) == ["ok"] and sum(rows(path).values()) == count


def test_a_database_in_wal_mode_without_a_log(tmp_path: Path) -> None:
    """Where one of the two bytes is left, the mode is; where none is, it becomes a rollback journal's."""
    path, _ = logged(tmp_path, page_one=False)
    path.with_name("app.db-wal").unlink()
    for garbage, wal in ((b"\x09\x02", True), (b"\x02\x00", True), (b"\xff\xff", False)):
        put(path, 18, garbage)
        mend(path, tmp_path / "scratch")
        assert header(path).wal is wal and opinion(path) == ["ok"]


def test_a_log_of_other_pages_stops_everything(tmp_path: Path) -> None:
    """Whether the log belongs to the file must be settled first."""
    path, _ = logged(tmp_path, page_one=False)
    path.write_bytes(build(rows=60).data)
    put(path, 0, bytes(16))
    case = ClosedCase(path, MALFORMED)
    assert HeaderRepairer().plan(case) == ()
    assert HeaderRepairer().why_not(case)


# The lock-byte page


@pytest.mark.parametrize("pragmas", [(), ("auto_vacuum=INCREMENTAL",)], ids=["plain", "ptrmap"])
def test_the_lock_byte_page_is_neither_free_nor_mapped(tmp_path: Path, pragmas: tuple[str, ...]) -> None:
    """Beyond 1 GiB (H12) every page but that one is free; SQLite agrees, and every row is there."""
    path = tmp_path / "large.db"
    path.write_bytes(build(page_size=65536, rows=30, pragmas=pragmas).data)
    before = rows(path)
    pages = lock_page(65536) + 40
    os.truncate(path, pages * 65536)
    put(path, 0, random.Random(4).randbytes(100))
    free, maps = derive_into(path)
    assert (header(path).page_count, header(path).freelist_pages) == (pages, free)
    assert free > 16000 and bool(maps) is bool(pragmas)
    assert opinion(path) == ["ok"] and rows(path) == before


def derive_into(path: Path) -> tuple[int, tuple[int, ...]]:
    """Write what is derived into the file itself; return how many pages are free, and which ptrmap pages differed.

    A case and a bench for closed files would keep all of a sparse file in memory.
    """
    with path.open("r+b") as file:
        derivation = derive(file.fileno())
        for pgno, page, _ in derivation.new_pages():
            os.pwrite(file.fileno(), page, (pgno - 1) * len(page))
        return derivation.free, derivation.maps


def test_the_pointer_map_goes_on_behind_the_lock_byte_page() -> None:
    """With pages of 1024 bytes a ptrmap page would be the lock-byte page: it is the one behind it."""
    shape, pages = PageShape(page_size=1024, usable=1024), lock_page(1024) + 500
    maps = tuple(map_places(shape, pages))
    assert lock_page(1024) + 1 in maps and lock_page(1024) not in maps
    entries = {pgno: number for number in maps for pgno in range(number + 1, last_entry(shape, number, pages) + 1)}
    assert set(entries) | set(maps) | {1, lock_page(1024)} == set(range(1, pages + 1))
    assert not set(entries) & {*maps, lock_page(1024)}


if os.environ.get("PAGEWARDEN_FULL"):

    def test_sqlite_agrees_on_the_pointer_map_behind_the_lock_byte_page(tmp_path: Path) -> None:
        """A million free pages, each with its entry."""
        path = tmp_path / "shifted.db"
        path.write_bytes(build(page_size=1024, rows=5, pragmas=("auto_vacuum=INCREMENTAL",)).data)
        os.truncate(path, (lock_page(1024) + 300) * 1024)
        put(path, 24, bytes(16))
        derive_into(path)
        assert opinion(path) == ["ok"]
