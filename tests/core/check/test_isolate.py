from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, run_check, watch
from pagewarden.contracts import Checker
from pagewarden.hookspecs import hookimpl
from pagewarden.plugins import load_plugins
from pagewarden.processes.reader import PageReader
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import CheckReport, Severity, Verdict
from tests.core.check.checkers import Chosen
from tests.core.check.conftest import Baseline
from tests.support.databases import build
from tests.support.gone import gone
from tests.support.session import Session

RUINOUS = "tests.support.ruinous"

Check = Callable[..., CheckReport]


@pytest.fixture
def check(tmp_path: Path, reader: PageReader, database: Path) -> Check:
    """Judge the database with checkers of the ruinous plugin."""

    def run(*names: str, **fields: object) -> CheckReport:
        runtime = Runtime(state=tmp_path / "state", plugins=PluginChoice(extra=(RUINOUS,)), reader=reader)
        request = CheckRequest(database=str(database), only=tuple(f"check-{name}" for name in names), **fields)  # type: ignore[arg-type]
        return run_check(request, runtime)

    return run


@pytest.fixture(params=["delete", "wal"])
def live(request: pytest.FixtureRequest, database: Path) -> Path:
    """The database in each journal mode."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={request.param}")
    return database


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that takes a second for a minute."""
    monkeypatch.setattr(watch, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 5.0)


ENDS = {
    "raises": "check-raises failed: RuntimeError: two lines",
    "busy": "app.db is locked: pid 7 (hint: wait)",
    "leaves": "check-leaves failed: SystemExit: 3",
    "exits": "check-exits died: its process ended with status 7",
    "kills": "check-kills died: its process was killed by SIGKILL",
    "crashes": "check-crashes died: its process was killed by SIGSEGV: Fatal Python error: Segmentation fault",
    "aborts": "check-aborts died: its process was killed by SIGABRT: Fatal Python error: Aborted",
    "swells": "check-swells failed: MemoryError",
    "returns-none": "check-returns-none broke its contract: Checker.check returned NoneType, not findings",
    "returns-words": "check-returns-words broke its contract: Checker.check reported a str, not a Finding",
    "floods": "it reported more than 10000 findings; the first 10000 are kept",
    "babbles": "check-babbles broke its contract: its process sent nonsense: Object contains unknown field",
    "bellows": "check-bellows broke its contract: its process sent nonsense: a message of 1073741824 bytes",
    "asks": "check-asks broke its contract: its process asked for '__init__', which there is not",
    "asks-much": "check-asks-much failed: ValueError: 1099511627776 pages are too many for one question",
}


def test_each_way_to_fail_is_unknown_by_name_and_the_others_still_report(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own, all at once, beside a sound one; what had been found until then stays."""
    monkeypatch.setattr("pagewarden.check.isolate.memory_bound", lambda: 400 << 20)
    began = time.monotonic()
    report = check(*ENDS, "prints", "shouts")
    assert time.monotonic() - began < 60
    results = {result.name.removeprefix("check-"): result for result in report.checkers}
    for name, why in ENDS.items():
        assert results[name].why.startswith(why), results[name]
        assert results[name].verdict is not Verdict.SOUND, name
    found = {name for name, result in results.items() if result.findings}
    assert found == {"raises", "kills", "returns-words", "floods"}
    assert {name for name, result in results.items() if result.verdict is Verdict.DAMAGED} == found
    for name in ("prints", "shouts"):
        assert (results[name].verdict, results[name].why) == (Verdict.SOUND, ""), name


def test_a_checker_that_hangs_is_killed_at_the_deadline_with_all_that_it_started(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really killed: neither its process nor its child is left, and nothing is waited for."""
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(tmp_path / "pid"))
    began = time.monotonic()
    report = check("sleeps", "counts", "spins", max_time=5.0)
    assert time.monotonic() - began < 20
    assert [(result.name, result.why) for result in report.checkers] == [
        ("check-counts", "check-counts was stopped when the 5 s were over"),
        ("check-sleeps", "check-sleeps was stopped when the 5 s were over; the next run begins there"),
        ("check-spins", "check-spins was stopped when the 5 s were over, at 1 of 2"),
    ]
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_checker_started_ends_with_it(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it ended well, or died; nobody waits until it ends by itself."""
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(tmp_path / "pids"))
    began = time.monotonic()
    report = check("breeds", "breeds-and-dies")
    assert time.monotonic() - began < 15
    assert [result.why for result in report.checkers] == [
        "",
        "check-breeds-and-dies died: its process ended with status 7",
    ]
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert all(gone(int(pid)) for pid in pids)


def test_the_death_of_a_checker_is_seen_though_something_holds_the_conversation(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that left its group has all its pipes, and is not waited for."""
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(tmp_path / "pids"))
    began = time.monotonic()
    (result,) = check("disowns").checkers
    os.kill(int((tmp_path / "pids").read_text()), signal.SIGKILL)
    assert result.why == "check-disowns died: its process ended with status 7"
    assert time.monotonic() - began < 15


