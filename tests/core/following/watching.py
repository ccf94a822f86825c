"""A database whose application keeps its own record of its commits, and a guard that follows it by the rules.

The oracle is SQLite itself: `sqlite3_serialize` of the application's connection after each of its commits. What was
taken must make exactly those images, one after the other.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.following.values import Cause, Cursor, Gap, Look, Taken
from pagewarden.pages import backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.pageset import PageSetFile

TIMELINE = "0a" * 16
TEMPLATE = datetime(2026, 11, 23, tzinfo=UTC)


class Application:
    """One connection that writes, and remembers the database after each of its commits."""

    def __init__(self, path: Path, *, page_size: int = 4096, options: str = "", **pragmas: str | int) -> None:
        """Make a database in WAL mode with one table and one index."""
        self.path = path
        self.page_size = page_size
        self.connection = sqlite3.connect(f"file:{path}{options}", uri=True, isolation_level=None, timeout=0.01)
        self.connection.execute(f"PRAGMA page_size={page_size}")
        for name in [name for name in pragmas if name == "auto_vacuum"]:
            self.connection.execute(f"PRAGMA {name}={pragmas[name]}")
        self.connection.execute("PRAGMA journal_mode=WAL")
        for name, value in {"wal_autocheckpoint": 0, "synchronous": "OFF", **pragmas}.items():
            self.connection.execute(f"PRAGMA {name}={value}")
        self.images: list[bytes] = []
        self.run("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
        self.run("CREATE INDEX item_name ON item(name)")

    def run(self, *statements: str | tuple[str, tuple[object, ...]]) -> None:
        """Make one commit of `statements`, which must write something, and remember it."""
        many = len(statements) > 1
        if many:
            self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            text, values = (statement, ()) if isinstance(statement, str) else statement
            self.connection.execute(text, values).fetchall()
        if many:
            self.connection.execute("COMMIT")
        self.remember()

    def remember(self) -> None:
        """Remember what the database is now."""
        self.images.append(self.image())

    def image(self) -> bytes:
        """Return the database as SQLite sees it."""
        return bytes(self.connection.serialize())

    def insert(self, chance: random.Random, rows: int = 1, size: int = 3000) -> None:
        """Commit some new rows."""
        self.run(*[row(chance, size) for _ in range(rows)])

    def checkpoint(self, mode: str) -> tuple[int, int, int]:
        """Checkpoint; return SQLite's answer."""
        busy, log, copied = self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return busy, log, copied

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def row(chance: random.Random, size: int = 3000) -> tuple[str, tuple[object, ...]]:
    """Return a statement that adds a row."""
    values = (f"name {chance.randrange(1000)}", chance.randbytes(chance.randrange(1, size)))
    return "INSERT INTO item(name, body) VALUES(?, ?)", values


