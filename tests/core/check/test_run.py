from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.check.checkers import CheckerRun
from pagewarden.contracts import Subject
from pagewarden.errors import DatabaseBusy, DatabaseNotFound, DatabaseUnreadable, PluginUnusable
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import CheckReport, Finding, Level, Severity, Verdict
from tests.core.check.checkers import Plugins, damage
from tests.support.session import Session


def check(runtime: Runtime, database: Path, **fields: object) -> CheckReport:
    """Judge a database."""
    return run_check(CheckRequest(database=str(database), **fields), runtime)  # type: ignore[arg-type]


def names(report: CheckReport) -> list[str]:
    """Return which checkers ran, in order."""
    return [result.name for result in report.checkers]


def why(report: CheckReport) -> str:
    """Return the one checker's reason."""
    (result,) = report.checkers
    return result.why


def said_once(report: CheckReport) -> str:
    """Return why a database could not be opened; the checkers were not run, and do not repeat it.

    Only those of its surroundings were.
    """
    first, *others = (result for result in report.checkers if result.name != "check-environment")
    assert (first.name, first.verdict) == ("open", Verdict.UNKNOWN)
    assert {(result.verdict, result.why) for result in others} == {(Verdict.UNKNOWN, "not run")}
    return first.why


def test_a_sound_database_is_sound(runtime: Runtime, database: Path) -> None:
    """The report says what was judged."""
    report = check(runtime, database, level=Level.DEEP)
    assert report.verdict is Verdict.SOUND
    assert report.exit_code == 0
    assert report.findings == ()
    assert report.database == str(database)
    assert (report.page_size, report.bytes) == (4096, database.stat().st_size)
    assert report.pages * 4096 == report.bytes
    assert names(report) == names(check(runtime, database, level=Level.DEEP))
    assert all(0 <= result.seconds <= report.seconds for result in report.checkers)


def test_the_level_chooses_the_checkers(runtime: Runtime, database: Path) -> None:
    """A level runs its own and those of the levels below, which come first."""
    quick, standard, deep = (names(check(runtime, database, level=level)) for level in Level)
    assert "check-pages" in quick
    assert {"check-indexes", "check-foreign-keys"} <= {*standard} - {*quick}
    assert "check-pragma" in {*deep} - {*standard}
    assert standard[: len(quick)] == quick and deep[: len(standard)] == standard


def test_a_checker_that_is_named_runs_at_any_level(runtime: Runtime, database: Path) -> None:
    """Once, however often it is named."""
    only = ("check-pragma", "check-pragma")
    assert names(check(runtime, database, level=Level.QUICK, only=only)) == ["check-pragma"]


def test_a_checker_that_is_not_there_is_an_error(runtime: Runtime, database: Path, plugins: Plugins) -> None:
    """It says which there are."""
    with pytest.raises(PluginUnusable, match="no checker check-mine; there are check-"):
        check(runtime, database, only=("check-mine",))
    with pytest.raises(PluginUnusable, match="no checker check-mine; there are none"):
        check(plugins.runtime(), database, only=("check-mine",))


