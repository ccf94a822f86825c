"""What check-wal finds in logs that real writers left, and what it leaves alone."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Checker
from pagewarden.runtime import Runtime
from pagewarden.testing.contracts import CheckerContract
from pagewarden.values import CheckReport, Finding, Level, Severity, Verdict
from pagewarden_check_wal import pagewarden_checkers
from tests.plugins.check_wal.judging import judge
from tests.support.databases import build
from tests.support.injuring import SHAPES, copy, injure, make
from tests.support.session import Session

FRAME = 24 + 4096
ALONE = ("check-wal",)


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A database whose last writer was killed after five commits, three of them of one frame."""
    path = build(tmp_path / "app.db", mode="wal", rows=30)
    session = Session(path)
    session.run("PRAGMA wal_autocheckpoint=0")
    session.run("INSERT INTO item(name, body) SELECT name, body FROM item LIMIT 20")
    for number in range(3):
        session.run("UPDATE item SET name = name WHERE id = 1")
        session.run("PRAGMA user_version=" + str(number + 1))
    session.run("DELETE FROM item WHERE id > 35")
    session.kill()
    Path(f"{path}-shm").unlink()
    return path


def check(path: Path, runtime: Runtime, level: Level = Level.QUICK) -> CheckReport:
    """Judge a database by this checker alone."""
    return run_check(CheckRequest(database=str(path), level=level, only=ALONE), runtime)


def only(path: Path, runtime: Runtime) -> Finding:
    """Return the one finding."""
    (finding,) = check(path, runtime).findings
    return finding


def marks(path: Path) -> list[int]:
    """Return the commit frames of a log, whatever its checksums say."""
    wal = Path(f"{path}-wal").read_bytes()
    return [n for n, at in enumerate(range(32, len(wal), FRAME), 1) if any(wal[at + 4 : at + 8])]


def rot(path: Path, frame: int, within: int = 500) -> None:
    """Change a byte of a frame, its header included."""
    with Path(f"{path}-wal").open("r+b") as wal:
        wal.seek(32 + (frame - 1) * FRAME + within)
        (byte,) = wal.read(1)
        wal.seek(-1, os.SEEK_CUR)
        wal.write(bytes((byte ^ 0x20,)))


def test_without_a_log_there_is_nothing_to_say(tmp_path: Path, runtime: Runtime) -> None:
    """In either journal mode: sound, and quiet."""
    for mode in ("delete", "wal"):
        report = check(build(tmp_path / f"{mode}.db", mode=mode, rows=5), runtime)
        assert (report.verdict, report.findings, report.checkers[0].why) == (Verdict.SOUND, (), "")


def test_what_a_killed_writer_left_is_sound(left: Path, runtime: Runtime) -> None:
    """All of its commits are recovered."""
    assert len(marks(left)) >= 5
    assert check(left, runtime).findings == ()


def test_committed_transactions_that_sqlite_drops_are_counted(left: Path, runtime: Runtime) -> None:
    """H14: from the frame that broke to the last commit; and nothing is opened that could remove the evidence."""
    every = marks(left)
    broken = every[1]
    rot(left, broken)
    before = {path.name: path.read_bytes() for path in (left, Path(f"{left}-wal"))}
    finding = only(left, runtime)
    lost = sum(mark >= broken for mark in every)
    assert (finding.kind, finding.severity) == ("stranded-commits", Severity.DAMAGE)
    assert f"{lost} committed transactions" in finding.message
    assert f"from frame {broken} to frame {every[-1]}" in finding.message
    assert finding.hint.startswith(shlex.join(["cp", str(left), f"{left}-wal", "DIR"]))
    assert {path.name: path.read_bytes() for path in (left, Path(f"{left}-wal"))} == before
    # Somebody has recovered the log since: the evidence is still there.
    with Session(left) as session:
        session.run("SELECT count(*) FROM item")
        assert only(left, runtime).message == finding.message


def test_a_damaged_header_drops_everything(left: Path, runtime: Runtime) -> None:
    """SQLite takes the log for none at all."""
    every = marks(left)
    with Path(f"{left}-wal").open("r+b") as wal:
        wal.seek(13)
        wal.write(b"?")
    finding = only(left, runtime)
    assert (finding.kind, finding.severity) == ("bad-wal-header", Severity.DAMAGE)
    assert f"{len(every)} committed transactions" in finding.message


