from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pagewarden.contracts import Baseline, Checker, CheckOutcome
from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import backend
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.testing import INJURIES
from pagewarden.testing.contracts import CheckerContract, make_database
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Level, Position, Severity, Verdict
from pagewarden_check_pages import checker as module
from pagewarden_check_pages import pagewarden_checkers
from pagewarden_check_pages.checker import PagesChecker
from tests.plugins.check_pages.judging import outcome_of

SIZE = 4096
NOISE = b"\xff\xfe\xfd\xfc"  # over a name: more bits than flip in one word


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database."""
    return make_database(tmp_path / "app.db")


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    """A copy to injure."""
    return Path(shutil.copy(database, tmp_path / "copy.db"))


def judge(path: Path, baseline: Baseline | None = None, **facts: Any) -> CheckOutcome:
    """Let the checker judge a closed database; `facts` are what its files say."""
    with ClosedSubject(path, baseline=baseline) as subject:
        subject.facts = replace(subject.facts, **facts)
        return outcome_of(subject)


def one(outcome: CheckOutcome) -> Finding:
    """Return the only finding."""
    (finding,) = outcome.findings
    return finding


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def find(path: Path, text: bytes) -> int:
    """Return where bytes stand in a file; they stand there once."""
    content = path.read_bytes()
    assert content.count(text) == 1
    return content.index(text)


def test_it_runs_at_level_quick() -> None:
    """Without a baseline it reads one page."""
    assert PagesChecker().level is Level.QUICK


def test_without_a_baseline_it_says_that_it_compared_nothing(database: Path) -> None:
    """Sound as far as header and size go."""
    outcome = judge(database)
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert outcome.why == "there is no baseline: no page sum was compared"


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_named_to_its_column(database: Path, copy: Path, bit: int) -> None:
    """Byte, bit, table, rowid and column; the sums that were expected and seen, as numbers."""
    offset = find(copy, b"name 120") + 3
    patch(copy, offset, bytes([copy.read_bytes()[offset] ^ 1 << bit]))
    finding = one(judge(copy, FileImage(database)))
    pgno = offset // SIZE + 1
    assert (finding.kind, finding.severity, finding.pgno) == ("flipped-bit", Severity.DAMAGE, pgno)
    assert (finding.object, finding.rowid) == ("customers", 120)
    assert finding.message == (
        f"bit {bit} of byte {offset % SIZE} of page {pgno} (table customers, table leaf page) flipped: "
        "rowid 120, column name"
    )
    sums = [backend().page_sum(pgno, path.read_bytes()[(pgno - 1) * SIZE : pgno * SIZE]) for path in (database, copy)]
    assert finding.evidence.startswith(f"expected page sum {sums[0]:016x}, seen {sums[1]:016x}; byte ")


@pytest.mark.parametrize(("offset", "what"), [(20, "database header"), (101, "page header"), (600, "unused space")])
def test_a_flipped_bit_in_the_header_has_a_place(database: Path, copy: Path, offset: int, what: str) -> None:
    """Page 1 belongs to the schema; what is no row is named as the part that it is."""
    patch(copy, offset, bytes([copy.read_bytes()[offset] ^ 1]))
    (finding,) = (each for each in judge(copy, FileImage(database)).findings if each.kind == "flipped-bit")
    assert finding.message.endswith(f"of page 1 (table sqlite_schema, table leaf page) flipped: {what}")


def test_a_flipped_bit_in_an_overflow_page_has_its_row(database: Path, copy: Path) -> None:
    """The chain is followed back to the row that it belongs to."""
    with closing(sqlite3.connect(database)) as connection:
        (body,) = connection.execute("SELECT body FROM orders WHERE id = 100").fetchone()
    offset = find(copy, body[6000:6050])
    patch(copy, offset, bytes([copy.read_bytes()[offset] ^ 64]))
    finding = one(judge(copy, FileImage(database)))
    assert (finding.object, finding.rowid) == ("orders", 100)
    assert "(table orders, overflow page, rowid 100) flipped: rowid 100, column body" in finding.message


def test_a_zeroed_page_is_named(database: Path, copy: Path) -> None:
    """Whose it is, from the baseline's trees."""
    report = INJURIES["zeroed-page"].apply(copy, 1)
    finding = one(judge(copy, FileImage(database)))
    assert (finding.kind, finding.pgno) == ("zeroed-page", report.pgno)
    assert finding.object is not None
    assert finding.message == f"page {report.pgno} ({report.message.partition('(')[2].partition(')')[0]}) is all zeros"