def test_a_checker_that_keeps_pythons_lock_ends_with_a_run_that_is_killed(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with what it started: no thread of its process could see that the run is gone."""
    noted = tmp_path / "pids"
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(noted))
    program = (
        "import sys; from pathlib import Path\n"
        "from pagewarden.check import CheckRequest, run_check\n"
        "from pagewarden.runtime import PluginChoice, Runtime\n"
        f"runtime = Runtime(state=Path({str(tmp_path / 'state')!r}), plugins=PluginChoice(extra=({RUINOUS!r},)))\n"
        f"run_check(CheckRequest(database={str(database)!r}, only=('check-seizes',)), runtime)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as run:
        try:
            while not noted.exists() or len(noted.read_text().split()) < 2:
                assert run.poll() is None
                time.sleep(0.02)
            time.sleep(0.1)  # it is in the native call by then
        finally:
            run.kill()
    assert all(gone(int(pid)) for pid in noted.read_text().split())


@pytest.mark.usefixtures("quick_watch")
def test_a_checker_that_hangs_ends_without_a_deadline(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does nothing is taken for hung soon, one that works and tells nothing new after a while."""
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(tmp_path / "pid"))
    report = check("sleeps", "counts")
    assert [(result.name, result.why) for result in report.checkers] == [
        ("check-counts", "check-counts hung: it told nothing new for 5 s, and its process was killed"),
        ("check-sleeps", "check-sleeps hung: it did nothing for 1 s, and its process was killed"),
    ]
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_subject_has_everything_in_another_process_too(
    check: Check, live: Path, tmp_path: Path, reader: PageReader
) -> None:
    """Pages, sums, walks, the baseline with its history, connections of its own, copies: as in the run's process."""
    repository = str(tmp_path / "repository")
    runtime = Runtime(state=tmp_path / "state", reader=reader)
    for _ in range(2):
        with closing(sqlite3.connect(live)) as connection, connection:
            connection.execute("UPDATE customers SET name = name || 'x' WHERE id = 1")
        run_backup(BackupRequest(database=str(live), repository=repository), runtime)
    before = live.read_bytes()
    with Session(live) as writer:  # so that the -wal stays
        mode = writer.run("PRAGMA journal_mode")[0][0]
        report = check("sees", repository=repository, assertions=("SELECT 1",))
    (result,) = report.checkers
    assert (result.verdict, result.why) == (Verdict.UNKNOWN, "it was only looking")
    pages, size = len(before) // 4096, len(before)
    assert report.findings[0].evidence.splitlines() == [
        "assertions: ('SELECT 1',)",
        f"baseline: (4096, {pages}, True, True)",
        "equal: True",
        f"facts: ({size}, '{'wal' if mode == 'wal' else 'rollback'}')",
        f"image: (4096, {pages}, b'SQLite format 3', True)",
        "level: standard",
        "none: b''",
        "older: 1",
        "older page: [b'SQLite']",
        f"refused 0: pages 0 to 0 are not all within a database of {pages}",
        f"refused {pages + 1}: pages {pages + 1} to {pages + 1} are not all within a database of {pages}",
        f"reserved: {pages}",
        "rows: (300,)",
        f"sums: {pages}",
        "wal: False",
        "walk: (True, True)",
    ]
    assert live.read_bytes() == before


