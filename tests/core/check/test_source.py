from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Subject
from pagewarden.errors import DatabaseUnreadable, NotADatabase
from pagewarden.runtime import Runtime
from pagewarden.values import CheckReport, Finding, Level, Verdict
from tests.core.check.checkers import Plugins, damage
from tests.core.check.conftest import Baseline
from tests.support.session import Session


def check(runtime: Runtime, database: Path, **fields: object) -> CheckReport:
    """Judge a database at level standard."""
    return run_check(CheckRequest(database=str(database), **fields), runtime)  # type: ignore[arg-type]


def kinds(report: CheckReport) -> set[tuple[str, str]]:
    """Return which checker found what."""
    return {(finding.checker, finding.kind) for finding in report.findings}


NOISE = random.Random(1).randbytes(8192)
TEXTS = {"text": b"dear diary, " * 1000, "encrypted": NOISE, "zeros": bytes(8192), "short": b"SQL"}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_what_never_was_a_database_is_an_error(runtime: Runtime, tmp_path: Path, content: bytes) -> None:
    """Text, noise as an encrypted one looks, zeros: nothing says that there was one, so there is nothing to judge."""
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(NotADatabase):
        check(runtime, file)
    with pytest.raises(NotADatabase):
        check(runtime, file, repository=str(tmp_path / "no-repository"))


@pytest.mark.parametrize(("offset", "value"), [(16, b"\x00\x07"), (16, b"\xff\xff"), (21, b"\x41")])
def test_a_header_that_sqlite_refuses_is_damage(runtime: Runtime, database: Path, offset: int, value: bytes) -> None:
    """The magic says that it is a database; an impossible page size or payload fraction says that it is damaged."""
    data = bytearray(database.read_bytes())
    data[offset : offset + len(value)] = value
    database.write_bytes(data)
    report = check(runtime, database)
    assert report.verdict is Verdict.DAMAGED
    assert ("check-indexes", "malformed") in kinds(report) or ("check-pages", "bad-header") in kinds(report)
    assert check(runtime, database, level=Level.QUICK).verdict is Verdict.DAMAGED


@pytest.mark.parametrize("begin", [0, 16])
def test_a_first_page_that_is_gone_is_damage_where_a_baseline_knows_it(
    runtime: Runtime, database: Path, baseline: Baseline, begin: int
) -> None:
    """Zeroed from its first byte, no magic is left: the baseline says that it was a database, and names the page."""
    snapshot = baseline(database)
    data = bytearray(database.read_bytes())
    data[begin:4096] = bytes(4096 - begin)
    database.write_bytes(data)
    report = check(runtime, database, baseline=snapshot)
    assert report.verdict is Verdict.DAMAGED
    assert kinds(report) >= {("open", "unopenable"), ("check-pages", "zeroed-page" if begin == 0 else "changed-page")}
    assert {finding.pgno for finding in report.findings if finding.checker == "check-pages"} == {1}
    assert (report.page_size, report.bytes) == (4096, len(data))


def test_a_file_that_was_emptied_is_damage_where_a_baseline_knows_it(
    runtime: Runtime, database: Path, baseline: Baseline
) -> None:
    """For SQLite an empty file is an empty database; the baseline knows better."""
    snapshot = baseline(database)
    database.write_bytes(b"")
    report = check(runtime, database, baseline=snapshot)
    assert kinds(report) == {("check-pages", "truncated")}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_truncated_file_is_damage(runtime: Runtime, database: Path, mode: str, baseline: Baseline) -> None:
    """With a baseline or without; what is missing is one finding, not one for each page."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    snapshot = baseline(database)
    for companion in ("-wal", "-shm"):
        database.with_name(database.name + companion).unlink(missing_ok=True)
    data = database.read_bytes()
    database.write_bytes(data[: len(data) // 2])
    for file in (None, snapshot):
        report = check(runtime, database, level=Level.QUICK, baseline=file)
        assert [finding.kind for finding in report.findings] in (["truncated"], ["truncated", "truncated"])
        assert report.findings[0].pgno == len(data) // 2 // 4096 + 1
        assert report.verdict is Verdict.DAMAGED


def test_a_damaged_wal_is_damage(runtime: Runtime, database: Path) -> None:
    """H14: SQLite serves the damaged frame to its readers, and would checkpoint it into the file."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run("UPDATE customers SET name = upper(name)")
        wal = database.with_name("app.db-wal")
        with wal.open("r+b") as file:  # this process has no connection, so nothing is lost by opening it (H1)
            file.seek(32 + 24 + 4096 - 40)
            file.write(b"damaged")
        report = check(runtime, database, level=Level.QUICK)
        assert (report.verdict, {finding.kind for finding in report.findings}) == (Verdict.DAMAGED, {"bad-wal"})


def test_a_database_that_is_replaced_under_a_checker_is_unknown(plugins: Plugins, database: Path) -> None:
    """H5: what was read is of a file that is gone."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=wal")

    def replaces(subject: Subject) -> list[Finding]:
        copy = database.with_name("copy")
        copy.write_bytes(subject.image.page(1))
        copy.replace(database)
        return [damage()]

    report = run_check(CheckRequest(database=str(database)), plugins.runtime(replaces))
    assert (report.verdict, report.findings) == (Verdict.UNKNOWN, ())
    assert "replaced" in report.checkers[0].why


def test_damage_that_keeps_sqlite_from_pinning_is_damage(
    plugins: Plugins, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should SQLite call the file corrupt where it only opens it; any other reason is the error that it is."""
    refusal = DatabaseUnreadable("app.db cannot be read by SQLite: malformed", sqlite="SQLITE_CORRUPT_INDEX")

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr("pagewarden.check.source.read_commit", refuse)
    request = CheckRequest(database=str(database))
    report = run_check(request, plugins.runtime(lambda subject: subject.image.page(1) and []))
    assert report.verdict is Verdict.DAMAGED
    assert [(result.name, result.verdict) for result in report.checkers] == [
        ("open", Verdict.DAMAGED),
        ("check-chosen", Verdict.UNKNOWN),
    ]
    refusal.fields["sqlite"] = "SQLITE_IOERR_READ"
    with pytest.raises(DatabaseUnreadable):
        run_check(request, plugins.runtime())


def test_noise_never_ends_without_an_answer(runtime: Runtime, database: Path, baseline: Baseline) -> None:
    """A database with noise in it gets a verdict or a named error, and is never sound against its baseline."""
    snapshot = baseline(database)
    original = database.read_bytes()
    chance = random.Random(6)
    for number in range(25):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 6)):
            begin = chance.choice((0, 16, 18, 24, 52, 100, chance.randrange(len(data))))
            noise = chance.randbytes(chance.choice((1, 4, 100, 4096)))
            data[begin : begin + len(noise)] = noise
        database.write_bytes(data[: len(original)])
        try:
            report = check(runtime, database, level=Level.DEEP, baseline=snapshot, max_time=20.0)
        except NotADatabase:
            raise AssertionError(f"number {number}: the baseline knows that it was one") from None
        assert report.verdict is Verdict.DAMAGED, number
        assert not [result.why for result in report.checkers if "failed: " in result.why and "pages" in result.name]
