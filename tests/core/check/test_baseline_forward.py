"""A repository's restore point rolled forward by the log: every difference is damage, and gets a name."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, run_check
from pagewarden.runtime import Runtime
from pagewarden.values import CheckReport, Severity, Verdict

PAGE = 1024
ROT = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
found = os.fstat(file)
os.pwrite(file, bytes([os.pread(file, 1, 7 * 1024 + 900)[0] ^ 1]), 7 * 1024 + 900)
os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a state folder of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as runtime:
        yield runtime


class App:
    """A database in WAL mode that is backed up, and committed to afterwards."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.path = folder / "app.db"
        self.repository = str(folder / "repository")
        self.runtime = runtime
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.executescript(
            f"""
            PRAGMA page_size={PAGE}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
            CREATE TABLE letters(id INTEGER PRIMARY KEY, body TEXT);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
            INSERT INTO letters SELECT i, 'letter ' || i || ' to somebody' FROM n;
            """
        )
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def commit(self, rowid: int = 1) -> None:
        """Change a row."""
        self.connection.execute("UPDATE letters SET body = body || '!' WHERE id = ?", (rowid,))

    def back_up(self) -> None:
        """Back it up."""
        run_backup(BackupRequest(database=str(self.path), repository=self.repository, check="none"), self.runtime)

    def rot(self) -> None:
        """Flip a bit of the file, in a page of which the log holds no version, by a process of its own (H1)."""
        subprocess.run([sys.executable, "-c", ROT, str(self.path)], check=True)

    def check(self) -> CheckReport:
        """Compare it with its backup."""
        request = CheckRequest(database=str(self.path), repository=self.repository, only=("check-pages",))
        return run_check(request, self.runtime)


@pytest.fixture
def app(tmp_path: Path, runtime: Runtime) -> Iterator[App]:
    """The application, with its database."""
    made = App(tmp_path, runtime)
    with closing(made.connection):
        yield made


@pytest.mark.parametrize("anew", [True, False])
def test_rot_has_a_name_though_commits_came_since(app: App, anew: bool) -> None:
    """In the log that the backup knew, or in the one after it, while the file was not written to."""
    app.commit()
    if anew:
        app.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        app.runtime.sleep(0.05)
    app.back_up()
    app.commit()
    app.commit(2)
    assert (app.check().verdict, app.check().findings) == (Verdict.SOUND, ())
    app.rot()
    report = app.check()
    assert report.verdict is Verdict.DAMAGED
    (finding,) = (each for each in report.findings if each.severity is Severity.DAMAGE)
    assert (finding.kind, finding.pgno) == ("flipped-bit", 8)


def test_a_log_that_does_not_go_on_from_the_backup_leaves_it_unknown(app: App) -> None:
    """Commits came to the file that nobody knows."""
    app.commit()
    app.back_up()
    app.commit()
    app.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    app.commit(2)
    app.rot()
    assert app.check().verdict is Verdict.UNKNOWN
