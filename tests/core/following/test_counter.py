"""iChange counts the commits of SQLite, whatever becomes of the log: what docs/live-read.md says was found out."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from pagewarden.processes.reader import PageReader
from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, parse_index
from tests.core.following.test_gaps import FLIP
from tests.core.following.watching import outside
from tests.support.load import CHECKPOINTS


def index_of(path: Path) -> WalIndex:
    """Return what the wal-index says, read by another process (H1)."""
    read = subprocess.run(["head", "-c", str(INDEX_SIZE), f"{path}-shm"], capture_output=True, check=True)
    index = parse_index(read.stdout)
    assert index is not None
    return index


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that waits for nobody."""
    return sqlite3.connect(path, isolation_level=None, timeout=0.0)


def test_it_counts_exactly_the_commits(tmp_path: Path) -> None:
    """Over all checkpoints, rollbacks, savepoints in transactions that spill, pins, VACUUM, and what is none."""
    path, chance, commits = tmp_path / "a.db", random.Random(1), 1
    generations = set()
    with closing(connect(path)) as first, closing(connect(path)) as second, closing(connect(path)) as pin:
        first.execute("PRAGMA journal_mode=WAL")
        for each in (first, second):
            each.execute("PRAGMA synchronous=OFF")
        first.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x)")
        for _ in range(300):
            writer, kind = chance.choice((first, second)), chance.randrange(11)
            if kind < 4:
                writer.execute("INSERT INTO t(x) VALUES(?)", (chance.randbytes(chance.randrange(10, 9000)),))
                commits += 1
            elif kind == 4:
                writer.execute("BEGIN IMMEDIATE")
                writer.execute(chance.choice(("ROLLBACK", "COMMIT")))
            elif kind == 5:
                writer.execute("PRAGMA cache_size=5")
                writer.execute("BEGIN")
                for mark in ("SAVEPOINT here", "ROLLBACK TO here"):
                    writer.executemany("INSERT INTO t(x) VALUES(?)", [(chance.randbytes(3000),)] * 20)
                    writer.execute(mark)
                kept = chance.random() < 0.5
                writer.execute("COMMIT" if kept else "ROLLBACK")
                commits += kept
            elif kind == 6:
                writer.execute(f"PRAGMA wal_checkpoint({chance.choice(CHECKPOINTS)})").fetchall()
            elif kind == 7:
                if pin.in_transaction:
                    pin.execute("ROLLBACK")
                else:
                    pin.execute("BEGIN")
                    pin.execute("SELECT count(*) FROM t").fetchall()
            elif kind == 8:
                writer.execute("UPDATE t SET x = x")  # nothing is another: no commit
            elif kind == 9:
                commits += writer.execute("DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 30)").rowcount > 0
            elif chance.random() < 0.2:
                writer.execute("VACUUM")
                commits += 1
            index = index_of(path)
            generations.add(index.salts)
            assert index.change == commits, kind
    assert len(generations) > 3
    assert commits > 100


def test_it_begins_again_where_the_wal_index_is_made_again(tmp_path: Path) -> None:
    """Salts and frames are what they were: in the same generation the log proves itself."""
    path = tmp_path / "a.db"
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for number in range(5):
            connection.execute(f"PRAGMA user_version={number}")
        before = index_of(path)
        assert before.change == 5
        outside(FLIP, f"{path}-shm", "9")
        connection.execute("PRAGMA user_version").fetchall()
        after = index_of(path)
        assert (after.change, after.salts, after.frames) == (0, before.salts, before.frames)
        connection.execute("PRAGMA user_version=7")
        assert index_of(path).change == 1


def test_commits_that_fill_up_sectors_are_counted_once(reader: PageReader, tmp_path: Path) -> None:
    """Without powersafe overwrite the log holds several marks of one commit; iChange counts one."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(f"file:{path}?psow=0", uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        for number in range(6):
            connection.execute(f"PRAGMA user_version={number}")
        survey = reader.wal_survey(str(path))
        assert survey is not None
        assert index_of(path).change == 6 < survey.commits
