"""A private copy and its log become one file, as SQLite would make of them; where it refuses, as the log proves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseUnreadable
from pagewarden.repair.jobs import do_job, settle
from tests.core.repair.chosen import files, make_broken_hot, make_plain, rows
from tests.support.session import Session

PAGE = 1024


def make_log(path: Path, *statements: str) -> Path:
    """Make a database with committed rows in its -wal alone, as after a crash."""
    make_plain(path)
    with Session(path) as session:
        session.run("PRAGMA journal_mode=WAL")
        session.run("PRAGMA wal_autocheckpoint=0")
        for sql in statements or ("UPDATE t SET body = 'from the log' WHERE id = 7",):
            session.run(sql)
        session.kill()
    Path(f"{path}-shm").unlink()
    return path


def test_a_log_and_a_journal_are_brought_in(tmp_path: Path) -> None:
    """What was committed is there, what was not is rolled back, and the copy is one file."""
    logged, hot = make_log(tmp_path / "log.db"), make_broken_hot(tmp_path / "hot.db", broken=False)
    assert (settle(logged), settle(hot)) == ("", "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["hot.db", "log.db"]
    assert [body for number, _, body in rows(logged) if number == 7] == ["from the log"]
    assert {body for _, _, body in rows(hot)} == {bytes(300)}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_stamp_moves_the_change_counter_alone(tmp_path: Path, mode: str) -> None:
    """Nothing else of the file changes but its counters, whatever its journal mode."""
    path = make_plain(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
        connection.execute("PRAGMA user_version=77")
        connection.commit()
    before = path.read_bytes()
    assert do_job("settle", {"database": str(path), "stamp": True}, lambda done, total: None) == ""
    after = path.read_bytes()
    assert before[24:28] != after[24:28]
    assert {at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other} <= {
        *range(24, 28),
        *range(92, 100),
    }
    assert list(files(path)) == ["app.db"]


def test_a_log_is_laid_over_a_file_that_sqlite_refuses(tmp_path: Path) -> None:
    """A header that is garbage keeps SQLite from the log; what that proves is in the file afterwards (H14)."""
    path = make_log(tmp_path / "app.db", "UPDATE t SET body = CAST(printf('%300s', 'from the log') AS BLOB)")
    wal = Path(f"{path}-wal").read_bytes()
    assert b"\0\0\0\1" not in {wal[at : at + 4] for at in range(32, len(wal), 24 + PAGE)}  # SQLite would read page 1
    header = path.read_bytes()[:100]
    with path.open("r+b") as file:
        file.write(b"garbage ".ljust(100, b"!"))
    assert "not a SQLite database" in settle(path)
    with path.open("r+b") as file:
        file.write(header)
    assert {body for _, _, body in rows(path)} == {b"from the log".rjust(300)}
    assert list(files(path)) == ["app.db"]


def test_a_log_that_proves_nothing_changes_nothing(tmp_path: Path) -> None:
    """Garbage in the -wal of garbage is no commit; and what cannot be opened at all is an error."""
    path = tmp_path / "app.db"
    path.write_bytes(b"garbage " * 1000)
    Path(f"{path}-wal").write_bytes(b"a log of sorts" * 1000)
    assert settle(path)
    assert files(path) == {"app.db": b"garbage " * 1000}
    with pytest.raises(DatabaseUnreadable):
        settle(tmp_path)


def test_a_schema_in_no_known_encoding_is_a_refusal(tmp_path: Path) -> None:
    """SQLite quotes the bytes of a damaged schema, which Python cannot read: that is damage, not an error of ours."""
    path = make_plain(tmp_path / "app.db")
    data = path.read_bytes().replace(b"CREATE TABLE t(", b"CREATE \xfc\xfe\xff\xfc t(")
    path.write_bytes(data)
    assert settle(path)
    assert path.read_bytes() == data
