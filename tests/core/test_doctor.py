"""The doctor: what it says of the machine, and of what stands around a database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.contracts import Checker
from pagewarden.doctor import DoctorRequest, holding, machine, run_doctor, surroundings
from pagewarden.doctor.libraries import sqlite_libraries
from pagewarden.errors import DatabaseNotFound
from pagewarden.holders import Holder, Holders
from pagewarden.hookspecs import hookimpl
from pagewarden.restore.quarantine import Quarantine
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import DoctorFact, DoctorReport
from pagewarden.versions import KNOWN_BUGS, LinkedSQLite
from tests.core.restore.test_quarantine import begin
from tests.support.databases import build
from tests.support.public import NOBODY, printed, public_folder
from tests.support.session import Session

SOURCE = "2022-12-28 14:03:47 df5c253c0b3dd24916e4ec7cf77d3db5294cc9fd45ae7b9c5e82ad8197f3"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


def look(path: Path, runtime: Runtime) -> dict[str, DoctorFact]:
    """Return the facts around a database by their names."""
    report = run_doctor(DoctorRequest(database=str(path)), runtime)
    assert report.database == os.path.realpath(path)
    return {fact.name: fact for fact in report.facts}


def files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all that a look must not change."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes()) for file in found}


def test_the_machine_is_told_without_a_database(runtime: Runtime) -> None:
    """SQLite with each row of the table, its options, Python, the native module, plugins, the state directory."""
    report = run_doctor(DoctorRequest(), runtime)
    facts = {fact.name: fact for fact in report.facts}
    assert report.database is None
    assert facts["sqlite-version"].value == sqlite3.sqlite_version
    assert {f"sqlite-{bug.name}" for bug in KNOWN_BUGS} <= set(facts)
    assert "THREADSAFE=" in facts["sqlite-options"].value
    assert facts["native"].value.startswith(("native", "unusable", runtime.reader.ping()))
    assert "check-pragma" in facts["plugins"].why
    assert {"python", "sqlite-libraries", "state-directory"} <= set(facts)
    assert all(fact.hint for fact in report.facts if fact.state == "problem")
    assert {fact.state for fact in report.facts} <= {"ok", "warning", "problem"}


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("problem", 1)])
def test_the_exit_code_is_one_with_a_problem_only(state: str, code: int) -> None:
    """Warnings are worth knowing, and no failure."""
    fact = DoctorFact(name="x", state=state, value="")
    assert DoctorReport(database=None, facts=(fact,), seconds=0).exit_code == code


def test_a_known_bug_of_the_linked_library_is_a_warning() -> None:
    """With what it does and what to do; where the sources were changed, that the fix cannot be told."""
    (bug,) = (bug for bug in KNOWN_BUGS if bug.name == "wal-reset")
    plain = machine.bug_fact(bug, LinkedSQLite(release=(3, 40, 1), source_id=SOURCE))
    assert (plain.state, plain.value) == ("warning", "in 3.40.1")
    assert "checkpoint" in plain.why and "3.51.3" in plain.hint and "cannot be told" not in plain.why
    changed = machine.bug_fact(bug, LinkedSQLite(release=(3, 40, 1), source_id=f"{SOURCE[:-4]}alt1"))
    assert "cannot be told" in changed.why
    assert machine.bug_fact(bug, LinkedSQLite(release=(3, 53, 0), source_id=SOURCE)).state == "ok"


def test_withdrawn_and_crippled_libraries_are_told(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.52.0 was taken back; a library without mutexes or without WAL is a problem."""
    monkeypatch.setattr(machine, "linked_sqlite", lambda: LinkedSQLite(release=(3, 52, 0), source_id=SOURCE))
    for options, word in ((("THREADSAFE=0",), "mutexes"), (("THREADSAFE=1", "OMIT_WAL"), "without WAL")):
        monkeypatch.setattr(machine, "compile_options", lambda options=options: options)
        facts = {fact.name: fact for fact in machine.machine_facts(runtime)}
        assert facts["sqlite-version"].state == "warning"
        assert facts["sqlite-options"].state == "problem"
        assert word in facts["sqlite-options"].why


