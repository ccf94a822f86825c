"""What check-environment finds around databases that real processes hold."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pagewarden import holders
from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Checker
from pagewarden.runtime import Runtime
from pagewarden.testing.contracts import CheckerContract
from pagewarden.testing.contracts.samples import opens
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import CheckReport, Finding, Level, Severity, Verdict
from pagewarden.versions import LinkedSQLite
from pagewarden_check_environment import checker as module
from pagewarden_check_environment import pagewarden_checkers
from pagewarden_check_environment.checker import EnvironmentChecker
from tests.support.databases import build
from tests.support.holding import holding
from tests.support.public import NOBODY, printed, public_folder
from tests.support.session import Session

ALONE = ("check-environment",)


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database in WAL mode."""
    return build(tmp_path / "app.db", mode="wal", rows=5)


def check(path: Path, runtime: Runtime) -> CheckReport:
    """Judge a database by this checker alone."""
    return run_check(CheckRequest(database=str(path), level=Level.QUICK, only=ALONE), runtime)


def judge(path: Path) -> list[Finding]:
    """Let the checker judge what `stat` and /proc show, without a run that opens the database."""
    with ClosedSubject(path) as subject:
        return list(EnvironmentChecker().check(subject).findings)


def test_healthy_surroundings_say_nothing(database: Path, runtime: Runtime) -> None:
    """Nobody, one process, a rollback journal in use: sound, and no notice."""
    assert check(database, runtime).findings == ()
    with Session(database) as session:
        session.run("UPDATE item SET name = 'x'")
        report = check(database, runtime)
        assert (report.verdict, report.findings) == (Verdict.SOUND, ())
    other = build(database.with_name("other.db"), rows=5)
    with Session(other) as session:
        session.run("PRAGMA journal_mode=PERSIST")
        session.run("UPDATE item SET name = 'x'")
        assert check(other, runtime).findings == ()


def test_a_process_that_lost_its_locks_is_damage(database: Path, runtime: Runtime) -> None:
    """H1: named with its process id, and with the command that saves what it wrote."""
    with holding(database) as process:
        process.do("sniff")
        report = check(database, runtime)
    (finding,) = report.findings
    assert (report.verdict, finding.kind, finding.severity) == (Verdict.DAMAGED, "lost-locks", Severity.DAMAGE)
    assert f"(pid {process.pid})" in finding.message
    assert finding.hint.startswith(f"cp /proc/{process.pid}/fd/")


def test_a_process_that_writes_to_a_deleted_file_is_damage(database: Path, runtime: Runtime) -> None:
    """H5: it is found though the database itself is as sound as can be."""
    with holding(database) as process:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink()
        build(database, mode="wal", rows=5)
        process.do("write")
        report = check(database, runtime)
    (finding,) = report.findings
    assert (report.verdict, finding.kind, finding.severity) == (Verdict.DAMAGED, "deleted-files", Severity.DAMAGE)
    assert f"/proc/{process.pid}/fd/" in finding.hint


def test_it_looks_around_where_the_database_cannot_be_opened(tmp_path: Path, runtime: Runtime) -> None:
    """A hot journal keeps every other checker out; this one opens nothing anyway."""
    path, hot = (build(tmp_path / name, rows=50) for name in ("app.db", "hot.db"))
    session = Session(hot)
    for statement in ("PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE item SET body = NULL"):
        session.run(statement)
    session.kill()
    with holding(path):
        for suffix in ("-journal", ""):
            os.replace(f"{hot}{suffix}", f"{path}{suffix}")
        report = run_check(CheckRequest(database=str(path), level=Level.QUICK), runtime)
    assert [finding.kind for finding in report.findings] == ["deleted-files"]
    whys = {result.name: result.why for result in report.checkers}
    assert "waits for a journal" in whys["open"]
    assert (whys["check-pages"], whys["check-environment"]) == ("not run", "")


def test_what_does_no_harm_yet_is_a_notice(database: Path) -> None:
    """A forked child that touches nothing; a database that was replaced under a process that only reads."""
    with holding(database) as process:
        process.do("fork")
        assert [(f.kind, f.severity) for f in judge(database)] == [("inherited-files", Severity.NOTICE)]
    path = build(database.with_name("other.db"), rows=5)
    with holding(path):
        time.sleep(0.02)
        os.replace(build(database.with_name("new.db"), rows=5), path)
        assert [(f.kind, f.severity) for f in judge(path)] == [("deleted-files", Severity.NOTICE)]


