"""What the suites work on: small databases, whole and broken, and ways to see which files were touched."""

from __future__ import annotations

import hashlib
import random
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from pagewarden.testing.injuries import INJURIES

Result = TypeVar("Result")

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What the name of a plugin's object looks like."""

SECONDS = 20.0
"""Time in which any call on a database of some hundred kilobytes must be done."""


def make_database(path: Path, *, seed: int = 1, rows: int = 300) -> Path:
    """Make a small database with what matters to a checker: indexes, a foreign key, overflow pages, a view."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE customers(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, notes TEXT);
            CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers(id), body BLOB);
            CREATE TABLE prices(sku TEXT PRIMARY KEY, price REAL) WITHOUT ROWID;
            CREATE INDEX orders_customer ON orders(customer);
            CREATE VIEW totals AS SELECT customer, count(*) AS n FROM orders GROUP BY customer;
            """
        )
        for number in range(1, rows + 1):
            notes = " ".join(chance.choices(("red", "green", "blue", "grey"), k=chance.randrange(1, 40)))
            connection.execute(
                "INSERT INTO customers VALUES(?, ?, ?, ?)", (number, f"{number}@example.org", f"name {number}", notes)
            )
            body = chance.randbytes(9000 if number % 50 == 0 else chance.randrange(20, 200))
            connection.execute("INSERT INTO orders VALUES(?, ?, ?)", (number, chance.randrange(1, number + 1), body))
            connection.execute("INSERT INTO prices VALUES(?, ?)", (f"sku-{number}", chance.random()))
    return path


def damaged_copies(database: Path, folder: Path) -> Iterator[Path]:
    """Yield copies of `database`, each broken in another way that a checker must survive."""
    data = database.read_bytes()
    chance = random.Random(7)
    for kind in ("flipped-bit", "zeroed-page"):
        copy = folder / f"{kind}.db"
        copy.write_bytes(data)
        INJURIES[kind].apply(copy, 3)
        yield copy
    broken = {
        "truncated.db": data[: len(data) // 2 + 100],
        "header-only.db": data[:100].ljust(4096, b"\0"),
        "schema.db": data[:100] + chance.randbytes(3996) + data[4096:],
        "noise.db": data[:4096] + chance.randbytes(len(data) - 4096),
        "huge-header.db": data[:28] + b"\x7f\xff\xff\xfe" * 6 + data[52:],
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
        yield folder / name


def in_time(who: str, call: Callable[[], Result]) -> Result:
    """Return what `call` returns, made in a thread as a run makes it; fail the test where it does not end."""
    returned: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        pytest.fail(f"{who} did not end within {SECONDS:g} s")
    if errors:
        raise errors[0]
    return returned[0]


_opened: list[str] = []
_watching = threading.Event()
_hooked: list[bool] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watching.is_set():
        _opened.append(str(arguments[0]))


@contextmanager
def opens() -> Iterator[list[str]]:
    """Collect the paths that Python code opens in the block. An audit hook stays for ever, so there is only one."""
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked.append(True)
    _opened.clear()
    _watching.set()
    try:
        yield _opened
    finally:
        _watching.clear()


def folder_state(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `folder`, without what a reader of a WAL database may leave (H33)."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.name.endswith(("-shm", "-wal"))
    }
