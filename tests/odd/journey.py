"""The main job on one sound database: check, backup, verify, restore, with SQLite's own copy as the oracle."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check.run import CheckRequest, run_check
from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import CheckReport, Level, Verdict
from tests.support.databases import masked

_CHUNK = 16 << 20


def travel(
    database: Path, runtime: Runtime, folder: Path, *, verdict: Verdict = Verdict.SOUND, oracle: Path | None = None
) -> tuple[str, ...]:
    """Take a database that nobody writes to through the main job, and compare what comes back with `oracle`.

    Without one that is what SQLite's backup API copies. Every check must end with `verdict` and without any finding.
    Returns why checkers could not judge.
    """
    repository = str(folder / "repository")
    whys = []
    for level in (Level.STANDARD, Level.DEEP):
        report = judge(database, runtime, level=level)
        assert report.verdict is verdict, report
        whys += [result.why for result in report.checkers if result.verdict is Verdict.UNKNOWN]
    taken = run_backup(BackupRequest(database=str(database), repository=repository), runtime)
    assert taken.source.verdict is not Verdict.DAMAGED, taken.source
    compared = judge(database, runtime, level=Level.QUICK, repository=repository)
    assert compared.verdict is Verdict.SOUND, compared
    proved = run_verify(VerifyRequest(repository=repository, read_data=True), runtime)
    assert proved.verdict is Verdict.SOUND, proved
    restored = folder / "restored.db"
    done = run_restore(RestoreRequest(repository=repository, to=str(restored)), runtime)
    assert done.database_sum == taken.database_sum
    compare(restored, oracle or copied(database, folder / "sqlite.db"))
    return tuple(whys)


def judge(database: Path, runtime: Runtime, *, level: Level, repository: str | None = None) -> CheckReport:
    """Check a sound database: nothing may be found."""
    report = run_check(CheckRequest(database=str(database), level=level, repository=repository), runtime)
    assert report.findings == (), report
    return report


def copied(database: Path, to: Path) -> Path:
    """Copy a database with SQLite's backup API."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        target.execute("PRAGMA synchronous=OFF")
        source.backup(target)
    return to


def compare(restored: Path, oracle: Path) -> None:
    """Assert that two closed databases are the same by the rule of docs/live-read.md, "What a snapshot equals".

    The page that holds byte 2^30 is zeros in `restored`, whatever stands in `oracle`.
    """
    with restored.open("rb") as seen, oracle.open("rb") as expected:
        page_size = int.from_bytes(seen.read(18)[16:], "big")
        page_size = 65536 if page_size == 1 else page_size
        lock_page = (1 << 30) // page_size * page_size
        assert seen.seek(0, 2) == expected.seek(0, 2)
        for offset in range(0, seen.tell(), _CHUNK):
            seen.seek(offset)
            expected.seek(offset)
            ours, theirs = seen.read(_CHUNK), expected.read(_CHUNK)
            if offset == 0:
                ours, theirs = masked(ours), masked(theirs)
            if ours != theirs:
                pages = range(0, len(ours), page_size)
                different = {offset + at for at in pages if ours[at : at + page_size] != theirs[at : at + page_size]}
                assert different <= {lock_page}, f"the pages at {sorted(different)} differ"
        if seen.seek(0, 2) > lock_page:
            seen.seek(lock_page)
            assert not any(seen.read(page_size))
