"""Backups of what changed: a hundredth of the pages, beside rsync of the same; nothing, beside a hash of the file."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

SHARE = 0.01
"""Of the pages of the database, about as many change from one backup to the next."""


def change(database: Path, chance: random.Random, share: float = SHARE) -> int:
    """Change rows all over a database of make_db.py, each on a page of its own; return how many pages have changed.

    What was committed stands in the file afterwards, and in no log.
    """
    before = _sums(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (last,) = connection.execute("SELECT max(id) FROM events").fetchone()
        (orders,) = connection.execute("SELECT max(id) FROM orders").fetchone()
        wanted = round(pages * share)
        connection.execute("BEGIN")
        # The same number of bytes each, so that nothing moves: what an application does that updates counters.
        for _ in range(wanted // 2):
            connection.execute("UPDATE events SET ts = ts + 1000000000 WHERE id = ?", (chance.randrange(1, last + 1),))
            connection.execute("UPDATE orders SET total = -total - 1 WHERE id = ?", (chance.randrange(1, orders + 1),))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(a != b for a, b in zip(before, _sums(database), strict=False))


def _sums(database: Path) -> list[int]:
    with database.open("rb") as file:
        return [hash(page) for page in iter(lambda: file.read(4096), b"")]


def copies(database: Path, folder: Path) -> tuple[Path, Path]:
    """Return two copies: one that changes, and one that rsync keeps up with it."""
    changing, kept = folder / "changing.db", folder / "kept.db"
    for copy in (changing, kept):
        shutil.copyfile(database, copy)
    return changing, kept
