"""Pages that hold what belongs to another one, among many that differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pagewarden.errors import RepositoryDamaged
from pagewarden.testing.contracts import make_database
from pagewarden.testing.subjects import ClosedSubject, FileImage
from tests.plugins.check_pages.judging import outcome_of

SIZE = 4096


class Stored(FileImage):
    """A baseline as a repository stores it: sums beside pages. It counts how often a page of it is read."""

    def __init__(self, path: Path, *, broken: int = 0) -> None:
        super().__init__(path)
        self._recorded = FileImage(path)
        self._broken = broken
        self.reads = 0

    def sums(self, first: int, count: int) -> bytes:
        """Return what was recorded."""
        return self._recorded.sums(first, count)

    def page(self, pgno: int) -> bytes:
        """Return a page, unless it is the one that is damaged."""
        self.reads += 1
        if pgno == self._broken:
            raise RepositoryDamaged(f"page {pgno} does not match its sum")
        return super().page(pgno)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database."""
    return make_database(tmp_path / "app.db")


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    """A copy to injure."""
    return Path(shutil.copy(database, tmp_path / "copy.db"))


def judge(path: Path, baseline: Stored) -> dict[int | None, str]:
    """Return what the checker calls each page."""
    with ClosedSubject(path, baseline=baseline) as subject:
        return {finding.pgno: finding.kind for finding in outcome_of(subject).findings}


def place(path: Path, pgno: int, data: bytes) -> None:
    """Put `data` where a page begins."""
    content = bytearray(path.read_bytes())
    content[(pgno - 1) * SIZE : (pgno - 1) * SIZE + len(data)] = data
    path.write_bytes(content)


def test_each_page_is_read_a_few_times_however_many_differ(database: Path, copy: Path) -> None:
    """A file whose bytes moved differs in every page from there on."""
    content = database.read_bytes()
    place(copy, 5, content[4 * SIZE + 1 :] + b"\0")
    baseline = Stored(database)
    pages = len(content) // SIZE
    assert set(judge(copy, baseline)) == set(range(5, pages + 1))
    assert baseline.reads < 8 * pages


def test_a_damaged_page_of_the_baseline_hides_no_other(database: Path, copy: Path) -> None:
    """What should stand there is not known, but the others get their names."""
    content = database.read_bytes()
    place(copy, 5, content[8 * SIZE : 9 * SIZE])
    place(copy, 7, content[3 * SIZE : 4 * SIZE])
    place(copy, 9, content[4 * SIZE : 5 * SIZE])
    assert judge(copy, Stored(database, broken=7)) == {5: "misplaced-page", 7: "changed-page", 9: "misplaced-page"}
