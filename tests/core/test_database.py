"""`pagewarden.open`: the verbs as methods, with nothing opened in the application's own process."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import pagewarden
from pagewarden.database import Database
from tests.cli.conftest import make_database

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of the test's own, and no configuration."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PAGEWARDEN_CONFIG", "/nowhere/at/all.toml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small database."""
    return make_database(tmp_path / "app.db")


@pytest.fixture
def db(path: Path, tmp_path: Path) -> Iterator[Database]:
    """A handle on it, with a repository that is not there yet."""
    with pagewarden.open(path, repository=tmp_path / "backup") as opened:
        yield opened


def test_the_whole_job(db: Database, path: Path, tmp_path: Path) -> None:
    """Each verb returns its report, and what they say fits together."""
    report = db.check()
    assert isinstance(report, pagewarden.CheckReport)
    assert (report.verdict, report.database) == (pagewarden.Verdict.SOUND, str(path))
    backup = db.backup()
    assert (backup.verified, backup.name, backup.repository) == (True, "app.db", str(tmp_path / "backup"))
    assert backup.position.time.tzinfo is not None
    (point,) = db.backups().backups
    assert (point.position, point.database_sum) == (backup.position, backup.database_sum)
    part = db.verify(read_subset="1")
    assert [(point.read, point.data) for point in part.points] == [(True, True)]
    proved = db.verify(read_data=True, max_time=600)
    assert (proved.verdict, proved.read_data) == (pagewarden.Verdict.SOUND, True)
    plan = db.restore(tmp_path / "new.db", dry_run=True)
    assert plan.steps
    assert not (tmp_path / "new.db").exists()
    restored = db.restore(tmp_path / "new.db")
    assert (restored.database_sum, restored.position) == (backup.database_sum, backup.position)
    undone = db.undo(tmp_path / "new.db")
    assert undone.restored == "nothing"
    assert db.check().position is None
    assert db.check(compare=True).position == backup.position
    assert db.doctor().database == str(path)
    assert "check-pragma" in [plugin.name for plugin in db.plugins().plugins]


def test_a_time_is_a_datetime_or_text(db: Database, tmp_path: Path) -> None:
    """In any zone; what has no offset is refused before anything is done."""
    first = db.backup().position.time
    tokyo = first.astimezone(timezone(timedelta(hours=9)))
    assert db.restore(tmp_path / "a.db", at=tokyo).time == first
    assert db.restore(tmp_path / "b.db", at=first.isoformat()).time == first
    assert db.restore(tmp_path / "c.db", txid=1).time == first
    with pytest.raises(pagewarden.RepositoryNotFound):
        db.restore(tmp_path / "d.db", at="-1h")
    for naive in (datetime.now(UTC).replace(tzinfo=None), "2026-11-22T10:15:00"):
        with pytest.raises(pagewarden.ConfigurationInvalid, match="offset"):
            db.restore(tmp_path / "d.db", at=naive)


def test_options_reach_the_runs(db: Database, path: Path, tmp_path: Path) -> None:
    """Level, checkers, time, baseline, name, compression, judgement."""
    assert [checker.name for checker in db.check(only=["check-pragma"]).checkers] == ["check-pragma"]
    assert len(db.check(level="quick").checkers) < len(db.check(level=pagewarden.Level.DEEP).checkers)
    assert db.check(max_time=0.000001).verdict is pagewarden.Verdict.UNKNOWN
    backup = db.backup(name="other", compression=19, check="none")
    assert (backup.name, backup.source.level) == ("other", "none")
    (tmp_path / "no.file").touch()
    with pytest.raises(pagewarden.PagewardenError):
        db.check(baseline=tmp_path / "no.file")


def test_errors_are_the_commands_own(tmp_path: Path) -> None:
    """Class, message and hint, raised where the verb was called."""
    with pagewarden.open(tmp_path / "none.db") as db:
        with pytest.raises(pagewarden.DatabaseNotFound, match=r"none\.db"):
            db.check()
        with pytest.raises(pagewarden.ConfigurationInvalid, match="no repository was named"):
            db.check(compare=True)
        with pytest.raises(pagewarden.ConfigurationInvalid, match="no repository was named") as caught:
            db.backup()
        assert "repository=" in caught.value.hint
        assert db.repository is None


def test_a_backup_is_of_what_changed_unless_it_is_full(path: Path, tmp_path: Path) -> None:
    """Through the worker, as typed."""
    with pagewarden.open(path, repository=tmp_path / "backup") as db:
        kinds = [db.backup(check="none").kind, db.backup(check="none").kind, db.backup(check="none", full=True).kind]
    assert kinds == ["snapshot", "unchanged", "snapshot"]


