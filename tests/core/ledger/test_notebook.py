from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, run_check
from pagewarden.ledger import LedgerRequest, notebook, run_ledger
from pagewarden.ledger.notebook import Notebook
from pagewarden.processes.reader import PageReader
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import CheckReport, Finding, LedgerReport, Level, Severity, Verdict
from tests.core.ledger.conftest import damage, report, write
from tests.support.databases import build
from tests.support.session import Session


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """One page reader for all tests."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(state: Path, reader: PageReader) -> Runtime:
    """The outside world of a run."""
    return Runtime(state=state, reader=reader)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A sound database."""
    return build(tmp_path / "app.db", rows=300)


def check(runtime: Runtime, database: Path, **fields: object) -> CheckReport:
    """Compare the pages of a database with its backup."""
    only = ("check-pages",)
    return run_check(CheckRequest(database=str(database), only=only, **fields), runtime)  # type: ignore[arg-type]


def ledger(runtime: Runtime, database: Path) -> LedgerReport:
    """Return what is remembered."""
    return run_ledger(LedgerRequest(database=str(database)), runtime)


def states(runtime: Runtime, database: Path) -> dict[int, str]:
    """Return the newest state of each suspect page."""
    return {suspect.pgno: suspect.state for suspect in ledger(runtime, database).suspects}


def test_a_check_is_remembered_with_its_timings(runtime: Runtime, database: Path) -> None:
    """Level, verdict, seconds, and each checker's; a sound database has no suspect pages."""
    before = datetime.now(UTC)
    said = run_check(CheckRequest(database=str(database)), runtime)
    found = ledger(runtime, database)
    (run,) = found.runs
    assert (found.suspects, found.exit_code, said.warnings) == ((), 0, ())
    assert before <= run.started <= datetime.now(UTC)
    assert (run.level, run.verdict, run.seconds, run.findings) == ("standard", said.verdict, said.seconds, 0)
    assert run.checkers == said.checkers


def test_a_run_that_could_not_open_the_database_is_remembered_too(runtime: Runtime, database: Path) -> None:
    """H35: unknown, and why."""
    with Session(database) as holder:
        holder.run("PRAGMA locking_mode=EXCLUSIVE")
        holder.run("BEGIN EXCLUSIVE")
        check(runtime, database)
    (run,) = ledger(runtime, database).runs
    assert (run.verdict, run.checkers[0].name) == (Verdict.UNKNOWN, "open")
    assert "is locked" in run.checkers[0].why


def injured(runtime: Runtime, database: Path, tmp_path: Path) -> tuple[int, str, bytes]:
    """Back up, flip a bit, check twice; return the page, the repository, and the bytes before."""
    repository = str(tmp_path / "repository")
    run_backup(BackupRequest(database=str(database), repository=repository), runtime)
    whole = database.read_bytes()
    pgno = INJURIES["flipped-bit"].apply(database, 1).pgno
    check(runtime, database, repository=repository)
    assert states(runtime, database) == {pgno: "seen"}
    return pgno, repository, whole


