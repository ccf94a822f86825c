"""Taking restores back: the previous file, exactly; again, the one before it; and nothing is thrown away."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import DatabaseBusy, RestoreRefused
from pagewarden.events import Event
from pagewarden.restore import UndoRequest, run_undo
from pagewarden.restore.quarantine import Kept, Phase, Quarantine
from pagewarden.runtime import Runtime
from pagewarden.values import UndoReport
from tests.core.restore.conftest import LEFT, Backups, leave_damaged, leave_in_wal, make, says
from tests.support.session import Session


def undo(path: Path, runtime: Runtime, *, force: bool = False) -> UndoReport:
    """Take the last restore of a path back."""
    return run_undo(UndoRequest(path=str(path), force=force), runtime)


def test_nothing_to_take_back_is_an_error_with_a_hint(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Without a restore, and after the last one was taken back; nothing is made there by asking."""
    to = make(tmp_path / "app.db", "old")
    with pytest.raises(RestoreRefused, match="no restore or repair of") as raised:
        undo(to, runtime)
    assert f"pagewarden restore --repo URL --to {to} " in raised.value.hint
    assert [file.name for file in tmp_path.iterdir()] == ["app.db"]
    backups.restore(to, runtime)
    undo(to, runtime)
    with pytest.raises(RestoreRefused, match="no restore or repair of"):
        undo(to, runtime)
    assert says(to) == "old"


