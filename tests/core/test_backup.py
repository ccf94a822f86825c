"""Backups: judged, copied, read back, committed; whatever fails leaves the repository as it was."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import (
    ConfigurationInvalid,
    DatabaseBusy,
    DatabaseNotFound,
    DatabaseUnreadable,
    NotADatabase,
    PagewardenError,
    ReaderCrashed,
    RepositoryDamaged,
    VerificationFailed,
)
from pagewarden.events import Event
from pagewarden.lineage import after_restore
from pagewarden.pages import backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository import PageSetInfo
from pagewarden.runtime import Runtime
from pagewarden.testing.injuries import INJURIES
from pagewarden.values import BackupReport, Verdict
from tests.support.databases import build, file_sums
from tests.support.session import Session


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader and a state directory of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


def backup(path: Path, runtime: Runtime, **named: object) -> BackupReport:
    """Back a database up to the repository beside it."""
    url = str(path.parent / "repository")
    return run_backup(BackupRequest(database=str(path), repository=url, **named), runtime)  # type: ignore[arg-type]


def stored(path: Path) -> list[str]:
    """Return every file of the repository beside a database."""
    folder = path.parent / "repository"
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_the_report_and_the_manifest_tell_the_same_true_story(tmp_path: Path, runtime: Runtime) -> None:
    """Pages, sums, position, verdict and facts of a sound database, judged at the default level."""
    path = build(tmp_path / "app.db", rows=100)
    report = backup(path, runtime)
    size = path.stat().st_size
    assert (report.kind, report.verified, report.name) == ("snapshot", True, "app.db")
    assert (report.pages_copied, report.bytes_read) == (size // 4096, size)
    assert report.database_sum == f"{backend().fold(file_sums(path, 4096)):016x}"
    assert (report.source.verdict, report.source.level, report.source.findings) == (Verdict.UNKNOWN, "quick", 0)
    assert report.exit_code == 0
    assert report.position.time.tzinfo is UTC
    repository = runtime.repository(report.repository)
    point = repository.resolve()
    assert (point.position, point.bytes_stored, point.source) == (report.position, report.bytes_stored, report.source)
    assert repository.object_path(point.key).stat().st_size == report.bytes_stored
    facts = repository.chain(point).point.facts
    with closing(sqlite3.connect(path)) as connection:
        (cookie,) = connection.execute("PRAGMA schema_version").fetchone()
    assert (facts.path, facts.host) == (str(path), socket.gethostname())
    assert (facts.schema_cookie, facts.journal_mode, facts.wal_frames) == (cookie, "delete", 0)
    assert facts.change_counter == int.from_bytes(path.read_bytes()[24:28], "big")
    assert facts.sqlite_version == sqlite3.sqlite_version
    assert repository.chain(point).point.created_by.startswith("pagewarden ")


def test_a_wal_database_is_backed_up_with_what_is_only_in_its_log(tmp_path: Path, runtime: Runtime) -> None:
    """The newest commit, its salts and its frame; a second backup continues the timeline."""
    path = build(tmp_path / "app.db", mode="wal", rows=20)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'in the log'")
        first = backup(path, runtime, check="none", name="production")
        session.run("UPDATE item SET name = 'later'")
        second = backup(path, runtime, check="none", name="production")
    assert first.database_sum != second.database_sum
    assert (second.position.timeline, second.position.txid) == (first.position.timeline, 2)
    repository = runtime.repository(first.repository)
    assert repository.names() == ("production",)
    facts = repository.resolve_chain("production", txid=1).point.facts
    assert (facts.journal_mode, len(facts.wal_salts)) == ("wal", 16)
    assert facts.wal_frames > 0


@pytest.mark.parametrize("level", ["none", "quick", "standard", "deep"])
def test_the_source_is_judged_as_asked(tmp_path: Path, runtime: Runtime, level: str) -> None:
    """At each level; a quick look without page sums to compare with claims nothing (H18)."""
    path = build(tmp_path / "app.db", rows=20)
    source = backup(path, runtime, check=level).source
    assert source.level == level
    assert source.verdict is (Verdict.UNKNOWN if level in ("none", "quick") else Verdict.SOUND)
    assert source.why or source.verdict is Verdict.SOUND or level == "none"


def test_a_damaged_source_is_backed_up_and_marked(tmp_path: Path, runtime: Runtime) -> None:
    """Its copy is evidence; manifest, report and exit code say that it is damaged (H18)."""
    path = build(tmp_path / "app.db", rows=100)
    INJURIES["zeroed-page"].apply(path, 1)
    report = backup(path, runtime, check="standard")
    assert report.source.verdict is Verdict.DAMAGED
    assert report.source.findings > 0
    assert report.source.why
    assert report.exit_code == 1
    assert runtime.repository(report.repository).resolve().source == report.source
    assert report.database_sum == f"{backend().fold(file_sums(path, 4096)):016x}"


def test_a_file_that_was_cut_off_is_damaged_whoever_judges(tmp_path: Path, runtime: Runtime) -> None:
    """What only the reading of the file shows counts even where no check was asked for."""
    path = build(tmp_path / "app.db", rows=100)
    os.truncate(path, path.stat().st_size - 4096)
    report = backup(path, runtime, check="none")
    assert (report.source.verdict, report.source.level) == (Verdict.DAMAGED, "none")
    assert "lacks 4,096 bytes" in report.source.why


def test_a_source_that_cannot_be_judged_is_unknown_and_backed_up(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it could not be judged stands in the manifest."""

    def unjudged(*_: object) -> object:
        raise ReaderCrashed("the page reader died")

    monkeypatch.setattr("pagewarden.check.run_check", unjudged)
    report = backup(build(tmp_path / "app.db", rows=5), runtime)
    assert (report.source.verdict, report.source.why) == (Verdict.UNKNOWN, "the page reader died")
    assert report.exit_code == 0