def changed(database: Path, path: Path, sql: str) -> Path:
    """Return a later version of a database."""
    later = Path(shutil.copy(database, path))
    with closing(sqlite3.connect(later)) as connection, connection:
        connection.execute(sql)
    return later


@pytest.mark.parametrize(
    "position", [None, Position(timeline="cd" * 16, txid=3, time=datetime(2026, 1, 1, tzinfo=UTC))]
)
def test_a_lost_write_is_told_by_an_older_image(database: Path, tmp_path: Path, position: Position | None) -> None:
    """The page is what it was earlier: when, if that is known, and which row the old version has wrong."""
    later = changed(database, tmp_path / "later.db", "UPDATE customers SET name = 'NAME 120' WHERE id = 120")
    injured = Path(shutil.copy(later, tmp_path / "injured.db"))
    report = INJURIES["lost-write"].apply(injured, 1, older=database)
    newer = FileImage(later)
    baseline = FileImage(later, older=[newer, FileImage(database, position=position)])
    finding = one(judge(injured, baseline))
    assert (finding.kind, finding.pgno, finding.object, finding.rowid) == ("lost-write", report.pgno, "customers", 120)
    when = "at cdcdcdcd:3" if position else "2 images ago"
    assert finding.message.endswith(f" went back to what it held {when}: a write was lost; rowid 120")


def test_many_rows_are_counted(database: Path, tmp_path: Path) -> None:
    """The first are named."""
    later = changed(
        database, tmp_path / "later.db", "UPDATE customers SET name = upper(name) WHERE id BETWEEN 100 AND 108"
    )
    injured = Path(shutil.copy(later, tmp_path / "injured.db"))
    INJURIES["lost-write"].apply(injured, 1, older=database)
    finding = one(judge(injured, FileImage(later, older=[FileImage(database)])))
    assert finding.rowid is None
    assert "rowids 100, 101, 102, 103, 104 and " in finding.message or "rowid" in finding.message


def test_misplaced_pages_are_told_from_changed_ones(database: Path, copy: Path) -> None:
    """Two pages that were swapped hold what belongs to the other."""
    content = database.read_bytes()
    first, second = 5, 9
    patch(copy, (first - 1) * SIZE, content[(second - 1) * SIZE : second * SIZE])
    patch(copy, (second - 1) * SIZE, content[(first - 1) * SIZE : first * SIZE])
    outcome = judge(copy, FileImage(database))
    assert [(finding.kind, finding.pgno) for finding in outcome.findings] == [
        ("misplaced-page", first),
        ("misplaced-page", second),
    ]
    assert f"holds what belongs to page {second} (" in outcome.findings[0].message


