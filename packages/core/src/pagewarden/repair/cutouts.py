"""What a repair cuts out of a database, kept in the folder of its quarantine entry so that all of it can be had back.

    cut.db      pages and rows that left the database: a plain SQLite database, for any tool to read
    files/      files that left it, such as a log that belonged to another database

Whoever repairs writes them in one transaction, durable by `Cutouts.close` and so before the copy takes the database's
path. An attempt that is given up rolls back, or goes as a whole by `discard_cutouts`.

docs/formats/cut-1.md has the tables.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote as quote_url

from pagewarden import durable
from pagewarden.contracts import SqlValue
from pagewarden.errors import DatabaseUnreadable, OutOfSpace, PagewardenError, TargetFailed
from pagewarden.holders import COMPANIONS
from pagewarden.regular import odd_kind

CUT = "cut.db"
FILES = "files"
MOST_TABLES = 1000
MOST_FILES = 1000
"""Tables and files that a summary names."""

VERSION = 1
"""Of the tables; cut.db has it as its user_version."""

APPLICATION = 0x50576375
"""What makes a cut.db one, as its application_id: "PWcu"."""

_SCHEMA = """
CREATE TABLE pages(id INTEGER PRIMARY KEY, pgno INTEGER NOT NULL, page_size INTEGER NOT NULL, bytes BLOB NOT NULL,
                   why TEXT NOT NULL, repairer TEXT NOT NULL);
CREATE TABLE rows(id INTEGER PRIMARY KEY, tbl TEXT NOT NULL, why TEXT NOT NULL, repairer TEXT NOT NULL,
                  source TEXT NOT NULL);
CREATE TABLE cells(row INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, value,
                   PRIMARY KEY (row, position)) WITHOUT ROWID;