def test_repeated_undo_walks_back(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Each takes back the newest restore that stands; what was taken away is kept, each for itself."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime, txid=1)
    backups.restore(to, runtime, txid=2)
    kept = [undo(to, runtime).kept]
    assert says(to) == "one"
    backups.restore(to, runtime, txid=2)
    with closing(sqlite3.connect(to, isolation_level=None)) as connection:
        connection.execute("UPDATE t SET who = 'written since'")
    kept.append(undo(to, runtime).kept)
    assert says(to) == "one"
    kept.append(undo(to, runtime).kept)
    assert says(to) == "old"
    assert [says(Path(file)) for file in kept] == ["two", "written since", "one"]
    assert [entry.phase for entry in Quarantine(path=to).entries()] == [Phase.UNDONE] * 3


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("killed", [False, True])
def test_what_was_written_since_the_restore_is_told(
    tmp_path: Path, runtime: Runtime, backups: Backups, mode: str, killed: bool
) -> None:
    """An undo takes those commits away, too: where they are kept is said, whether they were in the file or its log."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    with closing(sqlite3.connect(to)) as connection:
        connection.execute("PRAGMA journal_mode=" + mode)
    session = Session(to)
    session.run("UPDATE t SET who = 'since'")
    if killed:
        session.kill()
    else:
        session.close()
    report = undo(to, runtime)
    (warning,) = report.warnings
    assert "was written to since the restore" in warning
    assert warning.endswith(report.kept)
    assert says(Path(report.kept)) == "since"


def test_nothing_is_told_where_nothing_was_written(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Readers in between, in WAL mode, and an undo that was refused change nothing."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    with Session(to) as session:
        session.run("SELECT count(*) FROM t")
        with pytest.raises(DatabaseBusy):
            undo(to, runtime)
    assert undo(to, runtime).warnings == ()


def test_an_entry_that_does_not_tell_what_was_restored_claims_nothing(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """Entries of earlier versions have no size and time of the restored file."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    quarantine = Quarantine(path=to)
    quarantine.record(replace(quarantine.entries()[0], incoming_state=msgspec.UNSET))
    assert undo(to, runtime).warnings == ()


def test_a_database_with_json_functions_in_its_schema_is_locked_like_any_other(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """SQLite may call such a schema malformed: it must not be put aside as something that cannot be read."""
    to = make(tmp_path / "app.db", "old", mode="wal")
    with closing(sqlite3.connect(to)) as connection:
        connection.execute("CREATE INDEX i ON t(json_extract(who, '$.x')) WHERE json_valid(who)")
    assert backups.restore(to, runtime).warnings == ()


def test_a_restore_to_an_empty_place_is_undone_to_nothing(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The path is empty again, its log included, and the restored file is kept."""
    to = tmp_path / "app.db"
    backups.restore(to, runtime)
    session = Session(to)
    session.run("UPDATE t SET who = 'in the log'")
    session.kill()
    report = undo(to, runtime)
    assert report.restored == "nothing"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == []
    assert says(Path(report.kept)) == "in the log"


def test_a_damaged_file_comes_back_as_damaged_as_it_was(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """What SQLite refuses is kept as it is, with the log that belongs to it, and both come back byte for byte."""
    to = leave_damaged(tmp_path / "app.db")
    data, log = to.read_bytes(), Path(f"{to}-wal").read_bytes()
    report = backups.restore(to, runtime)
    assert any("file is not a database" in warning for warning in report.warnings)
    assert not Path(f"{to}-wal").exists()
    undo(to, runtime)
    assert (to.read_bytes(), Path(f"{to}-wal").read_bytes()) == (data, log)


def test_an_empty_file_keeps_its_log(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """SQLite would remove the log of an empty file, even when it only reads: it is evidence of a lost database."""
    to = tmp_path / "app.db"
    to.touch()
    Path(f"{to}-wal").write_bytes(b"all that is left")
    backups.restore(to, runtime)
    undo(to, runtime)
    assert (to.read_bytes(), Path(f"{to}-wal").read_bytes()) == (b"", b"all that is left")


def test_frames_that_sqlite_would_drop_are_kept(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """What stands in a -wal behind its last committed frame may be lost transactions (H14)."""
    to = leave_in_wal(tmp_path / "app.db")
    with Path(f"{to}-wal").open("ab") as wal:
        wal.write(b"frames behind a damaged one" * 200)
    whole = Path(f"{to}-wal").read_bytes()
    backups.restore(to, runtime)
    assert (Quarantine(path=to).folder / "000001" / "previous.dropped").read_bytes() == whole
    undo(to, runtime)
    assert says(to) == "old"


def test_a_holder_of_the_restored_file_is_refused(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """An application that has begun to use the restored file must be ended first, or forced."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    with Session(to) as session:
        session.run("UPDATE t SET who = 'since'")
        with pytest.raises(DatabaseBusy, match="take the restore back"):
            undo(to, runtime)
        assert says(to) == "since"
        report = undo(to, runtime, force=True)
        assert any(f"pid {session.pid}" in warning for warning in report.warnings)
        assert says(to) == "old"
    assert says(Path(report.kept)) == "since"


def test_a_restored_file_that_was_removed_can_still_be_undone(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """The previous file comes back to the empty path, and nothing is kept because nothing was there."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    to.unlink()
    assert undo(to, runtime).kept == ""
    assert says(to) == "old"
    backups.restore(tmp_path / "new.db", runtime)
    (tmp_path / "new.db").unlink()
    report = undo(tmp_path / "new.db", runtime)
    assert (report.restored, report.kept) == ("nothing", "")


def test_a_previous_file_that_is_gone_is_refused(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Somebody emptied the quarantine: the restored file stays."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    (Quarantine(path=to).folder / "000001" / "previous").unlink()
    with pytest.raises(RestoreRefused, match="is gone"):
        undo(to, runtime)
    assert says(to) == "two"


@pytest.mark.parametrize("left", LEFT)
def test_the_file_that_was_put_aside_is_known_again(
    tmp_path: Path, runtime: Runtime, backups: Backups, left: str
) -> None:
    """However it was kept, nothing is told where it is the one; a quarantine without that knowledge can be undone."""
    to = LEFT[left](tmp_path / "app.db")
    backups.restore(to, runtime)
    undo(to, runtime)
    assert Quarantine(path=to).entries()[-1].previous_file is not None
    backups.restore(to, runtime)
    assert undo(to, runtime).warnings == ()
    backups.restore(to, runtime)
    quarantine = Quarantine(path=to)
    quarantine.record(replace(quarantine.entries()[-1], previous_file=None))
    assert undo(to, runtime).warnings == ()
    assert says(to) == "old"


ODD: dict[str, Callable[[Path], None]] = {
    "a symbolic link": lambda path: os.symlink("../../../secret", path),
    "a directory": os.mkdir,
    "a FIFO": os.mkfifo,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_stands_for_the_previous_file_and_is_none_is_refused(
    tmp_path: Path, runtime: Runtime, backups: Backups, kind: str
) -> None:
    """No link, FIFO or folder takes the path of a database."""
    to = make(tmp_path / "app.db", "old")
    (tmp_path / "secret").write_text("secret")
    backups.restore(to, runtime)
    previous = Quarantine(path=to).folder / "000001" / "previous"
    previous.unlink()
    ODD[kind](previous)
    with pytest.raises(RestoreRefused, match=f"previous is {kind}, not the file that was put aside"):
        undo(to, runtime)
    assert says(to) == "two"


def test_another_file_in_the_place_of_the_previous_one_is_refused(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """By inode, size and time; the hint says how to look at it. One that was only written to is told as a warning."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    previous = Quarantine(path=to).folder / "000001" / "previous"
    previous.rename(tmp_path / "away")
    previous.write_bytes((tmp_path / "away").read_bytes())
    with pytest.raises(RestoreRefused, match="previous is another file than the one") as refused:
        undo(to, runtime)
    assert refused.value.hint.endswith(f"quarantine export {to} 1 --only original --to FOLDER")
    assert says(to) == "two"
    (tmp_path / "away").replace(previous)
    with closing(sqlite3.connect(previous, isolation_level=None)) as connection:
        connection.execute("UPDATE t SET who = 'by its old program'")
    assert undo(to, runtime).warnings == (f"{previous} was written to since it was put aside",)
    assert says(to) == "by its old program"


def test_a_quarantine_that_was_copied_can_be_undone(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """With its times kept, as whoever moves a database and all that belongs to it to another disk does."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    shutil.copytree(tmp_path / ".pagewarden", tmp_path / "copied")
    shutil.rmtree(tmp_path / ".pagewarden")
    (tmp_path / "copied").rename(tmp_path / ".pagewarden")
    assert undo(to, runtime).warnings == ()
    assert says(to) == "old"


@pytest.mark.parametrize("name", ["previous.raw", "previous.raw-wal", "previous.raw-journal"])
def test_what_stands_for_a_kept_log_and_is_no_file_is_refused(
    tmp_path: Path, runtime: Runtime, backups: Backups, name: str
) -> None:
    """A file that comes back with its log gets no link for one."""
    to = leave_damaged(tmp_path / "app.db")
    backups.restore(to, runtime)
    file = Quarantine(path=to).folder / "000001" / name
    file.unlink(missing_ok=True)
    file.symlink_to("entry.json")
    with pytest.raises(RestoreRefused, match=f"{name} is a symbolic link"):
        undo(to, runtime)
    assert says(to) == "two"


def test_histories_part_after_a_restore_and_go_on_after_an_undo(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """A backup after a restore to an older position starts a timeline; after an undo the old one goes on."""
    source, url = make(tmp_path / "app.db", "first"), str(tmp_path / "repository")
    request = BackupRequest(database=str(source), repository=url, check="none", full=True)
    own = Backups(url=url, one=run_backup(request, runtime), two=run_backup(request, runtime))
    own.restore(source, runtime, txid=1)
    branch = run_backup(request, runtime)
    assert branch.position.txid == 1
    assert branch.position.timeline != own.one.position.timeline
    repository = runtime.repository(url)
    assert repository.resolve_chain().point.parent == own.one.position
    follows = run_backup(request, runtime)
    assert (follows.position.timeline, follows.position.txid) == (branch.position.timeline, 2)
    undo(source, runtime)
    again = run_backup(request, runtime)
    assert (again.position.timeline, again.position.txid) == (own.two.position.timeline, 3)


def test_observers_see_restores_and_undos(tmp_path: Path, backups: Backups) -> None:
    """Each run tells that it began or ended, with its path and its time."""
    seen: list[Event] = []
    to = make(tmp_path / "app.db", "old")
    with Runtime(state=tmp_path / "state", on_event=seen.append) as runtime:
        backups.restore(to, runtime)
        undo(to, runtime)
    assert [event.name for event in seen] == ["restore.started", "restore.finished", "undo.finished"]
    assert {event.database for event in seen} == {str(to)}
    assert seen[-1].seconds is not None


def test_an_entry_tells_what_was_restored(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Position, repository and database sum stand in the quarantine for whoever looks later."""
    to = make(tmp_path / "app.db", "old")
    backups.restore(to, runtime)
    (entry,) = Quarantine(path=to).entries()
    assert (entry.phase, entry.previous, entry.pending) == (Phase.DONE, Kept.FILE, False)
    assert entry.origin is not None
    assert entry.origin.position == backups.two.position
    assert (entry.origin.repository, entry.origin.database) == (backups.url, "app.db")
    assert entry.origin.database_sum == backups.two.database_sum
