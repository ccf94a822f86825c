"""A log as proof of what was committed last (H26), and attempts to have a stale state taken for it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseUnsettled
from pagewarden.runtime import Runtime
from tests.core.repair.pasts import Past, expect_nothing, expect_present, fill, followed, write


def test_a_log_that_ends_there_proves_the_restore_point(past: Past) -> None:
    """While the application has it open, and after a crash."""
    connection = followed(past)
    history = expect_present(past, "the log ends with")
    assert history.present is history.newest
    past.leave_log(connection)
    expect_present(past, "the log ends with")


@pytest.mark.parametrize("change", ["one page", "grows", "shrinks", "grows and shrinks"])
def test_commits_since_are_laid_over(past: Past, change: str) -> None:
    """Page by page, with the size of the last commit."""
    connection = followed(past)
    if "grows" in change:
        fill(connection, 300)
    if "shrinks" in change:
        connection.execute("DELETE FROM letters WHERE id > 20")
        connection.execute("VACUUM")
    write(connection)
    history = expect_present(past, "goes on from the newest restore point")
    assert history.present is not None and history.present.position == history.newest.position
    with past.runtime.reader as reader:
        attachment = reader.attach(str(past.path))
        sums = reader.sums(attachment.handle, 1, attachment.pages)
        assert (history.present.pages, history.present.sums(1, history.present.pages)) == (attachment.pages, sums)
        pages = reader.pages(attachment.handle, range(1, attachment.pages + 1))
        assert [history.present.page(pgno) for pgno in range(1, attachment.pages + 1)] == pages
        reader.release(attachment.handle)
    past.leave_log(connection)
    expect_present(past, "goes on from the newest restore point")


def test_an_unfinished_transaction_is_no_commit(past: Past) -> None:
    """Its frames may stand in the log."""
    connection = followed(past)
    connection.execute("PRAGMA cache_size=2")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO letters(body) VALUES(?)", (("spilled " * 90,) for _ in range(300)))
    assert past.history().why.startswith("the log ends with")
    connection.execute("ROLLBACK")
    write(connection)
    expect_present(past, "goes on")
    connection.close()


@pytest.mark.parametrize("how", ["RESTART", "TRUNCATE", "PASSIVE"])
@pytest.mark.parametrize("commit", [True, False])
def test_a_log_that_began_anew_proves_nothing_after_a_commit(past: Past, how: str, commit: bool) -> None:
    """Whoever checkpointed: the commit before may be of one page that nobody knows."""
    with closing(followed(past)) as connection:
        write(connection, "unknown")
        connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        if commit:
            write(connection, "known")
        if how == "PASSIVE" and not commit:
            expect_present(past, "goes on")
        elif how == "TRUNCATE" and not commit:
            expect_nothing(past, "no frames any more")
        elif how == "RESTART" and not commit:
            expect_present(past, "goes on")  # the next writer begins anew, and none has
        else:
            expect_nothing(past, "began anew")


def test_a_page_of_the_log_that_changes_meanwhile_is_not_served(past: Past) -> None:
    """Every page is proved by its sum when it is read."""
    connection = followed(past)
    write(connection)
    history = past.history()
    present = history.present
    assert present is not None
    past.leave_log(connection)
    size = Path(f"{past.path}-wal").stat().st_size
    past.damage(suffix="-wal", at=size - 100, data=b"other bytes")
    with pytest.raises(DatabaseUnsettled, match="changed"):
        for pgno in range(1, present.pages + 1):
            present.page(pgno)


FRAME = 1024 + 24
PLACES = {"number": 0, "mark": 4, "salts": 8, "checksum": 16, "page": 24 + 500, "both": 18}
GARBAGE = b"\xba\xdf\xf8\x3f"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Left:
    """A database whose application crashed, each of whose last five commits was backed up, of one frame each."""
    return Left(Past(tmp_path_factory.mktemp("left"), runtime))


class Left:
    """A log that was left, as often as a test needs it."""

    def __init__(self, past: Past) -> None:
        self.past = past
        connection = past.make("wal").connect()
        connection.execute("INSERT INTO notes VALUES(1, 'first')")
        for text in ("second", "third", "fourth", "fifth", "sixth"):
            write(connection, text)
            past.back_up()
        self.truth = past.rows()
        write(connection, "seventh")
        write(connection, "eighth")
        past.leave_log(connection)
        self._files = {suffix: Path(f"{past.path}{suffix}").read_bytes() for suffix in ("", "-wal")}
        self.frames = (len(self._files["-wal"]) - 32) // FRAME  # the last two are not backed up

    def lay(self, *, frames: int) -> Past:
        """Put the files back, the log with so many frames."""
        Path(self.past.path).write_bytes(self._files[""])
        Path(f"{self.past.path}-wal").write_bytes(self._files["-wal"][: 32 + frames * FRAME])
        Path(f"{self.past.path}-shm").unlink(missing_ok=True)
        return self.past

    def damage(self, frame: int, place: str) -> None:
        """Let a frame rot."""
        self.past.damage(suffix="-wal", at=32 + (frame - 1) * FRAME + PLACES[place], data=GARBAGE)


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_frame_before_the_restore_point_hides_nothing(left: Left, place: str) -> None:
    """What SQLite drops at its recovery is proved all the same: it is stored, and nothing came after it."""
    for frame in range(1, left.frames - 1):
        past = left.lay(frames=left.frames - 2)
        left.damage(frame, place)
        history = past.history()
        assert history.present is not None, (frame, history.why)
        assert past.held_by(history, history.present) == left.truth


@pytest.mark.parametrize("at", [0, 8, 16, 24])
def test_a_damaged_header_of_the_log_hides_nothing(left: Left, at: int) -> None:
    """SQLite leaves out all of that log, and would begin another one, with other salts."""
    past = left.lay(frames=left.frames - 2)
    past.damage(suffix="-wal", at=at, data=GARBAGE)
    history = past.history()
    assert history.present is not None, history.why
    assert past.held_by(history, history.present) == left.truth
    with closing(past.connect()) as again:
        again.execute("INSERT OR REPLACE INTO notes VALUES(1, 'new')")
        assert past.history().present is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("behind", [0, 2])
def test_what_is_committed_on_a_log_that_was_cut_short_is_not_forgotten(left: Left, place: str, behind: int) -> None:
    """SQLite drops what stands behind a bad frame, and writes over it; frames further on still look as they did."""
    for frame in range(1, left.frames - 1):
        for commits in (1, 2):
            past = left.lay(frames=left.frames - 2 + behind)
            left.damage(frame, place)
            again = past.connect()
            for number in range(commits):
                again.execute("INSERT OR REPLACE INTO notes VALUES(1, ?)", (f"new {number}",))
            truth = past.rows()
            past.leave_log(again)
            history = past.history()
            if history.present is not None:
                assert past.held_by(history, history.present) == truth, (frame, commits, history.why)


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_frame_behind_the_restore_point_proves_nothing(left: Left, place: str) -> None:
    """A commit behind it, or its own, may be the last one."""
    for frame in (left.frames - 1, left.frames):
        past = left.lay(frames=left.frames)
        left.damage(frame, place)
        expect_nothing(past, f"frame {frame}" if place in ("salts", "both", "mark") else "of the log")
