"""`wal enable` switches where it is safe and reads back that it did; where it is not, each reason is told (H4, H35)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.errors import (
    DatabaseBusy,
    DatabaseUnreadable,
    DatabaseUnsettled,
    NotADatabase,
    PagewardenError,
    VerificationFailed,
    WalRefused,
)
from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.holders import Holders
from pagewarden.live import examine, open_readonly
from pagewarden.runtime import Runtime
from pagewarden.versions import LinkedSQLite
from pagewarden.wal import enable
from pagewarden.wal.enable import WalEnableRequest, reasons_against, run_wal_enable
from pagewarden.wal.reports import WalEnableReport
from tests.core.wal.conftest import commit, wal_of
from tests.support.databases import build
from tests.support.holding import holding

AFFECTED = LinkedSQLite(release=(3, 40, 1), source_id="abcalt1")
SOUND = LinkedSQLite(release=(3, 51, 3), source_id="abc")


@pytest.fixture
def rollback(tmp_path: Path) -> Path:
    """A small database in rollback-journal mode."""
    return build(tmp_path / "old.db", rows=20)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite without known bugs, whatever is linked."""
    monkeypatch.setattr(enable, "linked_sqlite", lambda: SOUND)


def switch(database: Path, runtime: Runtime, **options: object) -> WalEnableReport:
    """Run it."""
    return run_wal_enable(WalEnableRequest(database=str(database), **options), runtime)  # type: ignore[arg-type]


def mode(database: Path) -> str:
    """Return the journal mode as SQLite has it."""
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.mark.usefixtures("mended")
def test_it_switches_there_and_back(rollback: Path, runtime: Runtime) -> None:
    """The file says so, the content is the same, and nothing is left beside it."""
    with closing(sqlite3.connect(rollback)) as connection:
        rows = connection.execute("SELECT * FROM item").fetchall()
    report = switch(rollback, runtime)
    assert (report.before, report.after, report.changed, report.forced) == ("rollback", "wal", True, ())
    assert (rollback.read_bytes()[18:20], mode(rollback)) == (b"\2\2", "wal")
    again = switch(rollback, runtime)
    assert (again.before, again.after, again.changed) == ("wal", "wal", False)
    back = switch(rollback, runtime, off=True)
    assert (back.before, back.after, back.changed, back.exit_code) == ("wal", "rollback", True, 0)
    assert (rollback.read_bytes()[18:20], mode(rollback)) == (b"\1\1", "delete")
    assert not switch(rollback, runtime, off=True).changed
    with closing(sqlite3.connect(rollback)) as connection:
        assert connection.execute("SELECT * FROM item").fetchall() == rows
    assert sorted(path.name for path in rollback.parent.glob("old.db*")) == ["old.db"]


@pytest.mark.usefixtures("mended")
def test_an_empty_database_is_switched_too(tmp_path: Path, runtime: Runtime) -> None:
    """The application finds it in WAL mode when it makes its tables."""
    database = tmp_path / "new.db"
    database.touch()
    report = switch(database, runtime)
    assert (report.before, report.after) == ("empty", "wal")
    assert mode(database) == "wal"


