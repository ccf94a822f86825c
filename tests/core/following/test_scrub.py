"""Damage in the file is found in a bite of pages, and no write is ever mistaken for it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from pagewarden.processes.reader import PageReader
from pagewarden.repository.pageset import PageSetFile
from tests.core.following.test_gaps import FLIP
from tests.core.following.watching import followed, outside

FLIPS, SECONDS = (100, 60.0) if os.environ.get("PAGEWARDEN_FULL") else (12, 1.0)


def test_every_flipped_bit_in_a_page_of_the_file_alone_is_found(reader: PageReader, tmp_path: Path) -> None:
    """Wherever it is; none while it is whole; and not in a page whose newest version stands in the log."""
    chance = random.Random(1)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        application.insert(chance, 60, 9000)
        guard.settle()
        assert guard.look().backfilled == guard.look().frames, "pages whose frames were copied back are judged, too"
        pages = guard.taken[-1].pages
        for _ in range(FLIPS):
            bit = chance.randrange(pages * 4096 * 8)
            place, pgno = str(bit // 8), bit // 8 // 4096 + 1
            assert reader.follow_scrub(guard.handle, 1, pages + 9) == ()
            outside(FLIP, guard.path, place)
            assert reader.follow_scrub(guard.handle, pgno, 1) == (pgno,)
            first = chance.randrange(1, pages + 1)
            inside = first <= pgno < first + 5
            assert reader.follow_scrub(guard.handle, first, 5) == ((pgno,) if inside else ())
            outside(FLIP, guard.path, place)
        application.run("UPDATE item SET name = 'other' WHERE id = 1")
        guard.catch_up()
        (stored,) = guard.folder.glob(f"{max(int(each.stem) for each in guard.folder.glob('*.segment'))}.segment")
        with PageSetFile(stored) as segment:
            logged = segment.numbers(0, segment.info.held)
        for pgno in logged:
            outside(FLIP, guard.path, str(pgno * 4096 - 9))
        assert reader.follow_scrub(guard.handle, 1, pages) == ()
        guard.rotate()
        application.checkpoint("PASSIVE")  # what is in the log replaces what was flipped
        assert reader.follow_scrub(guard.handle, 1, pages) == ()
        outside(FLIP, guard.path, str(logged[0] * 4096 - 9))
        assert reader.follow_scrub(guard.handle, 1, pages) == (logged[0],)
        assert reader.follow_scrub(guard.handle, pages + 1, 10) == ()


def test_a_file_that_was_cut_off_is_found(reader: PageReader, tmp_path: Path) -> None:
    """Pages beyond its end that hold something."""
    chance = random.Random(2)
    with followed(tmp_path / "a.db", reader) as (application, guard):
        application.insert(chance, 40, 9000)
        guard.settle()
        pages = guard.taken[-1].pages
        outside("import os, sys; os.truncate(sys.argv[1], os.stat(sys.argv[1]).st_size - 8192)", guard.path)
        assert reader.follow_scrub(guard.handle, 1, pages) == (pages - 1, pages)


def test_no_write_is_mistaken_for_damage(reader: PageReader, tmp_path: Path) -> None:
    """Between commits and takes, over checkpoints, restarts, shrinking and growth; a flip in the midst is found."""
    chance = random.Random(3)
    found = 0
    with followed(tmp_path / "a.db", reader, secure_delete=0, cache_size=10) as (application, guard):
        application.insert(chance, 100, 9000)
        guard.settle()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            kind = chance.randrange(9)
            if kind < 4:
                application.insert(chance, 2)
            elif kind == 4:
                application.run("DELETE FROM item WHERE id % 9 = 1", "INSERT INTO item(name) VALUES('x')")
            elif kind == 5:
                application.run("VACUUM")
            elif kind == 6:
                guard.take()
            elif kind == 7:
                guard.settle()
            else:
                application.checkpoint("PASSIVE")
            assert reader.follow_scrub(guard.handle, 1, 1 << 20) == (), kind
        guard.catch_up()
        guard.settle()
        pages = guard.taken[-1].pages
        guard.judging = False  # the application may read what was flipped
        for pgno in chance.sample(range(2, pages), 4):
            place = str(pgno * 4096 - 7)
            application.insert(chance)
            outside(FLIP, guard.path, place)
            application.insert(chance)
            guard.take()
            damaged = reader.follow_scrub(guard.handle, 1, pages)
            assert damaged in ((pgno,), ()), "only a page whose newest version stands in the log is left out"
            found += len(damaged)
            outside(FLIP, guard.path, place)
    assert found > 1


def test_pages_that_a_checkpoint_passes_over_are_no_damage(reader: PageReader, tmp_path: Path) -> None:
    """A commit that was not taken yet makes the database smaller; the checkpoint up to the pin skips what it cut off.

    So frames count as copied back whose pages never came to the file (`iDbpage>mxPage` in SQLite's walCheckpoint).
    """
    chance = random.Random(4)
    with followed(tmp_path / "a.db", reader, auto_vacuum=2) as (application, guard):
        application.insert(chance, 60, 9000)
        guard.settle()
        application.run("UPDATE item SET body = randomblob(length(body))")
        guard.take()
        guard.rotate()
        assert reader.follow_scrub(guard.handle, 1, 1 << 20) == ()
        application.run("DELETE FROM item WHERE id % 2 = 0", "PRAGMA incremental_vacuum")
        _, log, copied = application.checkpoint("PASSIVE")
        assert 0 < copied < log, "up to the pin"
        assert reader.follow_scrub(guard.handle, 1, 1 << 20) == ()
        guard.take()
        assert reader.follow_scrub(guard.handle, 1, 1 << 20) == ()
