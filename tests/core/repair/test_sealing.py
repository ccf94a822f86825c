"""H10: the checksums of cksumvfs stand on what a repair changed, and nowhere else."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.repair.sealing import seal, seal_changes
from tests.support.cksumvfs import build_reserved, checksum, through_cksumvfs
from tests.support.cksumvfs import seal as seal_all

PAGE = 4096


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A sealed database."""
    path = build_reserved(
        tmp_path / "before.db",
        "CREATE TABLE t(a UNIQUE, b)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) INSERT INTO t SELECT i, i FROM n",
    )
    return seal_all(path)


def changed(before: Path) -> Path:
    """Return a copy that a SQLite without the extension has changed."""
    after = Path(shutil.copy(before, before.with_name("after.db")))
    with closing(sqlite3.connect(after)) as connection, connection:
        connection.execute("UPDATE t SET b = 'changed' WHERE a < 100")
    return after


def test_what_was_changed_can_be_read_by_the_extension(before: Path) -> None:
    """Without the seal it refuses the database, with it it reads every row."""
    after = changed(before)
    assert "Error" in through_cksumvfs(after, "SELECT count(*), sum(b = 'changed') FROM t")[-1]
    assert seal_changes(before, after) > 1
    assert through_cksumvfs(after, "SELECT count(*), sum(b = 'changed') FROM t") == ["3000 99"]
    assert seal_changes(before, after) == 0


def test_a_page_that_rotted_before_keeps_its_checksum(before: Path) -> None:
    """That it fails is evidence, which no repair removes."""
    data, other = bytearray(before.read_bytes()), changed(before).read_bytes()
    place = next(at for at in range(2 * PAGE, len(data), PAGE) if data[at : at + PAGE] == other[at : at + PAGE])
    data[place + 2000] ^= 1
    before.write_bytes(data)
    after = changed(before)
    assert seal_changes(before, after) > 1
    assert after.read_bytes()[place : place + PAGE] == data[place : place + PAGE]


def test_reserved_bytes_of_another_meaning_are_left(tmp_path: Path) -> None:
    """Without checksums that hold there are none to write; a file that is no database is nobody's."""
    before = build_reserved(tmp_path / "before.db", "CREATE TABLE t(a UNIQUE, b)", "INSERT INTO t VALUES(1, 1)")
    after = changed(before)
    data = after.read_bytes()
    assert (seal_changes(before, after), after.read_bytes()) == (0, data)
    after.write_bytes(b"no database at all" * 10)
    assert seal_changes(before, after) == 0


def test_the_sum_is_that_of_the_extension() -> None:
    """As cksumvfs.html defines it."""
    page = bytes(range(256)) * 16
    assert seal(page)[-8:] == checksum(page) and seal(page)[:-8] == page[:-8]
