"""What findings amount to, what happened, and when: told from the file, and from what a repository knows."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check.images import HandleImage
from pagewarden.contracts import Damage, PastImage, Pattern
from pagewarden.repair.attempt import check_or_say
from pagewarden.repair.case import open_case
from pagewarden.repair.diagnosis import diagnose
from pagewarden.repair.happened import MOST_PAGES
from pagewarden.repair.history import open_history
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.wholes import header_is_sane
from pagewarden.testing import INJURIES
from pagewarden.testing.benches import ClosedCase
from pagewarden.testing.contracts import make_database
from pagewarden.testing.subjects import FileImage
from pagewarden.values import Finding, Level, Position, Severity
from tests.core.repair.pasts import Past
from tests.support.injuring import SHAPES, make

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))


def diagnosed(past: Past, *, repository: bool) -> tuple[Pattern, ...]:
    """Check it, and say what the findings amount to."""
    path = str(past.path)
    request = RepairRequest(database=path, repository=past.repository if repository else None)
    report, _ = check_or_say(path, past.runtime, request, level=Level.STANDARD, remaining=None, private=False)
    history = open_history(request, past.runtime, path)
    with open_case(path, past.runtime, report, request=request, history=history) as case:
        patterns = diagnose(case)
        assert patterns == case.patterns
    places = sorted(place for pattern in patterns for place in pattern.findings)
    assert places == [at for at, each in enumerate(report.findings) if each.severity is not Severity.NOTICE]
    for pattern in patterns:
        assert bool(pattern.happened) == bool(pattern.prevent)
    return patterns


# Without and with a repository: the patterns, and a word of what happened. None: nothing is found.
INJURED: dict[str, tuple[int, set[Damage] | None, set[Damage], str]] = {
    "flipped-bit": (1, None, {Damage.PAGES}, "bits flipped"),
    "zeroed-page": (1, {Damage.PAGES}, {Damage.PAGES}, "are zeros"),
    "zeroed-sector": (1, {Damage.PAGES}, {Damage.PAGES}, "are zeros"),
    "zeroed-run": (1, {Damage.PAGES}, {Damage.PAGES}, "are zeros"),
    "torn-page": (1, {Damage.PAGES}, {Damage.PAGES}, "overwritten with something else"),
    "swapped-pages": (1, {Damage.PAGES}, {Damage.PAGES}, "wrong place"),
    "overwritten-page": (1, {Damage.PAGES}, {Damage.PAGES}, "wrong place"),
    "truncated-tail": (3, {Damage.TRUNCATED}, {Damage.TRUNCATED}, "cut off"),
    "header-garbage": (2, {Damage.HEADER}, {Damage.HEADER}, "short run of bytes"),
    "schema-page": (3, {Damage.SCHEMA}, {Damage.SCHEMA}, "short run of bytes"),
    "freelist-trunk": (1, {Damage.FREELIST}, {Damage.FREELIST}, "bits flipped"),
    "overflow-pointer": (3, {Damage.OVERFLOW}, {Damage.PAGES}, "bits flipped"),
    "cell-pointer": (1, {Damage.PAGES}, {Damage.PAGES}, "bits flipped"),
    "interior-child-pointer": (2, {Damage.INTERIOR}, {Damage.INTERIOR}, "bits flipped"),
    "index-entry": (1, {Damage.INDEX}, {Damage.INDEX}, "bits flipped"),
    "shifted-bytes": (3, {Damage.PAGES}, {Damage.PAGES}, "shifted"),
    "mangled-newlines": (1, {Damage.PAGES, Damage.TRUNCATED}, {Damage.NEWLINES}, "as text"),
    "damaged-wal-frame": (1, {Damage.LOG}, {Damage.LOG}, "frame of the log"),
    "foreign-wal": (1, {Damage.LOG}, {Damage.LOG}, "not written for it"),
}


ALIKE = {"zeroed-sector", "zeroed-run", "torn-page", "overwritten-page", "cell-pointer", "index-entry"}
"""Injuries that leave what another one leaves, too."""


@pytest.mark.parametrize("kind", [kind for kind in INJURED if FULL or kind not in ALIKE])
def test_each_injury_is_known_by_its_pattern(past: Past, kind: str) -> None:
    """From the file alone, and with what a repository says; then what happened is told, too."""
    seed, alone, with_repository, word = INJURED[kind]
    made, _ = make(past.folder, SHAPES["with-wal" if kind == "damaged-wal-frame" else "small-pages"])
    assert made == past.path
    past.back_up()
    INJURIES[kind].apply(made, seed)
    found = diagnosed(past, repository=False)
    assert {pattern.damage for pattern in found} == (alone or set())
    known = diagnosed(past, repository=True)
    assert {pattern.damage for pattern in known} == with_repository
    assert any(word in pattern.happened for pattern in known), [pattern.happened for pattern in known]


def test_between_which_backups_it_happened_is_told(past: Past) -> None:
    """The last that has the page as it was, and the first that has it damaged, though nobody saw it then."""
    past.make("wal")
    points = [past.back_up().position]
    with closing(past.connect()) as connection:
        connection.execute("UPDATE letters SET body = 'other' || body WHERE id = 7")
    points.append(past.back_up().position)
    page = 5
    past.damage(at=(page - 1) * 1024, data=bytes(1024))
    os_time(past.path)
    for text in ("a", "b"):
        with closing(past.connect()) as connection:
            connection.execute("INSERT INTO notes(body) VALUES(?)", (text,))
        points.append(past.back_up().position)
    (pattern,) = diagnosed(past, repository=True)
    assert (pattern.damage, pattern.pages) == (Damage.PAGES, (page,))
    assert pattern.between == (points[1], points[2])
    assert "are zeros" in pattern.happened


def os_time(path: Path) -> None:
    """Let the time of the last write be another one, so that the next backup proves no rot."""
    path.write_bytes(path.read_bytes())


def test_a_backup_that_was_found_damaged_says_when(past: Past) -> None:
    """It is no restore point to go by, but the first at which it was so."""
    past.make("wal")
    whole = past.back_up().position
    past.damage(at=4 * 1024, data=bytes(1024))
    past.rest()
    request = BackupRequest(database=str(past.path), repository=past.repository, check="standard")
    damaged = run_backup(request, past.runtime).position
    (pattern,) = diagnosed(past, repository=True)
    assert pattern.between == (whole, damaged)


def went_back(past: Past, pages: Sequence[int]) -> Pattern:
    """Let pages hold what they held at the first backup."""
    past.make("wal")
    older = past.path.read_bytes()
    past.back_up()
    with closing(past.connect()) as connection:
        connection.execute("UPDATE letters SET body = upper(body)")
    past.back_up()
    for pgno in pages:
        past.damage(at=(pgno - 1) * 1024, data=older[(pgno - 1) * 1024 : pgno * 1024])
    (pattern,) = diagnosed(past, repository=True)
    assert (pattern.damage, pattern.pages) == (Damage.PAGES, tuple(pages))
    return pattern


def test_one_page_that_went_back_is_a_lost_write_or_a_known_bug(past: Past) -> None:
    """That of the SQLite that wrote it, where it has one."""
    pattern = went_back(past, [7])
    assert "dropped it" in pattern.happened
    bug = sqlite3.sqlite_version_info < (3, 44, 6)
    assert ("can make a later checkpoint skip" in pattern.happened) == bug


def test_pages_that_went_back_together_tell_of_a_log_that_is_gone(past: Past) -> None:
    """Copied without it, or deleted after a process had cancelled the locks of others."""
    pattern = went_back(past, [7, 8, 12])
    assert "without its -wal" in pattern.happened
    assert "cancelled the locks" in pattern.happened


def test_an_index_that_was_written_wrong_is_no_damage_of_pages(past: Past) -> None:
    """Every page is as it was committed: then the application is asked."""
    past.make("delete")
    with closing(past.connect()) as connection:
        connection.execute("CREATE INDEX by_body ON letters(body)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(body)', '(body COLLATE NOCASE)') WHERE name = 'by_body'"
        )
        connection.execute("UPDATE letters SET body = upper(body) WHERE id % 2")
    past.back_up()
    patterns = diagnosed(past, repository=True)
    assert [pattern.damage for pattern in patterns] == [Damage.INDEX]
    assert "the index was written so" in patterns[0].happened
    assert "hold every row" in patterns[0].text


def test_orphans_and_broken_rules_are_no_damage_of_pages(tmp_path: Path) -> None:
    """Foreign keys have a pattern of their own, other violations stand apart, and notices are none."""
    database = make_database(tmp_path / "app.db", rows=5)
    findings = [
        Finding(kind="foreign-key", severity=Severity.VIOLATION, object="orders", rowid=3, message="no customer"),
        Finding(kind="not-null", severity=Severity.VIOLATION, object="orders", rowid=3, message="NULL"),
        Finding(kind="trailing-bytes", severity=Severity.NOTICE, message="bytes follow"),
        Finding(kind="lost-locks", severity=Severity.DAMAGE, message="process 7 has lost its locks"),
        Finding(kind="spatial-index", severity=Severity.DAMAGE, object="places", message="contradicts itself"),
        Finding(kind="something-new", severity=Severity.DAMAGE, message="of another plugin"),
    ]
    patterns = {pattern.damage: pattern for pattern in diagnose(ClosedCase(database, findings))}
    assert {damage: pattern.findings for damage, pattern in patterns.items()} == {
        Damage.LOG: (3,),
        Damage.RELATIONS: (0,),
        Damage.VIRTUAL: (4,),
        Damage.OTHER: (1, 5),
    }
    assert "locks" in patterns[Damage.LOG].happened
    assert "no pattern explains" in patterns[Damage.OTHER].text
    (rules,) = diagnose(ClosedCase(database, findings[1:2]))
    assert "rules of the owner's" in rules.text


def test_entries_without_a_row_tell_of_rows_that_may_be_lost(tmp_path: Path) -> None:
    """A table that went back in time looks so: nobody may say that it holds every row."""
    database = make_database(tmp_path / "app.db", rows=5)
    message = "index orders_customer has an entry that row 7 of table orders does not have"
    finding = Finding(kind="index-mismatch", severity=Severity.DAMAGE, object="orders_customer", message=message)
    (pattern,) = diagnose(ClosedCase(database, [finding]))
    assert pattern.damage is Damage.INDEX
    assert "rows may be lost" in pattern.text and "every row" not in pattern.text


def refused(path: Path) -> ClosedCase:
    """A case of a file that SQLite refuses."""
    finding = Finding(kind="unopenable", severity=Severity.DAMAGE, pgno=1, message="sqlite cannot open it")
    return ClosedCase(path, [finding], refused="file is not a database")


def test_what_sqlite_refuses_is_told_apart_by_what_stands_behind_the_header(tmp_path: Path) -> None:
    """Pages: then the header alone is hurt. Nothing like pages: then nothing is a database any more."""
    database = make_database(tmp_path / "app.db")
    data = database.read_bytes()
    contents = {
        Damage.HEADER: bytes(100) + data[100:],
        Damage.GARBAGE: bytes(range(1, 251)) * 400,
        Damage.TRUNCATED: data[:60],
        Damage.SCHEMA: data[:100] + b"\7" * 400 + data[500:],
        Damage.NEWLINES: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"x",
    }
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "UPDATE customers SET notes = ? WHERE id = ?", (("one\ntwo\nthree\n" * 9, each) for each in range(1, 50))
        )
    contents[Damage.NEWLINES] = database.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") + b"x"
    for damage, content in contents.items():
        path = tmp_path / damage.value
        path.write_bytes(content)
        assert [pattern.damage for pattern in diagnose(refused(path))] == [damage]


@pytest.mark.parametrize(
    ("at", "data"), [(0, b"X"), (16, b"\7"), (18, b"\3"), (21, b"\x41"), (47, b"\x09"), (59, b"\4")]
)
def test_a_header_is_sane_only_with_what_sqlite_writes(tmp_path: Path, at: int, data: bytes) -> None:
    """Field by field."""
    header = make_database(tmp_path / "app.db", rows=1).read_bytes()[:100]
    assert header_is_sane(header)
    assert not header_is_sane(header[:at] + data + header[at + len(data) :])
    assert not header_is_sane(header[:50])


def test_only_some_pages_are_looked_at(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are damaged: a diagnosis takes no longer than a look."""
    past.make("wal", rows=900)
    past.back_up()
    size = past.path.stat().st_size
    past.damage(at=1024 * 4, data=bytes(size - 1024 * 4))
    read: list[int] = []
    page = HandleImage.page

    def counted(image: HandleImage, pgno: int) -> bytes:
        read.append(pgno)
        return page(image, pgno)

    monkeypatch.setattr(HandleImage, "page", counted)
    request = RepairRequest(database=str(past.path), repository=past.repository)
    report, _ = check_or_say(str(past.path), past.runtime, request, level=Level.STANDARD, remaining=None, private=False)
    history = open_history(request, past.runtime, str(past.path))
    with open_case(str(past.path), past.runtime, report, request=request, history=history) as case:
        read.clear()
        patterns = diagnose(case)
    assert sum(len(pattern.pages) for pattern in patterns) >= 1
    assert len(read) < 6 * MOST_PAGES + 40


