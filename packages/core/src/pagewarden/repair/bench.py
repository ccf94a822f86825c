"""The bench of a repairer: pages and connections of a private copy, and the quarantine of what leaves it.

It works in the process that makes it, which is mostly one of the repairer's own (`processes.repairer_main`). Nobody
else has the copy open, so the process may read its bytes and let SQLite work on it in turns: never both at a time,
because to close a file takes the locks of every connection on it away (H1).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from pagewarden import durable
from pagewarden.contracts import RepairCase, SqlValue
from pagewarden.errors import PagewardenError
from pagewarden.holders import COMPANIONS
from pagewarden.live.connection import open_copy

if TYPE_CHECKING:
    from pagewarden.repair.cutouts import Cutouts

COUNTS = ("rows_from_backup", "rows_salvaged", "rows_quarantined", "rows_lost")
"""What `Bench.note` may count."""

_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
_DEFAULT_PAGE_SIZE = 4096


def _no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def _no_note(table: str, counts: dict[str, int]) -> None:
    """Tell nobody."""


def _nobody() -> None:
    """Tell nobody."""


class Bench:
    """A `RepairBench`. A context manager: leaving it makes durable what was cut out, or takes that back if it raised.

    `database` is the private copy, `scratch` an empty folder of the same file system.
    """

    def __init__(
        self,
        case: RepairCase,
        *,
        database: Path,
        scratch: Path,
        cutouts: Cutouts,
        repairer: str,
        on_note: Callable[[str, dict[str, int]], None] = _no_note,
        on_progress: Callable[[int, int], None] = _no_progress,
        on_replaced: Callable[[], None] = _nobody,
    ) -> None:
        """`on_replaced` is told when the copy is another file, or a log of its own has left it."""
        self.case = case
        self.database = database
        self.scratch = scratch
        self.progress = on_progress
        self._cutouts = cutouts
        self._repairer = repairer
        self._on_note = on_note
        self._on_replaced = on_replaced
        self._connections: list[sqlite3.Connection] = []
        self._descriptor = -1  # of the bare copy, while no connection is open
        self._kept: set[tuple[int, int]] = set()  # pages, by number and size, whose first content is cut out already
        self._page_size = 0  # of the page that was written last

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the copy that may write. Raises PagewardenError where SQLite refuses it."""
        self._close_file()
        connection = open_copy(str(self.database))
        with suppress(sqlite3.DatabaseError):  # a schema that cannot be parsed, which whoever repairs it deals with
            # Nothing of the copy counts before all of it was made durable, so SQLite need not wait for the disk.
            connection.execute("PRAGMA synchronous=OFF")
        self._connections.append(connection)
        return connection

    def attachable(self, path: Path) -> str:
        """Return a URI for ATTACH. A file without a log or journal is read as it stands, and nothing is made beside."""
        filled = any(_size(Path(f"{path}{suffix}")) for suffix in ("-wal", "-journal"))
        return f"file://{quote(os.fsencode(path.absolute()))}?mode=ro{'' if filled else '&immutable=1'}"

    def read(self, pgno: int, page_size: int) -> bytes:
        """Return a page of the bare copy, short or empty behind its end."""
        _check_page(pgno, page_size)
        return self._pread((pgno - 1) * page_size, page_size)

    def write(self, pgno: int, data: bytes, why: str) -> None:
        """Write a page; what stood there goes to the quarantine first, if it differs.

        Of a page that is written again, only what stood there first is kept. Raises ValueError for what is no page,
        OutOfSpace or TargetFailed.
        """
        size = len(data)
        _check_page(pgno, size)
        stood = self._pread((pgno - 1) * size, size)
        self._page_size = size
        if stood == data:
            return
        self._keep_page(pgno, size, stood, why)
        try:
            durable.write_at(self._file(), data, (pgno - 1) * size)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.database}") from error

    def resize(self, size: int, why: str) -> None:
        """Set the copy's size; of what is cut off, whole pages go to the quarantine, the first as it stood."""
        if size < 0:
            raise ValueError(f"a database of {size} bytes")
        page_size = self._page_size or self._size_of_a_page()
        end = os.fstat(self._file()).st_size
        for pgno in range(size // page_size + 1, -(-end // page_size) + 1):
            self._keep_page(pgno, page_size, self._pread((pgno - 1) * page_size, page_size), why)
        try:
            os.ftruncate(self._file(), size)
        except OSError as error:
            raise durable.failure(error, f"cannot resize {self.database}") from error

    def replace(self, file: Path, why: str) -> None:  # noqa: ARG002 - the original, which says more, is kept anyhow
        """Let `file` become the copy. The original stays in the quarantine with all that was cut out of the copy."""
        self._private(file)
        self._leave()
        try:
            durable.replace(file, self.database)
            for suffix in COMPANIONS[1:]:
                durable.remove(Path(f"{self.database}{suffix}"))
        except OSError as error:
            raise durable.failure(error, f"cannot replace {self.database}") from error
        self._kept.clear()
        self._page_size = 0
        self._on_replaced()

    def keep_rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[SqlValue]], why: str) -> int:
        """Put rows into the quarantine; return how many."""
        return self._cutouts.rows(table, columns, rows, why, self._repairer)

    def keep_file(self, file: Path, name: str, why: str) -> None:
        """Move a private file into the quarantine. A -wal takes its -shm, which is an index of it, with it."""
        self._private(file)
        self._leave()
        self._cutouts.file(file, name, why, self._repairer)
        if file == Path(f"{self.database}-wal"):
            durable.remove(Path(f"{self.database}-shm"))
        if file in (Path(f"{self.database}-wal"), Path(f"{self.database}-journal")):
            self._on_replaced()

    def note(self, table: str, **counts: int) -> None:
        """Add to the report's counts of a table. Raises ValueError for a count that there is not."""
        if unknown := set(counts) - set(COUNTS):
            raise ValueError(f"there is no count {min(unknown)}, only {', '.join(COUNTS)}")
        self._on_note(table, counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(by_force=True)
        if error is None:
            self._cutouts.close()
        else:
            self._cutouts.abandon()

    def _keep_page(self, pgno: int, page_size: int, stood: bytes, why: str) -> None:
        if stood and (pgno, page_size) not in self._kept:
            self._kept.add((pgno, page_size))
            self._cutouts.page(pgno, page_size, stood, why, self._repairer)

    def _size_of_a_page(self) -> int:
        try:
            return self.case.image.page_size
        except PagewardenError:  # nobody knows: what is cut off is kept in pieces of some size
            return _DEFAULT_PAGE_SIZE

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file(), length, offset)
        except OSError as error:
            raise durable.failure(error, f"cannot read {self.database}") from error

    def _file(self) -> int:
        """Return the bare copy's descriptor. Raises RuntimeError while a connection is open."""
        self._check_closed()
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.database, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError as error:
                raise durable.failure(error, f"cannot open {self.database}") from error
        return self._descriptor

    def _leave(self, *, by_force: bool = False) -> None:
        """Let the copy be touched by nobody: close the bare file, and have no connection."""
        self._close_file()
        if by_force:
            for connection in self._connections:
                connection.close()
        self._check_closed()

    def _check_closed(self) -> None:
        self._connections = [each for each in self._connections if _is_open(each)]
        if self._connections:
            raise RuntimeError(f"a connection to {self.database.name} is open: close it before its file is touched")

    def _close_file(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _private(self, file: Path) -> None:
        """Raise ValueError unless `file` stands beside the copy or in the scratch folder."""
        folders = (self.scratch.resolve(), self.database.parent.resolve())
        if not any(folder in file.resolve().parents for folder in folders) or file.is_symlink():
            raise ValueError(f"{file} is no private file of this repair")


def _check_page(pgno: int, page_size: int) -> None:
    if pgno < 1 or page_size not in _PAGE_SIZES:
        raise ValueError(f"page {pgno} of {page_size} bytes")


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        _ = connection.total_changes
    except sqlite3.ProgrammingError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
