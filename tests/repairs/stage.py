"""A database at one path, with its history, that is injured and repaired again and again from the same state.

Everything is as it was before each injury: the same inode with the same bytes and the same time of its last write, the
same log, the same memory of the runtime. A disk that rots moves no time; who writes through SQLite does.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.guard.guard import Guard
from pagewarden.guard.values import GuardRequest
from pagewarden.runtime import Runtime
from tests.repairs.rows import Contents, contents
from tests.repairs.sources import change
from tests.support.session import Session

PATIENCE = 120.0


class History(StrEnum):
    """What there is beside the damaged file."""

    FOLLOWED = "followed"  # a guard stored every commit, and ended after the application had closed the database
    FOLLOWED_LOG = "followed, with its log"  # the application was killed, and its -wal is still there
    UNCLOSED = "followed, closed unseen"  # the guard ended before the application closed the database
    BACKUP = "backup"  # one backup, and commits after it
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One database, ready to be injured."""

    database: Path
    history: History
    repository: Path | None
    older: Path  # what it was some commits earlier, page by page
    now: Contents  # all that it holds
    backed_up: Contents  # what the newest restore point holds
    kept: Path  # everything as it was
    inode: int
    seed: int

    @property
    def state(self) -> Path:
        """The runtime's memory."""
        return self.database.parent / "state"

    def reset(self) -> None:
        """Let everything be as it was before the last injury."""
        folder = self.database.parent
        self._own_inode_back()
        shutil.rmtree(folder / ".pagewarden", ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.kept / "state", self.state)
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        whole = self.kept / "app.db"
        with self.database.open("r+b") as file:
            file.write(whole.read_bytes())
            file.truncate()
        for suffix in ("", "-wal"):
            if (saved := self.kept / f"app.db{suffix}").exists():
                if suffix:
                    shutil.copy(saved, f"{self.database}{suffix}")
                found = saved.stat()
                os.utime(f"{self.database}{suffix}", ns=(found.st_atime_ns, found.st_mtime_ns))

    def _own_inode_back(self) -> None:
        folder = self.database.parent
        for file in (self.database, *folder.glob(".pagewarden/app.db/*/*"), *folder.glob(".pagewarden-*")):
            if file.is_file() and file.stat().st_ino == self.inode:
                if file != self.database:
                    file.replace(self.database)
                return
        raise AssertionError("the original file is gone, though nothing that was there may ever be thrown away")


def make(source: Path, history: History, folder: Path, seed: int) -> Stage:
    """Give a copy of a database such a history. Raises sqlite3.Error for a database that does not take it."""
    folder.mkdir(parents=True)
    database = folder / "app.db"
    shutil.copy(source, database)
    chance = random.Random(seed)
    followed = history in (History.FOLLOWED, History.FOLLOWED_LOG, History.UNCLOSED)
    wal = followed or chance.random() < 0.5
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        change(connection, chance)
    repository = None if history is History.NOTHING else folder / "repository"
    if followed:
        _follow(database, folder, history, chance)
    else:
        if repository is not None:
            with Runtime(state=folder / "state") as runtime:
                run_backup(BackupRequest(database=str(database), repository=str(repository)), runtime)
        shutil.copy(database, folder / "older.db")
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            change(connection, chance)
    (folder / "state").mkdir(exist_ok=True)
    kept = folder / "kept"
    kept.mkdir()
    for name in ("app.db", "app.db-wal"):
        if (file := folder / name).exists() and file.stat().st_size:
            shutil.copy2(file, kept / name)
    shutil.copytree(folder / "state", kept / "state")
    read = folder / "reading"
    read.mkdir()
    for file in kept.glob("app.db*"):
        shutil.copy(file, read / file.name)
    now = contents(read / "app.db")
    return Stage(
        database=database,
        history=history,
        repository=repository,
        older=folder / "older.db",
        now=now,
        backed_up=contents(folder / "older.db") if history is History.BACKUP else now,
        kept=kept,
        inode=database.stat().st_ino,
        seed=seed,
    )


def _follow(database: Path, folder: Path, history: History, chance: random.Random) -> None:
    """Let a guard follow an application that commits, in a process of its own; end both as the history says."""
    application = Session(database, timeout=PATIENCE)
    request = GuardRequest(database=str(database), repository=str(folder / "repository"), check="none", scrub=0.0)
    with Runtime(state=folder / "state") as runtime:
        guard = Guard(request, runtime)
        try:
            guard.flush(PATIENCE)
            _commit(application, chance)
            _copy_through_sqlite(database, folder / "older.db")
            guard.flush(PATIENCE)
            _commit(application, chance)
            guard.flush(PATIENCE)
            if history is History.FOLLOWED:
                application.close()
        finally:
            guard.close()
        assert guard.error is None, guard.error
    if history is History.FOLLOWED_LOG:
        application.kill()
    elif history is History.UNCLOSED:
        application.close()


def _commit(application: Session, chance: random.Random) -> None:
    for _ in range(4):
        body = "".join(chance.choices("abcdefgh \n", k=chance.choice((5, 60, 900))))
        application.run("INSERT INTO pw_extra(body, n) VALUES(?, ?)", body, chance.randrange(1000))
        application.run("UPDATE pw_extra SET n = n + 1 WHERE id % 7 = ?", chance.randrange(7))


def _copy_through_sqlite(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