def test_a_checker_that_is_missing_because_of_a_fault_says_so(
    plugins: Plugins, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plugin, which has its name by convention, is there and is broken."""
    runtime = plugins.runtime()
    fault = "plugin check-mine: failed to load: ImportError: no module"
    monkeypatch.setattr(type(runtime.extensions), "faults", (fault,))
    with pytest.raises(PluginUnusable, match=f"no checker check-mine: {fault}"):
        check(runtime, database, only=("check-mine",))


def test_a_run_without_checkers_knows_nothing(plugins: Plugins, database: Path) -> None:
    """Nothing was judged: unknown, not sound."""
    report = check(plugins.runtime(), database)
    assert (report.verdict, report.exit_code, report.checkers) == (Verdict.UNKNOWN, 3, ())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two\nlines"), "check-chosen failed: ValueError: two lines"),
        (SystemExit(), "check-chosen failed: SystemExit"),
        (DatabaseBusy("app.db is locked: pid 7", hint="wait"), "app.db is locked: pid 7 (hint: wait)"),
    ],
)
def test_a_checker_that_fails_is_unknown(plugins: Plugins, database: Path, error: BaseException, reason: str) -> None:
    """Its exception is the reason, and the other checkers run."""

    def fails(subject: Subject) -> None:
        raise error

    report = check(plugins.runtime(fails, lambda _: []), database)
    assert [(result.verdict, result.why) for result in report.checkers] == [
        (Verdict.UNKNOWN, reason),
        (Verdict.SOUND, ""),
    ]
    assert (report.verdict, report.exit_code) == (Verdict.UNKNOWN, 3)


def test_a_broken_contract_is_named(plugins: Plugins, database: Path) -> None:
    """A wrong return type is unknown, never sound."""
    report = check(plugins.runtime(lambda _: None), database)
    assert report.verdict is Verdict.UNKNOWN
    assert why(report).startswith("check-chosen broke its contract: Checker.check returned NoneType")


def test_what_a_failing_checker_found_stays(plugins: Plugins, database: Path) -> None:
    """Damage that was reported before the failure is damage."""

    def finds(subject: Subject) -> Iterator[Finding]:
        yield damage()
        raise OSError("disk gone")

    report = check(plugins.runtime(finds), database)
    assert (report.verdict, report.exit_code, len(report.findings)) == (Verdict.DAMAGED, 1, 1)
    assert why(report) == "check-chosen failed: OSError: disk gone"
    assert report.findings[0].checker == "check-chosen"


def test_a_violation_leaves_the_verdict_alone(plugins: Plugins, database: Path) -> None:
    """It is found, and the exit code says so."""
    violation = Finding(kind="foreign-key", severity=Severity.VIOLATION, message="a row names a row that is not there")
    report = check(plugins.runtime(lambda _: [violation]), database)
    assert (report.verdict, report.exit_code) == (Verdict.SOUND, 1)


def endless(subject: Subject) -> None:
    """Let SQLite count for ever."""
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    subject.connect().execute(query).fetchone()


def polite(subject: Subject) -> None:
    """Tell of progress for ever."""
    while True:
        with suppress(Exception):  # the signal is no Exception
            subject.progress(1, 2)
        time.sleep(0.001)


def looking(subject: Subject) -> None:
    """Read pages for ever."""
    while True:
        subject.image.sums(1, 5)


@pytest.mark.parametrize("behaviour", [endless, polite, looking])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_checker_is_stopped_at_the_deadline(plugins: Plugins, database: Path, behaviour: object, mode: str) -> None:
    """Its connections are interrupted, and nothing is given to it any more; the others have long been done."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    began = time.monotonic()
    report = check(plugins.runtime(behaviour, lambda _: []), database, max_time=0.4)  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    far = ", at 1 of 2" if behaviour is polite else ""
    assert [(result.verdict, result.why) for result in report.checkers] == [
        (Verdict.UNKNOWN, f"check-chosen was stopped when the 0.4 s were over{far}"),
        (Verdict.SOUND, ""),
    ]


def test_what_a_late_checker_found_stays_and_is_not_named_any_more(plugins: Plugins, database: Path) -> None:
    """There is no time left to look for the page's owner."""

    def finds(subject: Subject) -> Iterator[Finding]:
        yield damage(pgno=2)
        polite(subject)

    report = check(plugins.runtime(finds), database, max_time=0.4)
    assert (report.verdict, report.findings[0].object) == (Verdict.DAMAGED, None)
    assert why(report) == "check-chosen was stopped when the 0.4 s were over, at 1 of 2"


def test_a_run_without_time_judges_nothing(plugins: Plugins, database: Path) -> None:
    """Not even a fast checker; that is unknown."""
    report = check(plugins.runtime(lambda _: []), database, max_time=1e-6)
    assert report.verdict is Verdict.UNKNOWN
    assert why(report).startswith("no time was left of 1e-06 s: opening took 0.")
    assert "(hint: --max-time " in why(report)


def test_a_checker_that_hangs_is_abandoned(plugins: Plugins, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asks for later is refused, and the reader is a new one."""
    wait, outcome = threading.Event(), []

    def hangs(subject: Subject) -> None:
        assert subject.image.pages
        wait.wait(20)
        for ask in (subject.connect, lambda: subject.image, lambda: subject.baseline, lambda: subject.facts):
            try:
                ask()
            except BaseException as error:  # noqa: BLE001 - the signal is no Exception
                outcome.append(type(error).__name__)
        wait.clear()

    runtime = plugins.runtime(hangs)
    report = check(runtime, database, max_time=0.3)
    assert why(report) == "check-chosen did not end when the 0.3 s were over, and was abandoned"
    wait.set()
    while wait.is_set():
        time.sleep(0.01)
    assert outcome == ["DeadlinePassed"] * 4
    plugins.checkers.clear()
    assert check(plugins.runtime(lambda subject: subject.image.sums(1, 1) and []), database).verdict is Verdict.SOUND


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_checker_sees_the_database_and_cannot_write(plugins: Plugins, database: Path, mode: str) -> None:
    """Pages, facts and rows are those of the database; every write is refused, and pages beyond it are, too."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    size = database.stat().st_size
    seen = {}

    def looks(subject: Subject) -> list[Finding]:
        connection = subject.connect()
        seen["rows"] = connection.execute("SELECT count(*) FROM customers").fetchone()[0]
        for statement in ("DELETE FROM customers", "PRAGMA user_version=7", "CREATE TEMP TABLE t(a)"):
            with pytest.raises(sqlite3.OperationalError):
                connection.execute(statement)
        seen["page"] = subject.image.page(1)[:16]
        seen["sums"] = len(subject.image.sums(1, subject.image.pages))
        for pgno in (0, subject.image.pages + 1):
            with pytest.raises(ValueError, match="not all within"):
                subject.image.page(pgno)
        seen["facts"] = (subject.facts.file_size, subject.facts.journal_mode)
        assert (subject.path, subject.level, subject.baseline) == (str(database), Level.DEEP, None)
        return []

    before = database.read_bytes()
    assert check(plugins.runtime(looks), database, level=Level.DEEP).verdict is Verdict.SOUND
    assert seen == {
        "rows": 300,
        "page": b"SQLite format 3\0",
        "sums": size // 4096 * 8,
        "facts": (size, "wal" if mode == "wal" else "rollback"),
    }
    assert database.read_bytes() == before


def test_a_slow_checker_stops_no_commit(plugins: Plugins, database: Path) -> None:
    """With a rollback journal every open SELECT would; the checker's is on a copy, which is gone afterwards."""
    copies = []
    with Session(database) as writer:

        def slow(subject: Subject) -> list[Finding]:
            connection = subject.connect()
            cursor = connection.execute("SELECT * FROM customers")
            cursor.fetchone()
            subject.image.page(1)
            copies.append(Path(connection.execute("PRAGMA database_list").fetchone()[2]))
            writer.run("UPDATE customers SET name = 'new'")
            return []

        report = check(plugins.runtime(slow), database)
    assert report.verdict is Verdict.SOUND
    assert not copies[0].exists()
    assert not copies[0].parent.exists()


def test_a_checker_begins_again_when_commits_come_between(plugins: Plugins, database: Path) -> None:
    """It never judges a mixture of two commits: it begins again, on a copy that holds still."""
    calls = []
    with Session(database) as writer:

        def compares(subject: Subject) -> list[Finding]:
            calls.append(subject.image.page(1)[24:28])
            writer.run("UPDATE customers SET name = name || 'x'")
            again = subject.image.page(1)[24:28]
            return [] if again == calls[-1] else [damage("two commits")]

        report = check(plugins.runtime(compares), database)
    assert (report.verdict, len(calls)) == (Verdict.SOUND, 2)


def test_the_last_look_counts_too(plugins: Plugins, database: Path) -> None:
    """A commit after the last access, but before the checker returned, makes it begin again."""
    calls = []
    with Session(database) as writer:

        def looks(subject: Subject) -> list[Finding]:
            calls.append(subject.image.page(1)[24:28])
            if len(calls) == 1:
                writer.run("UPDATE customers SET name = 'new'")
            return []

        assert check(plugins.runtime(looks), database).verdict is Verdict.SOUND
    assert len(calls) == 2
    assert calls[0] != calls[1]


def test_in_wal_mode_a_commit_stays_readable(plugins: Plugins, database: Path) -> None:
    """Writers and checkpoints go on; the checker's commit does not move under it."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("UPDATE customers SET name = 'old'")
        sums = []

        def looks(subject: Subject) -> list[Finding]:
            for _ in range(3):
                sums.append(subject.image.sums(1, subject.image.pages))
                writer.run("UPDATE customers SET name = name || 'x'")
                writer.run("PRAGMA wal_checkpoint(PASSIVE)")
            return []

        assert check(plugins.runtime(looks), database).verdict is Verdict.SOUND
    assert len(sums) == 3
    assert len(set(sums)) == 1


def test_an_exclusive_lock_is_unknown_and_its_holder_is_named(runtime: Runtime, database: Path) -> None:
    """H35: not an error, because a later check may judge it."""
    with Session(database) as holder:
        holder.run("PRAGMA locking_mode=EXCLUSIVE")
        holder.run("BEGIN EXCLUSIVE")
        report = check(runtime, database)
        assert (report.verdict, report.exit_code, report.pages) == (Verdict.UNKNOWN, 3, 0)
        assert "is locked" in said_once(report)
        assert str(holder.pid) in said_once(report)


def test_a_hot_journal_is_unknown_and_stays(runtime: Runtime, database: Path) -> None:
    """H33: rolling it back would destroy evidence; neither file changes."""
    with Session(database) as writer:
        writer.run("PRAGMA cache_size=1")
        writer.run("BEGIN")
        writer.run("UPDATE customers SET notes = notes || ?", "x" * 500)
        writer.kill()
    journal = database.with_name("app.db-journal")
    before = database.read_bytes(), journal.read_bytes()
    assert len(before[1]) > 512
    report = check(runtime, database)
    assert report.verdict is Verdict.UNKNOWN
    assert "journal" in said_once(report) and "hint: " in said_once(report)
    assert (database.read_bytes(), journal.read_bytes()) == before


def closed_without_index(database: Path) -> None:
    """Put a database into WAL mode where SQLite can make no -shm, as in a read-only folder."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
    database.with_name("app.db-shm").symlink_to("nowhere")


def test_where_sqlite_can_make_no_index_it_is_unknown(runtime: Runtime, database: Path) -> None:
    """Step 8 of docs/live-read.md: elsewhere it can be judged, so it is no error, and the hint says how."""
    closed_without_index(database)
    report = check(runtime, database)
    assert (report.verdict, report.exit_code) == (Verdict.UNKNOWN, 3)
    assert "needs a -shm file" in said_once(report)
    assert f"name the copy: cp {database}" in said_once(report)


def test_a_database_that_nobody_can_write_to_is_judged(
    runtime: Runtime, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that is read-only as a whole: fully, unless it can be written to before the end."""
    closed_without_index(database)
    monkeypatch.setattr("pagewarden.live.connection.frozen", lambda _path: True)
    monkeypatch.setattr("pagewarden.live.place.frozen", lambda _path: True)
    report = check(runtime, database)  # at level deep some work in processes of their own, where nothing is patched
    assert (report.verdict, report.bytes) == (Verdict.SOUND, database.stat().st_size)
    run_checker = CheckerRun.judge

    def thaws(run: CheckerRun) -> object:
        judged = run_checker(run)
        monkeypatch.setattr("pagewarden.live.place.frozen", lambda _path: False)
        return judged

    monkeypatch.setattr(CheckerRun, "judge", thaws)
    report = check(runtime, database, only=("check-pragma",))
    assert report.verdict is Verdict.UNKNOWN
    assert "can be written to since it was opened" in report.checkers[-1].why


def test_a_file_of_which_only_the_first_bytes_are_left_is_damaged(runtime: Runtime, database: Path) -> None:
    """They say that it was a database."""
    database.write_bytes(b"SQLite format 3\0")
    report = check(runtime, database)
    assert (report.verdict, report.exit_code) == (Verdict.DAMAGED, 1)
    assert report.findings[0].kind == "unopenable"


def test_a_file_that_was_cut_off_within_its_header_is_told_once(runtime: Runtime, database: Path) -> None:
    """After how many bytes; the others only point to it, and nobody calls it encrypted."""
    database.write_bytes(database.read_bytes()[:50])
    report = check(runtime, database)
    (finding,) = report.findings
    assert (finding.kind, report.verdict) == ("unopenable", Verdict.DAMAGED)
    assert finding.message.endswith("the file was cut off after 50 bytes, and a header has 100")
    whys = {each.why for each in report.checkers if each.verdict is Verdict.UNKNOWN}
    assert whys == {"sqlite cannot open it: see what open found"}


def test_json_functions_in_the_schema_are_no_damage(runtime: Runtime, database: Path) -> None:
    """Some releases of SQLite call such a schema malformed unless it is trusted."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE INDEX extracted ON customers(json_extract(notes, '$.x')) WHERE json_valid(notes)")
    assert check(runtime, database, level=Level.DEEP).verdict is Verdict.SOUND


def test_what_is_no_file_is_an_error(runtime: Runtime, tmp_path: Path, database: Path) -> None:
    """Nothing there, a folder, a file with two names."""
    with pytest.raises(DatabaseNotFound):
        check(runtime, tmp_path / "missing.db")
    with pytest.raises(DatabaseUnreadable, match="is a directory"):
        check(runtime, tmp_path)
    (tmp_path / "second-name.db").hardlink_to(database)
    with pytest.raises(DatabaseUnreadable, match="2 names"):
        check(runtime, database)


def test_an_empty_file_is_a_sound_database_without_pages(runtime: Runtime, tmp_path: Path) -> None:
    """As for SQLite itself."""
    (tmp_path / "empty.db").write_bytes(b"")
    report = check(runtime, tmp_path / "empty.db", level=Level.DEEP)
    assert (report.verdict, report.pages, report.bytes) == (Verdict.SOUND, 0, 0)


def test_findings_that_name_a_page_get_its_table(runtime: Runtime, plugins: Plugins, database: Path) -> None:
    """SQLite's message has a number; a person reads whose page it is, and what to type."""
    INJURIES["zeroed-page"].apply(database, 3)
    report = check(runtime, database, only=("check-pragma",))
    named = [finding for finding in report.findings if finding.pgno]
    assert named
    assert all(finding.object and finding.object in finding.message for finding in named)
    assert all(finding.hint == "pagewarden backups --repo URL lists what can be restored" for finding in named)
    own = Finding(kind="mine", severity=Severity.DAMAGE, message="mine", pgno=2, object="my table", hint="my hint")
    report = check(plugins.runtime(lambda _: [own, damage(pgno=99_999)]), database)
    assert (report.findings[0].object, report.findings[0].hint) == ("my table", "my hint")
    assert report.findings[1].object is None


def test_observers_and_notifiers_are_told(plugins: Plugins, database: Path) -> None:
    """Events in order, with times; one notice for a person, with the first findings and the next command."""
    runtime = plugins.runtime(lambda _: [damage(f"finding {n}") for n in range(12)], lambda _: None)
    report = check(runtime, database)
    told = [event.name for event in plugins.events if event.fields.get("checker") != "check-chosen-2"]
    ends = ["checker.finished", "ledger.written", "check.finished"]
    assert told == ["check.started", "check.opened", *["check.finding"] * 12, *ends]
    assert len(plugins.events) == len(told) + 1
    assert plugins.events[0].fields["checkers"] == ["check-chosen", "check-chosen-2"]
    finished = plugins.events[-1]
    assert (finished.seconds, finished.fields) == (report.seconds, {"verdict": "damaged", "findings": 12})
    (notice,) = plugins.notifier.notices
    assert (notice.title, notice.severity) == (f"{database} is damaged", Severity.DAMAGE)
    lines = notice.body.splitlines()
    assert lines[:11] == [*[f"finding {n}" for n in range(10)], "and 2 more"]
    assert lines[11].startswith("check-chosen-2: check-chosen-2 broke its contract")
    assert lines[12].startswith("pagewarden backups")


def test_a_person_hears_of_what_could_not_be_judged_and_not_of_what_is_sound(plugins: Plugins, database: Path) -> None:
    """Silence means sound."""
    check(plugins.runtime(lambda _: []), database)
    assert plugins.notifier.notices == []
    plugins.checkers.clear()
    check(plugins.runtime(lambda _: None), database)
    assert plugins.notifier.notices[0].title == f"{database} could not be judged"
