"""The application of the soak: processes that write to one database in every way, and record each transaction.

`python -m tests.soak.application ROLE DATABASE SEED RECORD` plays one role until its standard input closes. It may be
killed at any moment. Nothing of Pagewarden is used on the database: `pages.backend` adds up images in memory.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.soak.content import CLOCK, digest, moment, row_digest, schema_digest, table_digest
from tests.soak.record import Intent, Recorder, Sighting

ROLES = ("small", "small", "large", "schema", "checkpointer", "witness")
"""The processes of one run."""

PATIENCE = 60.0  # seconds that a writer waits for a lock
TABLES = ("first", "second", "third")
MOST_ROWS = {"first": 3000, "second": 3000, "third": 1500}
CHECKPOINTS = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")

Work = Callable[[sqlite3.Connection, random.Random], int]
"""Changes the database and returns the XOR of the hashes of all rows that went and all that came."""


def make(database: Path, record: Path, *, page_size: int = 4096) -> None:
    """Make the database in WAL mode, with its first transaction."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        connection.execute(
            f"CREATE TABLE {CLOCK}(id INTEGER PRIMARY KEY CHECK(id = 1), number INTEGER, token TEXT, digest TEXT)"
        )
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
            connection.execute(f"CREATE INDEX {table}_name ON {table}(name)")
        total, token = digest(connection), os.urandom(8).hex()
        connection.execute(f"INSERT INTO {CLOCK} VALUES(1, 1, ?, ?)", (token, f"{total:016x}"))
        recorder = Recorder(record)
        cookie = moment(connection).cookie
        recorder.intend(
            Intent(number=1, token=token, parent="", digest=total, cookie_before=0, cookie=cookie, kind="make")
        )
        connection.execute("COMMIT")
        recorder.acknowledge(token)


def transact(
    connection: sqlite3.Connection,
    recorder: Recorder,
    chance: random.Random,
    kind: str,
    work: Work,
    *,
    keep: bool = True,
) -> None:
    """Run one transaction, recorded before and after its commit; without `keep` it is rolled back at its end."""
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    waited = time.perf_counter() - began
    try:
        before = moment(connection)
        (text,) = connection.execute(f"SELECT digest FROM {CLOCK}").fetchone()
        total = int(text, 16) ^ work(connection, chance)
        token = os.urandom(8).hex()
        connection.execute(f"UPDATE {CLOCK} SET number = number + 1, token = ?, digest = ?", (token, f"{total:016x}"))
        after = moment(connection)
        if not keep:
            recorder.roll_back(token)
            connection.execute("ROLLBACK")
            return
        recorder.intend(
            Intent(
                number=after.number,
                token=token,
                parent=before.token,
                digest=total,
                cookie_before=before.cookie,
                cookie=after.cookie,
                kind=kind,
            )
        )
        connection.execute("COMMIT")
        recorder.acknowledge(token)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    recorder.note(f"wait of {kind}", waited)


def _row(connection: sqlite3.Connection, table: str, rowid: int) -> int:
    """Return the hash of a row, 0 where there is none."""
    row = connection.execute(f"SELECT * FROM {table} WHERE id = ?", (rowid,)).fetchone()
    return row_digest(table, row) if row else 0