def test_bytes_behind_the_last_page_are_told(tmp_path: Path, runtime: Runtime) -> None:
    """They are no part of the database, and so of no backup."""
    path = build(tmp_path / "app.db", rows=5)
    pages = path.stat().st_size // 4096
    with path.open("ab") as file:
        file.write(b"behind" * 100)
    report = backup(path, runtime, check="none")
    assert report.pages_copied == pages
    assert any("600 bytes behind" in warning for warning in report.warnings)


def test_files_that_opening_made_are_told(tmp_path: Path, runtime: Runtime) -> None:
    """SQLite leaves an empty -wal and a -shm beside a WAL database that nobody had open (H33)."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)
    report = backup(path, runtime, check="none")
    assert any("app.db-shm" in warning for warning in report.warnings) is Path(f"{path}-shm").exists()


def test_what_is_no_database_leaves_no_trace(tmp_path: Path, runtime: Runtime) -> None:
    """A missing file, a directory, a hard link, a text: named errors, and no object, manifest or intent."""
    database = build(tmp_path / "app.db", rows=5)
    backup(database, runtime, check="none")
    before = stored(database)
    (tmp_path / "text.db").write_text("no database at all " * 500)
    (tmp_path / "folder.db").mkdir()
    os.link(build(tmp_path / "linked.db", rows=5), tmp_path / "other.db")
    cases: dict[str, type[PagewardenError]] = {
        "none.db": DatabaseNotFound,
        "folder.db": DatabaseUnreadable,
        "linked.db": DatabaseUnreadable,
        "text.db": NotADatabase,
    }
    for name, error in cases.items():
        with pytest.raises(error):
            backup(tmp_path / name, runtime)
    assert stored(database) == before


def test_a_source_of_which_only_the_first_bytes_are_left_is_damaged(tmp_path: Path, runtime: Runtime) -> None:
    """As `check` says: there is nothing to back up, but it was a database; no trace is left in the repository."""
    path = build(tmp_path / "app.db", rows=5)
    backup(path, runtime, check="none")
    before = stored(path)
    path.write_bytes(b"SQLite format 3\0")
    with pytest.raises(DatabaseUnreadable, match="was a database, and is so damaged") as caught:
        backup(path, runtime)
    assert caught.value.hint == f"pagewarden check {path}"
    assert stored(path) == before


def test_where_sqlite_can_make_no_index_nothing_is_backed_up_unless_nobody_can_write(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a read-only folder it is unreadable, with a way out; on a read-only file system the file alone is all."""
    path = build(tmp_path / "app.db", mode="wal", rows=20)
    os.symlink("nowhere", f"{path}-shm")  # so that none can be made
    with pytest.raises(DatabaseUnreadable, match="needs a -shm file") as caught:
        backup(path, runtime)
    assert f"name the copy: cp {path}" in caught.value.hint
    monkeypatch.setattr("pagewarden.live.connection.frozen", lambda _path: True)
    monkeypatch.setattr("pagewarden.live.place.frozen", lambda _path: True)
    report = backup(path, runtime, check="standard")
    assert report.source.verdict is Verdict.SOUND
    assert report.database_sum == f"{backend().fold(file_sums(path, 4096)):016x}"