def test_a_sqlite_with_the_bug_is_told_of_and_the_safe_way_is_named(
    rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most that are in use have it; it goes without force, now and whenever it is asked again."""
    monkeypatch.setattr(enable, "linked_sqlite", lambda: AFFECTED)
    report = switch(rollback, runtime)
    (warning,) = report.warnings
    for words in (
        "skip committed pages",
        "3.40.1",
        "each application",
        "wal_autocheckpoint=0",
        "pagewarden run",
        "rollback journal",
        "3.51.3",
    ):
        assert words in warning
    assert report.forced == ()
    assert mode(rollback) == "wal"
    again = switch(rollback, runtime)
    assert not again.changed
    assert any("skip committed pages" in warning for warning in again.warnings)


@pytest.mark.parametrize("file_system", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused_whatever_is_forced(
    file_system: str, rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared memory does not reach other machines (H4)."""
    place = replace(examine(rollback), file_system=file_system)
    monkeypatch.setattr(enable, "examine", lambda _path: place)
    before = rollback.read_bytes()
    with pytest.raises(WalRefused, match="network file system") as refused:
        switch(rollback, runtime, force=True)
    assert "--force" not in refused.value.hint
    assert rollback.read_bytes() == before


def test_the_reasons_are_told_apart(rollback: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A medium that is read-only, rights that are missing, and a file system that nobody knows."""
    place = examine(rollback)

    def names(**changes: object) -> list[tuple[str, str]]:
        changed = replace(place, **changes)  # type: ignore[arg-type]
        return [(reason.name, reason.severity) for reason in reasons_against(changed, SOUND)]

    assert names() == []
    assert names(frozen=True) == [("read-only-medium", "refused")]
    assert names(file_system="fuse.rclone") == [("foreign-file-system", "warning")]
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_args, **_more: False)
        assert names() == [("not-writable", "refused")]


def test_a_file_system_that_nobody_knows_wants_force(
    rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is as it was; with force it goes, and the report says past what."""
    place = replace(examine(rollback), file_system="fuse.rclone")
    monkeypatch.setattr(enable, "examine", lambda _path: place)
    before = rollback.read_bytes()
    with pytest.raises(WalRefused, match=r"fuse\.rclone") as refused:
        switch(rollback, runtime)
    assert "--force" in refused.value.hint
    assert rollback.read_bytes() == before
    report = switch(rollback, runtime, force=True)
    assert [reason.name for reason in report.forced] == ["foreign-file-system"]
    assert not any("fuse" in warning for warning in report.warnings)
    assert mode(rollback) == "wal"


def test_hard_links_are_refused(rollback: Path, runtime: Runtime) -> None:
    """SQLite would make a log beside each name (H4)."""
    os.link(rollback, rollback.with_name("second.db"))
    with pytest.raises(DatabaseUnreadable, match="2 names"):
        switch(rollback, runtime, force=True)


def test_what_is_no_database_is_no_database(tmp_path: Path, runtime: Runtime) -> None:
    """Nor does it become one."""
    (tmp_path / "text.db").write_text("a text, and a long one: " * 20)
    with pytest.raises(NotADatabase):
        switch(tmp_path / "text.db", runtime, force=True)


def test_a_log_of_nobody_is_not_laid_over_the_database(rollback: Path, runtime: Runtime) -> None:
    """Opening it for writing would."""
    wal_of(rollback).write_bytes(b"x" * 100)
    with pytest.raises(WalRefused, match="lay over it"):
        switch(rollback, runtime, force=True)


def test_a_hot_journal_is_left_to_the_application(rollback: Path, runtime: Runtime, tmp_path: Path) -> None:
    """To roll it back is not ours (H33)."""
    with closing(sqlite3.connect(rollback, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute("UPDATE item SET body = zeroblob(20000)")
        left = tmp_path / "left.db"
        shutil.copyfile(rollback, left)
        shutil.copyfile(f"{rollback}-journal", f"{left}-journal")
    before = left.read_bytes()
    with pytest.raises(DatabaseUnsettled, match="journal"):
        switch(left, runtime, force=True)
    assert left.read_bytes() == before


@pytest.mark.usefixtures("mended")
def test_who_is_in_the_way_is_named(rollback: Path, runtime: Runtime) -> None:
    """A transaction of another process, and any connection on the way back; with time, a short one is outwaited."""
    with holding(rollback) as other:
        other.do("lock")
        with pytest.raises(DatabaseBusy, match=str(other.pid)) as busy:
            switch(rollback, runtime, max_time=0.05)
        assert str(other.pid) in busy.value.hint
        timer = threading.Timer(0.3, other.do, ["end"])
        timer.start()
        report = switch(rollback, runtime, max_time=20.0)
        timer.join()
        assert any(str(other.pid) in warning for warning in report.warnings)
        other.do("write")
        with pytest.raises(DatabaseBusy, match=str(other.pid)):
            switch(rollback, runtime, off=True, max_time=0.05)
    assert mode(rollback) == "wal"


@pytest.mark.usefixtures("mended")
def test_an_exclusive_connection_is_named(database: Path, runtime: Runtime) -> None:
    """locking_mode=EXCLUSIVE lets nobody in (H35)."""
    with holding(database) as other:
        other.do("exclusive")
        with pytest.raises(DatabaseBusy, match=str(other.pid)):
            switch(database, runtime, off=True, max_time=0.05)


@pytest.mark.usefixtures("mended")
def test_what_sqlite_says_is_read_back_from_the_file(
    rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch that did not reach the file is no success."""
    monkeypatch.setattr(enable, "_switch", lambda *_arguments: None)
    with pytest.raises(VerificationFailed, match="the file says rollback"):
        switch(rollback, runtime)


@pytest.mark.usefixtures("mended")
def test_a_disk_that_refuses_leaves_the_mode(rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of SQLite's that waiting does not help is told at once."""
    monkeypatch.setattr(enable, "open_writable", open_readonly)
    with pytest.raises(PagewardenError):
        switch(rollback, runtime, max_time=60.0)
    assert mode(rollback) == "delete"


@pytest.mark.usefixtures("mended")
def test_who_cannot_be_seen_is_said_so_and_a_guard_is_named(
    rollback: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command fits in either case."""
    monkeypatch.setattr(enable, "find_holders", lambda path: Holders(path=path, holders=(), locks=()))
    with holding(rollback) as other:
        other.do("lock")
        with pytest.raises(DatabaseBusy, match="cannot be seen") as busy:
            switch(rollback, runtime, max_time=0.0)
        assert busy.value.hint.startswith("close all other connections")
        path = guard_places(runtime.state, str(rollback), "").socket
        with (
            closing(Control(path, lambda _request, _gone: {"status": {"pid": 77}})),
            pytest.raises(DatabaseBusy) as guarded,
        ):
            switch(rollback, runtime, max_time=0.0)
        assert guarded.value.hint.endswith("kill 77")


def test_a_damaged_log_is_not_copied_on_the_way_back(
    database: Path, writer: sqlite3.Connection, runtime: Runtime
) -> None:
    """To leave WAL mode is a checkpoint (H14)."""
    commit(writer, 2)
    with wal_of(database).open("r+b") as log:
        log.seek(32 + 24 + 100)
        log.write(b"\xff\xff")
    with pytest.raises(WalRefused, match="damaged"):
        switch(database, runtime, off=True)