def _body(chance: random.Random, most: int) -> str:
    return f"{chance.randrange(10**9):09} " * (chance.randrange(20, most) // 10)


def small(connection: sqlite3.Connection, chance: random.Random) -> int:
    """Insert, update or delete one row or a few."""
    total = 0
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        table = chance.choice(TABLES)
        rowid = chance.randrange(1, MOST_ROWS[table] + 1)
        total ^= _row(connection, table, rowid)
        if chance.random() < 0.2:
            connection.execute(f"DELETE FROM {table} WHERE id = ?", (rowid,))
        else:
            values = (rowid, f"name {chance.randrange(500)}", _body(chance, 1500))
            connection.execute(f"INSERT OR REPLACE INTO {table} VALUES(?, ?, ?)", values)
            total ^= _row(connection, table, rowid)
    return total


def large(connection: sqlite3.Connection, chance: random.Random) -> int:
    """Rewrite hundreds of rows; now and then so many that they are 40 MB."""
    table, huge = chance.choice(TABLES), chance.random() < 0.04
    first = chance.randrange(1, MOST_ROWS[table] // 2)
    count = 600 if huge else chance.randrange(100, 900)
    total = 0
    for rowid in range(first, first + count):
        total ^= _row(connection, table, rowid)
        body = f"{rowid:09} " * 7000 if huge else _body(chance, 6000)
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES(?, ?, ?)", (rowid, f"name {rowid % 77}", body))
        total ^= _row(connection, table, rowid)
    return total


def shrink(connection: sqlite3.Connection, chance: random.Random) -> int:
    """Delete a part of a table, and give the free pages back to the file system in the same transaction."""
    table = chance.choice(TABLES)
    total = 0
    where = f"WHERE id % 4 = {chance.randrange(4)} OR length(body) > 20000"
    for row in connection.execute(f"SELECT * FROM {table} {where}"):
        total ^= row_digest(table, row)
    connection.execute(f"DELETE FROM {table} {where}")
    connection.execute("PRAGMA incremental_vacuum").fetchall()
    return total


def schema(connection: sqlite3.Connection, chance: random.Random) -> int:
    """Make, change, fill or drop a table or an index."""
    total = schema_digest(connection)
    table = f"extra_{chance.randrange(4)}"
    found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if not found[0]:
        connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, body TEXT)")
        rows = ((_body(chance, 400),) for _ in range(chance.randrange(200)))
        connection.executemany(f"INSERT INTO {table}(body) VALUES(?)", rows)
        total ^= table_digest(connection, table)
    else:
        total ^= table_digest(connection, table)
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        choice = chance.choice(("drop", "column", "index"))
        if choice == "drop" or len(columns) > 6:
            connection.execute(f"DROP TABLE {table}")
        else:
            if choice == "column":
                connection.execute(f"ALTER TABLE {table} ADD COLUMN more_{len(columns)} INTEGER DEFAULT 7")
            else:
                connection.execute(f"DROP INDEX IF EXISTS {table}_body")
                connection.execute(f"CREATE INDEX {table}_body ON {table}(body, id) WHERE id > {chance.randrange(99)}")
            total ^= table_digest(connection, table)
    return total ^ schema_digest(connection)


def write_small(database: Path, chance: random.Random, recorder: Recorder, stop: threading.Event) -> None:
    """Commit small transactions, over connections that are opened and closed again."""
    while not stop.is_set():
        with closing(_connect(database)) as connection:
            burst = chance.random() < 0.04  # as fast as it can
            for _ in range(chance.randrange(500, 3000) if burst else chance.randrange(1, 120)):
                keep = chance.random() > 0.03
                transact(connection, recorder, chance, "small", small, keep=keep)
                if stop.wait(0.0 if burst else chance.random() * 0.02):
                    return


def write_large(database: Path, chance: random.Random, recorder: Recorder, stop: threading.Event) -> None:
    """Commit big transactions, and roll some back that were spilled to the log already."""
    with closing(_connect(database)) as connection:
        connection.execute("PRAGMA cache_size=100")
        while not stop.wait(chance.uniform(0.1, 2.0)):
            kind, work = chance.choice((("large", large), ("large", large), ("shrink", shrink)))
            transact(connection, recorder, chance, kind, work, keep=chance.random() > 0.2)


def write_schema(database: Path, chance: random.Random, recorder: Recorder, stop: threading.Event) -> None:
    """Change the schema, and VACUUM now and then."""
    while not stop.wait(chance.uniform(0.05, 1.5)):
        with closing(_connect(database)) as connection:
            for _ in range(chance.randrange(1, 4)):
                transact(connection, recorder, chance, "schema", schema)
            if chance.random() < 0.15:
                recorder.note("vacuum begun")
                began = time.perf_counter()
                connection.execute("VACUUM")
                recorder.note("vacuum", time.perf_counter() - began)


def checkpoint(database: Path, chance: random.Random, recorder: Recorder, stop: threading.Event) -> None:
    """Run checkpoints of every mode, patient ones and impatient ones, some seconds long and then not for a while."""
    ending = time.monotonic() + chance.uniform(0.5, 4.0)
    while not stop.wait(chance.uniform(0.0, 0.3)):
        if time.monotonic() > ending:
            stop.wait(chance.uniform(0.5, 8.0))
            ending = time.monotonic() + chance.uniform(0.5, 4.0)
        # A patient one keeps the writers waiting for every reader, the guard's pin among them (H24).
        patience = chance.choice((0.0, 0.0, 0.05, 0.1, 0.7))
        with closing(sqlite3.connect(database, isolation_level=None, timeout=patience)) as one:
            for _ in range(chance.randrange(1, 6)):
                mode = chance.choice(CHECKPOINTS)
                try:
                    busy, *_ = one.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                except sqlite3.OperationalError as error:  # not even a look: somebody recovers the log, or truncates it
                    recorder.note(f"checkpoint {mode}, {error}")
                else:
                    recorder.note(f"checkpoint {mode}{', busy' if busy else ''}")


def witness(database: Path, chance: random.Random, recorder: Recorder, stop: threading.Event) -> None:
    """Add up the whole database as SQLite gives it, at whatever commit it is."""
    from pagewarden.pages import backend

    with closing(_connect(database)) as connection:
        while not stop.wait(chance.uniform(0.0, 0.15)):
            connection.execute("BEGIN")
            seen = moment(connection)
            image = connection.serialize()
            connection.execute("COMMIT")
            page_size = int.from_bytes(image[16:18], "big")
            assert int.from_bytes(image[40:44], "big") == seen.cookie
            sums = backend().buffer_sums(image, page_size, 1, len(image) // page_size)
            total = 0
            for offset in range(0, len(sums), 8):
                total ^= int.from_bytes(sums[offset : offset + 8], "little")
            recorder.sighted(
                Sighting(
                    number=seen.number,
                    token=seen.token,
                    cookie=seen.cookie,
                    database_sum=total,
                    pages=len(image) // page_size,
                )
            )


def _connect(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None, timeout=PATIENCE)
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


_PLAYS = {
    "small": write_small,
    "large": write_large,
    "schema": write_schema,
    "checkpointer": checkpoint,
    "witness": witness,
}


def main(role: str, database: Path, seed: int, record: Path) -> None:
    """Play `role` until standard input closes."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    _PLAYS[role](database, random.Random(seed), Recorder(record), stop)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
