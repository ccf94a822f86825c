"""What cannot be followed is told by its cause, and never taken for commits; nothing moves then."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnsettled, OutOfSpace, TargetFailed
from pagewarden.following.values import Cause, Cursor, Gap, Taken
from pagewarden.processes.reader import PageReader
from tests.core.following.watching import Application, Guard, followed, gap_of, outside

FLIP = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); b = f.read(1); f.seek(-1, 1); \
f.write(bytes([b[0] ^ 4]))"
CUT = "import os, sys; os.truncate(sys.argv[1], int(sys.argv[2]))"
COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"
MOVE = "import os, sys; os.replace(sys.argv[1], sys.argv[2])"
REMOVE = "import os, sys; os.unlink(sys.argv[1])"

FORGE = """
import struct, sys
from pagewarden.sqlite.wal import wal_checksum
with open(sys.argv[1], "r+b") as file:
    header = bytearray(file.read(40))
    at = int(sys.argv[2])
    struct.pack_into("=I", header, at, struct.unpack_from("=I", header, at)[0] + int(sys.argv[3]))
    whole = bytes(header) + struct.pack("=2I", *wal_checksum(bytes(header), big_endian=sys.byteorder == "big"))
    file.seek(0)
    file.write(whole + whole)
"""


@pytest.fixture
def pair(reader: PageReader, tmp_path: Path) -> Iterator[tuple[Application, Guard]]:
    """An application and a guard that has taken everything."""
    chance = random.Random(1)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        for _ in range(3):
            application.insert(chance)
        guard.catch_up()
        yield application, guard


@pytest.mark.parametrize("mode", ["RESTART", "TRUNCATE"])
@pytest.mark.parametrize("commits", [1, 3])
@pytest.mark.parametrize("after", [0, 2])
def test_commits_that_went_with_a_generation_of_the_log_are_missed_and_seen(
    pair: tuple[Application, Guard], mode: str, commits: int, after: int
) -> None:
    """H20: somebody else checkpointed while nothing was pinned; iChange counts what the log does not hold any more."""
    application, guard = pair
    guard.pin.close()
    chance = random.Random(2)
    for _ in range(commits):
        application.insert(chance)
    assert application.checkpoint(mode)[0] == 0
    for _ in range(after):
        application.insert(chance)
    if mode == "RESTART" and not after:
        assert [taken.count for taken in guard.catch_up()] == [commits], "it begins anew with the next commit only"
        return
    look = guard.look()
    assert (look.behind, look.moved) == (True, "")
    assert gap_of(guard) is Cause.LOG_RESTARTED


def test_a_count_that_cannot_be_is_no_proof(pair: tuple[Application, Guard], tmp_path: Path) -> None:
    """The wal-index was made again, and counts from 0, while the log began anew: that nothing was missed is not known.

    In the same generation the chain alone proves it, and following goes on.
    """
    application, guard = pair
    chance = random.Random(3)
    shm = f"{guard.path}-shm"
    application.insert(chance)
    outside(FLIP, shm, "8")
    outside(FLIP, shm, "20")
    application.insert(chance)  # finds it broken, and makes it again
    assert guard.look().change == 1
    assert [taken.count for taken in guard.catch_up()] == [2]
    application.insert(chance)
    outside(FLIP, shm, "8")
    application.insert(chance)
    guard.pin.close()
    application.checkpoint("RESTART")
    application.insert(chance)
    assert gap_of(guard) is Cause.LOG_RESTARTED


def test_a_wal_index_that_stays_torn_is_told_and_nothing_is_taken(pair: tuple[Application, Guard]) -> None:
    """Until SQLite makes it again, which the next reader does."""
    application, guard = pair
    application.insert(random.Random(4))
    outside(FLIP, f"{guard.path}-shm", "17")
    for call in (guard.look, guard.try_take):
        with pytest.raises(DatabaseUnsettled, match="torn"):
            call()
    guard.new_pin().close()
    assert [taken.count for taken in guard.catch_up()] == [1]


@pytest.mark.parametrize("place", ["page", "header", "checksum"])
def test_a_damaged_frame_is_never_taken(pair: tuple[Application, Guard], place: str) -> None:
    """H14: SQLite would serve it. Commits before it may be taken, none from it on."""
    application, guard = pair
    begin = guard.look().wal_bytes
    chance = random.Random(5)
    application.insert(chance)
    middle = guard.look().wal_bytes
    application.insert(chance)
    outside(FLIP, f"{guard.path}-wal", str(middle + {"page": 24 + 999, "header": 3, "checksum": 17}[place]))
    assert middle > begin
    assert gap_of(guard) is Cause.LOG_DAMAGED


def test_a_log_that_was_cut_off_is_damaged(pair: tuple[Application, Guard]) -> None:
    """Within the new frames; and SQLite, which still counts them, cannot be believed."""
    application, guard = pair
    application.insert(random.Random(6))
    outside(CUT, f"{guard.path}-wal", str(guard.look().wal_bytes - 1))
    assert gap_of(guard) is Cause.LOG_DAMAGED


@pytest.mark.parametrize(("taken", "cause"), [(True, Cause.LOG_DAMAGED), (False, Cause.LOG_REPLACED)])
def test_an_old_log_put_back_is_another_one(
    pair: tuple[Application, Guard], tmp_path: Path, taken: bool, cause: Cause
) -> None:
    """In place, of an older generation: its salts are not those of the wal-index. Nor is a log without a header."""
    application, guard = pair
    chance = random.Random(7)
    outside(COPY, f"{guard.path}-wal", tmp_path / "old")
    guard.settle()
    application.insert(chance)
    if taken:
        guard.catch_up()
        application.insert(chance)
    outside(COPY, tmp_path / "old", f"{guard.path}-wal")
    assert gap_of(guard) is cause
    outside(FLIP, f"{guard.path}-wal", "3")
    assert gap_of(guard) is cause


def test_a_log_that_became_shorter_is_another_one(pair: tuple[Application, Guard]) -> None:
    """Cut off, and the wal-index made again of what is left, as after a crash: what was taken is not in it any more."""
    application, guard = pair
    shorter = guard.look().wal_bytes
    application.insert(random.Random(1))
    guard.catch_up()
    outside(CUT, f"{guard.path}-wal", str(shorter))
    outside(FLIP, f"{guard.path}-shm", "9")
    guard.new_pin().close()
    assert guard.look().behind
    assert gap_of(guard) is Cause.LOG_REPLACED


@pytest.mark.parametrize(
    ("offset", "by", "cause"), [(8, -1, Cause.COMMITS_MISSED), (8, 1, Cause.LOG_RESTARTED), (20, 1, Cause.LOG_DAMAGED)]
)
def test_a_wal_index_that_says_something_else_than_the_log_is_not_believed(
    pair: tuple[Application, Guard], offset: int, by: int, cause: Cause
) -> None:
    """With a checksum that is right: another count of commits over a restart, another size of the database."""
    application, guard = pair
    chance = random.Random(2)
    guard.settle()
    application.insert(chance)
    application.insert(chance)
    outside(FORGE, f"{guard.path}-shm", str(offset), str(by))
    assert gap_of(guard) is cause


def test_a_log_that_ends_before_what_was_taken_is_another_one(
    pair: tuple[Application, Guard], reader: PageReader, tmp_path: Path
) -> None:
    """All connections were closed, and an older state of database and log put back, of the same generation."""
    application, guard = pair
    cursor = guard.taken[-1].cursor
    for suffix in ("", "-wal"):
        outside(COPY, guard.path + suffix, tmp_path / f"old{suffix}")
    chance = random.Random(8)
    application.insert(chance)
    guard.catch_up()
    newer = guard.taken[-1].cursor
    path = tmp_path / "old"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT * FROM item").fetchall()
        map_path = guard.new_file("map")
        facts = reader.follow_map(guard.handle, map_path)
        found = reader.follow_begin(str(path), map_path, facts, newer)
        assert isinstance(found, Gap)
        assert found.cause is Cause.GUARD_WAS_DOWN
        other = Cursor(salts=cursor.salts, frame=cursor.frame - 1)
        found = reader.follow_begin(str(path), map_path, facts, other)
        assert isinstance(found, Gap)
        assert found.cause is Cause.LOG_REPLACED, "a frame that is not that commit"


@pytest.mark.parametrize(
    ("suffix", "cause"), [("", Cause.DATABASE_REPLACED), ("-wal", Cause.LOG_REPLACED), ("-shm", Cause.LOG_REPLACED)]
)
@pytest.mark.parametrize("gone", [True, False])
def test_files_that_are_others_are_told(
    pair: tuple[Application, Guard], tmp_path: Path, suffix: str, cause: Cause, gone: bool
) -> None:
    """H5: removed, or replaced by a copy of themselves: the look tells, and nothing is taken or scrubbed."""
    application, guard = pair
    application.insert(random.Random(9))
    file = guard.path + suffix
    if gone:
        outside(MOVE, file, tmp_path / "elsewhere")
    else:
        outside(COPY, file, tmp_path / "copy")
        outside(MOVE, tmp_path / "copy", file)
    look = guard.look()
    assert (look.moved, look.behind) == (cause, True)
    assert gap_of(guard) is cause
    assert guard.reader.follow_scrub(guard.handle, 1, 100) == ()


def test_a_database_that_left_wal_mode_is_told(reader: PageReader, tmp_path: Path) -> None:
    """While it is followed, and when it is to be; with what follows from a change of the page size."""
    with followed(tmp_path / "a.db", reader) as (application, guard):
        guard.pin.close()
        map_path = guard.new_file("map")
        facts, look = reader.follow_map(guard.handle, map_path), guard.look()
        cursor = Cursor(salts=look.salts, frame=look.frames)
        assert application.connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        assert guard.look().moved == Cause.JOURNAL_MODE_CHANGED
        assert gap_of(guard) is Cause.JOURNAL_MODE_CHANGED
        found = reader.follow_begin(guard.path, map_path, facts, cursor)
        assert isinstance(found, Gap)
        assert found.cause is Cause.JOURNAL_MODE_CHANGED
        application.connection.execute("PRAGMA page_size=8192")
        application.connection.execute("VACUUM")
        application.connection.execute("PRAGMA journal_mode=WAL")
        application.connection.execute("PRAGMA user_version=3")
        found = reader.follow_begin(guard.path, map_path, facts, cursor)
        assert isinstance(found, Gap)
        assert found.cause is Cause.PAGE_SIZE_CHANGED


def test_what_a_guard_knows_must_fit_to_begin(pair: tuple[Application, Guard], reader: PageReader) -> None:
    """Without a cursor, with one of another generation, or of a frame that is no commit or not there, it was down."""
    application, guard = pair
    map_path = guard.new_file("map")
    facts, cursor = reader.follow_map(guard.handle, map_path), guard.taken[-1].cursor
    for wrong in (
        None,
        Cursor(salts=b"12345678", frame=cursor.frame),
        Cursor(salts=cursor.salts, frame=cursor.frame + 1),
    ):
        found = reader.follow_begin(guard.path, map_path, facts, wrong)
        assert isinstance(found, Gap)
        assert found.cause is Cause.GUARD_WAS_DOWN
    application.insert(random.Random(1))
    found = reader.follow_begin(
        guard.path, map_path, facts, Cursor(salts=cursor.salts, frame=cursor.frame, checksum=(1, 2))
    )
    assert isinstance(found, Gap)
    assert found.cause is Cause.LOG_REPLACED
    map_path.unlink()
    with pytest.raises(DatabaseUnsettled, match="no page map"):
        reader.follow_begin(guard.path, map_path, facts, cursor)


def test_a_database_that_nobody_can_follow_is_named(reader: PageReader, tmp_path: Path) -> None:
    """One that is not there, and one that nobody has open."""
    with followed(tmp_path / "a.db", reader) as (application, guard):
        map_path, cursor = guard.new_file("map"), Cursor(salts=bytes(8), frame=0)
        facts = reader.follow_map(guard.handle, map_path)
        with pytest.raises(DatabaseNotFound):
            reader.follow_begin(f"{guard.path}2", map_path, facts, cursor)
        outside(COPY, guard.path, f"{guard.path}3")
        with pytest.raises(DatabaseUnsettled, match="nobody has"):
            reader.follow_begin(f"{guard.path}3", map_path, facts, cursor)
        assert application.path.exists()


def test_a_batch_that_cannot_be_written_moves_nothing(pair: tuple[Application, Guard], tmp_path: Path) -> None:
    """Neither file is left, and the same commits are taken when there is room again."""
    application, guard = pair
    application.insert(random.Random(3))
    application.insert(random.Random(4))
    folder = guard.folder
    guard.folder = tmp_path / "missing"
    with pytest.raises((TargetFailed, OutOfSpace)):
        guard.try_take()
    guard.folder = folder
    found = guard.try_take()
    assert isinstance(found, Taken)
    assert found.count == 2
    template = Path(guard.new_file("other"))
    with pytest.raises(Exception, match="does not begin at"):
        from pagewarden.repository.format import Kind, PageSetHeader
        from tests.core.following.watching import TEMPLATE, TIMELINE

        header = PageSetHeader(
            kind=Kind.SEGMENT, page_size=4096, pages=0, pages_per_frame=8, timeline=TIMELINE, txid=99, txid_from=98,
            time=TEMPLATE,
        )  # fmt: skip
        guard.reader.follow_take(guard.handle, header, template, None)