def test_a_page_that_is_reported_again_is_confirmed(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """By a later run; the first and the last time are kept, and what was seen. An open one is a finding: 1."""
    pgno, repository, _ = injured(runtime, database, tmp_path)
    check(runtime, database, repository=repository)
    found = ledger(runtime, database)
    (suspect,) = found.suspects
    assert (suspect.state, suspect.pgno, suspect.kind, suspect.checker) == (
        "confirmed", pgno, "flipped-bit", "check-pages",
    )  # fmt: skip
    assert suspect.first_seen < suspect.last_seen
    assert (suspect.settled, found.exit_code) == (None, 1)
    assert suspect.evidence and suspect.page_sum and len(suspect.page_sum) == 16


def test_a_run_that_could_not_see_it_leaves_it_open(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """Without the baseline nobody sees the flipped bit; the page is as it was, so it is as suspect as it was."""
    pgno, _, _ = injured(runtime, database, tmp_path)
    assert check(runtime, database).verdict is Verdict.SOUND
    assert states(runtime, database) == {pgno: "seen"}


def test_a_page_that_holds_its_baseline_again_is_repaired(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """Whoever put it there."""
    pgno, repository, whole = injured(runtime, database, tmp_path)
    database.write_bytes(whole)
    check(runtime, database, repository=repository)
    found = ledger(runtime, database)
    assert (states(runtime, database), found.exit_code) == ({pgno: "repaired"}, 0)
    assert found.suspects[0].settled is not None


def test_a_page_that_is_right_again_by_itself_was_transient(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """Nothing was committed, restored or compared: what was read was wrong, not what is stored."""
    pgno, _, whole = injured(runtime, database, tmp_path)
    database.write_bytes(whole)
    check(runtime, database)
    assert states(runtime, database) == {pgno: "transient"}


def test_a_page_that_a_commit_rewrote_is_gone(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """With it the damage; and so is one that the database has no more."""
    pgno, _, whole = injured(runtime, database, tmp_path)
    database.write_bytes(whole)
    with Session(database) as writer:
        for (table,) in writer.run("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"):
            writer.run(f"DELETE FROM {table}")
        writer.run("VACUUM")
    check(runtime, database)
    assert states(runtime, database) == {pgno: "gone"}


def test_a_page_that_was_restored_is_repaired(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """By a restore of ours, which the ledger knows of; no baseline is needed to say so."""
    pgno, repository, _ = injured(runtime, database, tmp_path)
    run_restore(RestoreRequest(repository=repository, to=str(database)), runtime)
    check(runtime, database)
    assert states(runtime, database) == {pgno: "repaired"}


def test_damage_that_comes_back_is_a_new_entry(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """What became of the first time stays written."""
    pgno, repository, whole = injured(runtime, database, tmp_path)
    database.write_bytes(whole)
    check(runtime, database, repository=repository)
    INJURIES["flipped-bit"].apply(database, 1)
    check(runtime, database, repository=repository)
    assert [(each.pgno, each.state) for each in ledger(runtime, database).suspects] == [
        (pgno, "repaired"), (pgno, "seen"),
    ]  # fmt: skip


def test_a_notice_of_a_transient_read_is_one_at_once(state: Path, runtime: Runtime) -> None:
    """The checker read the page again itself, and found it sound."""
    notice = Finding(kind="transient-read", severity=Severity.NOTICE, pgno=3, checker="check-pages", message="again")
    write(state, report(notice, damage(pgno=4)))
    found = ledger(runtime, Path("/srv/app.db"))
    assert [(each.pgno, each.state, each.evidence) for each in found.suspects] == [
        (3, "transient", "again"), (4, "seen", "what was seen"),
    ]  # fmt: skip


def test_other_databases_and_other_findings_are_left_out(state: Path, runtime: Runtime) -> None:
    """A suspect is a page; a broken rule of the owner's is none. A name may hold bytes that are no UTF-8."""
    rule = Finding(kind="foreign-key", severity=Severity.VIOLATION, pgno=3, checker="check-foreign-keys", message="m")
    broken = Finding(kind="unopenable", severity=Severity.DAMAGE, checker="open", message="m")
    write(state, report(rule, broken, damage(object="t\udcff")))
    write(state, report(damage(pgno=9), database="/srv/\udcff.db"))
    assert [each.object for each in ledger(runtime, Path("/srv/app.db")).suspects] == ["t\\udcff"]
    assert states(runtime, Path("/srv/\udcff.db")) == {9: "seen"}
    assert states(runtime, Path("/srv/other.db")) == {}


def test_only_the_newest_is_kept(state: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of each database, pages that are settled, and the suspect pages of a file that is noise all over."""
    monkeypatch.setattr(notebook, "KEPT_RUNS", 3)
    monkeypatch.setattr(notebook, "KEPT_SUSPECTS", 2)
    monkeypatch.setattr(notebook, "MOST_SUSPECTS", 4)
    write(state, report(database="/srv/other.db"))
    for pgno in range(1, 7):
        kind = {"kind": "transient-read"} if pgno < 6 else {}
        write(
            state, report(damage(pgno=pgno, **kind), *(damage(pgno=n) for n in range(100, 108 if pgno == 6 else 100)))
        )
    kept = ledger(runtime, Path("/srv/app.db"))
    assert len(kept.runs) == 3
    assert sum(len(run.checkers) for run in kept.runs) == 3
    settled = [each.pgno for each in kept.suspects if each.state == "transient"]
    assert settled == [4, 5]
    assert [each.pgno for each in kept.suspects if each.state == "seen"] == [6, 100, 101, 102]
    assert len(ledger(runtime, Path("/srv/other.db")).runs) == 1


def test_places_are_remembered_and_forgotten(state: Path) -> None:
    """Per database and checker; "" forgets."""
    write(state, report(), check_pages="page 7", check_foreign_keys="orders")
    write(state, report(), check_pages="")

    def resume(database: str, checker: str) -> str:
        book = Notebook(lambda: state, database, lambda: datetime.now(UTC))
        try:
            return book.resume(checker)
        finally:
            book.close()

    assert resume("/srv/app.db", "check-pages") == ""
    assert resume("/srv/app.db", "check-foreign-keys") == "orders"
    assert resume("/srv/other.db", "check-foreign-keys") == ""


def test_a_ledger_that_is_unusable_changes_no_verdict(state: Path, runtime: Runtime, database: Path) -> None:
    """The report has a warning, and is otherwise what it would have been."""
    state.write_text("a file stands in the way")
    said = run_check(CheckRequest(database=str(database)), runtime)
    assert said.verdict is Verdict.SOUND
    (warning,) = said.warnings
    assert "cannot be used" in warning and "is not remembered" in warning


def test_a_look_is_taken_only_where_a_page_is_suspect(state: Path) -> None:
    """A sound database is not read for the ledger's sake."""
    asked: list[Sequence[int]] = []
    book = Notebook(lambda: state, "/srv/app.db", lambda: datetime.now(UTC))
    for said in (report(), report(damage(pgno=5)), report()):
        book.write(said, level=Level.QUICK, started=datetime.now(UTC), resumes={}, look=asked.append)
    book.close()
    assert asked == [[5], [5]]
