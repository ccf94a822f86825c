from __future__ import annotations

import os
import resource
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.check.scratch import PREFIX
from pagewarden.contracts import Subject
from pagewarden.errors import OutOfSpace
from pagewarden.processes.reader import PageReader
from pagewarden.values import Finding, Verdict
from tests.core.check.checkers import Plugins


def place(connection: sqlite3.Connection) -> Path:
    """Return the file that a connection has open."""
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_copy_may_be_written_to_and_is_gone_afterwards(plugins: Plugins, database: Path, mode: str) -> None:
    """One for the whole run; neither the database nor what other checkers read changes with it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    before, seen = database.read_bytes(), []

    def writes(subject: Subject) -> list[Finding]:
        copy, again, reading = subject.connect(copy=True), subject.connect(copy=True), subject.connect()
        assert place(copy) == place(again) != place(reading)
        copy.execute("DELETE FROM customers")
        seen.append(place(copy))
        assert again.execute("SELECT count(*) FROM customers").fetchone() == (0,)
        assert reading.execute("SELECT count(*) FROM customers").fetchone() == (300,)
        assert subject.image.page(1)[:16] == b"SQLite format 3\0"
        return []

    report = run_check(CheckRequest(database=str(database)), plugins.runtime(writes))
    assert (report.verdict, report.checkers[0].why) == (Verdict.SOUND, "")
    assert database.read_bytes() == before
    assert not seen[0].parent.exists()


def test_an_empty_database_can_be_copied(plugins: Plugins, tmp_path: Path) -> None:
    """It has no pages."""
    (tmp_path / "empty.db").write_bytes(b"")

    def writes(subject: Subject) -> list[Finding]:
        subject.connect(copy=True).execute("CREATE TABLE t(a)")
        return []

    report = run_check(CheckRequest(database=str(tmp_path / "empty.db")), plugins.runtime(writes))
    assert (report.verdict, report.checkers[0].why) == (Verdict.SOUND, "")


def test_assertions_and_resume_are_given_to_a_checker(plugins: Plugins, database: Path) -> None:
    """As the request has them; a first run begins anew."""
    seen: list[object] = []

    def looks(subject: Subject) -> list[Finding]:
        seen.extend((subject.assertions, subject.resume))
        subject.reached("half-way")
        return []

    request = CheckRequest(database=str(database), assertions=("SELECT 1",))
    assert run_check(request, plugins.runtime(looks)).verdict is Verdict.SOUND
    assert seen == [("SELECT 1",), ""]


@contextmanager
def full(reader: PageReader) -> Iterator[None]:
    """Let the reader's files end at 50,000 bytes, as a full disk would."""
    reader.ping()
    assert reader.pid is not None
    limits = resource.prlimit(reader.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(reader.pid, resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(reader.pid, resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_no_space_for_a_copy_is_said_to_each_who_asks(
    plugins: Plugins, database: Path, reader: PageReader, temporary: Path
) -> None:
    """With how many bytes are needed, and where; the space that was taken is free again; what needs none is sound."""
    left: list[str] = []

    def reads(subject: Subject) -> list[Finding]:
        try:
            subject.connect()
        finally:
            left.extend(path.name for room in temporary.glob(f"{PREFIX}*") for path in room.iterdir())
        return []

    def writes(subject: Subject) -> list[Finding]:
        subject.connect(copy=True)
        return []

    def looks(subject: Subject) -> list[Finding]:
        assert subject.image.page(1)
        return []

    with full(reader):
        report = run_check(CheckRequest(database=str(database)), plugins.runtime(reads, writes, reads, looks))
    needed = database.stat().st_size // 4096 * (4096 + 8)
    assert [result.verdict for result in report.checkers] == [Verdict.UNKNOWN] * 3 + [Verdict.SOUND]
    for result in report.checkers[:3]:
        assert result.why.startswith(f"there is no space for a private copy of {database}: cannot write {temporary}/")
        assert result.why.endswith(
            f"(hint: free {needed} bytes in {temporary}, or set TMPDIR to a folder that has them)"
        )
    assert left == []
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_no_space_for_a_copy_that_may_be_written_to_leaves_the_other_connections(
    plugins: Plugins, database: Path, reader: PageReader, mode: str, temporary: Path
) -> None:
    """They read the live database, or the copy that there was space for; the refused one holds no space."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")

    def writes(subject: Subject) -> list[Finding]:
        subject.connect()
        with full(reader):
            for _ in range(2):
                with pytest.raises(OutOfSpace):
                    subject.connect(copy=True)
        assert reader.pid is not None
        held = [os.readlink(f"/proc/{reader.pid}/fd/{each}") for each in os.listdir(f"/proc/{reader.pid}/fd")]
        assert [path for path in held if "writable" in path] == []
        assert subject.connect().execute("SELECT count(*) FROM customers").fetchone() == (300,)
        return []

    report = run_check(CheckRequest(database=str(database)), plugins.runtime(writes))
    assert (report.verdict, report.checkers[0].why) == (Verdict.SOUND, "")
    assert os.listdir(temporary) == []


def test_a_folder_for_temporary_files_that_is_gone_is_said(plugins: Plugins, database: Path, temporary: Path) -> None:
    """In a sentence, as the system puts it."""
    temporary.rmdir()

    def reads(subject: Subject) -> list[Finding]:
        subject.connect()
        return []

    (result,) = run_check(CheckRequest(database=str(database)), plugins.runtime(reads)).checkers
    assert result.verdict is Verdict.UNKNOWN
    assert result.why.startswith("cannot make a folder for it: no such file or directory")
