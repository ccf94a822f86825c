"""Read-only connections, and what SQLite's errors become."""

from __future__ import annotations

import os
import shlex
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, NotADatabase, OutOfSpace
from pagewarden.live import Pin, examine, failure, open_readonly
from pagewarden.live import connection as module
from tests.support.databases import build
from tests.support.program import run
from tests.support.session import Session


@pytest.mark.parametrize(
    "name", ["a b?mode=rwc#x%41.db", "ünïcode ✓.db", os.fsdecode(b"\xff\xfe.db"), "..db", "a&b=c;d'\"e"]
)
def test_any_file_name_can_be_opened(name: str, tmp_path: Path) -> None:
    """Names are bytes, and URIs quote them: no name opens another file or another mode."""
    path = build(tmp_path / "plain.db")
    named = tmp_path / name
    os.rename(path, named)
    with closing(open_readonly(str(named))) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone()[0] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_nothing_can_be_written(tmp_path: Path) -> None:
    """Not the database, not another one, not a function with side effects in a hostile schema (H29)."""
    path = build(tmp_path / "a.db")
    before = path.read_bytes()
    with closing(open_readonly(str(path))) as connection:
        for sql in ("DELETE FROM item", "CREATE TABLE t(x)", "PRAGMA user_version=5", "PRAGMA journal_mode=WAL"):
            try:
                assert connection.execute(sql).fetchone() == ("delete",)
            except sqlite3.OperationalError as error:
                assert "readonly" in str(error)
        settings = ("query_only", 1), ("trusted_schema", 0), ("mmap_size", 0), ("cell_size_check", 1)
        for pragma, value in settings:
            row = connection.execute(f"PRAGMA {pragma}").fetchone()
            assert row in ((value,), None)  # without support for mappings mmap_size says nothing
        assert not connection.in_transaction
    assert path.read_bytes() == before


def test_a_schema_with_json_functions_can_be_read(tmp_path: Path) -> None:
    """Some releases of SQLite take their own JSON functions for unsafe, and such a schema for malformed."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(a, b AS (json_extract(a, '$.b')), CHECK (json_valid(a)))")
        connection.execute("CREATE INDEX i ON t(a ->> 'c')")
        connection.execute("""INSERT INTO t VALUES('{"b": 1}')""")
        connection.commit()
    with closing(open_readonly(str(path))) as connection:
        assert connection.execute("SELECT b FROM t").fetchall() == [(1,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA query_only").fetchone() == (1,)


def test_a_database_that_nobody_can_write_to_needs_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that is read-only as a whole, SQLite reads the file alone; no -shm is made."""
    path = build(tmp_path / "a.db", mode="wal")
    os.symlink("nowhere", f"{path}-shm")  # so that none can be made
    with pytest.raises(DatabaseUnreadable, match="needs a -shm file"):
        begin(path)
    before = os.listdir(tmp_path)
    monkeypatch.setattr(module, "frozen", lambda _path: True)
    with closing(open_readonly(str(path))) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone()[0] > 0
    assert os.listdir(tmp_path) == before


def test_paths_in_hints_can_be_typed(tmp_path: Path) -> None:
    """With a blank, a quote and a newline in them; a log is copied only where there is one."""
    path = str(tmp_path / "it's a\nb.db")
    for name, command in (
        ("SQLITE_NOTADB", ["head", "-c", "16", path, "|", "xxd"]),
        ("SQLITE_READONLY_ROLLBACK", ["cp", path, "DIR"]),
        ("SQLITE_CANTOPEN", ["cp", path, "DIR"]),
        ("SQLITE_IOERR_READ", ["ls", "-l", f"{path}*"]),
    ):
        error = sqlite3.OperationalError("what SQLite said")
        error.sqlite_errorname = name
        assert shlex.split(failure(error, path).hint.rpartition(": ")[2]) == command
    Path(f"{path}-wal").touch()
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    assert shlex.join(["cp", path, f"{path}-wal", "DIR"]) in failure(error, path).hint


def test_a_connection_may_be_interrupted_from_another_thread(tmp_path: Path) -> None:
    """That is how a deadline ends a check."""
    path = build(tmp_path / "a.db")
    with closing(open_readonly(str(path))) as connection:
        threading.Timer(0.2, connection.interrupt).start()
        endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c"
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute(endless).fetchone()


def begin(path: Path, timeout: float = 0.0) -> None:
    """Pin a database and let go of it."""
    with Pin(examine(path), timeout=timeout) as pin:
        pin.begin()


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    """Random bytes, or an encrypted file."""
    path = tmp_path / "a.db"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(NotADatabase, match=r"a\.db is not a SQLite database, or it is encrypted"):
        begin(path)


@pytest.mark.parametrize("first", ["journal_mode=WAL", "user_version=1"])
def test_an_exclusive_lock_is_busy_and_its_holder_is_named(first: str, tmp_path: Path) -> None:
    """locking_mode=EXCLUSIVE, in WAL mode without a -shm (H35) or with a rollback journal: who it is is told."""
    path = build(tmp_path / "a.db")
    with Session(path) as session:
        session.run("PRAGMA locking_mode=EXCLUSIVE")
        session.run(f"PRAGMA {first}")
        session.run("CREATE TABLE other(x)")
        with pytest.raises(DatabaseBusy, match=rf"is locked: .*pid {session.pid}.*a\.db") as caught:
            begin(path)
        assert caught.value.fields["pids"] == [session.pid]
        assert not os.path.exists(f"{path}-shm")
    begin(path)


