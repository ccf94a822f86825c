"""Getting out what a repair or restore put into the quarantine: rows as SQL or CSV, pages, files and the original.

Everything is written into a new folder, which takes its name when it is whole and durable. The quarantine keeps what
it has.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from pagewarden import durable
from pagewarden.errors import RepairRefused, RestoreRefused
from pagewarden.regular import open_regular_file
from pagewarden.repair.cutouts import CutoutsView, CutRow, read_cutouts, text_bytes
from pagewarden.repair.kept import KeptEntry, entry_of
from pagewarden.repair.literals import csv_field, sql_literal
from pagewarden.repair.shown import chosen_tables
from pagewarden.sqlite.names import quote

Part = Literal["rows", "pages", "files", "original"]
PARTS: tuple[Part, ...] = ("rows", "pages", "files", "original")

_COPY_BYTES = 1 << 20
_HEAD = """\
-- Rows that left the database {database}
-- To put them back, look at them first: a key may stand there again, or its row may have gone for a reason.
PRAGMA foreign_keys = OFF;
BEGIN;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to get out, and to where."""

    database: str  # path
    to: str  # folder that is made
    number: int | None = None  # of the entry; None: the newest
    parts: tuple[Part, ...] = ()  # (): all but the original, which is as large as the database
    tables: tuple[str, ...] = ()  # rows of these only; (): of all
    format: Literal["sql", "csv"] = "sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was got out."""

    database: str
    number: int
    to: str
    files: tuple[str, ...]  # from the folder on; of very many, the first ones
    rows: int
    pages: int
    bytes: int


MOST_NAMED = 1000
"""Files that the report names, and shapes of rows that one table's CSV is split by."""


def run_export(request: ExportRequest) -> ExportReport:
    """Write what was put aside into the new folder `to`.

    Raises RepairRefused where that is there, RestoreRefused without such an entry and where there is nothing to write,
    DatabaseUnreadable, OutOfSpace, TargetFailed; then no folder is left.
    """
    entry = entry_of(Path(os.path.realpath(request.database)), request.number)
    to = Path(request.to).absolute()
    if os.path.lexists(to):
        raise RepairRefused(f"{to} is there already", hint="name a folder that is not there yet")
    building = to.with_name(f".{to.name[:100]}.{os.urandom(8).hex()}")
    export = _Export(entry, building)
    try:
        try:
            durable.make_directories(building)
            with read_cutouts(Path(entry.folder)) as view:
                export.write(view, request)
            if not export.names:
                raise _nothing(entry, request)
            building.rename(to)
        except BaseException:
            if building.exists():
                shutil.rmtree(building)
            raise
        durable.sync_directory(to.parent)
    except OSError as error:
        raise durable.failure(error, f"cannot export to {to}") from error
    return ExportReport(
        database=entry.database,
        number=entry.number,
        to=str(to),
        files=tuple(export.names),
        rows=export.rows,
        pages=export.pages,
        bytes=export.bytes,
    )


def _nothing(entry: KeptEntry, request: ExportRequest) -> RestoreRefused:
    words = ["pagewarden", "quarantine", "export", entry.database, str(entry.number), "--only", "original"]
    original = any(file.what == "original" for file in entry.files) and "original" not in request.parts
    return RestoreRefused(
        f"nothing of that kind was cut out of {entry.database} then",
        hint=shlex.join([*words, "--to", request.to]) if original else f"ls -l {shlex.quote(entry.folder)}",
    )


class _Export:
    """The folder under its temporary name, and what was written into it."""

    def __init__(self, entry: KeptEntry, folder: Path) -> None:
        self._entry = entry
        self._folder = folder
        self._folders = {folder}
        self.names: list[str] = []
        self.rows = self.pages = self.bytes = 0

    def write(self, view: CutoutsView, request: ExportRequest) -> None:
        parts = request.parts or ("rows", "pages", "files")
        if "rows" in parts:
            tables = chosen_tables(view, request.tables, self._entry)
            if request.format == "sql" and tables:
                self._file("rows.sql", partial(self._sql, view, tables))
            elif tables:
                self._csv(view, tables)
        if "pages" in parts:
            for page in view.pages():
                self._file(f"pages/{page.pgno:010}-{page.id}.page", partial(_put, view.page_bytes(page)))
                self.pages += 1
        kinds = {"cut out"} if "files" in parts else set()
        kinds |= {"original", "taken back", "evidence"} if "original" in parts else set()
        for kept in self._entry.files:
            if kept.what in kinds and (kept.what != "cut out" or kept.name.startswith("files/")):
                name = kept.name if kept.what == "cut out" else f"original/{kept.name}"
                self._file(name, partial(_copy, Path(self._entry.folder) / kept.name))
        for folder in sorted(self._folders):
            durable.sync_directory(folder)

    def _file(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        path = self._folder / name
        if path.parent not in self._folders:
            durable.make_directories(path.parent)
            self._folders.add(path.parent)
        with os.fdopen(durable.create(path), "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            self.bytes += file.tell()
        if len(self.names) < MOST_NAMED:
            self.names.append(name)

    def _sql(self, view: CutoutsView, tables: tuple[str, ...], file: BinaryIO) -> None:
        file.write(text_bytes(_HEAD.format(database=_comment(self._entry.database))))
        for table in tables:
            told = None
            for row in view.rows(table):
                said = ": ".join(filter(None, (row.repairer, row.why, row.source)))
                if said != told:
                    told = said
                    file.write(text_bytes(f"-- {_comment(said)}\n"))
                file.write(text_bytes(_insert(row)))
                self.rows += 1
        file.write(b"COMMIT;\n")

    def _csv(self, view: CutoutsView, tables: tuple[str, ...]) -> None:
        """Write a file for each table, and a further one where a table's rows have other columns."""
        for number, table in enumerate(tables, start=1):
            shapes: list[tuple[str, ...]] = []
            for row in view.rows(table):
                if row.columns not in shapes and len(shapes) < MOST_NAMED:
                    shapes.append(row.columns)
            for shape, columns in enumerate(shapes, start=1):
                suffix = "" if shape == 1 else f"-{shape}"
                name = f"rows-{number:03}-{_file_name(table)}{suffix}.csv"
                self._file(name, partial(self._csv_rows, view, table, columns))

    def _csv_rows(self, view: CutoutsView, table: str, columns: tuple[str, ...], file: BinaryIO) -> None:
        file.write(text_bytes(",".join(map(csv_field, columns)) + "\r\n"))
        for row in view.rows(table):
            if row.columns == columns:
                file.write(text_bytes(",".join(map(csv_field, row.values)) + "\r\n"))
                self.rows += 1


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _copy(source: Path, file: BinaryIO) -> None:
    with os.fdopen(open_regular_file(source), "rb") as original:
        shutil.copyfileobj(original, file, _COPY_BYTES)


def _insert(row: CutRow) -> str:
    if not row.columns:
        return f"INSERT INTO {quote(row.table)} DEFAULT VALUES;\n"
    columns = ", ".join(map(quote, row.columns))
    return f"INSERT INTO {quote(row.table)}({columns}) VALUES ({', '.join(map(sql_literal, row.values))});\n"


def _comment(text: str) -> str:
    """Return text that cannot leave a comment of one line."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _file_name(table: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", table)[:60] or "table"