def test_the_native_module_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin is a warning; a choice that cannot be met is a problem; so is a zstandard without its cffi module."""
    from pagewarden.pages import _native

    def fact(wish: str) -> DoctorFact:
        monkeypatch.setenv("PAGEWARDEN_NATIVE", wish)
        with Runtime(state=tmp_path) as runtime:
            return machine._native(runtime)

    assert fact("require").state == "ok"
    assert (fact("off").state, fact("off").value) == ("warning", "twin")
    assert fact("perhaps").state == "problem"
    monkeypatch.setattr(_native, "zstd_library", lambda: None)
    assert (fact("prefer").state, "function table" in fact("prefer").value) == ("warning", True)


def test_faults_of_plugins_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that breaks its contract is a warning; one that was named and cannot be used a problem."""
    broken = ModuleType("broken_plugin")

    @hookimpl
    def pagewarden_checkers() -> list[Checker]:
        raise RuntimeError("it fails to load")

    broken.pagewarden_checkers = pagewarden_checkers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_plugin", broken)
    with Runtime(state=tmp_path, plugins=PluginChoice(extra=("broken_plugin",))) as runtime:
        assert machine._plugins(runtime).state == "problem"
    with Runtime(state=tmp_path) as runtime:
        runtime.extensions._plugins[0].faults.append("something is wrong")
        fact = machine._plugins(runtime)
    assert fact.state == "warning"
    assert "something is wrong" in fact.why


def test_a_state_directory_that_is_a_file_is_a_warning(tmp_path: Path) -> None:
    """Lineage could not be remembered."""
    (tmp_path / "file").touch()
    with Runtime(state=tmp_path / "file" / "state") as runtime:
        assert machine._state(runtime).state == "warning"


def test_two_libraries_in_this_process_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """They break each other's locks (H2)."""
    monkeypatch.setattr(machine, "sqlite_libraries", lambda pid: ("/a/libsqlite3.so", "/b/apsw/x.so"))
    fact = machine._libraries()
    assert fact is not None
    assert fact.state == "problem"

    def none(pid: str) -> tuple[str, ...]:
        raise FileNotFoundError(pid)

    monkeypatch.setattr(machine, "sqlite_libraries", none)
    assert machine._libraries() is None


def test_libraries_are_told_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own module counts only where it is not linked with the system's library."""

    def of(*mapped: str) -> tuple[str, ...]:
        lines = [f"7f00-7f01 r-xp 00000000 fe:00 1234      {name}" for name in mapped]
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: "\n".join([*lines, "7f00-7f01 rw-p 00 00:00 0"]))
        return sqlite_libraries(1)

    standard, system = "/usr/lib/python3.11/lib-dynload/_sqlite3.cpython-311-x86_64.so", "/usr/lib/libsqlite3.so.0.8.6"
    apsw = "/venv/lib/python3.11/site-packages/apsw/__init__.cpython-311.so"
    assert of(standard, system, "/usr/lib/libc.so.6") == (system,)
    assert of(standard) == (standard,)
    assert of(apsw, system) == (system, apsw)
    assert of(apsw, f"{standard} (deleted)") == (standard, apsw)
    assert of("/usr/lib/libc.so.6") == ()
    monkeypatch.undo()
    assert len(sqlite_libraries("self")) == 1


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_healthy_database_has_no_problem_and_is_not_touched(tmp_path: Path, runtime: Runtime, mode: str) -> None:
    """Not a byte, not a -wal, not a -shm: looking is not opening (H33)."""
    path = build(tmp_path / "app.db", mode=mode, rows=20)
    before = files(tmp_path)
    facts = look(path, runtime)
    assert files(tmp_path) == before
    around = [fact for name, fact in facts.items() if not name.startswith(("sqlite-", "native", "plugins", "state"))]
    assert [fact for fact in around if fact.state != "ok"] == []
    assert facts["journal-mode"].value == ("wal" if mode == "wal" else "rollback journal")
    assert facts["holders"].value in ("none", "none that can be seen")
    assert ("wal" in facts) is (mode == "wal")
    assert ("journal" in facts) is (mode == "delete")


def test_a_path_where_nothing_stands_is_an_error(tmp_path: Path, runtime: Runtime) -> None:
    """The doctor has no patient."""
    with pytest.raises(DatabaseNotFound):
        look(tmp_path / "none.db", runtime)


def test_links_are_told(tmp_path: Path, runtime: Runtime) -> None:
    """A symbolic link is followed, a second name is a problem (H4)."""
    path = build(tmp_path / "app.db", rows=5)
    (tmp_path / "link.db").symlink_to(path)
    assert look(tmp_path / "link.db", runtime)["links"].value == f"a symbolic link to {path}"
    os.link(path, tmp_path / "twin.db")
    fact = look(path, runtime)["links"]
    assert (fact.state, fact.value) == ("problem", "2 names")