def test_why_a_source_could_not_be_judged_is_said_once(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not again for every checker that was not run."""
    path = build(tmp_path / "app.db", rows=5)

    def locked(*_: object, **__: object) -> object:
        raise DatabaseBusy("it is locked")

    monkeypatch.setattr("pagewarden.check.run.open_source", locked)
    assert backup(path, runtime, check="standard").source.why.count("it is locked") == 1


def test_wrong_wishes_are_named(tmp_path: Path, runtime: Runtime) -> None:
    """A level of compression or of judgement that there is not; nothing is made."""
    path = build(tmp_path / "app.db", rows=5)
    for wish in ({"compression": 0}, {"compression": 23}, {"check": "thorough"}):
        with pytest.raises(ConfigurationInvalid):
            backup(path, runtime, **wish)
    assert not (tmp_path / "repository").exists()


class DiskReader(PageReader):
    """A page reader on a disk that changes what was written before it is read back."""

    def verify_pageset(self, path: str | os.PathLike[str], **named: object) -> PageSetInfo:
        """Flip a bit, then verify."""
        data = bytearray(Path(path).read_bytes())
        data[len(data) // 2] ^= 16
        Path(path).write_bytes(data)
        return super().verify_pageset(path, **named)  # type: ignore[arg-type]


class SwappingReader(PageReader):
    """A page reader whose disk gives back another whole page set than was written."""

    def __init__(self, other: Path) -> None:
        super().__init__()
        self.other = other

    def verify_pageset(self, path: str | os.PathLike[str], **named: object) -> PageSetInfo:
        """Put the other one in its place, then verify."""
        Path(path).write_bytes(self.other.read_bytes())
        return super().verify_pageset(path, **named)  # type: ignore[arg-type]


class DyingReader(PageReader):
    """A page reader that dies when it is to read back."""

    def verify_pageset(self, path: str | os.PathLike[str], **named: object) -> PageSetInfo:
        """Die."""
        self.kill()
        raise ReaderCrashed("the page reader died")


def test_a_backup_that_does_not_read_back_does_not_count(tmp_path: Path, runtime: Runtime) -> None:
    """A flipped bit, another file, a dead reader: a named error, and the repository is as it was."""
    path = build(tmp_path / "app.db", rows=60)
    good = backup(path, runtime, check="none")
    repository = runtime.repository(good.repository)
    before, point = stored(path), repository.resolve()
    readers = {
        DiskReader(): VerificationFailed,
        SwappingReader(repository.object_path(point.key)): VerificationFailed,
        DyingReader(): ReaderCrashed,
    }
    for reader, error in readers.items():
        with Runtime(state=tmp_path / "state") as broken:
            broken._reader = reader
            with pytest.raises(error):
                backup(path, broken, check="none", full=True)
        assert stored(path) == before
    assert repository.restore_points() == ((point,), ())


def test_the_error_stays_the_first_one_when_cleaning_up_fails_too(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be removed is a note on it, and the next backup's to remove."""
    from pagewarden.repository.repository import Repository

    path = build(tmp_path / "app.db", rows=5)

    def refuse(*_: object) -> None:
        raise RepositoryDamaged("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "abandon", refuse)
        with Runtime(state=tmp_path / "state") as broken:
            broken._reader = DyingReader()
            with pytest.raises(ReaderCrashed) as raised:
                backup(path, broken, check="none")
    assert any("the next backup will" in note for note in raised.value.__notes__)


def test_a_state_directory_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """The backup is done and committed."""
    (tmp_path / "state").touch()
    with Runtime(state=tmp_path / "state") as runtime:
        report = backup(build(tmp_path / "app.db", rows=5), runtime, check="none")
        assert any("could not be remembered" in warning for warning in report.warnings)
        assert runtime.repository(report.repository).resolve().position == report.position


def test_a_backup_that_is_cut_off_after_its_commit_stays(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while its position is remembered: it is a restore point, which others may have built on already."""
    path = build(tmp_path / "app.db", rows=5)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pagewarden.lineage.after_backup", interrupted)
        with pytest.raises(KeyboardInterrupt):
            backup(path, runtime, check="none")
    again = backup(path, runtime, check="none")
    assert (again.kind, again.position.txid) == ("unchanged", 1)


def test_a_backup_that_was_cut_off_after_its_commit_is_continued(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its position was noted before, and the next one continues it, whatever fails in between; not after a restore."""
    path = build(tmp_path / "app.db", rows=60)
    backup(path, runtime, check="none")

    def write(number: int) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE item SET name = ? WHERE id = 1", (f"number {number}",))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def cut_off(what: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(what, interrupted)
            with pytest.raises(KeyboardInterrupt):
                backup(path, runtime, check="none")

    write(1)
    cut_off("pagewarden.lineage.after_backup")
    write(2)
    cut_off("pagewarden.repository.store.Store.adopt")  # this one was not committed
    report = backup(path, runtime, check="none")
    assert (report.kind, report.position.txid, report.why_full) == ("segment", 3, "")
    write(3)
    cut_off("pagewarden.lineage.after_backup")
    after_restore(runtime.state, str(path), report.position)
    write(4)
    assert backup(path, runtime, check="none").position.txid == 1  # of a new timeline


def test_observers_and_progress_are_told(tmp_path: Path) -> None:
    """A backup tells that it begins, how far it is, and what came of it."""
    seen: list[Event] = []
    steps: list[tuple[str, int, int]] = []
    with Runtime(
        state=tmp_path / "state", on_event=seen.append, on_progress=lambda *step: steps.append(step)
    ) as runtime:
        report = backup(build(tmp_path / "app.db", rows=60), runtime, check="none")
    assert [event.name for event in seen] == ["backup.started", "backup.finished"]
    assert seen[1].fields["position"] == str(report.position)
    for step in ("copying pages", "reading back"):
        assert (step, report.pages_copied, report.pages_copied) in steps
