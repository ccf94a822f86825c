"""The databases that are injured: real ones of the corpora, made ones, and small ones of many layouts."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

from tests.corpora.corpus import folder as corpora
from tests.corpora.corpus import unpack
from tests.support.injuring import SHAPES, make

LARGEST = 3 << 20
"""Bytes of the largest real database that is taken: every injury is a whole repair and a comparison of every row."""


def shapes(into: Path) -> dict[str, Path]:
    """Make one small database of each layout."""
    made = {}
    for name, shape in SHAPES.items():
        if shape.rows > 1 and not shape.keeps_wal:
            (room := into / f"shape-{name}").mkdir(parents=True)
            made[f"shape {name}"] = make(room, shape)[0]
    return made


def real(into: Path) -> dict[str, Path]:
    """Unpack the healthy corpora; return those that SQLite here can write to."""
    found = {}
    for path in sorted(unpack("healthy", into).rglob("*")):
        if path.is_file() and 0 < path.stat().st_size <= LARGEST and _usable(path):
            found[path.name] = path
    return found


def generated(into: Path) -> dict[str, Path]:
    """Make databases with the generator of the benchmarks."""
    into.mkdir(parents=True, exist_ok=True)
    maker = Path(os.environ.get("PAGEWARDEN_BENCH", corpora().parent / "bench")) / "make_db.py"
    made = {}
    for size, page_size in ((1, 4096), (2, 1024), (2, 16384)):
        path = into / f"made-{size}-{page_size}.db"
        command = [sys.executable, str(maker), "--size-mib", str(size), "--page-size", str(page_size), "--seed", "7"]
        subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL)
        made[f"made {size} MiB, pages of {page_size}"] = path
    return made


def _usable(path: Path) -> bool:
    """Whether it is a sound database whose schema this SQLite knows, with something in it to lose."""
    copy = path.with_name(f"{path.name}.usable")
    shutil.copy(path, copy)
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.text_factory = bytes
            connection.execute("PRAGMA journal_mode=DELETE")
            change(connection, random.Random(1))
            return connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


def change(connection: sqlite3.Connection, chance: random.Random, rounds: int = 4) -> None:
    """Commit some changes that every database takes: rows of a table of our own, and a few of its own rows.

    Nothing is taken from a table that a virtual one keeps: that would be damage of its own.
    """
    execute = connection.execute
    execute("CREATE TABLE IF NOT EXISTS pw_extra(id INTEGER PRIMARY KEY, body TEXT, n INTEGER)")
    execute("CREATE INDEX IF NOT EXISTS pw_extra_n ON pw_extra(n)")
    names = [
        bytes(name).decode()
        for (name,) in execute(
            "SELECT CAST(s.name AS BLOB) FROM sqlite_schema s JOIN pragma_table_list l ON l.name = s.name"
            " WHERE l.schema='main' AND l.type='table' AND s.rootpage>0"
            " AND s.name NOT LIKE 'sqlite_%' AND s.name <> 'pw_extra'"
        ).fetchall()
    ]
    for _ in range(rounds):
        execute("BEGIN")
        for _ in range(chance.randrange(3, 30)):
            body = "".join(chance.choices("abcdefgh \n", k=chance.choice((5, 60, 900))))
            execute("INSERT INTO pw_extra(body, n) VALUES(?, ?)", (body, chance.randrange(1000)))
        if names:
            name = chance.choice(names).replace('"', '""')
            with suppress(sqlite3.Error):  # a trigger, a constraint or no rowid: then it stays
                execute(f'DELETE FROM "{name}" WHERE rowid IN (SELECT rowid FROM "{name}" ORDER BY rowid DESC LIMIT 2)')
        execute("COMMIT")