CREATE TABLE files(name TEXT PRIMARY KEY NOT NULL, why TEXT NOT NULL, repairer TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPage:
    """A page as it stood before something else was written over it, or before it was cut off."""

    id: int
    pgno: int
    page_size: int  # of the database then, in bytes
    length: int  # bytes that are kept; fewer than a page at a file's cut end
    why: str
    repairer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRow:
    """A row that left the database, or a version of one. A text that was no UTF-8 holds surrogate escapes."""

    id: int
    table: str
    columns: tuple[str, ...]
    values: tuple[SqlValue, ...]  # as SQLite stored them, one for each of `columns`
    why: str
    repairer: str
    source: str  # where it was read, where that says something; else empty


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFile:
    """A file that belonged to the database no longer."""

    name: str  # in the folder `files`
    size: int  # bytes
    why: str
    repairer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutTable:
    """How many rows of a table were cut out."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSummary:
    """How much a repair cut out."""

    pages: int
    tables: tuple[CutTable, ...]  # that rows were cut out of
    files: tuple[CutFile, ...]
    show: str  # the command that shows it
    export: str  # the command that gets it out

    @property
    def anything(self) -> bool:
        """Whether anything was cut out at all."""
        return bool(self.pages or self.tables or self.files)


class Cutouts:
    """What one process cuts out. Nothing is made before the first thing is; several may follow one another."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the quarantine entry, which is there."""
        self.folder = folder
        self._connection: sqlite3.Connection | None = None

    def page(self, pgno: int, page_size: int, data: bytes, why: str, repairer: str) -> None:
        """Keep a page as it stands before it is overwritten. Raises OutOfSpace or TargetFailed, as all here do."""
        self._execute(
            "INSERT INTO pages(pgno, page_size, bytes, why, repairer) VALUES (?, ?, ?, ?, ?)",
            (pgno, page_size, bytes(data), _said(why), _said(repairer)),
        )

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[SqlValue]],
        why: str,
        repairer: str,
        source: str = "",
    ) -> int:
        """Keep rows of a table, and return how many there were.

        `columns` are names that an INSERT into the table takes, its rowid's included where it says something. They are
        read one by one, so that a table's worth needs no memory. A row that is longer or shorter than them raises
        ValueError.
        """
        names = [_said(column) for column in columns]
        about = (_said(table), _said(why), _said(repairer), _said(source))
        count = 0
        for values in rows:
            if len(values) != len(names):
                raise ValueError(f"a row of {table} has {len(values)} values for {len(names)} columns")
            number = self._execute("INSERT INTO rows(tbl, why, repairer, source) VALUES (?, ?, ?, ?)", about).lastrowid
            for position, (name, value) in enumerate(zip(names, values, strict=True)):
                text, bound = _bindable(value)
                self._execute(
                    "INSERT INTO cells VALUES (?, ?, ?, CAST(? AS TEXT))"
                    if text
                    else "INSERT INTO cells VALUES (?, ?, ?, ?)",
                    (number, position, name, bound),
                )
            count += 1
        return count

    def file(self, path: Path, name: str, why: str, repairer: str) -> str:
        """Move the private file `path`, of the same file system, into the quarantine; return its name there.

        That is `name`, or `name-2`… where that is taken. A name with a folder in it raises ValueError.
        """
        if not name or name == ".." or Path(name).name != name or "\0" in name:
            raise ValueError(f"{name!r} is no plain name for a file")
        folder = self.folder / FILES
        free, number = name, 1
        while os.path.lexists(folder / free):
            number += 1
            free = f"{name}-{number}"
        self._execute("INSERT INTO files VALUES (?, ?, ?)", (_said(free), _said(why), _said(repairer)))
        try:
            durable.make_directories(folder)
            durable.replace(path, folder / free)
        except OSError as error:
            raise durable.failure(error, f"cannot move {path} to {folder / free}") from error
        return free

    def close(self) -> None:
        """Make all that was cut out durable."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.closing(connection):
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._failure(error) from error
        # No connection of this process is left whose locks a close could drop (H1).
        try:
            durable.sync_file(self.folder / CUT)
            durable.sync_directory(self.folder)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.folder / CUT}") from error

    def abandon(self) -> None:
        """Leave cut.db as it was before; the copy that this was cut out of is discarded."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # which rolls back

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def _execute(self, sql: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            if self._connection is None:
                self._connection = self._open()
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except OSError as error:
            raise durable.failure(error, f"cannot write {self.folder / CUT}") from error

    def _open(self) -> sqlite3.Connection:
        path = self.folder / CUT
        with contextlib.suppress(FileExistsError):
            os.close(durable.create(path))  # owner only: it holds what the database held
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            # `close` sees to durability, and an entry that a power cut leaves behind is gone back from as a whole.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _failure(self, error: sqlite3.Error) -> PagewardenError:
        what = f"cannot write {self.folder / CUT}: {error}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return OutOfSpace(what)
        return TargetFailed(what)


def discard_cutouts(folder: Path) -> None:
    """Remove all that was cut out, because the copy that it was cut out of is made anew. Nobody may have it open."""
    for path in [folder / f"{CUT}-journal", folder / CUT, *sorted((folder / FILES).glob("*"))]:
        durable.remove(path)
    with contextlib.suppress(FileNotFoundError):
        (folder / FILES).rmdir()


class CutoutsView:
    """What was cut out, for reading; made by `read_cutouts`. Raises DatabaseUnreadable where cut.db is damaged."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    def count_pages(self) -> int:
        """Return how many pages there are."""
        ((count,),) = self._all("SELECT count(*) FROM pages")
        return int(count)

    def pages(self) -> Iterator[CutPage]:
        """Yield the pages, in the order in which they were cut out, without their bytes."""
        for number, pgno, page_size, length, why, repairer in self._all(
            "SELECT id, pgno, page_size, length(bytes), why, repairer FROM pages ORDER BY id"
        ):
            yield CutPage(id=number, pgno=pgno, page_size=page_size, length=length, why=why, repairer=repairer)

    def page_bytes(self, page: CutPage) -> bytes:
        """Return what stood on a page."""
        ((data,),) = self._all("SELECT CAST(bytes AS BLOB) FROM pages WHERE id = ?", (page.id,))
        return bytes(data)

    def tables(self) -> tuple[tuple[str, int], ...]:
        """Return the names of the tables that rows are from, and how many are."""
        return tuple(self._all("SELECT tbl, count(*) FROM rows GROUP BY tbl ORDER BY tbl"))

    def rows(self, table: str | None = None) -> Iterator[CutRow]:
        """Yield the rows of one table, or of all, in the order in which they were cut out."""
        for number, tbl, why, repairer, source in self._all(
            "SELECT id, tbl, why, repairer, source FROM rows WHERE ?1 IS NULL OR tbl = ?1 ORDER BY id",
            (None if table is None else _said(table),),
        ):
            cells = tuple(self._all("SELECT name, value FROM cells WHERE row = ? ORDER BY position", (number,)))
            yield CutRow(
                id=number,
                table=tbl,
                columns=tuple(name for name, _ in cells),
                values=tuple(value for _, value in cells),
                why=why,
                repairer=repairer,
                source=source,
            )

    def files(self) -> tuple[CutFile, ...]:
        """Return the files, by name. One that has been taken away from there has size -1."""
        return tuple(
            CutFile(name=name, size=_size(self.folder / FILES / Path(name).name), why=why, repairer=repairer)
            for name, why, repairer in self._all("SELECT name, why, repairer FROM files ORDER BY name")
        )

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise _unreadable(self.folder, error) from error


@contextlib.contextmanager
def read_cutouts(folder: Path) -> Iterator[CutoutsView]:
    """Open what was cut out, for reading; where nothing was, an empty view.

    Raises DatabaseUnreadable where there is a cut.db that is none of this version's, or cannot be read.
    """
    path = folder / CUT
    for suffix in COMPANIONS:
        if kind := odd_kind(f"{path}{suffix}"):  # SQLite would wait for ever for a FIFO to be written to
            raise _unreadable(folder, f"{path}{suffix} is {kind}, not a regular file")
    there = path.exists()
    name = f"file:{quote_url(os.fsencode(path.absolute()))}?mode=ro" if there else ":memory:"
    try:
        with contextlib.closing(sqlite3.connect(name, uri=there, isolation_level=None)) as connection:
            connection.text_factory = _text
            if there:
                connection.execute("PRAGMA trusted_schema = OFF")
                ((application,),) = connection.execute("PRAGMA application_id")
                ((version,),) = connection.execute("PRAGMA user_version")
                if (application, version) != (APPLICATION, VERSION):
                    raise DatabaseUnreadable(
                        f"{path} is not of this version's making", hint="use the version that made it"
                    )
            else:
                connection.executescript(_SCHEMA)
            yield CutoutsView(folder, connection)
    except sqlite3.Error as error:
        raise _unreadable(folder, error) from error


def summarize(folder: Path, database: str, number: int) -> CutSummary:
    """Return how much was cut out into `folder`, the entry `number` of a database.

    Raises DatabaseUnreadable where that cannot be read.
    """
    with read_cutouts(folder) as view:
        pages, tables, files = view.count_pages(), view.tables()[:MOST_TABLES], view.files()[:MOST_FILES]
    return CutSummary(
        pages=pages,
        tables=tuple(CutTable(name=name, rows=count) for name, count in tables),
        files=files,
        show=shlex.join(["pagewarden", "quarantine", "show", database, str(number)]),
        export=f"{shlex.join(['pagewarden', 'quarantine', 'export', database, str(number)])} --to FOLDER",
    )


def _unreadable(folder: Path, why: sqlite3.Error | str) -> DatabaseUnreadable:
    return DatabaseUnreadable(
        f"what was cut out, {folder / CUT}, cannot be read: {why}",
        hint=f"the original is kept beside it, in {folder}",
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return -1


def _text(data: bytes) -> str:
    """Return a text of cut.db so that its bytes can be had back: a damaged database may hold any."""
    return data.decode("utf-8", "surrogateescape")


def _bindable(value: SqlValue) -> tuple[bool, SqlValue]:
    """Return whether a value is a text that must be bound as its bytes, and what to bind."""
    if not isinstance(value, str):
        return False, value
    try:
        value.encode()
    except UnicodeEncodeError:
        return True, text_bytes(value)
    return False, value


def text_bytes(text: str) -> bytes:
    """Return the bytes of a text that may hold surrogate escapes, or lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _said(text: str) -> str:
    """Return a name or a reason as it can be stored: what is no UTF-8 in it is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