def test_hostile_findings_are_survived(tmp_path: Path) -> None:
    """Whatever page, name or text a checker reports."""
    database = make_database(tmp_path / "app.db", rows=5)
    strange = [
        Finding(kind=kind, severity=Severity.DAMAGE, pgno=pgno, object=name, message=message)
        for kind in ("bad-page", "double-reference", "unused-page", "index-mismatch", "zeroed-page", "truncated")
        for pgno in (None, 1, 2, 10**6, 1 << 60)
        for name in (None, "orders", 'no"table', "")
        for message in ("", "(on page 99999999999999999999)", "x (overflow page)", "(on page 2) by the freelist")
    ]
    patterns = diagnose(ClosedCase(database, strange))
    assert sum(len(pattern.findings) for pattern in patterns) == len(strange)
    shutil.copy(database, tmp_path / "empty.db")
    (tmp_path / "empty.db").write_bytes(b"")
    assert diagnose(refused(tmp_path / "empty.db"))


class Known(FileImage):
    """A file as a restore point."""

    def __init__(self, path: Path, data: bytes, txid: int) -> None:
        path.write_bytes(data)
        super().__init__(path)
        self.at = Position(timeline="0" * 32, txid=txid, time=datetime(2026, 11, txid, tzinfo=UTC))

    @property
    def position(self) -> Position:
        """Where it stands."""
        return self.at

    @position.setter
    def position(self, _: Position | None) -> None:
        """Leave it there."""


