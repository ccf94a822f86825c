from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.check.checkers import CheckerRun
from pagewarden.contracts import Subject
from pagewarden.processes.reader import PageReader
from pagewarden.values import CheckReport, Finding, Verdict
from tests.core.check.checkers import Plugins, damage
from tests.support.session import Session
from tests.support.tracing import dying_threads

Check = Callable[[Subject], object]


def check(plugins: Plugins, database: Path, *behaviours: Check, **fields: object) -> CheckReport:
    """Judge a database with a checker for each behaviour."""
    return run_check(
        CheckRequest(database=str(database), **fields),  # type: ignore[arg-type]
        plugins.runtime(*behaviours),
    )


@pytest.fixture(params=["delete", "wal"])
def live(request: pytest.FixtureRequest, database: Path) -> Path:
    """A database in each journal mode."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={request.param}")
    return database


def test_checkers_work_at_the_same_time_and_are_reported_in_order(plugins: Plugins, live: Path) -> None:
    """Each waits for all the others, which none would survive that came after another; each has its own time."""
    barrier = threading.Barrier(3)

    def meets(subject: Subject) -> list[Finding]:
        subject.image.page(1)
        barrier.wait(10)
        assert subject.connect().execute("SELECT count(*) FROM customers").fetchone() == (300,)
        return []

    def lingers(subject: Subject) -> list[Finding]:
        meets(subject)
        time.sleep(0.2)
        return [damage()]

    report = check(plugins, live, lingers, meets, meets)
    assert [(result.name, result.verdict) for result in report.checkers] == [
        ("check-chosen", Verdict.DAMAGED),
        ("check-chosen-2", Verdict.SOUND),
        ("check-chosen-3", Verdict.SOUND),
    ]
    assert report.checkers[0].seconds > 0.2
    ended = [event.fields["checker"] for event in plugins.events if event.name == "checker.finished"]
    assert ended[-1] == "check-chosen"


def test_a_checker_whose_thread_died_is_unknown(plugins: Plugins, live: Path) -> None:
    """The run neither waits for it for ever nor takes silence for a judgement; the others report."""

    def sees(subject: Subject) -> list[Finding]:
        return [damage()]

    with dying_threads("run check-chosen-2"):
        report = check(plugins, live, sees, sees)
    lost, told = report.checkers[1], report.checkers[0]
    assert (told.verdict, told.findings) == (Verdict.DAMAGED, 1)
    assert (lost.name, lost.verdict, lost.findings) == ("check-chosen-2", Verdict.UNKNOWN, 0)
    assert "ended before it began" in lost.why


def test_all_see_one_commit_and_it_is_pinned_once(plugins: Plugins, database: Path) -> None:
    """WAL mode (H8, H19): one pin for all who read at once, also while a writer goes on; none is left afterwards."""
    seen: list[bytes] = []
    barrier = threading.Barrier(3)
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("UPDATE customers SET name = 'old'")

        def reads(subject: Subject) -> list[Finding]:
            assert subject.image.pages
            if barrier.wait(10) == 0:
                writer.run("UPDATE customers SET name = name || 'x'")
            barrier.wait(10)
            seen.append(subject.image.sums(1, subject.image.pages))
            return []

        assert check(plugins, database, reads, reads, reads).verdict is Verdict.SOUND
        assert (len(seen), len(set(seen))) == (3, 1)
        assert [event.name for event in plugins.events].count("check.pinned") == 1
        busy, log, done = writer.run("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        assert (busy, log, done) == (0, 0, 0)


def test_whoever_asks_after_all_have_let_go_pins_anew(plugins: Plugins, database: Path) -> None:
    """H8: the pin is held no longer than somebody reads."""
    first = threading.Event()
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")

        def reads(subject: Subject) -> list[Finding]:
            assert subject.image.pages
            return []

        def later(subject: Subject) -> list[Finding]:
            first.wait(10)
            time.sleep(0.2)
            assert writer.run("UPDATE customers SET name = 'x'") == []
            assert writer.run("PRAGMA wal_checkpoint(TRUNCATE)") == [[0, 0, 0]]
            return reads(subject)

        def sooner(subject: Subject) -> list[Finding]:
            try:
                return reads(subject)
            finally:
                first.set()

        assert check(plugins, database, sooner, later).verdict is Verdict.SOUND
    assert [event.name for event in plugins.events].count("check.pinned") >= 1


def test_a_commit_between_slices_sends_all_to_one_copy(plugins: Plugins, database: Path) -> None:
    """With a rollback journal: none judges a mixture, and the copy is made once."""
    barrier = threading.Barrier(2)
    calls: list[str] = []
    with Session(database) as writer:

        def reads(subject: Subject) -> list[Finding]:
            first = subject.image.page(1)[24:28]
            calls.append("begun")
            if len(calls) <= 2 and barrier.wait(10) == 0:
                writer.run("UPDATE customers SET name = 'new'")
            if len(calls) <= 2:
                barrier.wait(10)
            return [] if subject.image.page(1)[24:28] == first else [damage("two commits")]

        assert check(plugins, database, reads, reads).verdict is Verdict.SOUND
    assert len(calls) == 4
    assert [event.name for event in plugins.events].count("check.copied") == 1


def test_a_checker_that_kills_the_page_reader_harms_nobody_else(
    plugins: Plugins, live: Path, reader: PageReader
) -> None:
    """As hostile pages would: the one that asked for them is unknown, the others begin again with another reader."""
    barrier = threading.Barrier(2)
    met: list[int] = []

    def kills(subject: Subject) -> list[Finding]:
        image = subject.image
        barrier.wait(10)
        os.kill(reader.pid or 0, signal.SIGSTOP)  # so that it dies in the midst of the call
        threading.Timer(0.2, reader.kill).start()
        image.page(1)
        return []

    def reads(subject: Subject) -> list[Finding]:
        image = subject.image
        met.append(1)
        if len(met) == 1:
            barrier.wait(10)
            time.sleep(0.3)
        image.page(1)
        return []

    report = check(plugins, live, kills, reads)
    first, second = report.checkers
    assert first.verdict is Verdict.UNKNOWN and "the page reader was killed by SIGKILL" in first.why
    assert (second.verdict, second.why) == (Verdict.SOUND, "")


def test_an_error_of_the_runs_own_ends_it(plugins: Plugins, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never taken for a checker's, and the other checkers are stopped."""
    stopped = threading.Event()

    def waits(subject: Subject) -> list[Finding]:
        try:
            while True:
                subject.progress(0, 0)
                time.sleep(0.01)
        finally:
            stopped.set()

    real = CheckerRun.judge

    def judge(run: CheckerRun) -> object:
        if run.name == "check-chosen":
            raise AssertionError("a mistake")
        return real(run)

    monkeypatch.setattr(CheckerRun, "judge", judge)
    with pytest.raises(AssertionError, match="a mistake"):
        check(plugins, database, lambda _: [], waits)
    assert stopped.wait(5)


def test_ctrl_c_stops_all_checkers(plugins: Plugins, database: Path) -> None:
    """Also one that had not begun."""
    ended: list[str] = []

    def endless(subject: Subject) -> None:
        try:
            query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            subject.connect().execute(query).fetchone()
        finally:
            ended.append("endless")

    def interrupts(subject: Subject) -> list[Finding]:
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return []

    with pytest.raises(KeyboardInterrupt):
        check(plugins, database, endless, interrupts)
    assert ended == ["endless"]