def test_any_other_difference_is_a_changed_page(database: Path, copy: Path) -> None:
    """How many bytes, where, and which row if it is one."""
    offset = find(copy, b"name 120")
    patch(copy, offset, NOISE)
    finding = one(judge(copy, FileImage(database)))
    begin = offset % SIZE
    assert (finding.kind, finding.rowid) == ("changed-page", 120)
    assert finding.message == (
        f"4 bytes of page {offset // SIZE + 1} (table customers, table leaf page) differ, "
        f"from byte {begin} to byte {begin + 3}; rowid 120"
    )
    patch(copy, (offset // SIZE) * SIZE + 8, b"\xff" * 40)
    assert "rowid" not in one(judge(copy, FileImage(database))).message


def test_counters_of_the_header_are_no_damage(database: Path, copy: Path, tmp_path: Path) -> None:
    """A copy that SQLite's own backup made differs in them alone; a pair that contradicts itself is a flipped bit."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "api.db")) as target:
        source.backup(target)
    patch(tmp_path / "api.db", 24, b"\0\0\7\7")
    patch(tmp_path / "api.db", 92, b"\0\0\7\7")
    outcome = judge(tmp_path / "api.db", FileImage(database))
    assert (one(outcome).kind, one(outcome).severity) == ("other-counters", Severity.NOTICE)
    assert "the change counter is 1799, in the baseline" in outcome.why
    counter = copy.read_bytes()[27]
    patch(copy, 27, bytes([counter ^ 1]))
    (finding,) = (each for each in judge(copy, FileImage(database)).findings if each.pgno == 1)
    assert finding.kind == "flipped-bit"


def freed(path: Path) -> tuple[Path, list[int]]:
    """Return a database with a freelist, and its leaf pages."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM orders WHERE id > 150")
    image = FileImage(path)
    (first,) = struct.unpack_from(">I", image.page(1), 32)
    leaves = sorted(walk_freelist(image.page, first=first, pages=image.pages, usable=SIZE).leaves)
    assert leaves
    return path, leaves


def test_free_pages_may_change_without_a_commit(database: Path, tmp_path: Path) -> None:
    """H34: with a rollback journal only, and only those that are free in both; the others are damage all the same."""
    path, leaves = freed(database)
    injured = Path(shutil.copy(path, tmp_path / "injured.db"))
    for leaf in leaves:
        patch(injured, (leaf - 1) * SIZE, random.Random(leaf).randbytes(SIZE))
    outcome = judge(injured, FileImage(path))
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert outcome.why == f"{len(leaves)} free pages differ, which a transaction that was rolled back may do"
    in_wal_mode = judge(injured, FileImage(path), journal_mode="wal")
    assert [finding.kind for finding in in_wal_mode.findings] == ["changed-page"] * len(leaves)
    assert "(freelist leaf page)" in in_wal_mode.findings[0].message
    INJURIES["zeroed-page"].apply(injured, 1)
    assert one(judge(injured, FileImage(path))).kind == "zeroed-page"


def test_free_pages_do_not_hide_damage_behind_the_bound(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many free pages differ, they take nobody's place."""
    monkeypatch.setattr(module, "FINDINGS", 2)
    path, leaves = freed(database)
    injured = Path(shutil.copy(path, tmp_path / "injured.db"))
    for leaf in leaves:
        patch(injured, (leaf - 1) * SIZE, b"\xff" * SIZE)
    offset = find(injured, b"name 299")
    patch(injured, offset, NOISE)
    assert len(leaves) > 2
    assert one(judge(injured, FileImage(path))).pgno == offset // SIZE + 1


def test_only_so_many_pages_are_named(database: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are counted."""
    monkeypatch.setattr(module, "FINDINGS", 3)
    for pgno in range(4, 11):
        patch(copy, (pgno - 1) * SIZE + 2000, b"\xff\x00\xff")
    outcome = judge(copy, FileImage(database))
    assert [finding.pgno for finding in outcome.findings] == [4, 5, 6]
    assert "4 more differing pages were left out" in outcome.why


def test_missing_and_extra_pages_are_one_finding(database: Path, tmp_path: Path) -> None:
    """A database that is shorter or longer than its baseline; what was cut off is not named page by page."""
    content = database.read_bytes()
    pages = len(content) // SIZE
    shorter = tmp_path / "shorter.db"
    shorter.write_bytes(content[: 10 * SIZE])
    outcome = judge(shorter, FileImage(database))
    assert [(finding.kind, finding.pgno) for finding in outcome.findings] == [("truncated", 11)]
    patch(shorter, 28, struct.pack(">I", 10))
    first, *others = (finding.kind for finding in judge(shorter, FileImage(database)).findings if finding.pgno != 1)
    assert (first, others) == ("truncated", [])
    longer = tmp_path / "longer.db"
    longer.write_bytes(content + bytes(2 * SIZE))
    patch(longer, 28, struct.pack(">I", pages + 2))
    extra = judge(longer, FileImage(database)).findings[0]
    assert (extra.kind, extra.pgno) == ("extra-pages", pages + 1)
    assert extra.message == f"pages {pages + 1} to {pages + 2} are not in the baseline"


def test_against_an_older_baseline_a_difference_is_unknown(database: Path, tmp_path: Path) -> None:
    """Counts and no finding, as commits may have been made; equality proves that nothing is damaged."""
    position = Position(timeline="cd" * 16, txid=3, time=datetime(2026, 1, 1, tzinfo=UTC))
    older = FileImage(database, current=False, position=position)
    assert judge(database, older) == CheckOutcome()
    later = changed(database, tmp_path / "later.db", "UPDATE customers SET name = 'NAME 120' WHERE id = 120")
    outcome = judge(later, older)
    assert (outcome.verdict, outcome.findings) == (Verdict.UNKNOWN, ())
    pages = FileImage(later).pages
    assert outcome.why == (
        f"2 of {pages} pages differ from the backup at cdcdcdcd:3, and commits may have been made since"
    )
    grown = changed(database, tmp_path / "grown.db", "CREATE TABLE more AS SELECT * FROM customers")
    assert f"and the size ({pages} pages, now {FileImage(grown).pages}) differ from the baseline" in (
        judge(grown, FileImage(database, current=False)).why
    )


def test_another_page_size_is_another_database(database: Path, tmp_path: Path) -> None:
    """Nothing can be compared: damage where the baseline is current, else unknown."""
    with closing(sqlite3.connect(tmp_path / "small.db")) as connection:
        connection.execute("PRAGMA page_size=1024")
        connection.execute("CREATE TABLE t(a)")
    assert one(judge(database, FileImage(tmp_path / "small.db"))).kind == "other-page-size"
    outcome = judge(database, FileImage(tmp_path / "small.db", current=False))
    assert (outcome.verdict, outcome.why) == (Verdict.UNKNOWN, "pages have 4096 bytes, in the baseline 1024")


class Broken(FileImage):
    """A baseline whose stored pages cannot be read, though its sums can."""

    origin: Path
    broken: Sequence[int] = ()

    def sums(self, first: int, count: int) -> bytes:
        """Return what was recorded."""
        return FileImage(self.origin).sums(first, count)

    def page(self, pgno: int) -> bytes:
        """Return a page that is whole."""
        if pgno in self.broken:
            raise RepositoryDamaged(f"page {pgno} does not match its sum")
        return super().page(pgno)


class Unreadable(FileImage):
    """A baseline that nothing can be read of."""

    def sums(self, first: int, count: int) -> bytes:
        """Fail."""
        raise RepositoryDamaged("the sums are gone")


def test_a_baseline_that_is_damaged_itself_still_says_which_pages_differ(database: Path, copy: Path) -> None:
    """The sums are whole: the page is named by its number, and what happened to it is not known."""
    offset = find(copy, b"name 120")
    patch(copy, offset, NOISE)
    baseline = Broken(database)
    baseline.origin = database
    baseline.broken = (offset // SIZE + 1,)
    finding = one(judge(copy, baseline))
    assert finding.kind == "changed-page"
    assert "the baseline's own cannot be read: page" in finding.message
    baseline.broken = range(1, 3)
    finding = one(judge(copy, baseline))
    assert (finding.kind, finding.object) == ("changed-page", None)
    assert finding.message.startswith(f"4 bytes of page {offset // SIZE + 1} differ")


def test_a_flipped_bit_without_an_owner_is_a_flipped_bit(database: Path, copy: Path) -> None:
    """Where the baseline's trees cannot be read."""
    patch(copy, find(copy, b"name 120"), b"o")
    baseline = Broken(database)
    baseline.origin = database
    baseline.broken = (2,)
    finding = one(judge(copy, baseline))
    assert (finding.kind, finding.object) == ("flipped-bit", None)
    assert finding.message.endswith(" flipped")


def test_an_older_image_that_cannot_be_read_is_no_evidence(database: Path, copy: Path, tmp_path: Path) -> None:
    """Nor is one of another page size, or one that was shorter."""
    patch(copy, find(copy, b"name 120"), NOISE)
    with closing(sqlite3.connect(tmp_path / "small.db")) as connection:
        connection.execute("PRAGMA user_version=1")
    others = [Unreadable(database), FileImage(tmp_path / "small.db")]
    assert one(judge(copy, FileImage(database, older=others))).kind == "changed-page"


def test_a_baseline_that_cannot_be_used_is_unknown(database: Path) -> None:
    """What needs none was judged."""

    class Missing(ClosedSubject):
        @property
        def baseline(self) -> Baseline | None:
            raise RepositoryDamaged("it is gone")

        @baseline.setter
        def baseline(self, value: Baseline | None) -> None:
            assert value is None

    for subject in (Missing(database), ClosedSubject(database, baseline=Unreadable(database))):
        outcome = outcome_of(subject)
        assert outcome.verdict is Verdict.UNKNOWN
        assert outcome.why.startswith("no baseline: ")


def test_size_is_judged_by_what_the_files_say(database: Path) -> None:
    """H11: while newer pages stand in the -wal, the file's size says nothing."""
    size = database.stat().st_size
    assert one(judge(database, file_size=size - 100)).kind == "truncated"
    assert judge(database, file_size=size - 100, wal_in_use=True).findings == ()
    trailing = one(judge(database, file_size=size + 7))
    assert (trailing.kind, trailing.severity) == ("trailing-bytes", Severity.NOTICE)
    assert trailing.message == f"7 bytes follow page {size // SIZE}, the last one"
    assert judge(database, file_size=size + 7, wal_in_use=True).findings == ()
    assert one(judge(database, claimed_pages=size // SIZE + 1)).kind == "truncated"


@pytest.mark.parametrize(
    ("offset", "data", "what"),
    [
        (18, b"\3", "write version 3"),
        (19, b"\0", "read version 0"),
        (20, b"\xff", None),
        (21, b"\x41", "payload fractions 65, 32, 32"),
        (32, b"\0\1\0\0", "freelist trunk page 65536"),
        (36, b"\0\1\0\0", "65536 free pages"),
        (44, b"\0\0\0\5", "schema format 5"),
        (52, b"\0\1\0\0", "largest root page 65536"),
        (56, b"\0\0\0\4", "text encoding 4"),
        (64, b"\0\0\0\1", "incremental vacuum without ptrmap pages"),
    ],
)
def test_a_header_that_no_sqlite_writes_is_damage(database: Path, offset: int, data: bytes, what: str | None) -> None:
    """Each field that has a bound."""
    patch(database, offset, data)
    outcome = judge(database)
    if what is None:  # 255 of 4096 bytes may be reserved
        assert outcome.findings == ()
        return
    finding = one(outcome)
    assert (finding.kind, finding.severity, finding.pgno) == ("bad-header", Severity.DAMAGE, 1)
    assert finding.message.startswith(f"the database header says {what}, in a database of ")


def test_bytes_kept_for_later_are_worth_a_notice(database: Path) -> None:
    """Another program, or a newer SQLite, uses them."""
    patch(database, 80, b"\1")
    assert one(judge(database)).severity is Severity.NOTICE


def test_reserved_bytes_leave_room_in_small_pages(tmp_path: Path) -> None:
    """At least 480 usable bytes are SQLite's bound."""
    path = tmp_path / "small.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
    patch(path, 20, b"\x21")
    assert "33 reserved bytes" in one(judge(path)).message


def test_an_empty_database_has_no_header(tmp_path: Path) -> None:
    """Nothing to judge, nothing wrong."""
    (tmp_path / "empty.db").write_bytes(b"")
    assert judge(tmp_path / "empty.db").findings == ()
