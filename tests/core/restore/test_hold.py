"""Taking hold of a database: what SQLite answers decides how it is kept."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import DatabaseBusy, OutOfSpace, RestoreRefused
from pagewarden.restore import hold
from pagewarden.restore.hold import Hold, Standing, take_hold
from tests.core.restore.conftest import leave_damaged, leave_hot, leave_in_wal, make, says
from tests.support.pipes import unwaited
from tests.support.session import Session, SessionError


def copy(source: Path, destination: Path) -> None:
    """Copy a closed file, as the page reader does."""
    shutil.copyfile(source, destination)


def held(path: Path, *, force: bool = False) -> Hold:
    """Hold a database."""
    return take_hold(path, settled=path.with_name("settled"), copy=copy, force=force, doing="replace")


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize(
    ("make_odd", "kind"),
    [
        (os.mkfifo, "a FIFO"),
        (os.mkdir, "a directory"),
        (lambda path: os.symlink("app.db", path), "a symbolic link"),
    ],
)
def test_what_stands_for_a_log_or_journal_and_is_no_file_is_refused(
    tmp_path: Path, suffix: str, make_odd: Callable[[Path], None], kind: str
) -> None:
    """Before SQLite is asked, which would wait at a FIFO for ever; where no database stands, too."""
    path, made = tmp_path / "app.db", make(tmp_path / "made.db", "old")
    make_odd(Path(f"{path}{suffix}"))
    for there in (False, True):
        if there:
            made.rename(path)
        with (
            unwaited(Path(f"{path}{suffix}")),
            pytest.raises(RestoreRefused, match=rf"app\.db{suffix} is {kind}, not a regular file") as refused,
        ):
            held(path)
        assert shlex.split(refused.value.hint)[-1] == f"{path}{suffix}"


def test_what_stands_there_is_told_apart(tmp_path: Path) -> None:
    """Nothing, a closed file, a log that could be brought in, a hot journal, and what SQLite refuses."""
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    cases = {
        tmp_path / "nothing.db": Standing.NOTHING,
        make(tmp_path / "plain.db", "old"): Standing.ALONE,
        leave_in_wal(tmp_path / "wal.db"): Standing.ALONE,
        leave_hot(tmp_path / "hot.db"): Standing.SETTLED,
        leave_damaged(tmp_path / "damaged.db"): Standing.RAW,
        tmp_path / "junk.db": Standing.ALONE,
    }
    for path, standing in cases.items():
        with held(path) as found:
            assert found.standing is standing
            assert (found.settled is not None) is (standing is Standing.SETTLED)


def test_nobody_gets_in_while_it_is_held(tmp_path: Path) -> None:
    """Readers and writers wait, in both journal modes, and go on when the hold is left."""
    for path in (make(tmp_path / "plain.db", "old"), leave_in_wal(tmp_path / "wal.db")):
        with held(path):
            session = Session(path)
            for statement in ("SELECT count(*) FROM t", "UPDATE t SET who = 'new'"):
                with pytest.raises(SessionError, match="SQLITE_BUSY"):
                    session.run(statement)
        with session:
            assert session.run("SELECT DISTINCT who FROM t") == [["old"]]


def test_a_hot_journal_is_rolled_back_on_a_copy_only(tmp_path: Path) -> None:
    """The original and its journal stay byte for byte: they are evidence (H33)."""
    path = leave_hot(tmp_path / "app.db")
    before = path.read_bytes(), Path(f"{path}-journal").read_bytes()
    with held(path) as found:
        assert found.settled is not None
        assert says(found.settled) == "old"
        assert not Path(f"{found.settled}-journal").exists()
    assert (path.read_bytes(), Path(f"{path}-journal").read_bytes()) == before


def test_a_hot_journal_that_mends_nothing_is_kept_with_its_file(tmp_path: Path) -> None:
    """Where the file is no database even with its journal played back, both are put aside as they are."""
    path = leave_hot(tmp_path / "app.db")

    def lose_the_header(source: Path, destination: Path) -> None:
        destination.write_bytes(b"junk" * 1000 if source == path else source.read_bytes())
        if source != path:
            destination.write_bytes(source.read_bytes()[:512])

    settled = tmp_path / "settled"
    with take_hold(path, settled=settled, copy=lose_the_header, force=False, doing="replace") as found:
        assert found.standing is Standing.RAW
        assert any("not a database" in warning for warning in found.warnings)


def test_a_held_log_is_copied_and_not_checkpointed(tmp_path: Path) -> None:
    """With force beside others: the copy has their last commit, the file is not written to, and no commit gets in."""
    path = leave_in_wal(tmp_path / "app.db")
    before = path.read_bytes()
    with Session(path) as session:
        session.run("UPDATE t SET who = 'last'")
        with held(path, force=True) as found:
            assert found.standing is Standing.SETTLED
            assert found.settled is not None
            with pytest.raises(SessionError, match="SQLITE_BUSY"):
                session.run("UPDATE t SET who = 'later'")
            assert session.run("SELECT DISTINCT who FROM t") == [["last"]]
            assert says(found.settled) == "last"
        assert path.read_bytes() == before


def full(*_: object) -> Any:
    """Fail as SQLite does on a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    raise error


@pytest.mark.parametrize("step", ["_look", "_backup"])
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whether the log is brought into the file or copied: OutOfSpace, with where to free it."""
    path = leave_in_wal(tmp_path / "app.db")
    monkeypatch.setattr(hold, step, full)
    with Session(path) as session:
        session.run("SELECT count(*) FROM t")
        with pytest.raises(OutOfSpace, match="no space") as raised:
            held(path, force=True)
        assert str(tmp_path) in raised.value.hint
        session.run("UPDATE t SET who = 'goes on'")


def test_a_full_disk_is_named_while_a_journal_is_played_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on the copy of a file with a hot journal."""
    path = leave_hot(tmp_path / "app.db")
    real = hold._connect
    monkeypatch.setattr(hold, "_connect", lambda file, mode: full() if file.name == "settled" else real(file, mode))
    with pytest.raises(OutOfSpace):
        held(path)


class Unfinished:
    """A connection whose checkpoint does not get to the end."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def execute(self, sql: str) -> Any:
        """Execute, but for the checkpoint."""
        return self.connection.execute("SELECT 0, 5, 3" if "wal_checkpoint" in sql else sql)

    def close(self) -> None:
        """Close."""
        self.connection.close()


def test_a_log_that_does_not_get_into_the_file_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that stops half-way is no success: its log must not go (H24)."""
    path = leave_in_wal(tmp_path / "app.db")
    real = hold._connect
    monkeypatch.setattr(hold, "_connect", lambda file, mode: Unfinished(real(file, mode)))
    with pytest.raises(DatabaseBusy, match="could not be brought into the file"):
        held(path)
    monkeypatch.undo()
    assert says(path) == "old"