@pytest.mark.parametrize("content", [bytes(5000), b"\xff" * 5000, b"some" * 5, bytes(32)])
def test_a_file_that_never_was_a_log_is_nothing(tmp_path: Path, runtime: Runtime, content: bytes) -> None:
    """SQLite ignores it, and loses nothing by that."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)
    Path(f"{path}-wal").write_bytes(content)
    assert check(path, runtime).findings == ()


def test_the_last_commit_may_have_been_cut_off(left: Path, runtime: Runtime) -> None:
    """A writer that was stopped in it leaves the same bytes, so it is a notice; while somebody may write, not even
    that."""
    last = marks(left)[-1]
    rot(left, last)
    with Session(left) as session:
        session.run("SELECT count(*) FROM item")
        assert check(left, runtime).findings == ()
        session.kill()
    report = check(left, runtime)
    assert [(finding.kind, finding.severity) for finding in report.findings] == [("broken-commit", Severity.NOTICE)]
    assert f"frame {last}" in report.findings[0].message
    assert report.exit_code == 0


def test_frames_that_sqlite_never_summed_up_are_told(left: Path, runtime: Runtime) -> None:
    """SQLite 3.40 may commit frames without salts and checksums, and so does a writer leave them that was cut off: a
    notice, until it is seen that readers were served them."""
    *_, before, last = marks(left)
    with Path(f"{left}-wal").open("r+b") as wal:
        for frame in range(before + 1, last + 1):
            wal.seek(32 + (frame - 1) * FRAME + 8)
            wal.write(bytes(16))
    report = check(left, runtime)
    (finding,) = report.findings
    assert (finding.kind, finding.severity, report.exit_code) == ("broken-commit", Severity.NOTICE, 0)
    which = f"frame {last}" if last == before + 1 else f"frames {before + 1} to {last}"
    assert f"SQLite itself left {which} of the -wal without salts and checksums" in finding.message
    assert f"leaves out the commit in them, frame {last}" in finding.message
    assert "generation" not in finding.message


def test_served_frames_without_checksums_are_not_called_old(tmp_path: Path, runtime: Runtime) -> None:
    """They are in use, and a recovery would drop them."""
    path = build(tmp_path / "app.db", mode="wal", rows=30)
    with Session(path) as session:
        session.run("PRAGMA wal_autocheckpoint=0")
        for number in range(2):
            session.run("UPDATE item SET name = ? WHERE id = 1", f"new {number}")
        before, last = marks(path)[-2:]
        with Path(f"{path}-wal").open("r+b") as wal:
            for frame in range(before + 1, last + 1):
                wal.seek(32 + (frame - 1) * FRAME + 8)
                wal.write(bytes(16))
        finding = only(path, runtime)
        assert (finding.kind, finding.severity) == ("bad-wal", Severity.DAMAGE)
        assert "SQLite itself left frame" in finding.message
        assert "without salts and checksums" in finding.message


def test_frames_that_live_readers_are_served_are_found_damaged(tmp_path: Path, runtime: Runtime) -> None:
    """H14: SQLite verifies nothing while the wal-index stands; how much a recovery would drop is said."""
    path = build(tmp_path / "app.db", mode="wal", rows=30)
    with Session(path) as session:
        session.run("PRAGMA wal_autocheckpoint=0")
        for number in range(4):
            session.run("UPDATE item SET name = ? WHERE id = 1", f"new {number}")
        rot(path, marks(path)[1])
        finding = only(path, runtime)
        assert (finding.kind, finding.severity) == ("bad-wal", Severity.DAMAGE)
        assert "SQLite serves it all the same" in finding.message
        assert "a recovery would drop 3 committed transactions" in finding.message
        # Where all of it is in the database file, a recovery would still lay older pages over newer ones.
        session.run("PRAGMA wal_checkpoint(PASSIVE)")
        finding = only(path, runtime)
        assert finding.kind == "bad-wal"
        assert "the database file has all of it" in finding.message
        session.run("PRAGMA wal_checkpoint(TRUNCATE)")
        assert check(path, runtime).findings == ()


def other_database(path: Path) -> None:
    """The log of a database with other tables."""
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with Session(other) as session:
        session.run("CREATE TABLE a(b)")
        session.run("CREATE TABLE c(d)")
        shutil.copy(f"{other}-wal", f"{path}-wal")


def older_file(path: Path) -> None:
    """An older copy of the file is put back, and the log stays (H25)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    older = Path(shutil.copy(path, path.with_name("older.db")))
    for number in range(3):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE further{number}(a)")
    session = Session(path)
    session.run("CREATE TABLE last(a)")
    session.kill()
    os.replace(older, path)
    Path(f"{path}-shm").unlink()


def older_log(path: Path) -> None:
    """The log of an earlier crash is put back beside a database that went on."""
    session = Session(path)
    session.run("CREATE TABLE first(a)")
    shutil.copy(f"{path}-wal", path.with_name("kept"))
    session.close()
    for number in range(3):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE further{number}(a)")
    shutil.copy(path.with_name("kept"), f"{path}-wal")


