"""A subject without a run: what a checker is given, over a closed file that nobody else has open."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from pagewarden.contracts import Baseline, FileFacts, PageImage
from pagewarden.pages import PageSource, backend, lock_page
from pagewarden.pages.walk import plan_walk
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader
from pagewarden.structure import StructureStep, Tree, WalSurvey
from pagewarden.values import Level, Position


class FileImage:
    """The pages of a small closed database, in memory. With `current`, it serves as a baseline."""

    def __init__(
        self,
        path: Path,
        *,
        current: bool = True,
        position: Position | None = None,
        older: Sequence[PageImage] = (),
    ) -> None:
        """Read the file at `path` whole; it may be changed or removed afterwards. Raises HeaderInvalid, OSError."""
        self._data = path.read_bytes()
        self.current = current
        self.position = position
        self.older = older
        self.page_size = 4096
        self.pages = 0
        self.claimed = 0
        if self._data:
            header = DatabaseHeader.parse(self._data[:HEADER_SIZE])
            self.claimed = header.page_count if header.count_valid else 0
            self.page_size = header.page_size
            self.pages = self.claimed or -(-len(self._data) // self.page_size)

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return len(self._data)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page; what the file lacks is zeros."""
        if not 1 <= pgno <= self.pages:
            raise ValueError(f"page {pgno} of {self.pages}")
        return self._data[(pgno - 1) * self.page_size : pgno * self.page_size].ljust(self.page_size, b"\0")

    def sums(self, first: int, count: int) -> bytes:
        """Return page sums, as `PageImage.sums` does."""
        lock = lock_page(self.page_size)
        return b"".join(
            (0 if pgno == lock else backend().page_sum(pgno, self.page(pgno))).to_bytes(8, "little")
            for pgno in range(first, first + count)
        )

    def reread(self, pgno: int) -> bytes:
        """Return the bytes of one page: what is in memory does not change."""
        return self.page(pgno)

    def reserved_sums(self, first: int, count: int) -> bytes:
        """Return which pages' own checksums hold, as `LiveImage.reserved_sums` does."""
        with tempfile.TemporaryFile() as file:
            file.write(self._data)
            file.flush()
            return backend().reserved_sums(self._source(file.fileno()), first, count)

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Walk `trees`, as `LiveImage.structure` does, in steps of no time: each looks at as little as it can."""
        from pagewarden.pages.structure import StructureWalk

        if not self.pages:
            return
        plan = plan_walk(self.page(1), page_size=self.page_size, pages=self.pages, trees=trees)
        walk = StructureWalk(plan, resume=resume)
        with tempfile.TemporaryFile() as file:
            file.write(self._data)
            file.flush()
            source = self._source(file.fileno())
            done = False
            while not done:
                step = walk.step(source, 0.0)
                done = step.done
                yield step

    def _source(self, file: int) -> PageSource:
        return PageSource(database=file, page_size=self.page_size, pages=self.pages, file_size=self.file_size)

    def write(self, path: Path) -> None:
        """Write the file as it was read to the new file `path`."""
        path.write_bytes(self._data)

    def wal(self) -> WalSurvey | None:
        """Return None: a closed database has no -wal."""
        return None


class ClosedSubject:
    """A `Subject` over a closed database in rollback-journal mode. A context manager: leaving it closes connections."""

    def __init__(
        self,
        path: Path,
        *,
        level: Level = Level.STANDARD,
        baseline: Baseline | None = None,
        assertions: Sequence[str] = (),
        resume: str = "",
    ) -> None:
        """The file is read once, now, before there is a connection on it (H1)."""
        self.path = os.path.realpath(path)
        self.level = level
        self.baseline = baseline
        self.assertions = tuple(assertions)
        self.resume = resume
        self.places: list[str] = []  # what the checker told `reached`
        self.image = FileImage(Path(self.path))
        self.facts = FileFacts(
            file_size=self.image.file_size, journal_mode="rollback", claimed_pages=self.image.claimed
        )
        self.told: list[tuple[int, int]] = []  # what the checker told of its progress
        self.signal: BaseException | None = None  # raised at the next progress: the deadline has passed
        self._connections: list[sqlite3.Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # of the private copy

    def reached(self, place: str) -> None:
        """Note it in `places`."""
        self.places.append(place)

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Return a new connection: a read-only one, or with `copy` one to a private copy that may be written to."""
        path, mode = (self._copy(), "rw") if copy else (self.path, "ro")
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        with suppress(sqlite3.DatabaseError):  # the header is damaged: the checker will find out
            if not copy:
                connection.execute("PRAGMA query_only=1")
            connection.execute("PRAGMA trusted_schema=0")
        return connection

    def _copy(self) -> str:
        """Return the path of the private copy, made when it is first asked for from what was read at the beginning."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pagewarden-")
            self.image.write(Path(self._folder.name) / "copy")
        return str(Path(self._folder.name) / "copy")

    def progress(self, done: int, total: int) -> None:
        """Note it, or raise the signal that was set."""
        self.told.append((done, total))
        if self.signal is not None:
            raise self.signal

    def close(self) -> None:
        """Close all connections, and remove the copy."""
        while self._connections:
            self._connections.pop().close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
