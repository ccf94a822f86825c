"""Logs of many commits, what the database held after each of them, and ways to damage one frame."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pagewarden.sqlite.wal import frame_offset
from tests.support.session import Session

Rows = list[tuple[object, ...]]

_ALL = "SELECT * FROM item ORDER BY id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A database in WAL mode as a crash leaves it, and its history."""

    path: Path
    page_size: int
    frames: tuple[tuple[int, int], ...]  # page number and commit field of each
    states: dict[int, Rows]  # by commit frame; 0 for the file alone

    @property
    def wal(self) -> Path:
        """The log."""
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def last(self) -> int:
        """The last commit."""
        return len(self.frames)

    def place(self, folder: Path) -> Logged:
        """Copy both files into a new folder."""
        folder.mkdir(parents=True)
        for path in (self.path, self.wal):
            shutil.copyfile(path, folder / path.name)
        return Logged(path=folder / self.path.name, page_size=self.page_size, frames=self.frames, states=self.states)


def make_logged(folder: Path, *, page_size: int = 512, commits: int = 12, seed: int = 1) -> Logged:
    """Make a database with a log of small and large transactions, and take both files while it is open."""
    chance = random.Random(seed)
    live, path = folder / "live.db", folder / "app.db"
    held: list[Rows] = []
    with Session(live) as writer:
        writer.run(f"PRAGMA page_size={page_size}")
        for pragma in ("journal_mode=wal", "wal_autocheckpoint=0"):
            writer.run(f"PRAGMA {pragma}")
        writer.run("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
        writer.run("CREATE INDEX item_name ON item(name)")
        for number in range(1, 40):
            writer.run("INSERT INTO item VALUES(?, ?, ?)", *_item(chance, number))
        writer.run("PRAGMA wal_checkpoint(TRUNCATE)")
        held.append(_all(writer))
        for number in range(commits):
            writer.run("BEGIN")
            for _ in range(chance.choice((1, 1, 2, 6))):
                writer.run("INSERT INTO item VALUES(NULL, ?, ?)", *_item(chance, number)[1:])
                writer.run("UPDATE item SET body=body || 'x' WHERE id=?", chance.randrange(1, 40))
                writer.run("DELETE FROM item WHERE id=?", chance.randrange(40, 60))
            writer.run("COMMIT")
            held.append(_all(writer))
        shutil.copyfile(live, path)
        shutil.copyfile(f"{live}-wal", f"{path}-wal")
    frames = _frames(path.with_name("app.db-wal").read_bytes(), page_size)
    places = [0, *(place for place, (_, size) in enumerate(frames, 1) if size)]
    return Logged(path=path, page_size=page_size, frames=frames, states=dict(zip(places, held, strict=True)))


def _all(session: Session) -> Rows:
    return [tuple(row) for row in session.run(_ALL)]


def _item(chance: random.Random, number: int) -> tuple[int, str, str]:
    return number, f"name {chance.randrange(1000)}", chance.choice("abc") * chance.randrange(5, 300)


def _frames(log: bytes, page_size: int) -> tuple[tuple[int, int], ...]:
    count = (len(log) - 32) // (24 + page_size)
    return tuple(struct.unpack_from(">2I", log, frame_offset(frame, page_size)) for frame in range(1, count + 1))


def rows_of(path: Path) -> Rows:
    """Return what SQLite reads of a database and its log, which must be sound; the files may change by that."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute(_ALL).fetchall()


def change(path: Path, offset: int, new: bytes) -> None:
    """Write bytes into a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(new)


def garbage(logged: Logged, frame: int, chance: random.Random, *, length: int = 12) -> None:
    """Put garbage into several words of a frame's page."""
    offset = frame_offset(frame, logged.page_size) + 24 + chance.randrange(logged.page_size - length)
    _xor(logged.wal, offset, length, chance)


def flipped_bit(logged: Logged, frame: int, chance: random.Random) -> None:
    """Flip a bit of a frame: of what its checksum covers, of its salts, or of the checksum itself."""
    offset = frame_offset(frame, logged.page_size) + chance.randrange(24 + logged.page_size)
    data = logged.wal.read_bytes()
    change(logged.wal, offset, bytes((data[offset] ^ 1 << chance.randrange(8),)))


def wrong_number(logged: Logged, frame: int, chance: random.Random) -> None:
    """Put garbage into page number and commit field."""
    _xor(logged.wal, frame_offset(frame, logged.page_size), 8, chance)


def wrong_salts(logged: Logged, frame: int, chance: random.Random) -> None:
    """Put garbage into the salts."""
    _xor(logged.wal, frame_offset(frame, logged.page_size) + 8, 8, chance)


def wrong_checksum(logged: Logged, frame: int, chance: random.Random) -> None:
    """Put garbage into the checksum."""
    _xor(logged.wal, frame_offset(frame, logged.page_size) + 16, 8, chance)


def zeroed_sector(logged: Logged, frame: int, chance: random.Random) -> None:
    """Let the first 512 bytes of a frame be zeros."""
    change(logged.wal, frame_offset(frame, logged.page_size), bytes(512))


def _xor(path: Path, offset: int, length: int, chance: random.Random) -> None:
    old = path.read_bytes()[offset : offset + length]
    change(path, offset, bytes(byte ^ chance.randrange(1, 256) for byte in old))