class Knowledge:
    """A history of two restore points, the newer of which is the present."""

    why = "a test says so"
    certain = True

    def __init__(self, newest: Known, older: Known) -> None:
        self.newest = self.present = newest
        self.older = (older,)

    def fetch(self, image: PastImage, to: Path) -> None:
        """Is not asked for."""
        raise AssertionError(f"{image} to {to}")


def _sectors(page: bytes, other: bytes) -> bytes:
    return page[:1024] + other[1024:2048] + page[2048:]


TRACES: dict[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "are zeros: the disk or": lambda page, older, other: bytes(len(page)),
    "sectors of 512": lambda page, older, other: _sectors(page, bytes(len(page))),
    "dropped it": lambda page, older, other: older,
    "part new, part old": lambda page, older, other: _sectors(page, older),
    "a few bits": lambda page, older, other: page[:2000] + bytes([page[2000] ^ 4]) + page[2001:],
    "a short run": lambda page, older, other: page[:2000] + bytes(each ^ 255 for each in page[2000:2030]) + page[2030:],
    "shifted": lambda page, older, other: b"xyz" + page[:-3],
    "with something else": lambda page, older, other: bytes(each ^ 0x55 for each in page),
}


@pytest.mark.parametrize("word", TRACES)
def test_what_a_page_bears_is_told_from_backups(tmp_path: Path, word: str) -> None:
    """Though the checker says only that it is a bad page."""
    database = make_database(tmp_path / "app.db", rows=150)
    older = database.read_bytes()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE customers SET notes = replace(notes, 'e', 'é')")
    newest = database.read_bytes()
    pgno = next(
        number
        for number in range(2, len(older) // 4096)
        if newest[(number - 1) * 4096] == 13
        and newest[number * 4096 - 900 :][:900] != older[number * 4096 - 900 :][:900]
    )
    place = slice((pgno - 1) * 4096, pgno * 4096)
    hurt = bytearray(newest)
    hurt[place] = TRACES[word](newest[place], older[place], newest[:4096])
    database.write_bytes(hurt)
    history = Knowledge(Known(tmp_path / "newest", newest, 2), Known(tmp_path / "older", older, 1))
    finding = Finding(kind="bad-page", severity=Severity.DAMAGE, pgno=pgno, object="customers", message="it is bad")
    (pattern,) = diagnose(ClosedCase(database, [finding], history=history))
    assert pattern.damage is Damage.PAGES
    assert word in pattern.happened and "after the newest" in pattern.happened
