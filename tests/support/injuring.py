"""Small closed databases of many shapes, each with what it held earlier, to be injured."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.errors import RestoreRefused
from pagewarden.testing import INJURIES
from pagewarden.values import InjuryReport
from tests.support.session import Session

SCHEMA = (
    "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT)",
    "CREATE INDEX note_title ON note(title)",
    "CREATE TABLE price(sku TEXT, region TEXT, price REAL, PRIMARY KEY(sku, region)) WITHOUT ROWID",
)
LATER = (
    "UPDATE note SET body = upper(body) WHERE id % 3 = 0",
    "DELETE FROM note WHERE id % 5 = 3",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a database is laid out."""

    page_size: int = 4096
    mode: str = "delete"
    auto_vacuum: str = "none"
    encoding: str = "UTF-8"
    schema: tuple[str, ...] = SCHEMA
    rows: int = 60
    keeps_wal: bool = False  # whether the last commits stand in a -wal beside it


SHAPES = {
    "plain": Shape(),
    "small-pages": Shape(page_size=512, mode="wal", rows=20),
    "vacuumed": Shape(page_size=1024, auto_vacuum="incremental", encoding="UTF-16le", rows=20),
    "large-pages": Shape(page_size=65536, rows=24),
    "one-row": Shape(schema=SCHEMA[:1], rows=1),
    "no-table": Shape(page_size=512, schema=(), rows=0),
    "with-wal": Shape(page_size=1024, mode="wal", rows=20, keeps_wal=True),
}


def make(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """Make a closed database of this shape in `folder`; return it and what it was before its last two commits."""
    path, older = folder / "app.db", folder / "older.db"
    chance = random.Random(7)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("page_size", "auto_vacuum", "encoding"):
            connection.execute(f"PRAGMA {pragma}='{getattr(shape, pragma)}'")
        connection.execute("PRAGMA secure_delete=ON")  # the same bytes, whatever SQLite was compiled with
        connection.execute(f"PRAGMA journal_mode={shape.mode}")
        connection.execute("BEGIN")
        connection.execute("PRAGMA user_version=1")
        for statement in shape.schema:
            connection.execute(statement)
        for number in range(1, shape.rows + 1):
            words = "\r\n".join(
                chance.choices(("red", "green", "blue"), k=chance.choice((3, 9, 30, shape.page_size // 4)))
            )
            connection.execute("INSERT INTO note VALUES(?, ?, ?)", (number, f"note {number * 7919 % 1000}", words))
            if len(shape.schema) > 2:
                row = (f"sku-{number % 40}", f"region {number // 40}", chance.random())
                connection.execute("INSERT INTO price VALUES(?, ?, ?)", row)
        connection.execute("COMMIT")
    shutil.copy(path, older)
    later = LATER if shape.rows else ("PRAGMA user_version=2",)
    if not shape.keeps_wal:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete=ON")
            for statement in later:
                connection.execute(statement)
        return path, older
    live = Path(shutil.copy(path, folder / "live.db"))
    with Session(live) as session:
        session.run("PRAGMA secure_delete=ON")
        for statement in later:
            session.run(statement)
        copy(live, path)
    return path, older


def copy(database: Path, to: Path) -> Path:
    """Copy a database to `to` with its -wal, and leave nothing there of what stood beside the last one."""
    for suffix in ("-shm", "-wal"):
        to.with_name(to.name + suffix).unlink(missing_ok=True)
    wal = database.with_name(f"{database.name}-wal")
    if wal.exists() and wal.stat().st_size:
        shutil.copy(wal, to.with_name(f"{to.name}-wal"))
    return Path(shutil.copy(database, to))


def injure(path: Path, kind: str, seed: int, older: Path) -> InjuryReport | None:
    """Injure a copy; None where this database offers no target."""
    try:
        return INJURIES[kind].apply(path, seed, older=older if seed % 2 or INJURIES[kind].needs_older else None)
    except RestoreRefused as refused:
        assert refused.hint
        return None
