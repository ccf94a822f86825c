"""A look at a live -wal from outside: what the wal-index says of it, and what is not believed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnsettled, ReaderCrashed
from pagewarden.pages.survey import survey_wal
from pagewarden.processes import survey as module
from pagewarden.processes.reader import PageReader
from pagewarden.processes.survey import survey
from tests.support.databases import build
from tests.support.session import Session

FRAME = 24 + 4096


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database in WAL mode."""
    return build(tmp_path / "app.db", mode="wal", rows=30)


@pytest.fixture
def writer(database: Path) -> Iterator[Session]:
    """Another process that writes to it; this one has no connection (H1)."""
    with Session(database) as session:
        session.run("PRAGMA wal_autocheckpoint=0")
        yield session


def test_without_a_log_there_is_no_survey(database: Path) -> None:
    """None, and none for an empty one; a database that is not there is an error."""
    assert survey(str(database), live=False) is None
    Path(f"{database}-wal").touch()
    assert survey(str(database), live=True) is None
    other = database.with_name("none.db")
    Path(f"{other}-wal").write_bytes(b"something")
    with pytest.raises(DatabaseNotFound):
        survey(str(other), live=False)


def test_a_live_log_is_told_with_its_index(database: Path, writer: Session) -> None:
    """Commits, size, backfill and read-marks are those that SQLite says; from a path alone no index is believed."""
    writer.run("UPDATE item SET name = 'x' WHERE id = 1")
    writer.run("CREATE TABLE further(a)")
    with Session(database) as reader:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM item")
        writer.run("UPDATE item SET name = 'y' WHERE id < 9")
        _busy, frames, done = writer.run("PRAGMA wal_checkpoint(PASSIVE)")[0]
        seen = survey(str(database), live=True)
        assert seen is not None
        assert (seen.live, seen.index_frames, seen.backfilled) == (True, frames, done)
        assert (seen.frames, seen.valid, seen.committed, seen.commits) == (frames, frames, frames, 3)
        assert seen.committed_pages == writer.run("PRAGMA page_count")[0][0]
        assert 0 < done < frames and done in seen.read_marks and None in seen.read_marks
        assert seen.size == 32 + frames * FRAME
        assert seen.page_one[24:28] > seen.file_header[24:28] or done
    dead = survey(str(database), live=False)
    assert dead is not None
    assert (dead.live, dead.index_frames, dead.read_marks) == (False, 0, ())
    assert (dead.valid, dead.salts, dead.page_one) == (seen.valid, seen.salts, seen.page_one)


def test_the_reader_answers_by_handle_and_by_path(database: Path, writer: Session, reader: PageReader) -> None:
    """The same survey, with the wal-index where the database is pinned; None travels, too."""
    assert reader.wal_survey(str(database)) is None
    writer.run("UPDATE item SET name = 'x' WHERE id = 1")
    attachment = reader.attach(str(database))
    assert reader.wal_survey(attachment.handle) == survey(str(database), live=True)
    assert reader.wal_survey(str(database)) == survey(str(database), live=False)
    reader.release(attachment.handle)
    with pytest.raises(ReaderCrashed, match="started again since"):
        reader.wal_survey(attachment.handle)


def test_pages_of_another_kind_are_counted_where_no_frame_holds_page_one(database: Path, writer: Session) -> None:
    """Every page that both have is compared; one whose first byte changed counts."""
    writer.run("UPDATE item SET name = upper(name)")
    seen = survey(str(database), live=False)
    assert seen is not None and not seen.page_one
    assert (seen.kinds_compared > 3, seen.kinds_differ) == (True, 0)
    with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'item_name'").fetchone()
    with database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x0d")
    seen = survey(str(database), live=False)
    assert seen is not None and seen.kinds_differ == 1


def test_what_neither_has_and_what_the_log_has_alone_is_counted(database: Path, writer: Session) -> None:
    """Pages of the commit beyond the file's end; and whether the file matters at all."""
    writer.run("UPDATE item SET name = 'x' WHERE id = 1")
    whole = database.read_bytes()
    os.truncate(database, len(whole) - 5 * 4096)
    seen = survey(str(database), live=False)
    assert seen is not None and (seen.missing, seen.whole) == (5, False)
    database.write_bytes(whole)
    writer.run("VACUUM")
    os.truncate(database, 4096)
    seen = survey(str(database), live=False)
    assert seen is not None and (seen.missing, seen.whole) == (0, True)


def test_a_log_that_begins_anew_all_the_time_is_unsettled(
    database: Path, writer: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is seen must be of one generation; a restart in between is seen, and everything is looked at again."""
    writer.run("UPDATE item SET name = 'x' WHERE id = 1")
    looked: list[int] = []

    def restarted(wal: int, *, page_size: int) -> object:
        looked.append(wal)
        seen = survey_wal(wal, page_size=page_size)
        if len(looked) < restarts:
            writer.run("PRAGMA wal_checkpoint(RESTART)")
            writer.run("UPDATE item SET name = name || 'x' WHERE id = 1")
        return seen

    monkeypatch.setattr(module, "survey_wal", restarted)
    for live in (True, False):
        looked.clear()
        restarts = 3
        seen = survey(str(database), live=live, sleep=lambda _: None)
        assert seen is not None and (len(looked), seen.commits, seen.live) == (3, 1, live)
    restarts = 1000
    with pytest.raises(DatabaseUnsettled, match="new generations"):
        survey(str(database), live=True, sleep=lambda _: None)
