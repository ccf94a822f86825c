"""What a database holds, row by row, read by SQLite; and what of it a damaged one still gives."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

Key = tuple[object, ...]
Rows = dict[Key, tuple[object, ...]]
"""The rows of a table by rowid, or by primary key where it has none. A text is told from a blob by its type."""

Contents = dict[str, Rows]
"""By table; without virtual tables, whose content stands in ordinary ones, and what these make of their rows."""

_OF_TEXT = re.compile(r"\bUSING\s+fts[345]\b", re.IGNORECASE)
_CONTENTLESS = re.compile(r"""\bcontent\s*=\s*(''|"")""", re.IGNORECASE)
_INDEXES = ("_segdir", "_segments", "_stat", "_docsize", "_data", "_idx")
"""The tables of an index of full text, which may be made anew: a deep check judges it by its rows."""


def contents(path: Path) -> Contents:
    """Return everything that a sound database holds. The -wal beside it counts."""
    with closing(_open(path)) as connection:
        return {table: dict(_scan(connection, table)) for table in tables(connection)}


def tables(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all ordinary tables, but for indexes of full text."""
    found = connection.execute(
        "SELECT CAST(name AS BLOB), CAST(sql AS BLOB), rootpage > 0 FROM sqlite_schema"
        " WHERE type='table' AND name NOT LIKE 'sqlite_stat%'"
    )
    said = [(*(bytes(each or b"").decode(errors="surrogateescape") for each in row[:2]), row[2]) for row in found]
    virtual = [(name, sql) for name, sql, stored in said if not stored and _OF_TEXT.search(sql)]
    texts = [name for name, sql in virtual if not _CONTENTLESS.search(sql)]
    made = {text + index for text in texts for index in _INDEXES}
    return [name for name, _, stored in said if stored and name not in made]


def readable(path: Path, expected: Contents) -> Contents:
    """Return what a damaged database still gives of rows: what a scan yields, and each row that is asked for by key.

    It is read from a private copy. What SQLite refuses is not there; rows that nobody wrote may be.
    """
    room = path.with_name(f"{path.name}.read")
    room.mkdir()
    try:
        for suffix in ("", "-wal", "-journal"):
            if (file := Path(f"{path}{suffix}")).exists():
                shutil.copy(file, room / f"read{suffix}")
        return _readable(room / "read", expected)
    finally:
        shutil.rmtree(room)


def _readable(path: Path, expected: Contents) -> Contents:
    found: Contents = {}
    try:
        with closing(_open(path)) as connection:
            for table, rows in expected.items():
                found[table] = dict(_until_refused(_scan(connection, table)))
                for key in rows:
                    found[table].update(_until_refused(_asked(connection, table, key)))
    except (sqlite3.Error, UnicodeError):  # it cannot be opened, or not its schema be read
        return found
    return found


def _until_refused(rows: Iterator[tuple[Key, tuple[object, ...]]]) -> Iterator[tuple[Key, tuple[object, ...]]]:
    try:
        yield from rows
    except (sqlite3.Error, UnicodeError):  # Python cannot pass on names, nor read errors, of damaged bytes
        return


def _scan(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Key, tuple[object, ...]]]:
    keys, columns = _shape(connection, table)
    for row in connection.execute(f"SELECT {columns} FROM {_name(table)}"):
        yield _keyed(row, keys)


def _asked(connection: sqlite3.Connection, table: str, key: Key) -> Iterator[tuple[Key, tuple[object, ...]]]:
    keys, columns = _shape(connection, table)
    names = ["rowid"] if keys is None else _key_columns(connection, table)
    values = [_plain(value) for value in key]
    where = " AND ".join(f"{_name(name) if keys is not None else name} IS ?" for name in names)
    for row in connection.execute(f"SELECT {columns} FROM {_name(table)} WHERE {where}", values):
        yield _keyed(row, keys)


def _keyed(row: tuple[object, ...], keys: list[int] | None) -> tuple[Key, tuple[object, ...]]:
    if keys is None:
        return (row[0],), row[1:]
    return tuple(row[place] for place in keys), row


def _shape(connection: sqlite3.Connection, table: str) -> tuple[list[int] | None, str]:
    """Return where the primary key stands in a row, None for a table with rowids, and what to select."""
    info = connection.execute(f"PRAGMA table_xinfo({_name(table)})").fetchall()
    names = [_text(row[1]) for row in info if row[6] in (0, 2, 3)]
    columns = ", ".join(_name(name) for name in names)
    if _has_rowid(connection, table):
        return None, f"rowid, {columns}"
    keyed = sorted((row[5], place) for place, row in enumerate(row for row in info if row[6] in (0, 2, 3)) if row[5])
    return [place for _, place in keyed], columns


def _key_columns(connection: sqlite3.Connection, table: str) -> list[str]:
    info = connection.execute(f"PRAGMA table_xinfo({_name(table)})").fetchall()
    return [_text(row[1]) for row in sorted((row for row in info if row[5]), key=lambda row: row[5])]


def _has_rowid(connection: sqlite3.Connection, table: str) -> bool:
    try:
        connection.execute(f"SELECT rowid FROM {_name(table)} LIMIT 0")
    except sqlite3.OperationalError:
        return False
    return True


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}", uri=True, isolation_level=None)
    connection.text_factory = lambda data: ("text", bytes(data))
    connection.execute("PRAGMA query_only=1")
    return connection


def _text(value: object) -> str:
    assert isinstance(value, tuple)
    return bytes(value[1]).decode(errors="surrogateescape")


def _plain(value: object) -> object:
    return _text(value) if isinstance(value, tuple) else value


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def missing(expected: Mapping[str, Rows], found: Mapping[str, Rows]) -> list[str]:
    """Return what `found` lacks or has otherwise, a sentence for each table; and what it has beyond that."""
    problems = []
    for table in sorted(expected.keys() | found.keys()):
        before, after = expected.get(table, {}), found.get(table, {})
        lost = [key for key in before if key not in after]
        other = [key for key in before if key in after and after[key] != before[key]]
        extra = [key for key in after if key not in before]
        if table in expected and table not in found:
            problems.append(f"table {table} is gone, with {len(before)} rows")
        elif lost or other or extra:
            some = (lost or other or extra)[:3]
            problems.append(
                f"{table}: {len(lost)} of {len(before)} rows lost, {len(other)} differ, {len(extra)} too many: {some}"
            )
    return problems
