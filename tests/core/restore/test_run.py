"""Restoring: the path is old or new, the previous file is kept, and whoever stands in the way is named."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden import holders
from pagewarden.errors import (
    ConfigurationInvalid,
    DatabaseBusy,
    OutOfSpace,
    RepositoryNotFound,
    RestoreRefused,
)
from pagewarden.pages import MAX_PAGES, backend
from pagewarden.restore import RestoreRequest, UndoRequest, run_restore, run_undo, swap
from pagewarden.restore.hold import Hold
from pagewarden.restore.plan import make_plan
from pagewarden.restore.quarantine import Entry, Quarantine
from pagewarden.restore.speed import Speed
from pagewarden.runtime import Runtime
from pagewarden.times import format_moment
from tests.core.restore.conftest import LEFT, Backups, leave_in_wal, make, names, says
from tests.support.databases import file_sums
from tests.support.public import NOBODY, printed, public_folder
from tests.support.session import Session, SessionError


def test_a_restored_file_is_the_database_at_its_position(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Its page sums fold to the database sum, it is in WAL mode as its source was, and stands there alone."""
    to = tmp_path / "new.db"
    report = backups.restore(to, runtime)
    assert f"{backend().fold(file_sums(to, 4096)):016x}" == report.database_sum == backups.two.database_sum
    assert (report.position, report.time) == (backups.two.position, backups.two.position.time)
    assert report.bytes == to.stat().st_size == report.pages * 4096
    assert report.verified and not report.dry_run
    assert to.read_bytes()[18:20] == b"\2\2"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["new.db"]
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert says(to) == "two"


@pytest.mark.parametrize("left", sorted(LEFT))
def test_what_stood_there_comes_back(tmp_path: Path, runtime: Runtime, backups: Backups, left: str) -> None:
    """A plain database, rows in a -wal of a dead process, a hot journal: the restore replaces, undo brings back."""
    to = LEFT[left](tmp_path / "app.db")
    report = backups.restore(to, runtime)
    assert says(to) == "two"
    assert report.undo == f"pagewarden undo {to}"
    undone = run_undo(UndoRequest(path=str(to)), runtime)
    assert (undone.path, undone.restored) == (str(to), "previous file")
    assert says(to) == "old"
    assert says(Path(undone.kept)) == "two"


def test_a_closed_file_comes_back_byte_for_byte(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The very same file, with its inode, permissions and bytes."""
    to = make(tmp_path / "app.db", "old")
    to.chmod(0o640)
    before, data = to.stat(), to.read_bytes()
    backups.restore(to, runtime)
    run_undo(UndoRequest(path=str(to)), runtime)
    after = to.stat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, 1)
    assert to.read_bytes() == data


def test_permissions_and_owner_are_those_of_the_previous_file(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """An application that could use the old file can use the new one."""
    to = make(tmp_path / "app.db", "old")
    group = os.getgroups()[-1] if os.geteuid() else 12345
    os.chown(to, -1, group)
    to.chmod(0o664)
    backups.restore(to, runtime)
    found = to.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid, found.st_uid) == (0o664, group, os.geteuid())


def test_an_owner_that_cannot_be_given_is_refused() -> None:
    """Who is neither owner nor root cannot make a file that the application could go on with."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pagewarden.errors import RestoreRefused\n"
        "from pagewarden.restore.hold import give_ownership\n"
        "model, file = Path('/etc/passwd'), Path(sys.argv[1])\n"
        "if os.geteuid() == 0: os.chown(file, 65534, 65534)\n"
        f"{NOBODY}\n"
        "give_ownership(file, file)\n"
        "try: give_ownership(model, file)\n"
        "except RestoreRefused as error: print(error.hint)\n"
    )
    with public_folder() as folder:
        (folder / "file").touch()
        assert "root" in printed(program, folder / "file")


