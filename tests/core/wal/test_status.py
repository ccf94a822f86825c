"""`wal status` tells how a log stands, changes nothing, and leaves nothing behind (H1, H33, H37)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.config import WalSettings
from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled
from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.holders import Lock
from pagewarden.live import examine
from pagewarden.runtime import Runtime
from pagewarden.versions import LinkedSQLite
from pagewarden.wal import status
from pagewarden.wal.readers import describe, find_readers, lowest_mark, name_locks, process_age
from pagewarden.wal.reports import WalStatusReport
from pagewarden.wal.status import WalStatusRequest, known_bugs, run_wal_status
from tests.core.wal.conftest import commit, wal_of
from tests.support.databases import build
from tests.support.holding import holding


def look(database: Path, runtime: Runtime, **settings: object) -> WalStatusReport:
    """Run it."""
    chosen = WalSettings(**settings)  # type: ignore[arg-type]
    return run_wal_status(WalStatusRequest(database=str(database), settings=chosen), runtime)


def files(database: Path) -> dict[str, bytes]:
    """Return the bytes of the database and of all that stands beside it."""
    return {path.name: path.read_bytes() for path in database.parent.glob(f"{database.name}*")}


def test_a_log_in_use_is_told_frame_by_frame(database: Path, writer: sqlite3.Connection, runtime: Runtime) -> None:
    """Frames, those that were copied, salts and sizes are SQLite's own."""
    commit(writer, 3)
    with holding(database):
        report = look(database, runtime)
    log = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert (report.frames, report.backfilled) == (log[1], 0)
    assert len(report.read_marks) == 5
    assert (report.journal_mode, report.live, report.page_size) == ("wal", True, 4096)
    assert report.salts == wal_of(database).read_bytes()[16:24].hex()
    assert report.log_bytes == report.wal_bytes == wal_of(database).stat().st_size
    assert report.exit_code == 0
    assert look(database, runtime).backfilled == log[2]