def test_a_network_file_system_is_a_problem(tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL mode cannot work there (H4); a system that does not tell is not blamed."""
    path = build(tmp_path / "app.db", rows=5)
    monkeypatch.setattr(surroundings, "file_system", lambda _: "nfs4")
    assert look(path, runtime)["file-system"].state == "problem"
    monkeypatch.setattr(surroundings, "file_system", lambda _: "")
    assert look(path, runtime)["file-system"].value == "not told by this system"


def test_a_disk_without_room_for_a_restore_is_a_warning(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is written before the old one goes."""
    path = build(tmp_path / "app.db", rows=5)
    os.truncate(path, shutil.disk_usage(tmp_path).free + (1 << 40))
    assert look(path, runtime)["space"].state == "warning"


def test_permissions_that_stand_in_the_way_are_told(runtime: Runtime) -> None:
    """A file that may not be read, a directory that may not be written to, a file that anybody may write to."""
    program = (
        "import os, sys\n"
        "from pagewarden.doctor.surroundings import Surroundings\n"
        f"{NOBODY}\n"
        "fact = Surroundings(sys.argv[1], None)._permissions()\n"
        "print(fact.state, fact.why)\n"
    )
    with public_folder() as folder:
        path = build(folder / "app.db", rows=5)
        path.chmod(0o000)
        assert "problem this user may not read" in printed(program, path)
        path.chmod(0o644)
        folder.chmod(0o555)
        assert f"warning this user may not write to {folder}" in printed(program, path)
        folder.chmod(0o755)
        path.chmod(0o666)
        assert look(path, runtime)["permissions"].state == "warning"


def test_a_cut_restore_is_told(tmp_path: Path, runtime: Runtime) -> None:
    """With the command that mends it; a quarantine that cannot be understood is a problem."""
    path = build(tmp_path / "app.db", rows=5)
    quarantine = Quarantine(path=path)
    with quarantine.lock():
        entry = begin(quarantine)
    os.link(path, quarantine.folder_of(entry) / "previous")
    facts = look(path, runtime)
    assert (facts["restores"].state, facts["links"].state) == ("warning", "ok")
    assert "pagewarden undo" in facts["restores"].hint
    (quarantine.folder_of(entry) / "entry.json").write_text("?")
    os.unlink(quarantine.folder_of(entry) / "previous")
    assert look(path, runtime)["restores"].state == "problem"


def damage_log(path: Path) -> None:
    """Leave a log with a damaged frame in its middle, which SQLite serves as long as the wal-index stands (H14)."""
    session = Session(path)
    session.run("PRAGMA wal_autocheckpoint=0")
    session.run("UPDATE item SET name = 'new'")
    session.kill()
    with Path(f"{path}-wal").open("r+b") as wal:
        wal.seek(32 + 24 + 100)
        wal.write(b"rot")


def stray_log(path: Path) -> None:
    """Put another database's log beside one that is not in WAL mode."""
    other = build(path.with_name("other.db"), mode="wal", rows=5, seed=2)
    session = Session(other)
    session.run("UPDATE item SET name = 'of the other one'")
    shutil.copy(f"{other}-wal", f"{path}-wal")
    session.close()


def mixed_versions(path: Path) -> None:
    """Say that the file is written in WAL mode and read with a rollback journal."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\2\1")


def stray_journal(path: Path) -> None:
    """Put a journal beside a database in WAL mode."""
    Path(f"{path}-journal").write_bytes(b"some journal" * 100)


def no_database(path: Path) -> None:
    """Write something else over the file."""
    path.write_bytes(b"no database" * 1000)


def hot_journal(path: Path) -> None:
    """Leave a transaction that is to be rolled back."""
    session = Session(path)
    for statement in ("PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE item SET body = NULL"):
        session.run(statement)
    session.kill()


@pytest.mark.parametrize(
    ("mode", "spoil", "name", "state", "word"),
    [
        ("wal", damage_log, "wal", "problem", "lost when the log is next recovered"),
        ("delete", stray_log, "wal", "problem", "another database's"),
        ("wal", mixed_versions, "journal-mode", "warning", "bytes 18 and 19"),
        ("wal", stray_journal, "journal", "warning", "uses no -journal"),
        ("delete", no_database, "journal-mode", "problem", "not a SQLite database"),
        ("delete", hot_journal, "journal", "problem", "rolled back"),
    ],
)
def test_what_is_wrong_with_logs_and_journals_is_told(
    tmp_path: Path, runtime: Runtime, mode: str, spoil: Callable[[Path], None], name: str, state: str, word: str
) -> None:
    """A damaged log, a stranger's log or journal, a hot journal, a file that is none: named, and left as they are."""
    path = build(tmp_path / "app.db", mode=mode, rows=20)
    spoil(path)
    before = files(tmp_path)
    fact = look(path, runtime)[name]
    assert (fact.state, word in fact.why) == (state, True), fact
    assert files(tmp_path) == before


def test_a_large_log_names_who_holds_it_back(tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's lock on the -shm gives it away; without one nobody is blamed (H24)."""
    path = build(tmp_path / "app.db", mode="wal", rows=20)
    with Session(path) as reader, Session(path) as writer:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM item")
        writer.run("UPDATE item SET body = zeroblob(100000)")
        assert look(path, runtime)["wal"].state == "ok"
        monkeypatch.setattr(surroundings, "LARGE_WAL", 1 << 20)
        fact = look(path, runtime)["wal"]
        assert fact.state == "warning"
        assert f"pid {reader.pid}" in fact.why
        assert "0 of them in the database" in fact.value
        reader.run("COMMIT")
        writer.run("PRAGMA wal_checkpoint(PASSIVE)")
        assert "nobody now" in look(path, runtime)["wal"].why


def test_a_database_that_is_locked_is_told(tmp_path: Path, runtime: Runtime) -> None:
    """Whoever holds it is named, and nothing is claimed of its journal."""
    path = build(tmp_path / "app.db", rows=5)
    with Session(path) as session:
        session.run("BEGIN EXCLUSIVE")
        facts = look(path, runtime)
        assert facts["journal"].state == "warning"
        assert facts["expression-indexes"].value == "unknown"
        assert f"pid {session.pid}" in facts["holders"].value


def test_indexes_on_expressions_are_named(tmp_path: Path, runtime: Runtime) -> None:
    """They can go stale when the machine or SQLite changes; in WAL mode they are looked for while it is open."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE INDEX half ON item(id / 2.0)")
    assert look(path, runtime)["expression-indexes"].value == "not looked for"
    with Session(path) as session:
        session.run("SELECT count(*) FROM item")
        fact = look(path, runtime)["expression-indexes"]
    assert (fact.state, fact.value) == ("warning", "half")


def test_an_index_on_a_json_function_is_named(tmp_path: Path, runtime: Runtime) -> None:
    """SQLite 3.40 calls such a schema malformed unless it is trusted."""
    path = build(tmp_path / "app.db", rows=5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE INDEX extracted ON item(json_extract(name, '$.x')) WHERE json_valid(name)")
    fact = look(path, runtime)["expression-indexes"]
    assert (fact.state, fact.value) == ("warning", "extracted")


def test_an_empty_file_is_an_empty_database(tmp_path: Path, runtime: Runtime) -> None:
    """SQLite makes a database of it at the first write."""
    (tmp_path / "app.db").touch()
    assert look(tmp_path / "app.db", runtime)["journal-mode"].value == "an empty database"


HOLD = """
import os, sqlite3, sys
path, trouble = sys.argv[1:]
connection = sqlite3.connect(path)
connection.execute("SELECT count(*) FROM item").fetchall()
if trouble == "sniff":
    open(path, "rb").read(16)
print("ready", flush=True)
sys.stdin.read()
"""


def held(path: Path, trouble: str) -> subprocess.Popen[str]:
    """Start a process that is not a child's child of ours, and holds the database open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), trouble], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_holder_of_a_deleted_file_is_a_problem(tmp_path: Path, runtime: Runtime) -> None:
    """What it writes nobody else will ever see (H5)."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)
    with held(path, "") as process:
        os.replace(build(tmp_path / "new.db", rows=5), path)
        fact = look(path, runtime)["deleted-files"]
        process.communicate("")
    assert fact.state == "problem"
    assert f"pid {process.pid}" in fact.value


def test_a_holder_that_lost_its_locks_is_a_problem(tmp_path: Path, runtime: Runtime) -> None:
    """One open() and close() beside its connection dropped them (H1); a healthy holder is not blamed."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)
    with held(path, "") as process:
        assert "lost-locks" not in look(path, runtime)
        process.communicate("")
    with held(path, "sniff") as process:
        facts = look(path, runtime)
        process.communicate("")
    assert facts["lost-locks"].state == "problem"
    assert "open the database's files through SQLite alone" in facts["lost-locks"].hint


def test_what_is_said_of_holders_follows_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody, nobody that can be seen, our own reader, one with two libraries, one that ended meanwhile."""
    path = str(tmp_path / "app.db")

    def facts(*pids: int, why: str = "") -> list[tuple[str, str]]:
        every = ("app.db", "app.db-shm", "app.db-wal")
        found = tuple(Holder(pid=pid, command="app", files=every) for pid in pids)
        holders = Holders(path=path, holders=found, locks=(), why=why)
        return [(fact.name, fact.value) for fact in holding.holder_facts(holders, reader=7)]

    ended = 1 << 30  # above any process id
    assert facts() == facts(7) == [("holders", "none")]
    assert facts(why="1 process cannot be looked into") == [("holders", "none that can be seen")]
    assert [name for name, _ in facts(ended)] == ["holders"]
    monkeypatch.setattr(holding, "sqlite_libraries", lambda _: ("/a/libsqlite3.so", "/b/apsw/x.so"))
    assert [name for name, _ in facts(ended)] == ["holders", "two-libraries"]
