"""Every commit is taken, exactly and once, whatever the application does between two looks (H20 to H22)."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.following.values import Cause, Cursor, Gap, Taken
from pagewarden.pages import ENVIRONMENT, backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.pageset import PageSetFile
from tests.core.following.watching import TEMPLATE, TIMELINE, Application, Guard, followed, row
from tests.support.load import CHECKPOINTS

STEPS = 400 if os.environ.get("PAGEWARDEN_FULL") else 50


def step(application: Application, chance: random.Random) -> None:
    """Do something that an application does."""
    kind = chance.randrange(12)
    connection = application.connection
    if kind < 4:
        application.insert(chance, chance.randrange(1, 4))
    elif kind == 4:
        application.run(("UPDATE item SET body = ? WHERE id % 7 = 1", (chance.randbytes(90),)), row(chance))
    elif kind == 5:
        application.run(("DELETE FROM item WHERE id % 3 = ?", (chance.randrange(3),)), row(chance))
    elif kind == 6:  # pages that are taken and given back in one transaction, and never written
        application.run(*[row(chance, 9000) for _ in range(12)], "DELETE FROM item WHERE id % 2 = 1")
    elif kind == 7:
        application.run("VACUUM")
    elif kind == 8:  # a transaction that spills
        connection.execute("PRAGMA cache_size=4")
        application.run(*[row(chance, 5000) for _ in range(20)])
        connection.execute("PRAGMA cache_size=-2000")
    elif kind == 9:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            connection.execute(*row(chance, 9000))
        connection.execute("ROLLBACK")
    elif kind == 10:
        application.run("CREATE TABLE other AS SELECT * FROM item", "DROP TABLE other")
    else:
        application.checkpoint(chance.choice(CHECKPOINTS))


@pytest.mark.parametrize(
    ("page_size", "seed", "options"),
    [
        (512, 1, {}),
        (4096, 2, {}),
        (4096, 3, {"auto_vacuum": "FULL", "secure_delete": 0}),
        (65536, 4, {}),
        (1024, 5, {"synchronous": "FULL", "options": "?psow=0"}),
    ],
)
def test_every_commit_is_the_applications(
    reader: PageReader, tmp_path: Path, page_size: int, seed: int, options: dict[str, int | str]
) -> None:
    """Histories at random, checkpoints of all kinds between and within what is taken, takes with and without pins.

    A padded log (psow=0) holds a commit's last frame several times; iChange tells how often it was committed.
    """
    chance, generations = random.Random(seed), set()
    with followed(tmp_path / "a.db", reader, page_size=page_size, **options) as (application, guard):
        for _ in range(STEPS):
            step(application, chance)
            what = chance.randrange(8)
            if what == 0:
                guard.settle()
            elif what == 2:
                guard.rotate()
            elif what == 3:
                guard.catch_up(merge=chance.random() < 0.2, most_bytes=chance.choice((1, 200_000, 32 << 20)))
            generations.add(guard.look().salts)
        guard.catch_up()
        assert any(taken.commits is not None for taken in guard.taken)
        assert len(generations) > 1


def test_the_twin_follows_as_the_native_reader_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no native module: slower, and the same commits."""
    monkeypatch.setenv(ENVIRONMENT, "off")
    chance = random.Random(12)
    with (
        PageReader() as reader,
        followed(tmp_path / "a.db", reader, page_size=512, cache_size=20) as (application, guard),
    ):
        for _ in range(3):
            application.insert(chance, 2, 600)
            application.run(*[row(chance, 900) for _ in range(4)], "DELETE FROM item WHERE id % 2 = 1")
            guard.catch_up()
            application.run("VACUUM")
            application.insert(chance, 1, 600)
            guard.settle()
            assert reader.follow_scrub(guard.handle, 1, 1000) == ()
        application.insert(chance, 1, 600)
        application.insert(chance, 1, 600)
        guard.catch_up(merge=True)
        assert guard.position > 12


def test_a_log_that_restarts_under_a_pin_on_lock_0_loses_nothing(reader: PageReader, tmp_path: Path) -> None:
    """H20: with everything copied back, the next writer begins anew over the frames that the pin sees."""
    chance = random.Random(1)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        application.insert(chance)
        guard.catch_up()
        guard.pin.close()
        assert application.checkpoint("PASSIVE")[1:] == application.checkpoint("PASSIVE")[1:]
        guard.pin = guard.new_pin()  # on lock 0
        before = guard.look()
        assert not before.behind
        assert before.backfilled == before.frames
        for _ in range(5):
            application.insert(chance)
        after = guard.look()
        assert after.behind
        assert after.salts != before.salts
        assert [taken.count for taken in guard.catch_up()] == [5]
        assert application.checkpoint("PASSIVE")[2] == 0, "nothing is copied back while the pin is on lock 0"


