"""A page that looks wrong is read again before it is reported; a run that is cut short goes on where it was."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.live import snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository import PageSetHeader
from pagewarden.runtime import Runtime
from pagewarden.testing.contracts import make_database
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Severity, Verdict
from pagewarden_check_pages import checker as module
from pagewarden_check_pages.checker import PagesChecker
from tests.plugins.check_pages.judging import outcome_of

SIZE = 4096


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database."""
    return make_database(tmp_path / "app.db")


class Unsteady(FileImage):
    """An image of which some pages are read otherwise the second time."""

    def __init__(self, path: Path, again: dict[int, bytes]) -> None:
        super().__init__(path)
        self._again = again
        self.reread_pages: list[int] = []

    def reread(self, pgno: int) -> bytes:
        """Return what the second reading gives."""
        self.reread_pages.append(pgno)
        return self._again.get(pgno, self.page(pgno))


def overwritten(path: Path, *pgnos: int, content: bytes = b"\xff\x01\xfe\x02" * 200) -> Path:
    """Return a copy with other bytes on pages."""
    copy = path.with_name("copy.db")
    data = bytearray(path.read_bytes())
    for pgno in pgnos:
        data[SIZE * pgno - 3000 : SIZE * pgno - 3000 + len(content)] = content
    copy.write_bytes(data)
    return copy


def test_what_is_right_the_second_time_is_no_damage(database: Path) -> None:
    """A notice that says so, with the sum that was seen; pages that stay wrong are damage beside it."""
    baseline = FileImage(database)
    copy = overwritten(database, 4, 5, 6)
    with ClosedSubject(copy, baseline=baseline) as subject:
        subject.image = Unsteady(copy, {5: baseline.page(5)})
        outcome = outcome_of(subject)
        assert subject.image.reread_pages == [4, 5, 6]
    assert [finding.kind for finding in outcome.findings] == ["changed-page", "transient-read", "changed-page"]
    notice = outcome.findings[1]
    assert (notice.severity, notice.pgno) == (Severity.NOTICE, 5)
    assert "expected page sum " in notice.evidence and ", seen " in notice.evidence
    only = overwritten(database, 5)
    with ClosedSubject(only, baseline=baseline) as subject:
        subject.image = Unsteady(only, {5: baseline.page(5)})
        outcome = outcome_of(subject)
    assert [finding.severity for finding in outcome.findings] == [Severity.NOTICE]
    assert outcome.verdict is None


def test_what_is_wrong_in_two_ways_is_damage_with_both_sums(database: Path) -> None:
    """The second reading is what is named: it came from the disk."""
    copy = overwritten(database, 5)
    with ClosedSubject(copy, baseline=FileImage(database)) as subject:
        subject.image = Unsteady(copy, {5: bytes(SIZE)})
        (finding,) = outcome_of(subject).findings
    assert (finding.kind, finding.severity) == ("zeroed-page", Severity.DAMAGE)
    assert ", read again " in finding.evidence


def test_zeros_that_were_read_once_end_a_run(database: Path) -> None:
    """What stood there the second time is not zeroed."""
    baseline = FileImage(database)
    data = database.read_bytes()
    copy = database.with_name("copy.db")
    copy.write_bytes(data[: 3 * SIZE] + bytes(4 * SIZE) + data[7 * SIZE :])
    with ClosedSubject(copy, baseline=baseline) as subject:
        subject.image = Unsteady(copy, {6: baseline.page(6)})
        outcome = outcome_of(subject)
    found = [(finding.kind, finding.pgno) for finding in outcome.findings]
    assert found == [("zeroed-run", 4), ("transient-read", 6), ("zeroed-page", 7)]


def test_a_run_goes_on_where_one_was_cut_short_and_round(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is told of its progress, nothing is lost: each page is reported in the one run or the other."""
    monkeypatch.setattr(module, "_CHUNK", 4)
    wrong = [3, 4, 9, 17, 18, 25]
    copy = overwritten(database, *wrong)
    baseline = FileImage(database)

    class Over(BaseException):
        """The time is over."""

    cuts = set()
    with ClosedSubject(copy, baseline=baseline) as whole:
        outcome_of(whole)
    for number in range(1, len(whole.told)):
        first: list[int | None] = []
        with ClosedSubject(copy, baseline=baseline) as subject:
            judging = PagesChecker().check(subject)
            try:
                while True:
                    if len(subject.told) >= number:
                        subject.signal = Over()
                    first.append(next(judging).pgno)
            except (Over, StopIteration):
                pass
        resume = subject.places[-1] if subject.places else ""
        cuts.add(resume)
        with ClosedSubject(copy, baseline=baseline, resume=resume) as subject:
            second = [finding.pgno for finding in outcome_of(subject).findings]
        assert second[0] == next((pgno for pgno in wrong if pgno >= int(resume or 1)), wrong[0])
        assert sorted(second) == wrong  # type: ignore[type-var]
        assert {pgno for pgno in first if pgno is not None} >= {pgno for pgno in wrong if pgno < int(resume or 1)}
        assert subject.places[-1] in {resume or "1", "1"}
    assert len(cuts) > 4


@pytest.mark.parametrize("resume", ["", "0", "999999", "-3", "nonsense", "²"])
def test_a_place_that_is_none_begins_anew(database: Path, resume: str) -> None:
    """The ledger may be of another database, or damaged."""
    copy = overwritten(database, 5)
    with ClosedSubject(copy, baseline=FileImage(database), resume=resume) as subject:
        assert [finding.pgno for finding in outcome_of(subject).findings] == [5]


def test_a_run_of_zeros_that_was_not_reported_is_where_the_next_run_begins(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is not known yet when a chunk ends."""
    monkeypatch.setattr(module, "_CHUNK", 4)
    data = database.read_bytes()
    copy = database.with_name("copy.db")
    copy.write_bytes(data[: 5 * SIZE] + bytes(4 * SIZE) + data[9 * SIZE :])
    with ClosedSubject(copy, baseline=FileImage(database)) as subject:
        outcome_of(subject)
    assert subject.places[:3] == ["5", "6", "13"]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The outside world of a run."""
    with Runtime(state=tmp_path / "state") as made:
        yield made


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_live_images_read_again(runtime: Runtime, tmp_path: Path, mode: str) -> None:
    """Through the page reader: from the database file and, under a lock in slices, with a rollback journal."""
    path = make_database(tmp_path / "live.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    reader: PageReader = runtime.reader
    now = datetime.now(UTC)
    header = PageSetHeader(page_size=SIZE, pages=0, pages_per_frame=64, timeline="ab" * 16, txid=1, time=now)
    snapshot_commit(str(path), reader, tmp_path / "base.pageset", header, 1)
    shutil.move(overwritten(path, 5, 6), path)
    request = CheckRequest(database=str(path), baseline=str(tmp_path / "base.pageset"), only=("check-pages",))
    report = run_check(request, runtime)
    assert report.verdict is Verdict.DAMAGED
    assert [(finding.kind, finding.pgno) for finding in report.findings] == [("changed-page", 5), ("changed-page", 6)]
    (count,) = struct.unpack(">I", path.read_bytes()[28:32])
    assert report.pages == count
