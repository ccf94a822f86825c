"""Each kind of difference, from an injury or from a page made by hand."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import RepositoryDamaged
from pagewarden.testing import INJURIES
from pagewarden.testing.contracts import make_database
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Severity
from pagewarden_check_pages import checker as module
from pagewarden_check_pages import elsewhere
from tests.plugins.check_pages.judging import outcome_of
from tests.support.injuring import SHAPES, make

SIZE = 4096


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database."""
    return make_database(tmp_path / "app.db")


@pytest.fixture
def later(database: Path, tmp_path: Path) -> Path:
    """The same after one more commit, which changed most of its leaves."""
    path = Path(shutil.copy(database, tmp_path / "later.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE customers SET name = upper(name)")
    return path


Edit = Callable[[dict[int, bytes]], None]


def injured(path: Path, edit: Edit) -> Path:
    """Return a copy in which `edit` has changed pages."""
    data = path.read_bytes()
    pages = {pgno: data[SIZE * (pgno - 1) : SIZE * pgno] for pgno in range(1, len(data) // SIZE + 1)}
    edit(pages)
    copy = path.with_name("injured.db")
    copy.write_bytes(b"".join(pages[pgno] for pgno in sorted(pages)))
    return copy


def judge(path: Path, baseline: FileImage) -> tuple[Finding, ...]:
    """Return what is found against a current baseline."""
    with ClosedSubject(path, baseline=baseline) as subject:
        return outcome_of(subject).findings


def leaf_of(database: Path, older: Path) -> int:
    """Return a page in which two versions of a database differ, beyond the first."""
    one, two = FileImage(database), FileImage(older)
    return next(pgno for pgno in range(2, min(one.pages, two.pages) + 1) if one.page(pgno) != two.page(pgno))


def test_a_zeroed_sector_is_told_from_a_zeroed_page(database: Path) -> None:
    """One of 512 bytes, two in a row, a block of 4096 bytes in a larger page: which bytes they are."""

    def edit(pages: dict[int, bytes]) -> None:
        pages[9] = pages[9][:3072] + bytes(1024)

    (finding,) = judge(injured(database, edit), FileImage(database))
    assert (finding.kind, finding.severity, finding.pgno) == ("zeroed-sector", Severity.DAMAGE, 9)
    assert finding.message.startswith("bytes 3072 to 4095 of page 9 (")
    assert finding.object is not None
    assert "; from byte 30" in finding.evidence


def test_a_run_of_zeros_is_one_finding(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its range, its bytes, whose they were; also where a chunk of the comparison ends within it, or little is told."""

    def edit(pages: dict[int, bytes]) -> None:
        for pgno in (*range(4, 12), 14):
            pages[pgno] = bytes(SIZE)

    copy = injured(database, edit)
    for chunk, most in ((16384, 1000), (3, 1000), (3, 2)):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        monkeypatch.setattr(module, "FINDINGS", most)
        run, page = judge(copy, FileImage(database))
        assert (run.kind, run.severity, run.pgno) == ("zeroed-run", Severity.DAMAGE, 4)
        assert run.message.startswith("pages 4 to 11 of ")
        assert run.message.endswith(f"are all zeros, {8 * SIZE} bytes: a lost extent")
        assert run.evidence.startswith("page 4: expected page sum ")
        assert (page.kind, page.pgno) == ("zeroed-page", 14)


def test_a_run_of_zeros_without_an_owner(database: Path) -> None:
    """Where the baseline's own trees cannot be read, the range is named all the same."""

    class Broken(FileImage):
        def page(self, pgno: int) -> bytes:
            raise RepositoryDamaged("it is gone")

        def sums(self, first: int, count: int) -> bytes:
            return FileImage(database).sums(first, count)

    def edit(pages: dict[int, bytes]) -> None:
        pages[4] = pages[5] = bytes(SIZE)

    (finding,) = judge(injured(database, edit), Broken(database))
    assert (finding.kind, finding.object) == ("zeroed-run", None)
    assert finding.message.startswith("pages 4 to 5 are all zeros")


@pytest.mark.parametrize("old", [slice(2048, SIZE), slice(0, 512), slice(1024, 1536)])
def test_a_torn_page_tells_where(database: Path, later: Path, old: slice) -> None:
    """One part is what it should be, the other what an older image holds there."""
    pgno = leaf_of(later, database)
    older = FileImage(database).page(pgno)

    def edit(pages: dict[int, bytes]) -> None:
        data = bytearray(pages[pgno])
        data[old] = older[old]
        pages[pgno] = bytes(data)

    copy = injured(later, edit)
    if FileImage(copy).page(pgno) == FileImage(later).page(pgno):
        edit_whole = bytearray(FileImage(later).page(pgno))
        assert edit_whole[old] == older[old]  # nothing was written there: nothing to tell
        return
    (finding,) = judge(copy, FileImage(later, older=[FileImage(database)]))
    assert (finding.kind, finding.pgno) in {("torn-page", pgno), ("lost-write", pgno)}
    if finding.kind == "torn-page":
        assert " is torn at byte " in finding.message
        assert "the other what it held 1 images ago" in finding.message


def test_a_page_over_another_is_found_though_that_one_is_whole(database: Path, later: Path) -> None:
    """By the page sums alone: of the baseline, and of an older image, where it belonged."""
    donor, older = FileImage(later).page(9), FileImage(database).page(leaf_of(later, database))

    def edit(pages: dict[int, bytes]) -> None:
        pages[4], pages[6] = donor, older

    findings = judge(injured(later, edit), FileImage(later, older=[FileImage(database)]))
    assert [(finding.kind, finding.pgno) for finding in findings] == [("misplaced-page", 4), ("misplaced-page", 6)]
    assert " holds what belongs to page 9" in findings[0].message
    assert " holds what belonged to page " in findings[1].message
    assert "1 images ago" in findings[1].message


def test_a_search_has_an_end(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not found within its bound is a changed page."""
    monkeypatch.setattr(elsewhere, "_HASHED", {"native": 2 * SIZE, "twin": 2 * SIZE})
    monkeypatch.setattr(elsewhere, "_INDEXED", SIZE)
    donor = FileImage(database).page(9)

    def edit(pages: dict[int, bytes]) -> None:
        pages[4] = donor

    (finding,) = judge(injured(database, edit), FileImage(database))
    assert finding.kind == "changed-page"


def test_sectors_of_another_page_are_named(database: Path) -> None:
    """A single one and a part of a page, from a page that is as it should be."""
    donor = FileImage(database).page(9)

    def edit(pages: dict[int, bytes]) -> None:
        pages[4] = pages[4][:3584] + donor[3584:]
        pages[6] = pages[6][:1024] + donor[1024:]

    findings = judge(injured(database, edit), FileImage(database))
    assert [(finding.kind, finding.pgno) for finding in findings] == [("misplaced-sector", 4), ("misplaced-sector", 6)]
    assert findings[0].message.startswith("bytes 3584 to 4095 of page 4 (")
    assert " hold what belongs there on page 9 (" in findings[0].message


def test_sectors_are_looked_for_within_a_bound(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest pages first."""
    monkeypatch.setattr(elsewhere, "_INDEXED", 2 * SIZE)
    far, near = FileImage(database).page(20), FileImage(database).page(5)
    for donor, kind in ((far, "changed-page"), (near, "misplaced-sector")):

        def edit(pages: dict[int, bytes], donor: bytes = donor) -> None:
            pages[4] = pages[4][:3584] + donor[3584:]

        (finding,) = judge(injured(database, edit), FileImage(database))
        assert finding.kind == kind


def test_bits_of_one_word_are_named(database: Path) -> None:
    """Each with its byte; the place is that of the first."""

    def edit(pages: dict[int, bytes]) -> None:
        data = bytearray(pages[4])
        data[4000] ^= 0b1001
        data[4001] ^= 0b0100
        pages[4] = bytes(data)

    (finding,) = judge(injured(database, edit), FileImage(database))
    assert finding.kind == "flipped-bits"
    assert finding.message.startswith("bit 0 of byte 4000, bit 3 of byte 4000, bit 2 of byte 4001 of page 4 (")
    assert finding.evidence.count("; byte ") == 2


def test_moved_bytes_are_told_with_their_number(database: Path) -> None:
    """Every page from there on, each by itself; forward and back."""
    for count, word in ((7, "7 bytes further back than it should: bytes were put in"), (-1, "1 byte further forward")):

        def edit(pages: dict[int, bytes], count: int = count) -> None:
            data = b"".join(pages[pgno] for pgno in range(4, len(pages) + 1))
            moved = data[:100] + b"?" * count + data[100:-count] if count > 0 else data[:100] + data[101:] + b"\0"
            for pgno in range(4, len(pages) + 1):
                pages[pgno] = moved[SIZE * (pgno - 4) : SIZE * (pgno - 3)]

        findings = judge(injured(database, edit), FileImage(database))
        moved = [finding for finding in findings if finding.kind == "shifted-bytes"]
        assert len(moved) > 0.6 * len(findings), [finding.kind for finding in findings]
        assert f" stands {word}" in moved[0].message


@pytest.mark.parametrize("way", [(b"\n", b"\r\n"), (b"\r\n", b"\n")])
def test_a_file_sent_as_text_is_one_pattern(tmp_path: Path, way: tuple[bytes, bytes]) -> None:
    """LF to CRLF or back, from the first newline on: one finding, not one for each page."""
    database, _ = make(tmp_path, SHAPES["plain"])
    copy = tmp_path / "copy.db"
    data = database.read_bytes()
    begin = data.index(way[0], SIZE)  # page 1 stays whole, so that the copy is still a database
    copy.write_bytes(data[:SIZE] + data[SIZE:].replace(*way))
    findings = judge(copy, FileImage(database))
    mangled = [finding for finding in findings if finding.kind == "mangled-newlines"]
    assert len(mangled) == 1
    assert mangled[0].pgno == begin // SIZE + 1
    assert ("LF became CRLF" in mangled[0].message) == (way[0] == b"\n")
    assert {finding.kind for finding in findings} <= {"mangled-newlines", "trailing-bytes", "truncated"}


def test_newlines_beside_a_baseline_that_is_damaged(tmp_path: Path) -> None:
    """What the baseline does not tell is not explained."""
    database, _ = make(tmp_path, SHAPES["plain"])

    class Broken(FileImage):
        def page(self, pgno: int) -> bytes:
            if pgno == 8:
                raise RepositoryDamaged("it is gone")
            return super().page(pgno)

        def sums(self, first: int, count: int) -> bytes:
            return FileImage(database).sums(first, count)

    copy = tmp_path / "copy.db"
    data = database.read_bytes()
    copy.write_bytes((data[:SIZE] + data[SIZE:].replace(b"\n", b"\r\n"))[: len(data)])
    kinds = {finding.pgno: finding.kind for finding in judge(copy, Broken(database))}
    assert "mangled-newlines" in kinds.values()
    assert kinds[8] == "changed-page"


def test_evidence_shows_the_bytes_both_ways(database: Path) -> None:
    """The first that differ, a bounded number of them."""
    noise = random.Random(1).randbytes(2000)

    def edit(pages: dict[int, bytes]) -> None:
        pages[4] = pages[4][:1000] + noise + pages[4][3000:]

    (finding,) = judge(injured(database, edit), FileImage(database))
    expected = FileImage(database).page(4)
    begin = next(
        index for index in range(SIZE) if expected[index] != (expected[:1000] + noise + expected[3000:])[index]
    )
    shown = (expected[:1000] + noise)[begin : begin + 16].hex()
    assert finding.evidence.endswith(f"; from byte {begin} expected {expected[begin : begin + 16].hex()}, seen {shown}")


KINDS = {
    "flipped-bit": {"flipped-bit"},
    "zeroed-page": {"zeroed-page"},
    "zeroed-sector": {"zeroed-sector"},
    "zeroed-run": {"zeroed-run", "zeroed-page"},
    "swapped-pages": {"misplaced-page"},
    "overwritten-page": {"misplaced-page"},
    "lost-write": {"lost-write"},
    "truncated-tail": {"truncated"},
    "mangled-newlines": {"mangled-newlines", "truncated", "trailing-bytes"},
}


@pytest.mark.parametrize("shape", ["plain", "vacuumed", "large-pages"])
def test_injuries_get_their_own_name(tmp_path: Path, shape: str) -> None:
    """What was done is what is said, whatever the page size."""
    database, older = make(tmp_path, SHAPES[shape])
    copy = tmp_path / "copy.db"
    for kind, named in KINDS.items():
        for seed in range(2):
            shutil.copy(database, copy)
            INJURIES[kind].apply(copy, seed, older=older if kind == "lost-write" else None)
            if copy.read_bytes()[:16] != database.read_bytes()[:16] and kind == "zeroed-sector":
                continue  # no database any more: only the run can judge it
            found = {finding.kind for finding in judge(copy, FileImage(database, older=[FileImage(older)]))}
            assert found and found <= named, (kind, seed)