@pytest.mark.parametrize("mode", ["RESTART", "TRUNCATE"])
def test_a_log_that_was_emptied_and_goes_on_is_followed(reader: PageReader, tmp_path: Path, mode: str) -> None:
    """After everything was taken: while it is empty nothing is new, also emptied twice, then its first commits are."""
    chance = random.Random(2)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        for emptied in (1, 2, 0):
            application.insert(chance)
            guard.catch_up()
            guard.pin.close()
            for _ in range(emptied):
                assert application.checkpoint(mode)[0] == 0
            guard.pin = guard.new_pin()
            assert not guard.look().behind
            assert guard.take() == []
            application.insert(chance)
            application.insert(chance)
            assert [taken.count for taken in guard.catch_up()] == [2]


def test_a_log_that_starts_with_the_first_commit_is_followed(reader: PageReader, tmp_path: Path) -> None:
    """All connections were closed before: there is no log, and its salts are not known until something is written."""
    path, chance = tmp_path / "a.db", random.Random(3)
    Application(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        application = Application.__new__(Application)
        application.path, application.page_size, application.connection = path, 4096, connection
        application.images = [application.image()]
        guard = Guard(application, reader, tmp_path / "guard")
        assert guard.look().frames == 0
        application.insert(chance)
        application.insert(chance)
        assert [taken.count for taken in guard.catch_up()] == [2]
        guard.close()


def test_a_guard_goes_on_where_the_one_before_it_was(reader: PageReader, tmp_path: Path) -> None:
    """Salts and frame of the last manifest are enough, while the log still has what came since; and all is counted."""
    chance = random.Random(4)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        application.insert(chance, 20)
        guard.catch_up()
        reader.follow_end(guard.handle)
        for _ in range(7):
            application.insert(chance, 3)
        application.checkpoint("PASSIVE")
        last = guard.taken[-1].cursor
        begun = guard.begin(type(last)(salts=last.salts, frame=last.frame), txid=guard.position)
        assert isinstance(begun, int)
        assert guard.look().behind
        assert [taken.count for taken in guard.catch_up()] == [7]
        guard.rotate()
        application.checkpoint("RESTART")
        application.insert(chance)
        assert [taken.count for taken in guard.catch_up()] == [1], "iChange at the cursor was worked out"


def test_commits_that_are_too_much_at_once_are_taken_in_turns(reader: PageReader, tmp_path: Path) -> None:
    """In bounded memory: as many as fit, a larger one alone; each stays what it was, and none is merged unasked."""
    chance, size = random.Random(5), 4096
    with followed(tmp_path / "a.db", reader) as (application, guard):
        for rows in (1, 1, 60, 1, 1, 1, 1, 30, 1):
            application.insert(chance, rows)
        found = guard.catch_up(most_bytes=20 * size)
        assert [taken.count for taken in found][:2] == [2, 1]
        assert sum(taken.count for taken in found) == 9
        assert all(taken.merged <= 1 for taken in found)
        assert [taken.more for taken in found] == [True] * (len(found) - 1) + [False]
        held = [taken.commits.held for taken in found if taken.commits is not None]
        assert held
        assert max(held) <= 20
        # The same over a restart, whose commits must all be counted first.
        guard.rotate()
        application.checkpoint("RESTART")
        for rows in (1, 40, 1, 1):
            application.insert(chance, rows)
        assert sum(taken.count for taken in guard.catch_up(most_bytes=20 * size)) == 4
        for _ in range(3):
            application.insert(chance)
        (merged,) = guard.catch_up(merge=True, most_bytes=size)
        assert (merged.count, merged.merged, merged.commits) == (3, 3, None)


def test_a_commit_of_more_than_32_mib_is_taken_as_it_is(reader: PageReader, tmp_path: Path) -> None:
    """Between two small ones, in one go: pages are not held in memory for it."""
    with followed(tmp_path / "a.db", reader, cache_size=100) as (application, guard):
        application.run("PRAGMA user_version=1")
        application.run("INSERT INTO item(body) VALUES(zeroblob(36000000))")
        application.run("PRAGMA user_version=2")
        found = guard.catch_up()
        assert [taken.count for taken in found] == [1, 1, 1]
        assert found[1].segment.held * 4096 > 32 << 20


def test_a_database_that_shrinks_and_grows_again_is_followed(reader: PageReader, tmp_path: Path) -> None:
    """Over what the file still holds beyond its end, with pages that are taken and given back in one transaction."""
    chance = random.Random(6)
    with followed(tmp_path / "a.db", reader, secure_delete=0) as (application, guard):
        application.insert(chance, 100)
        guard.rotate()
        application.checkpoint("TRUNCATE")  # the file holds all of it
        application.run("DELETE FROM item WHERE id > 20")
        application.run("VACUUM")
        application.run(*[row(chance, 9000) for _ in range(40)], "DELETE FROM item WHERE id > 20")
        application.insert(chance)
        sizes = [len(image) for image in application.images[-3:]]
        assert sizes[0] < sizes[1]
        guard.catch_up()
        guard.settle()
        application.run("VACUUM")
        application.run(*[row(chance, 9000) for _ in range(40)], "DELETE FROM item WHERE id > 20")
        guard.catch_up(merge=True)


def test_frames_that_sqlite_leaves_without_checksums_are_a_gap(reader: PageReader, tmp_path: Path) -> None:
    """H14: SQLite 3.40.1, going back to a savepoint, may forget the checksums of a commit, which a crash would lose.

    Once that was healed, following goes on behind it, also where more was committed meanwhile.
    """
    gaps = 0
    for seed in (0, 10, 31):
        chance = random.Random(seed)
        with followed(tmp_path / f"{seed}.db", reader, page_size=512) as (application, guard):
            for _ in range(9):
                spill(application, chance)
                found = guard.try_take()
                if isinstance(found, Gap):
                    assert found.cause is Cause.LOG_DAMAGED
                    gaps += 1
                    look = guard.look()
                    guard.known, guard.image = len(application.images), application.images[-1]
                    guard.reader.follow_end(guard.handle)
                    for _ in range(seed % 3):
                        application.insert(chance)
                    guard.taken.clear()
                    assert isinstance(guard.begin(Cursor(salts=look.salts, frame=look.frames)), int)
                    guard.catch_up()
                    break
                application.run("DELETE FROM item WHERE id % 3 = 1")
                application.insert(chance)
    assert gaps > 1


def spill(application: Application, chance: random.Random) -> None:
    """Commit what is left of a transaction that spilled its pages and went back to a savepoint."""
    connection = application.connection
    connection.execute("PRAGMA cache_size=4")
    connection.execute("BEGIN IMMEDIATE")
    for mark in ("SAVEPOINT here", "ROLLBACK TO here"):
        for _ in range(15):
            connection.execute(*row(chance, 5000))
        connection.execute(mark)
    connection.execute("COMMIT")
    connection.execute("PRAGMA cache_size=-2000")
    application.remember()


def test_the_page_of_the_lock_bytes_is_never_taken(reader: PageReader, tmp_path: Path) -> None:
    """H12: a sparse database grows past 1 GiB: the page there is in no batch, and counts nothing."""
    path, size = tmp_path / "a.db", 65536
    lock = (1 << 30) // size + 1
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute("CREATE TABLE t(x)")
    with path.open("r+b") as file:  # all but the first pages are orphans, which nothing looks at here
        file.truncate((lock - 1) * size)
        file.seek(28)
        file.write((lock - 1).to_bytes(4, "big"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA user_version=1")
        attachment = reader.attach(str(path))
        sums = reader.sums(attachment.handle, 1, attachment.pages)
        reader.release(attachment.handle)
        facts = MapFacts(timeline=TIMELINE, txid=1, page_size=size, pages=lock - 1, database_sum=backend().fold(sums))
        write_map(tmp_path / "map", facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
        cursor = Cursor(salts=attachment.salts, frame=attachment.wal_frames)
        handle = reader.follow_begin(str(path), tmp_path / "map", facts, cursor)
        assert isinstance(handle, int)
        for _ in range(2):
            connection.execute("INSERT INTO t VALUES(zeroblob(200000))")
        header = PageSetHeader(
            kind=Kind.SEGMENT, page_size=size, pages=0, pages_per_frame=8, timeline=TIMELINE, txid=2, txid_from=1,
            time=TEMPLATE,
        )  # fmt: skip
        taken = reader.follow_take(handle, header, tmp_path / "segment", tmp_path / "commits")
        assert isinstance(taken, Taken)
        assert (taken.count, taken.pages > lock) == (2, True)
        with PageSetFile(tmp_path / "segment") as segment, CommitsFile(tmp_path / "commits") as commits:
            assert lock + 1 in segment.numbers(0, segment.info.held)
            assert lock not in segment.numbers(0, segment.info.held)
            assert lock not in commits.numbers(0, commits.info.held)
        now = reader.attach(str(path))
        assert backend().fold(reader.sums(now.handle, 1, now.pages)) == taken.database_sum
        reader.release(now.handle)
        made = reader.follow_map(handle, tmp_path / "map2")
        with PageMap(tmp_path / "map2", made) as known:
            assert known.sums(lock, 1) == bytes(8)
        assert reader.follow_scrub(handle, lock - 2, 8) == ()
        reader.follow_end(handle)


def test_nothing_new_is_told_cheaply(reader: PageReader, tmp_path: Path) -> None:
    """A look says what the wal-index says, and a take without commits gives nothing and leaves no file."""
    with followed(tmp_path / "a.db", reader) as (application, guard):
        look = guard.look()
        assert (look.frames, look.page_size, look.behind, look.moved) == (4, 4096, False, "")
        assert look.wal_bytes == 32 + 4 * 4120
        assert guard.try_take() is None
        application.connection.execute("BEGIN IMMEDIATE")
        application.connection.execute("PRAGMA user_version=5")
        assert not guard.look().behind
        assert guard.try_take() is None
        application.connection.execute("COMMIT")
        application.remember()
        assert guard.look().change == look.change + 1
        assert isinstance(guard.try_take(), Taken)