def test_a_subject_without_a_baseline_has_none_and_a_log_is_surveyed(check: Check, database: Path) -> None:
    """There, too."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("UPDATE customers SET name = 'new'")
        evidence = check("sees").findings[0].evidence
    assert "baseline: None" in evidence
    assert "wal: True" in evidence


def test_the_memory_of_a_process_is_bounded_by_the_machines() -> None:
    """Never so little that nothing works, and never all of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 512 << 20 <= watch.memory_bound() <= max(512 << 20, min(4 << 30, whole // 2))


def test_a_baseline_that_cannot_be_used_raises_there_too(
    check: Check, tmp_path: Path, baseline: Baseline, database: Path
) -> None:
    """With the same error and the same hint; a declared one is current."""
    (result,) = check("sees", repository=str(tmp_path / "nothing")).checkers
    assert result.why.startswith(f"there is no repository at {tmp_path}/nothing")
    assert "True, True)" in check("sees", baseline=baseline(database)).findings[0].evidence


def test_it_begins_again_where_a_commit_came_between(
    check: Check, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rollback journal: in another process, on a copy that holds still."""
    flag = tmp_path / "flag"
    monkeypatch.setenv("PAGEWARDEN_TEST_FILE", str(flag))
    with Session(database) as writer:

        def commit() -> None:
            while not flag.exists():
                time.sleep(0.01)
            writer.run("UPDATE customers SET name = 'new'")
            flag.write_text("committed")

        thread = threading.Thread(target=commit)
        thread.start()
        report = check("moves")
        thread.join()
    assert (report.verdict, report.findings) == (Verdict.SOUND, ())


def test_a_refusal_to_attach_ends_the_process_that_waits(check: Check, database: Path) -> None:
    """A file that SQLite refuses, and no baseline that knows its page size: there are no pages to give."""
    database.write_bytes(database.read_bytes()[:16] + b"\x00\x07" + database.read_bytes()[18:])
    result = check("sees").checkers[-1]
    assert result.verdict is Verdict.UNKNOWN
    assert result.why == "sqlite cannot open it: see what open found"


def test_only_what_is_importable_and_does_not_ask_for_this_process_is_isolated(tmp_path: Path) -> None:
    """An object that an application made stays where it is; so do our own checkers, which start sooner so."""

    class Brings:
        @hookimpl
        def pagewarden_checkers(self) -> Iterable[Checker]:
            return [Chosen(lambda _: [], "check-mine")]

    made = ModuleType("made_here")
    made.pagewarden_checkers = hookimpl(lambda: [Chosen(lambda _: [], "check-made")])  # type: ignore[attr-defined]
    extensions = load_plugins(extra=[Brings(), RUINOUS, made])
    assert extensions.home("check-mine") is None
    assert extensions.home("check-made") is None
    assert extensions.home("check-raises") == RUINOUS
    assert load_plugins(only=(), extra=[sys.modules[RUINOUS]]).home("check-raises") == RUINOUS
    assert [load_plugins().home(name) for name in ("check-pages", "check-foreign-keys")] == [None, None]


def test_a_plugin_that_is_gone_by_then_is_unknown(tmp_path: Path, reader: PageReader, database: Path) -> None:
    """Its module was there when the run's process loaded it, and brings the checker no more."""
    module = tmp_path / "fleeting.py"
    source = "from tests.support import ruinous\nfrom pagewarden import hookimpl\n"
    module.write_text(f"{source}@hookimpl\ndef pagewarden_checkers():\n    return [ruinous.Ruinous(ruinous.prints)]\n")
    sys.path.insert(0, str(tmp_path))
    try:
        extensions = load_plugins(only=(), extra=["fleeting"])
        module.write_text(f"{source}@hookimpl\ndef pagewarden_checkers():\n    return []\n")
        os.utime(module, (1, 1))
        runtime = Runtime(state=tmp_path / "state", reader=reader)
        runtime._extensions = extensions
        (result,) = run_check(CheckRequest(database=str(database)), runtime).checkers
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["fleeting"]
    assert result.why == ("fleeting brings no checker check-prints in a process of its own (hint: pagewarden plugins)")


def test_damage_that_was_found_before_a_death_is_damage(check: Check, database: Path) -> None:
    """It is named and hinted as any other."""
    build(database.with_name("other.db"))
    report = check("kills", "prints")
    assert (report.verdict, report.findings[0].severity) == (Verdict.DAMAGED, Severity.DAMAGE)
    assert report.findings[0].checker == "check-kills"
    assert report.findings[0].hint.startswith("pagewarden backups")