def test_a_hot_journal_is_unsettled_and_untouched(tmp_path: Path) -> None:
    """Rolling it back is the application's to do (H33): no byte of database or journal changes."""
    path = build(tmp_path / "a.db")
    session = Session(path)
    session.run("PRAGMA cache_size=1")
    session.run("BEGIN")
    session.run("UPDATE item SET body = randomblob(9000)")
    session.kill()
    files = [path, Path(f"{path}-journal")]
    before = [file.read_bytes() for file in files]
    assert len(before[1]) > 0
    with pytest.raises(DatabaseUnsettled, match="waits for a journal to be rolled back") as caught:
        begin(path)
    assert f"cp {path} {path}-journal DIR" in caught.value.hint
    assert [file.read_bytes() for file in files] == before


def test_a_journal_that_is_not_hot_does_not_matter(tmp_path: Path) -> None:
    """One that was finished (PERSIST), and one of a transaction that is under way in another process."""
    path = build(tmp_path / "a.db")
    with Session(path) as session:
        session.run("PRAGMA journal_mode=PERSIST")
        session.run("UPDATE item SET name = 'x'")
        assert examine(path).journal_size > 0
        begin(path)
        session.run("BEGIN IMMEDIATE")
        session.run("UPDATE item SET name = 'y'")
        begin(path)


def test_errors_have_the_names_that_callers_know(tmp_path: Path) -> None:
    """Each of SQLite's families becomes one of ours; an unknown one is unreadable, with SQLite's words."""

    def made(name: str) -> sqlite3.Error:
        error = sqlite3.OperationalError("what SQLite said")
        error.sqlite_errorname = name
        return error

    for name, kind in (
        ("SQLITE_NOTADB", NotADatabase),
        ("SQLITE_BUSY_RECOVERY", DatabaseBusy),
        ("SQLITE_FULL", OutOfSpace),
        ("SQLITE_LOCKED_SHAREDCACHE", DatabaseBusy),
        ("SQLITE_PROTOCOL", DatabaseBusy),
        ("SQLITE_READONLY_ROLLBACK", DatabaseUnsettled),
        ("SQLITE_READONLY_DIRECTORY", DatabaseUnreadable),
        ("SQLITE_CANTOPEN", DatabaseUnreadable),
        ("SQLITE_IOERR_READ", DatabaseUnreadable),
        ("SQLITE_CORRUPT", DatabaseUnreadable),
    ):
        assert type(failure(made(name), str(tmp_path / "a.db"))) is kind
    assert "what SQLite said" in str(failure(made("SQLITE_IOERR_READ"), "a.db"))
    what, folder = shlex.split(failure(made("SQLITE_FULL"), str(tmp_path / "gone/copy.db")).hint)[1:]
    assert (what, os.path.ismount(folder)) == ("-h", True)
    assert isinstance(failure(sqlite3.ProgrammingError("odd"), "a.db"), DatabaseUnreadable)


def test_a_database_that_vanishes_cannot_be_opened(tmp_path: Path) -> None:
    """mode=ro never creates one."""
    path = build(tmp_path / "a.db")
    place = examine(path)
    path.unlink()
    with pytest.raises(DatabaseUnreadable, match="cannot be opened by SQLite"):
        Pin(place)
    assert list(tmp_path.iterdir()) == []


POWERLESS = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, gone with the next exec
        assert ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
"""What makes the permissions of files apply, also where the tests run as root."""


def test_in_a_read_only_folder_the_log_is_read_without_an_index(tmp_path: Path) -> None:
    """Step 8: with a -shm that cannot be written SQLite keeps its index in memory, and we scan the log."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = build(folder / "a.db", mode="wal")
    session = Session(path)
    session.run("UPDATE item SET name = 'in the log'")
    session.kill()  # log and index stay behind
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    program = """
    import os, sys
    from pagewarden.live import read_commit
    from pagewarden.processes.reader import PageReader
    path = os.path.join(sys.argv[1], "a.db")

    def work(attachment, pin):
        names = pin.connections[0].execute("SELECT DISTINCT name FROM item").fetchall()
        assert names == [("in the log",)], names
        pages = b"".join(reader.pages(attachment.handle, range(1, attachment.pages + 1)))
        assert pages.count(b"in the log") > 10
        return attachment

    with PageReader() as reader:
        attachment = read_commit(path, reader, work, exact=True, connections=1)
        assert attachment.uses_wal and len(attachment.token) == 12, attachment
    """
    done = run(program, folder, before=POWERLESS)
    assert done.returncode == 0, done.stderr


def test_in_a_read_only_folder_without_an_index_it_is_unreadable(tmp_path: Path) -> None:
    """Neither SQLite nor we can pin it there; the hint says what to do. Others may write: no immutable=1 (H33)."""
    folder = tmp_path / "folder"
    folder.mkdir()
    build(folder / "a.db", mode="wal")
    folder.chmod(0o555)
    program = """
    import os, sys
    from pagewarden.errors import DatabaseUnreadable
    from pagewarden.live import read_commit
    from pagewarden.processes.reader import PageReader
    with PageReader() as reader:
        try:
            read_commit(os.path.join(sys.argv[1], "a.db"), reader, lambda attachment, pin: attachment)
        except DatabaseUnreadable as error:
            print(error, error.hint)
    """
    done = run(program, folder, before=POWERLESS)
    assert "needs a -shm file" in done.stdout and f"cp {folder / 'a.db'} DIR" in done.stdout, done
    assert os.listdir(folder) == ["a.db"]