def test_a_repository_needs_a_plugin_that_opens_it(path: Path, tmp_path: Path) -> None:
    """The hint names the one that was left out."""
    with pagewarden.open(path, repository=tmp_path / "backup", plugins=["check-pragma"]) as db:
        with pytest.raises(pagewarden.PluginUnusable, match="no plugin opens plain paths") as caught:
            db.backup()
        assert "target-directory was left out: add it to `plugins`" in caught.value.hint


WRONG: dict[str, Callable[[Path], object]] = {
    "path is bytes": lambda path: pagewarden.open(bytes(path)),  # type: ignore[arg-type]
    "path is no path: 5": lambda path: pagewarden.open(5),  # type: ignore[arg-type]
    "path is no path: 'a": lambda path: pagewarden.open("a\0b"),
    "path is empty": lambda path: pagewarden.open(""),
    "repository is empty": lambda path: pagewarden.open(path, ""),
    "config is empty": lambda path: pagewarden.open(path, config=""),
    "plugins is 'check-pragma'": lambda path: pagewarden.open(path, plugins="check-pragma"),
    "plugins is 5": lambda path: pagewarden.open(path, plugins=5),  # type: ignore[arg-type]
    r"plugins is \[<module": lambda path: pagewarden.open(path, plugins=[pagewarden]),  # type: ignore[list-item]
    "only is 'check-pragma'": lambda path: pagewarden.open(path).check(only="check-pragma"),
    "max_time is -1": lambda path: pagewarden.open(path).check(max_time=-1),
    "max_time is nan": lambda path: pagewarden.open(path).check(max_time=float("nan")),
    "baseline is empty": lambda path: pagewarden.open(path).check(baseline=""),
    "to is empty": lambda path: pagewarden.open(path, "backup").restore(""),
    "at is 5": lambda path: pagewarden.open(path, "backup").restore("x", at=5),  # type: ignore[arg-type]
    "path is empty, to be undone": lambda path: pagewarden.open(path).undo(""),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_argument_that_is_none_is_named(path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any process is started, with what to write instead."""
    monkeypatch.setattr("pagewarden.processes.worker.Child", None)
    with pytest.raises(pagewarden.ConfigurationInvalid, match=what.partition(",")[0]) as caught:
        WRONG[what](path)
    assert caught.value.hint


def test_what_was_closed_stays_closed(path: Path) -> None:
    """Whether it was ever used or not; closing it again is no error."""
    db = pagewarden.open(path)
    for _ in range(2):
        db.close()
        with pytest.raises(pagewarden.ConfigurationInvalid, match="plugins was called on a database that was closed"):
            db.plugins()
    assert db.path == str(path)


def test_damage_is_a_value(db: Database, path: Path) -> None:
    """Not raised."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"note 77 xxxx") // 4096 * 4096
    data[begin : begin + 4096] = bytes(4096)
    path.write_bytes(data)
    report = db.check()
    assert report.verdict is pagewarden.Verdict.DAMAGED
    assert {finding.severity for finding in report.findings} == {pagewarden.Severity.DAMAGE}


def test_a_configuration_is_read_only_if_it_is_named(path: Path, tmp_path: Path) -> None:
    """Names, defaults and plugins come from it; the environment's is not looked at."""
    file = tmp_path / "c.toml"
    file.write_text(
        """
        [databases.main]
        path = "app.db"
        name = "chosen"
        checkers = ["check-pragma"]
        repository = "store"
        [repositories.store]
        url = "stored"
        read_data = true
        [plugins]
        only = ["check-pragma", "target-directory"]
        """
    )
    with pagewarden.open("main", config=file) as db:
        assert (db.path, db.repository) == (str(path), str(tmp_path / "stored"))
        assert [checker.name for checker in db.check().checkers] == ["check-pragma"]
        assert db.backup().name == "chosen"
        assert db.backups().backups[0].database == "chosen"
    with pagewarden.open("main", repository="store", config=file) as db:
        assert db.verify().read_data is True
    with pytest.raises(pagewarden.ConfigurationInvalid, match="there is no configuration"):
        pagewarden.open(path, config=tmp_path / "none.toml")


def test_assertions_of_the_configuration_are_run(path: Path, tmp_path: Path) -> None:
    """At level deep, by whoever embeds it as by the command line."""
    file = tmp_path / "c.toml"
    file.write_text(f'[databases.main]\npath = "{path}"\nassertions = ["SELECT 1 = 2", "SELECT 1"]\n')
    with pagewarden.open("main", config=file) as db:
        report = db.check(level="deep", only=["check-assertions"])
    assert [finding.message for finding in report.findings] == ["an assertion does not hold: SELECT 1 = 2 returned 0"]
    assert (report.verdict, report.exit_code) == (pagewarden.Verdict.SOUND, 1)


def test_plugins_are_picked_by_name_and_module(path: Path) -> None:
    """Exactly those; one that is not installed is an error at the first verb."""
    with pagewarden.open(path, plugins=["check-pragma", "tests.support.unruly"]) as db:
        used = {plugin.name for plugin in db.plugins().plugins if not plugin.disabled}
        assert used == {"check-pragma", "tests.support.unruly"}
        assert [checker.name for checker in db.check(level="deep").checkers] == ["check-pragma"]
    with (
        pagewarden.open(path, plugins=["check-nothing"]) as db,
        pytest.raises(pagewarden.PluginUnusable, match="check-nothing"),
    ):
        db.check()


def test_progress_and_events_are_told(path: Path, tmp_path: Path) -> None:
    """In the thread that waits, in order, with what observers see."""
    steps: list[tuple[str, int, int]] = []
    events: list[pagewarden.Event] = []
    with pagewarden.open(
        path,
        repository=tmp_path / "backup",
        on_progress=lambda step, done, total: steps.append((step, done, total)),
        on_event=events.append,
    ) as db:
        db.backup()
    assert ("copying pages", 34, 34) in steps
    names = [event.name for event in events]
    assert names[0] == "backup.started"
    assert names[-1] == "backup.finished"
    assert all(event.time.tzinfo is not None for event in events)


def test_paths_are_absolute_from_the_start(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may change its folder; the worker may have another."""
    monkeypatch.chdir(tmp_path)
    with pagewarden.open("app.db", repository="backup") as db:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        db.backup()
        assert (tmp_path / "backup" / "pagewarden.json").exists()
        db.restore("new.db")
        assert (tmp_path / "elsewhere" / "new.db").exists()


def test_the_name_of_a_link_is_its_targets(path: Path, tmp_path: Path) -> None:
    """A backup names the real file, and so do the verbs that look for it."""
    (tmp_path / "link.db").symlink_to(path)
    with pagewarden.open(tmp_path / "link.db", repository=tmp_path / "backup") as db:
        assert db.backup().name == "app.db"
        assert len(db.backups().backups) == 1


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("got the lock")
"""


def second_process(path: Path) -> str:
    """Return what another process that wants the write lock is told."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


VERBS: dict[str, Callable[[Database, Path], object]] = {
    "check": lambda db, _: db.check(level="deep"),
    "backup": lambda db, _: db.backup(),
    "backups": lambda db, _: db.backups(),
    "verify": lambda db, _: db.verify(read_data=True),
    "restore": lambda db, folder: db.restore(folder / "new.db"),
    "undo": lambda db, folder: db.undo(folder / "new.db"),
    "repair": lambda db, _: db.repair(),
    "pin": lambda db, _: db.pin(note="before the prune"),
    "unpin": lambda db, _: db.unpin(),
    "prune": lambda db, _: (db.backup(full=True), db.prune(apply=True, last=1)),
    "undelete": lambda db, _: db.undelete(),
    "ledger": lambda db, _: db.ledger(),
    "wal_status": lambda db, _: db.wal_status(),
    "wal_enable": lambda db, _: switch_in_vain(db),
    "wal_checkpoint": lambda db, _: checkpoint_in_vain(db),
    "wal_tune": lambda db, _: db.wal_tune(preset="safe"),
    "guard": lambda db, _: follow_in_vain(db),
    "doctor": lambda db, _: db.doctor(),
    "plugins": lambda db, _: db.plugins(),
}


def switch_in_vain(db: Database) -> None:
    """Try to switch the journal mode, which the application's transaction is in the way of."""
    off = db.wal_status().journal_mode == "wal"
    with pytest.raises(pagewarden.DatabaseBusy):
        db.wal_enable(off=off, force=True, max_time=0.05)


def checkpoint_in_vain(db: Database) -> None:
    """Try to bring all of the log into the database, which the application's write lock is in the way of."""
    if db.wal_status().journal_mode == "wal":
        assert db.wal_checkpoint().done
        assert not db.wal_checkpoint(mode="truncate", max_time=0.05).done
    else:
        with pytest.raises(pagewarden.NotInWalMode):
            db.wal_checkpoint()


def follow_in_vain(db: Database) -> None:
    """Follow it beside the application's transaction, which is not committed; only WAL mode can be followed."""
    if db.wal_status().journal_mode == "wal":
        with db.guard() as guard:
            guard.flush(30)
    else:
        with pytest.raises(pagewarden.NotInWalMode), db.guard() as guard:
            guard.flush(30)


def test_every_verb_is_in_the_test_of_locks() -> None:
    """A new one must be, too."""
    public = {name for name, value in vars(Database).items() if callable(value) and not name.startswith("_")}
    assert set(VERBS) == public - {"close"}


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_locks_of_the_application_survive_each_verb(db: Database, path: Path, tmp_path: Path, journal: str) -> None:
    """H1: a second process never gets the write lock that the application holds, before, between or after the verbs."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("INSERT INTO note VALUES(30000, 1, 'mine')")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO note VALUES(30001, 1, 'mine, too')")
        assert second_process(path) == "database is locked"
        for verb, call in VERBS.items():
            call(db, tmp_path)
            assert second_process(path) == "database is locked", verb
        connection.execute("COMMIT")
        db.close()
        assert connection.execute("SELECT count(*) FROM note WHERE id >= 30000").fetchone() == (2,)
    assert second_process(path) == "got the lock"


def test_an_application_decides_what_is_kept(db: Database) -> None:
    """The same reports as on the command line: a dry run, what goes, what is pinned, and what is had back."""
    first, second = db.backup(), db.backup(full=True)
    assert db.pin(txid=1, note="the first").note == "the first"
    assert [point.state for point in db.prune(last=1).databases[0].points] == ["kept", "kept"]
    assert not db.unpin(at=first.position.time).pinned
    assert [point.state for point in db.prune(last=1).databases[0].points] == ["goes", "kept"]
    report = db.prune(apply=True, last=1, grace="1w")
    assert (report.applied, report.databases[0].policy) == (True, "keep the last 1")
    assert [point.position for point in db.backups().backups] == [second.position]
    assert db.undelete(txid=1).positions == (first.position,)
    assert [point.state for point in db.prune().databases[0].points] == ["kept", "kept"]
    assert [point.state for point in db.prune(apply=True, last=1, grace="0s").databases[0].points] == ["purged", "kept"]
    with pytest.raises(pagewarden.ConfigurationInvalid, match="less than nothing"):
        db.prune(last=-1)


def run_program(program: str, *words: str | Path) -> str:
    """Run a program in an interpreter of its own, warnings as errors; unmeasured, because coverage imports sqlite3."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_application_imports_no_sqlite(path: Path) -> None:
    """H2: after a check, the application's process has neither the module nor the database's descriptors."""
    program = """
import os, sys
import pagewarden
with pagewarden.open(sys.argv[1]) as db:
    assert db.check().verdict is pagewarden.Verdict.SOUND
    for descriptor in range(3, 100):
        if os.path.lexists(f"/proc/self/fd/{descriptor}"):
            assert not os.readlink(f"/proc/self/fd/{descriptor}").startswith(sys.argv[1])
assert "sqlite3" not in sys.modules and "_sqlite3" not in sys.modules
assert not [line for line in open("/proc/self/maps") if "sqlite" in line]
"""
    run_program(program, path)


def test_the_example_runs() -> None:
    """As the documents say."""
    shown = run_program("import embed; embed.main()")
    assert "1 restore points, sound" in shown


def test_the_example_runs_beside_apsw(tmp_path: Path) -> None:
    """An application on another SQLite library keeps its transaction and its locks through all verbs (H1, H2)."""
    program = """
import sys
from pathlib import Path
import apsw
import embed
path = Path(sys.argv[1], "app.db")
connection = apsw.Connection(str(path))
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)")
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO note(text) VALUES('not committed yet')")
embed.guard(path, Path(sys.argv[1], "backup"))
import subprocess
told = subprocess.run([sys.executable, "-c", sys.argv[2], str(path)], capture_output=True, text=True, check=True)
assert told.stdout.strip() == "database is locked", told.stdout
connection.execute("COMMIT")
assert list(connection.execute("SELECT count(*) FROM note")) == [(1,)]
assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
connection.close()
assert "sqlite3" not in sys.modules
"""
    assert "restored to" in run_program(program, tmp_path, WRITER)


def test_the_ledger_is_the_workers(db: Database, tmp_path: Path) -> None:
    """It is in the state directory; the application's own process never opens it."""
    report = db.check()
    found = db.ledger()
    assert (found.database, found.exit_code, found.suspects) == (db.path, 0, ())
    assert [(run.verdict, run.checkers) for run in found.runs] == [(report.verdict, report.checkers)]
    assert (tmp_path / "state" / "pagewarden" / "ledger.db").exists()
