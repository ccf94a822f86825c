"""The case of a repair: what is known of a database, live or as a private copy, read without changing a byte."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import RepairCase
from pagewarden.errors import DatabaseUnsettled, NotADatabase
from pagewarden.repair.case import open_case
from pagewarden.repair.request import RepairRequest
from pagewarden.runtime import Runtime
from pagewarden.structure import FlawKind
from pagewarden.testing import INJURIES
from pagewarden.testing.contracts import make_database
from pagewarden.values import CheckReport, Verdict


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A sound database in a folder of its own."""
    (tmp_path / "live").mkdir()
    return make_database(tmp_path / "live" / "app.db", rows=120)


def no_report(path: Path) -> CheckReport:
    """A report without findings."""
    return CheckReport(
        database=str(path),
        verdict=Verdict.DAMAGED,
        position=None,
        pages=0,
        page_size=0,
        bytes=0,
        seconds=0.0,
        checkers=(),
        findings=(),
    )


def request(path: Path) -> RepairRequest:
    """What is asked of the repair."""
    return RepairRequest(database=str(path))


def states(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("private", [False, True])
def test_it_shows_pages_trees_and_flaws(database: Path, runtime: Runtime, private: bool) -> None:
    """Of a file that is damaged, and of a private copy of it; the copy's folder stays as it was."""
    report = INJURIES["zeroed-page"].apply(database, 5)
    checked = run_check(CheckRequest(database=str(database)), runtime)
    before = states(database.parent)
    origin = "/srv/app.db" if private else None
    with open_case(str(database), runtime, checked, request=request(database), origin=origin) as opened:
        case: RepairCase = opened
        assert case.path == (origin or str(database))
        assert case.findings == checked.findings
        assert (case.refused, case.history, case.log) == ("", None, None)
        assert case.image.page(report.pgno) == bytes(case.image.page_size)
        assert case.file(0, 16) == b"SQLite format 3\0"
        assert case.file(database.stat().st_size - 3, 100) == database.read_bytes()[-3:]
        assert {"orders", "customers", "orders_customer"} <= {tree.name for tree in case.trees}
        assert report.pgno in {flaw.pgno for flaw in case.flaws()}
        assert case.flaws() is case.flaws()
    assert states(database.parent) == before


def test_a_database_in_wal_mode_is_pinned_with_its_log(database: Path, runtime: Runtime) -> None:
    """Pages that stand in the log are shown, and a commit meanwhile changes nothing of it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("INSERT INTO customers VALUES(1000, 'late', 'late', '')")
        connection.commit()
        with open_case(str(database), runtime, no_report(database), request=request(database)) as case:
            pages = [case.image.page(pgno) for pgno in range(1, case.image.pages + 1)]
            connection.execute("DELETE FROM customers")
            connection.commit()
            assert [case.image.page(pgno) for pgno in range(1, case.image.pages + 1)] == pages
            assert any(b"late" in page for page in pages)
            assert case.log is not None and case.log.commits >= 1
            assert case.facts.wal_in_use
            assert case.flaws() == ()


def test_a_copy_with_its_log_is_read_as_a_recovery_would(database: Path, runtime: Runtime, tmp_path: Path) -> None:
    """Without leaving a wal-index beside it."""
    copy = tmp_path / "copy" / "app.db"
    copy.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("INSERT INTO customers VALUES(1000, 'late', 'late', '')")
        connection.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
    before = states(copy.parent)
    with open_case(str(copy), runtime, no_report(copy), request=request(copy), origin=str(database)) as case:
        assert any(b"late" in case.image.page(pgno) for pgno in range(1, case.image.pages + 1))
    assert states(copy.parent) == before


def test_a_commit_meanwhile_ends_the_case_of_a_rollback_journal(database: Path, runtime: Runtime) -> None:
    """What was concluded until then is worthless, whether anything was read after it or not."""
    for look in (True, False):
        with (
            pytest.raises(DatabaseUnsettled, match="was written to"),
            open_case(str(database), runtime, no_report(database), request=request(database)) as case,
            closing(sqlite3.connect(database)) as connection,
        ):
            connection.execute("DELETE FROM customers WHERE id = (SELECT max(id) FROM customers)")
            connection.commit()
            if look:
                case.image.page(2)


def test_what_sqlite_refuses_is_shown_as_a_bare_file(database: Path, runtime: Runtime) -> None:
    """In pages of the size that its header names; without any size there are no pages, and still bytes."""
    data = database.read_bytes()
    database.write_bytes(b"nothing of SQLi" + data[15:])
    with open_case(str(database), runtime, no_report(database), request=request(database)) as case:
        assert "not a SQLite database" in case.refused
        assert case.image.page(2) == data[4096:8192]
        assert case.facts.file_size == len(data)
    database.write_bytes(bytes(100) + data[100:])
    with open_case(str(database), runtime, no_report(database), request=request(database)) as case:
        assert case.file(100, 4) == data[100:104]
        assert (case.trees, case.flaws()) == ((), ())
        with pytest.raises(NotADatabase, match="cannot be read in pages"):
            _ = case.image


def test_flaws_of_a_schema_that_was_not_read_whole_are_no_unused_pages(
    database: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that an unknown tree may use must not be taken for free."""
    monkeypatch.setattr("pagewarden.sqlite.describe.MAX_TREES", 2)
    with open_case(str(database), runtime, no_report(database), request=request(database)) as case:
        assert [flaw for flaw in case.flaws() if flaw.kind is FlawKind.UNUSED] == []


def test_flaws_are_bounded(database: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file has as many as it likes."""
    monkeypatch.setattr("pagewarden.repair.case.MOST_FLAWS", 3)
    data = bytearray(database.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at : at + 1] = b"\7"
    database.write_bytes(data)
    with open_case(str(database), runtime, no_report(database), request=request(database)) as case:
        assert len(case.flaws()) == 3