def test_who_reads_since_when_and_who_holds_which_lock(
    database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """A reader at an older frame is named with how far it is behind; so is who has the write lock."""
    with holding(database) as reading, holding(database) as writing:
        reading.do("pin")
        commit(writer, 4)
        writing.do("lock")
        report = look(database, runtime)
    first = report.readers[0]
    assert first.pid == reading.pid
    assert first.mark is not None
    assert report.frames is not None
    assert first.behind == report.frames - first.mark > 0
    assert first.at_most_seconds is not None
    assert 0.0 <= first.at_most_seconds < 600.0
    assert str(reading.pid) in describe(first)
    held = {(lock.pid, lock.lock, lock.exclusive) for lock in report.locks}
    assert (writing.pid, "WRITE", True) in held
    assert (reading.pid, f"READ {first.slot}", False) in held
    assert {(reading.pid, "open", False), (reading.pid, "SHARED", False)} <= held
    assert report.advice.held_back
    assert any(str(writing.pid) in holder for holder in report.holders)


def test_a_log_over_its_bound_is_reported_with_who_holds_it_back(
    database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """Exit code 1, and the command that shows the process (H24)."""
    with holding(database) as reading:
        reading.do("pin")
        commit(writer, 4)
        first = look(database, runtime, bound_bytes=1000)
        assert (first.over_bound, first.exit_code, first.advice.action) == (True, 1, "passive")
        writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        report = look(database, runtime, bound_bytes=1000)
        assert (report.advice.action, report.advice.held_back) == ("none", True)
        assert report.advice.command == f"ps -fp {reading.pid}"
        reading.do("end")
    assert look(database, runtime, bound_bytes=1000).advice.command == (
        f"pagewarden wal checkpoint {database} --mode restart"
    )


def test_nothing_is_changed_and_nothing_is_left(database: Path, runtime: Runtime) -> None:
    """A database that nobody has open is opened by nobody: no -wal and no -shm appear (H33)."""
    before = files(database)
    assert set(before) == {"app.db"}
    report = look(database, runtime)
    assert (report.live, report.frames, report.backfilled, report.wal_bytes) == (False, 0, 0, 0)
    assert files(database) == before


def test_a_log_that_somebody_left_is_read_from_its_frames(
    database: Path, writer: sqlite3.Connection, runtime: Runtime, tmp_path: Path
) -> None:
    """Without a -shm the log says itself what SQLite would recover; nothing is made to find out."""
    commit(writer, 2)
    copied = tmp_path / "copied.db"
    shutil.copyfile(database, copied)
    shutil.copyfile(wal_of(database), wal_of(copied))
    before = files(copied)
    report = look(copied, runtime)
    live = look(database, runtime)
    assert (report.live, report.frames, report.backfilled) == (False, live.frames, None)
    assert files(copied) == before
    damaged = bytearray(wal_of(copied).read_bytes())
    damaged[40] ^= 1
    wal_of(copied).write_bytes(damaged)
    torn = look(copied, runtime)
    assert torn.frames == 0
    assert any("leave a part of the log out" in warning for warning in torn.warnings)


def test_an_exclusive_connection_hides_the_log_and_is_named(database: Path, runtime: Runtime) -> None:
    """locking_mode=EXCLUSIVE has no -shm (H35): what can be told is, with who it is."""
    with holding(database) as other:
        other.do("exclusive")
        report = look(database, runtime)
    assert (report.journal_mode, report.live) == ("wal", False)
    assert any(str(other.pid) in holder for holder in report.holders)


@pytest.mark.parametrize(("content", "mode"), [(b"", "empty"), (None, "rollback")])
def test_other_modes_have_no_log(content: bytes | None, mode: str, tmp_path: Path, runtime: Runtime) -> None:
    """Which of the rollback-journal modes it is belongs to each connection and is not in the file."""
    database = tmp_path / "other.db"
    if content is None:
        build(database, rows=5)
    else:
        database.write_bytes(content)
    report = look(database, runtime)
    assert (report.journal_mode, report.frames, report.readers, report.exit_code) == (mode, 0, (), 0)
    assert "not in WAL mode" in report.advice.why


def test_a_log_beside_a_database_of_another_mode_is_a_warning(tmp_path: Path, runtime: Runtime) -> None:
    """SQLite would lay it over the file, whosever it is."""
    database = build(tmp_path / "other.db", rows=5)
    wal_of(database).write_bytes(b"x" * 100)
    assert any("not in WAL mode" in warning for warning in look(database, runtime).warnings)


def test_a_hard_link_is_refused(database: Path, runtime: Runtime) -> None:
    """SQLite would look for the log beside each name (H4)."""
    os.link(database, database.with_name("second.db"))
    with pytest.raises(DatabaseUnreadable, match="2 names"):
        look(database, runtime)


def test_what_cannot_be_looked_at_is_said(
    database: Path, writer: sqlite3.Connection, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is refused, a log that is gone, or cannot be read: the rest is told all the same."""
    commit(writer)
    failing = DatabaseUnsettled("it moved", hint="again")

    def refuse(*_arguments: object, **_more: object) -> None:
        raise failing

    with monkeypatch.context() as patch:
        patch.setattr(status, "Pin", refuse)
        alone = look(database, runtime)
        assert (alone.live, alone.frames is None, alone.backfilled) == (False, False, None)
        assert any("it moved" in warning for warning in alone.warnings)
        patch.setattr(runtime.reader, "wal_survey", refuse)
        unknown = look(database, runtime)
        assert (unknown.frames, unknown.exit_code) == (None, 3)
        patch.setattr(runtime.reader, "wal_survey", lambda _path: None)
        assert look(database, runtime).wal_bytes == 0


def test_a_network_file_system_and_hidden_locks_are_warnings(
    database: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks cannot be trusted, or cannot be seen (H4)."""
    place = replace(examine(database), file_system="nfs4")
    monkeypatch.setattr(status, "examine", lambda _path: place)
    monkeypatch.setattr(os, "access", lambda *_arguments, **_more: False)
    warnings = "; ".join(look(database, runtime).warnings)
    assert "nfs4" in warnings
    assert "does not show locks" in warnings


def test_the_guard_is_found_by_its_socket(database: Path, runtime: Runtime) -> None:
    """One that answers, one that answers nonsense, and none."""
    assert look(database, runtime).guard is None
    path = guard_places(runtime.state, str(database), "").socket
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        commit(writer)
        with closing(Control(path, lambda _request, _gone: {"status": {"pid": 77}})):
            advice = look(database, runtime, bound_bytes=1).advice
            assert (advice.action, advice.command, "the guard sees to it" in advice.why) == ("restart", "", True)
    for reply, pid in (({"status": {"pid": 77}}, 77), ({"status": 1}, 0), ({"error": {"slug": "guard-failed"}}, 0)):
        with closing(Control(path, lambda _request, _gone, reply=reply: reply)):  # type: ignore[misc]
            assert look(database, runtime).guard == pid


def test_bugs_that_only_wal_mode_meets_are_those_of_the_release() -> None:
    """The WAL-reset bug up to 3.51.2, but for the backports; none in 3.51.3."""
    linked = LinkedSQLite(release=(3, 40, 1), source_id="")
    assert [bug.name for bug in known_bugs(linked)] == ["wal-reset"]
    assert known_bugs(replace(linked, release=(3, 51, 3))) == known_bugs(replace(linked, release=(3, 44, 6))) == ()


def test_a_reader_of_the_file_alone_keeps_everything_from_being_copied() -> None:
    """Read lock 0: no mark counts then; with nothing to copy it holds nothing back."""
    lock = Lock(pid=0, file="app.db-shm", write=False, first=123, last=123)
    (reader,) = find_readers([lock], (0, 5, None, None, None), 9, ours=lambda _pid: False, age=lambda _pid: None)
    assert (reader.slot, reader.mark, reader.behind, reader.at_most_seconds) == (0, None, 9, None)
    assert "the database file alone" in describe(reader)
    assert lowest_mark([reader], 9, 4) == 0
    assert lowest_mark([reader], 9, 9) is None
    assert lowest_mark([], 9, 4) is None
    unseen = replace(reader, slot=2)
    assert describe(unseen).endswith("reads the log")
    assert lowest_mark([unseen], 9, 4) == 0  # what is not known may be anything


def test_locks_bear_the_names_that_sqlite_gives_them() -> None:
    """Those of os.h on the database, those of wal.c on the -shm; a lock over several bytes has several."""
    first = 0x40000000
    locks = [
        Lock(pid=1, file="a.db", write=True, first=first, last=first),
        Lock(pid=1, file="a.db", write=True, first=first + 1, last=first + 1),
        Lock(pid=1, file="a.db", write=False, first=first + 2, last=first + 511),
        Lock(pid=1, file="a.db-shm", write=True, first=120, last=121),
        Lock(pid=2, file="a.db", write=True, first=first + 2, last=None),
        Lock(pid=2, file="a.db-wal", write=True, first=0, last=None),
        Lock(pid=os.getpid(), file="a.db", write=False, first=first + 2, last=first + 511),
    ]
    assert [(lock.pid, lock.lock) for lock in name_locks(locks)] == [
        (1, "PENDING"),
        (1, "RESERVED"),
        (1, "SHARED"),
        (1, "WRITE"),
        (1, "CKPT"),
        (2, "EXCLUSIVE"),
    ]


def test_how_long_a_process_runs_is_known_while_it_does() -> None:
    """And nothing of one that is gone."""
    age = process_age(os.getpid())
    assert age is not None
    assert 0.0 <= age < 86_400.0
    assert process_age(1 << 30) is None