def test_the_known_bug_is_told_where_it_can_strike(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes two processes with this very library, WAL mode, and a release that has the bug."""
    monkeypatch.setattr(module, "linked_sqlite", lambda: LinkedSQLite(release=(3, 40, 1), source_id="2022-12-28 alt1"))
    with holding(database):
        assert judge(database) == []
        with holding(database):
            (finding,) = judge(database)
            assert (finding.kind, finding.severity) == ("known-bug", Severity.NOTICE)
            assert "2 processes use SQLite 3.40.1" in finding.message
            monkeypatch.setattr(module, "linked_sqlite", lambda: LinkedSQLite(release=(3, 53, 0), source_id="2027"))
            assert judge(database) == []


def test_two_libraries_in_one_process_are_a_notice(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H2: they break each other's locks."""
    with holding(database) as process:
        loaded = ("/a/libsqlite3.so.0", "/b/apsw/x.so")
        monkeypatch.setattr(module, "sqlite_libraries", lambda pid: loaded if pid == process.pid else loaded[:1])
        (finding,) = judge(database)
    assert (finding.kind, finding.severity) == ("two-libraries", Severity.NOTICE)
    assert f"/proc/{process.pid}/maps" in finding.hint


def test_a_network_file_system_is_a_notice(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H4: its locks may not reach whoever else has it mounted."""
    monkeypatch.setattr(module, "file_system", lambda _: "nfs4")
    assert [(f.kind, f.severity) for f in judge(database)] == [("network-file-system", Severity.NOTICE)]


def test_a_journal_beside_a_log_is_a_notice(database: Path) -> None:
    """SQLite would play it back, whatever it belongs to; an empty one is none."""
    journal = Path(f"{database}-journal")
    with holding(database):
        journal.touch()
        assert judge(database) == []
        journal.write_bytes(b"some journal")
        assert [(f.kind, f.severity) for f in judge(database)] == [("leftover-journal", Severity.NOTICE)]


def test_files_beside_it_that_do_not_fit_are_notices(database: Path) -> None:
    """One that shuts out who may write to the database, one with two names, one that is a link."""
    log = Path(f"{database}-wal")
    for mode, wal_mode, kinds in (
        (0o644, 0o644, []),
        (0o660, 0o660, []),
        (0o644, 0o666, []),
        (0o664, 0o644, ["odd-companion"]),
        (0o666, 0o664, ["odd-companion"]),
    ):
        log.touch()
        database.chmod(mode)
        log.chmod(wal_mode)
        assert [finding.kind for finding in judge(database)] == kinds, (mode, wal_mode)
    log.chmod(0o666)
    os.link(log, database.with_name("second"))
    (finding,) = judge(database)
    assert "2 names" in finding.message
    log.unlink()
    log.symlink_to(database.with_name("second"))
    (finding,) = judge(database)
    assert "no regular file" in finding.message
    assert finding.severity is Severity.NOTICE


def test_what_could_not_be_looked_at_is_said(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's processes, and a system without /proc; it is no finding, and no silence."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pagewarden.testing.subjects import ClosedSubject\n"
        "from pagewarden_check_environment.checker import EnvironmentChecker\n"
        "from pagewarden.live import file_system\n"
        "file_system(sys.argv[1])  # imports what nobody may not read\n"
        f"{NOBODY}\n"
        "with ClosedSubject(Path(sys.argv[1])) as subject:\n"
        "    outcome = EnvironmentChecker().check(subject)\n"
        "print(len(outcome.findings), outcome.why)\n"
    )
    with public_folder() as folder:
        path = build(folder / "app.db", mode="wal", rows=5)
        path.chmod(0o666)
        seen = printed(program, path)
        assert seen.startswith("0 ")
        hidden = any(not os.access(f"/proc/{pid}/fd", os.R_OK) for pid in os.listdir("/proc") if pid.isdecimal())
        assert "cannot be looked into" in seen or not hidden or os.geteuid() != 0
    monkeypatch.setattr(holders, "_PROC", tmp_path / "no-proc")
    with ClosedSubject(database) as subject:
        outcome = EnvironmentChecker().check(subject)
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert "no /proc" in outcome.why


def test_no_file_of_the_database_is_opened(database: Path) -> None:
    """H1: not even where somebody else's are looked at through /proc."""
    with holding(database) as process:
        process.do("sniff")
        with ClosedSubject(database) as subject, opens() as opened:
            assert len(EnvironmentChecker().check(subject).findings) == 1
    assert [path for path in opened if path.startswith(str(database))] == []
    assert [path for path in opened if "/fd/" in path] == []