class Guard:
    """What a guard does: it holds a pin, takes, and lets go of the pin only after it took what a newer pin sees."""

    handle: int  # of what is followed
    facts: MapFacts  # of the position where that began

    def __init__(self, application: Application, reader: PageReader, folder: Path) -> None:
        """Pin the database, and begin at its present commit, which is position 1."""
        self.reader = reader
        self.folder = folder
        self.path = str(application.path)
        folder.mkdir(exist_ok=True)
        self._application = application
        self._serial = 0
        self.judging = True  # whether what is taken is compared with the application's record
        self.pin = self.new_pin()
        self.image = application.image()  # at the position
        self.known = len(application.images)  # of the application's commits
        self.taken: list[Taken] = []
        begun = self.begin()
        assert isinstance(begun, int), begun

    def new_pin(self) -> sqlite3.Connection:
        """Pin the newest commit."""
        pin = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        pin.execute("BEGIN")
        pin.execute("PRAGMA schema_version").fetchall()
        return pin

    def begin(self, cursor: Cursor | None = None, txid: int = 1) -> int | Gap:
        """Begin at the present commit, or at the guard's position with a cursor of old."""
        sums = backend().buffer_sums(self.image, self.size, 1, len(self.image) // self.size)
        self.facts = MapFacts(
            timeline=TIMELINE,
            txid=txid,
            page_size=self.size,
            pages=len(self.image) // self.size,
            database_sum=backend().fold(sums),
        )
        map_path = self.new_file("map")
        write_map(map_path, self.facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
        if cursor is None:
            attachment = self.reader.attach(self.path)
            self.reader.release(attachment.handle)
            cursor = Cursor(salts=attachment.salts, frame=attachment.wal_frames)
        begun = self.reader.follow_begin(self.path, map_path, self.facts, cursor)
        if isinstance(begun, int):
            self.handle = begun
        return begun

    @property
    def size(self) -> int:
        """Bytes of a page."""
        return self._application.page_size

    @property
    def position(self) -> int:
        """The txid that was followed to."""
        return self.taken[-1].txid if self.taken else self.facts.txid

    def new_file(self, name: str) -> Path:
        """Return the name of a new file."""
        self._serial += 1
        return self.folder / f"{self._serial}.{name}"

    def look(self) -> Look:
        """Look at the log."""
        return self.reader.follow_look(self.handle)

    def try_take(self, *, merge: bool = False, most_bytes: int = 32 << 20) -> Taken | Gap | None:
        """Take once, without a look at what it gave."""
        segment, commits = self.new_file("segment"), None if merge else self.new_file("commits")
        template = PageSetHeader(
            kind=Kind.SEGMENT,
            page_size=self.size,
            pages=0,
            pages_per_frame=min(16, (1 << 20) // self.size),
            timeline=TIMELINE,
            txid=self.position + 1,
            txid_from=self.position,
            time=TEMPLATE,
        )
        taken = self.reader.follow_take(self.handle, template, segment, commits, most_bytes=most_bytes)
        if isinstance(taken, Taken):
            self.taken.append(taken)
            if self.judging:
                self._judge(taken, segment, commits)
        else:
            assert not segment.exists()
            assert commits is None or not commits.exists()
        return taken

    def take(self, *, merge: bool = False, most_bytes: int = 32 << 20) -> list[Taken]:
        """Take until nothing is left, and prove each against the application's record."""
        found: list[Taken] = []
        while True:
            taken = self.try_take(merge=merge, most_bytes=most_bytes)
            if taken is None:
                assert not self.look().behind
                return found
            assert isinstance(taken, Taken), taken
            found.append(taken)
            if not taken.more:
                return found

    def catch_up(self, **how: bool | int) -> list[Taken]:
        """Take everything; all commits of the application must be there then, and no others."""
        found = self.take(**how)  # type: ignore[arg-type]
        assert self.known == len(self._application.images)
        assert self.image == self._application.images[-1]
        return found

    def rotate(self) -> None:
        """Begin a new pin, take everything, let go of the old one."""
        newer = self.new_pin()
        self.take()
        self.pin.close()
        self.pin = newer

    def settle(self) -> None:
        """Let everything be copied back, and pin the database alone: the next writer begins the log anew."""
        self.rotate()
        self._application.checkpoint("PASSIVE")
        self.rotate()

    def close(self) -> None:
        """End everything."""
        self.pin.close()
        self.reader.follow_end(self.handle)

    def _judge(self, taken: Taken, segment: Path, commits: Path | None) -> None:
        """Compare what was taken with the application's record, each commit of it."""
        before, images = self.image, self._application.images[self.known :][: taken.count]
        assert len(images) == taken.count, f"{taken.count} commits were taken, and {len(images)} made"
        with PageSetFile(segment) as file:
            assert file.info == taken.segment
            assert (file.info.header.txid_from, file.info.header.txid) == (taken.txid_from, taken.txid)
            self.image = overlaid(before, file)
        assert self.image == images[-1], "the segment does not make the application's database"
        sums = backend().buffer_sums(self.image, self.size, 1, taken.pages)
        assert (taken.pages * self.size, backend().fold(sums)) == (len(self.image), taken.database_sum)
        assert (taken.merged, taken.commits is None) in ((0, False), (taken.count, True))
        if taken.commits is not None:
            assert commits is not None
            self._judge_each(commits, before, images, taken)
        self.known += taken.count
        if len(self.taken) % 3:
            return
        to = self.new_file("map")
        facts = self.reader.follow_map(self.handle, to)
        assert (facts.txid, facts.database_sum) == (taken.txid, taken.database_sum)
        with PageMap(to, facts) as made:
            assert made.sums(1, facts.pages) == sums

    def _judge_each(self, commits: Path, before: bytes, images: list[bytes], taken: Taken) -> None:
        with CommitsFile(commits) as file:
            assert file.info == taken.commits
            for number, (commit, image) in enumerate(zip(file.commits, images, strict=True), 1):
                assert commit.txid == taken.txid_from + number
                sums = backend().buffer_sums(image, self.size, 1, len(image) // self.size)
                assert (commit.pages * self.size, commit.database_sum) == (len(image), backend().fold(sums))
        some = random.Random(len(images)).sample(range(1, len(images)), min(2, len(images) - 1))
        for number in some:
            to = self.new_file("inner")
            self.reader.extract_commit(commits, taken.txid_from + number, to)
            with PageSetFile(to) as inner:
                assert overlaid(before, inner) == images[number - 1], f"commit {number} of {len(images)}"


def overlaid(before: bytes, segment: PageSetFile) -> bytes:
    """Return what a segment makes of the image of a database."""
    size = segment.page_size
    image = bytearray(before[: segment.pages * size].ljust(segment.pages * size, b"\0"))
    for pgno in segment.numbers(0, segment.info.held):
        image[(pgno - 1) * size : pgno * size] = segment.page(pgno)
    return bytes(image)


@contextmanager
def followed(path: Path, reader: PageReader, **how: int | str) -> Iterator[tuple[Application, Guard]]:
    """Make an application and a guard."""
    with closing(Application(path, **how)) as application:  # type: ignore[arg-type]
        guard = Guard(application, reader, path.with_name(f"{path.name}.guard"))
        try:
            yield application, guard
        finally:
            guard.close()


def outside(program: str, *arguments: str | Path) -> None:
    """Do something to files that this process holds locks on, in another process (H1)."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", program, *arguments], check=True)


def gap_of(guard: Guard) -> Cause:
    """Take, which must find a gap; return its cause. Nothing has moved."""
    position = guard.position
    found = guard.try_take()
    assert isinstance(found, Gap), found
    assert found.why
    assert guard.position == position
    return found.cause