def other_page_size(path: Path) -> None:
    """The log of a database of smaller pages."""
    other = build(path.with_name("other.db"), mode="wal", page_size=512, rows=10)
    with Session(other) as session:
        session.run("DELETE FROM item WHERE id < 5")
        shutil.copy(f"{other}-wal", f"{path}-wal")


def without_page_one(path: Path) -> None:
    """The log of a larger database whose last commits allocated nothing."""
    other = build(path.with_name("other.db"), mode="wal", rows=150, seed=9)
    with Session(other) as session:
        session.run("UPDATE item SET name = upper(name)")
        shutil.copy(f"{other}-wal", f"{path}-wal")


def other_journal_mode(path: Path) -> None:
    """A database that left WAL mode, and a log that came back."""
    session = Session(path)
    session.run("UPDATE item SET name = 'x' WHERE id = 1")
    shutil.copy(f"{path}-wal", path.with_name("kept"))
    session.run("PRAGMA journal_mode=DELETE")
    session.close()
    shutil.copy(path.with_name("kept"), f"{path}-wal")


@pytest.mark.parametrize(
    ("lay", "sign"),
    [
        (other_database, "its schema is another"),
        (older_file, "its change counter begins at"),
        (older_log, "it is older"),
        (other_page_size, "its pages have 512 bytes, those of the database 4096"),
        (without_page_one, "without page 1"),
        (other_journal_mode, "the database file is not in WAL mode"),
    ],
)
def test_a_log_that_was_not_written_for_the_file_is_found(
    tmp_path: Path, runtime: Runtime, lay: Callable[[Path], None], sign: str
) -> None:
    """SQLite lays any log whose own checksums hold over the database; what gives it away is said."""
    path = build(tmp_path / "app.db", mode="wal", rows=20)
    lay(path)
    findings = {finding.kind: finding for finding in check(path, runtime).findings}
    assert set(findings) - {"truncated"} == {"foreign-wal"}
    assert findings["foreign-wal"].severity is Severity.DAMAGE
    assert sign in findings["foreign-wal"].evidence


def test_a_file_that_was_cut_off_under_its_log_is_found(left: Path, runtime: Runtime) -> None:
    """Pages that are in neither of them."""
    os.truncate(left, left.stat().st_size - 10 * 4096)
    findings = {finding.kind: finding for finding in check(left, runtime).findings}
    assert set(findings) == {"truncated"}
    assert "in neither file nor -wal" in findings["truncated"].message


def test_a_log_that_a_reader_holds_back_is_a_notice_that_names_it(tmp_path: Path, runtime: Runtime) -> None:
    """H24, H37: who, and that its read-mark is a lower bound; without a reader nobody is blamed, and a log that the
    next writer begins anew is nothing to speak of."""
    path = build(tmp_path / "app.db", mode="wal", rows=5)

    def found() -> list[Finding]:
        return judge(path, runtime.reader, large=100_000)

    with Session(path) as reader, Session(path) as writer:
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run("UPDATE item SET name = 'a'")
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM item")
        writer.run("UPDATE item SET body = randomblob(100000)")
        writer.run("PRAGMA wal_checkpoint(PASSIVE)")
        (finding,) = found()
        assert (finding.kind, finding.severity) == ("unbounded-wal", Severity.NOTICE)
        assert f"(pid {reader.pid})" in finding.message
        assert f"(pid {writer.pid})" not in finding.message
        assert "or later" in finding.message
        assert finding.hint == f"ps -fp {reader.pid}"
        reader.run("COMMIT")
        (finding,) = found()
        assert "nobody holds back" in finding.message
        assert "wal checkpoint" in finding.hint
        writer.run("PRAGMA wal_checkpoint(PASSIVE)")
        assert found() == []


@pytest.mark.parametrize(("kind", "shapes"), [("damaged-wal-frame", ["with-wal"]), ("foreign-wal", list(SHAPES))])
def test_injuries_of_the_log_are_found_without_a_baseline(
    kind: str, shapes: list[str], tmp_path: Path, runtime: Runtime
) -> None:
    """All of them: as damage, or as a notice where the last frame of all is the one that broke."""
    seen: Counter[tuple[str, str]] = Counter()
    for name in shapes:
        (tmp_path / name).mkdir()
        database, older = make(tmp_path / name, SHAPES[name])
        for seed in range(2 if len(shapes) > 1 else 12):
            path = copy(database, tmp_path / "copy.db")
            if injure(path, kind, seed, older) is not None:
                finding = only(path, runtime)
                seen[finding.kind, finding.severity] += 1
    assert seen.total() > 8
    notices = seen.pop(("broken-commit", Severity.NOTICE), 0)
    wanted = "foreign-wal" if kind == "foreign-wal" else "stranded-commits"
    assert set(seen) == {(wanted, Severity.DAMAGE)}
    assert notices < seen.total()