def test_a_symbolic_link_is_followed_and_stays(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The file behind the link is replaced, in its own directory (H4)."""
    (tmp_path / "data").mkdir()
    real, link = make(tmp_path / "data" / "real.db", "old"), tmp_path / "app.db"
    link.symlink_to(real)
    report = backups.restore(link, runtime)
    assert report.to == str(real)
    assert link.is_symlink() and not real.is_symlink()
    assert says(link) == "two"
    run_undo(UndoRequest(path=str(link)), runtime)
    assert says(real) == "old"


def refusals(folder: Path) -> list[tuple[Path, str]]:
    """Return paths that nothing may be restored to, and what the error says."""
    make(folder / "linked.db", "old")
    os.link(folder / "linked.db", folder / "other.db")
    make(folder / "app.db", "old")
    os.mkfifo(folder / "pipe")
    return [
        (folder, "is a directory"),
        (folder / "pipe", "no regular file"),
        (folder / "linked.db", "hard link"),
        (folder / "missing" / "app.db", "no directory"),
        (folder / "app.db" / "inside", "no directory"),
        (folder / "app.db-wal", "belongs to the database beside it"),
    ]


def test_paths_that_must_not_be_touched_are_refused(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """A directory, a pipe, a file with two names, a missing directory, a log's name: a hint each, nothing left."""
    cases = refusals(tmp_path)
    before = names(tmp_path)
    for path, says_what in cases:
        with pytest.raises(RestoreRefused, match=says_what) as raised:
            backups.restore(path, runtime)
        assert raised.value.hint
    assert names(tmp_path) == before


def test_a_directory_that_cannot_be_written_to_is_refused() -> None:
    """The error names the directory, before anything is copied."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pagewarden.errors import RestoreRefused\n"
        "from pagewarden.restore.plan import check_place\n"
        f"{NOBODY}\n"
        "try: check_place(Path(sys.argv[1]))\n"
        "except RestoreRefused as error: print(error.message)\n"
    )
    with public_folder() as folder:
        folder.chmod(0o555)
        assert printed(program, folder / "app.db") == f"this user may not write to {folder}\n"
        folder.chmod(0o755)


def test_a_file_that_would_not_fit_is_refused_at_once(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The space is looked at before anything is written."""
    chain = runtime.repository(backups.url).resolve_chain(txid=2)
    chain = replace(chain, links=(replace(chain.point, page_size=65536, pages=MAX_PAGES),))
    with pytest.raises(OutOfSpace, match=f"needs {MAX_PAGES * 65536:,}"):
        make_plan(chain, str(tmp_path / "app.db"), force=False, read_back=False, speed=Speed())
    assert names(tmp_path) == []


def test_a_dry_run_tells_the_plan_and_touches_nothing(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """It says what would be replaced, where that is kept, and who stands in the way."""
    to = make(tmp_path / "app.db", "old", mode="wal")
    with Session(to) as session:
        session.run("SELECT count(*) FROM t")
        before = {name: os.lstat(tmp_path / name) for name in names(tmp_path)}
        request = RestoreRequest(repository=backups.url, to=str(to), dry_run=True)
        report = run_restore(request, runtime)
        forced = run_restore(replace(request, force=True), runtime)
        assert {name: os.lstat(tmp_path / name) for name in names(tmp_path)} == before
    assert report.dry_run and not report.verified and report.undo == ""
    text = "\n".join(report.steps)
    assert str(tmp_path / ".pagewarden" / "app.db") in text
    assert f"refuse, because python (pid {session.pid}" in text.replace("python3", "python")
    assert "go on although" in "\n".join(forced.steps)
    new = run_restore(RestoreRequest(repository=backups.url, to=str(tmp_path / "new.db"), dry_run=True), runtime)
    assert "if there is still nothing" in new.steps[-1]
    chain = runtime.repository(backups.url).resolve_chain()
    plan = make_plan(chain, str(to), force=False, read_back=False, speed=Speed())
    first, second, *_ = str(plan).splitlines()
    assert first == f"1. bring back app.db as of txid 2, {format_moment(chain.point.position.time)}"
    read = f"2. read a snapshot, {chain.bytes:,} bytes; about 0.0 s, at 100 MB/s, which is assumed"
    assert second.startswith(read)
    assert (report.objects, report.bytes_fetched) == (1, chain.bytes)


def test_time_and_txid_choose_the_restore_point(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The last one at or before the time, the one with the number, the newest without either."""
    just_before = format_moment(backups.two.position.time - timedelta(microseconds=1))
    for number, (choice, who) in enumerate(
        [({"at": just_before}, "one"), ({"txid": 1}, "one"), ({"at": "-0s"}, "two"), ({}, "two")]
    ):
        to = tmp_path / f"{number}.db"
        run_restore(RestoreRequest(repository=backups.url, to=str(to), name="app.db", **choice), runtime)  # type: ignore[arg-type]
        assert says(to) == who
    with pytest.raises(RepositoryNotFound):
        run_restore(RestoreRequest(repository=backups.url, to=str(tmp_path / "x"), at="-52w"), runtime)
    with pytest.raises(ConfigurationInvalid):
        run_restore(RestoreRequest(repository=backups.url, to=str(tmp_path / "x"), at="2026-11-22 10:00:00"), runtime)
    assert not (tmp_path / "x").exists()


def test_a_holder_is_named_and_nothing_is_touched(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """A process that has the file open would go on writing to a deleted file (H5)."""
    to = make(tmp_path / "app.db", "old", mode="wal")
    with Session(to) as session:
        session.run("UPDATE t SET who = 'newer'")
        before = names(tmp_path)
        with pytest.raises(DatabaseBusy, match=f"pid {session.pid}") as raised:
            backups.restore(to, runtime)
        assert "--force" in raised.value.hint
        assert names(tmp_path) == before
        assert session.run("SELECT DISTINCT who FROM t") == [["newer"]]
    assert says(to) == "newer"


def test_with_force_all_that_a_holder_committed_is_kept(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The holder is named in a warning and goes on with its file; what it had committed is there to be undone to."""
    to = leave_in_wal(tmp_path / "app.db")
    with Session(to) as session:
        session.run("UPDATE t SET who = 'last'")
        report = backups.restore(to, runtime, force=True)
        assert any(f"pid {session.pid}" in warning and "restart it" in warning for warning in report.warnings)
        assert says(to) == "two"
        session.run("UPDATE t SET who = 'lost'")
        with pytest.raises(DatabaseBusy, match=f"pid {session.pid}"):
            run_undo(UndoRequest(path=str(to)), runtime)
    assert says(to) == "two"
    run_undo(UndoRequest(path=str(to)), runtime)
    assert says(to) == "last"
    raw = Quarantine(path=to).folder / "000001" / "previous.raw"
    assert raw.exists() and Path(f"{raw}-wal").exists()


def test_with_force_a_reader_in_rollback_mode_does_not_matter(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """Its SHARED lock keeps the exclusive one away, and the file is whole all the same."""
    to = make(tmp_path / "app.db", "old")
    with Session(to) as session:
        session.run("BEGIN")
        session.run("SELECT count(*) FROM t")
        backups.restore(to, runtime, force=True)
        assert says(to) == "two"
        assert session.run("SELECT DISTINCT who FROM t") == [["old"]]
    run_undo(UndoRequest(path=str(to)), runtime)
    assert says(to) == "old"


@pytest.mark.parametrize(
    "statements",
    [
        ("BEGIN IMMEDIATE", "UPDATE t SET who = 'open'"),
        ("PRAGMA locking_mode=EXCLUSIVE", "UPDATE t SET who = 'locked'"),
    ],
)
def test_force_does_not_cut_a_transaction_in_two(
    tmp_path: Path, runtime: Runtime, backups: Backups, statements: tuple[str, ...]
) -> None:
    """An open write transaction, or a database locked for good, cannot be kept whole: refused even so."""
    to = make(tmp_path / "app.db", "old", mode="wal")
    with Session(to) as session:
        for statement in statements:
            session.run(statement)
        with pytest.raises(DatabaseBusy, match="--force cannot override"):
            backups.restore(to, runtime, force=True)
        assert not list(tmp_path.glob(".pagewarden*"))
        assert session.run("SELECT count(*) FROM t") == [[20]]


def test_a_lock_of_a_process_that_cannot_be_seen_is_respected(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /proc tells nothing, SQLite's own locks still do; and the report says what could not be seen."""
    to = make(tmp_path / "app.db", "old", mode="wal")
    monkeypatch.setattr(holders, "_PROC", tmp_path / "no-proc")
    with Session(to) as session:
        session.run("SELECT count(*) FROM t")
        with pytest.raises(DatabaseBusy, match="cannot be seen"):
            backups.restore(to, runtime)
    to.chmod(0o666)
    report = backups.restore(to, runtime)
    assert any("cannot be told" in warning for warning in report.warnings)


def test_who_opens_the_file_at_the_last_moment_stops_the_restore(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for the lock on the old file would write to it after the rename; it gets it back whole."""
    to = leave_in_wal(tmp_path / "app.db")
    real, late = swap._stand_alone, []

    def opened_meanwhile(path: Path, hold: Hold) -> None:
        late.append(Session(path))
        with pytest.raises(SessionError, match="SQLITE_BUSY"):
            late[0].run("SELECT count(*) FROM t")
        real(path, hold)

    monkeypatch.setattr(swap, "_stand_alone", opened_meanwhile)
    with pytest.raises(DatabaseBusy, match="now"):
        backups.restore(to, runtime)
    with late[0] as session:
        assert session.run("SELECT DISTINCT who FROM t") == [["old"]]
        session.run("UPDATE t SET who = 'newer'")
    assert says(to) == "newer"
    assert not list(tmp_path.glob(".pagewarden*"))


def test_who_opens_the_old_file_in_the_very_last_moment_is_named(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the rename nothing can be prevented any more, only told."""
    to = make(tmp_path / "app.db", "old")
    real, late = swap._take_place, []

    def opened_meanwhile(path: Path, incoming: Path | None, hold: Hold) -> None:
        late.append(Session(path))
        with pytest.raises(SessionError, match="SQLITE_BUSY"):
            late[0].run("SELECT count(*) FROM t")
        real(path, incoming, hold)

    monkeypatch.setattr(swap, "_take_place", opened_meanwhile)
    report = backups.restore(to, runtime)
    with late[0] as session:
        assert any(f"pid {session.pid}" in warning and "the old file" in warning for warning in report.warnings)
    assert says(to) == "two"


def test_a_new_log_survives_the_release_of_the_old_file(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens the new file while the old one is still locked keeps its -wal when that lock goes (H25)."""
    to = leave_in_wal(tmp_path / "app.db")
    real, sessions = swap._finish, []

    def opened_meanwhile(quarantine: Quarantine, entry: Entry) -> Entry:
        sessions.append(Session(to))
        sessions[0].run("UPDATE t SET who = 'three'")
        return real(quarantine, entry)

    monkeypatch.setattr(swap, "_finish", opened_meanwhile)
    backups.restore(to, runtime)
    with sessions[0] as session:
        assert Path(f"{to}-wal").stat().st_size > 0
        session.run("UPDATE t SET who = 'four' WHERE id > 10")
        assert says(to) == "three,four"
    assert says(to) == "three,four"


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing stood when the restore began, a file that an application made since stays."""
    to = tmp_path / "app.db"
    real = swap._stand_alone
    monkeypatch.setattr(swap, "_stand_alone", lambda path, hold: (real(path, hold), make(path, "made meanwhile"))[0])
    with pytest.raises(DatabaseBusy, match="has appeared"):
        backups.restore(to, runtime)
    assert says(to) == "made meanwhile"
    assert names(tmp_path) == ["app.db"]


def test_a_leftover_log_without_its_database_is_put_aside(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """SQLite would lay it over the restored file (H25)."""
    to = tmp_path / "app.db"
    Path(f"{to}-wal").write_bytes(b"another database's frames")
    Path(f"{to}-journal").write_bytes(b"another database's pages")
    backups.restore(to, runtime)
    assert says(to) == "two"
    kept = Quarantine(path=to).folder / "000001"
    assert (kept / "previous.raw-wal").read_bytes() == b"another database's frames"
    assert (kept / "previous.raw-journal").read_bytes() == b"another database's pages"


def test_a_state_directory_that_cannot_be_written_is_a_warning(tmp_path: Path, backups: Backups) -> None:
    """The restore is done; what is lost is that the next backup knows of it."""
    (tmp_path / "state").write_text("a file in the way")
    with Runtime(state=tmp_path / "state") as runtime:
        report = backups.restore(make(tmp_path / "app.db", "old"), runtime)
        assert any("next backup" in warning for warning in report.warnings)
        undone = run_undo(UndoRequest(path=str(tmp_path / "app.db")), runtime)
        assert any("next backup" in warning for warning in undone.warnings)
    assert says(tmp_path / "app.db") == "old"


def test_a_name_that_is_no_text_can_be_restored_to(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """File names are bytes: signs of URLs, blanks and what is no UTF-8 in them do no harm."""
    to = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a b?c#d%41\xff'.db"))
    with closing(sqlite3.connect(to)) as connection:
        connection.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT); INSERT INTO t(who) VALUES('old')")
    report = backups.restore(to, runtime)
    assert report.undo.startswith("pagewarden undo '")
    run_undo(UndoRequest(path=str(to)), runtime)
    with closing(sqlite3.connect(to)) as connection:
        assert connection.execute("SELECT who FROM t").fetchall() == [("old",)]
