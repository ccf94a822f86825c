"""The new file: the restore point, changed through SQLite table by table until it has what is newer.

1. The restore point is fetched, and is the base. Nothing more is done where nothing of the damaged file can be read.
2. The damaged file is read in pages. Pages that are equal in both, in tables that both have, are not looked at.
3. In the base, without its triggers, views and virtual tables, the tables are brought up to date; indexes are there
   meanwhile, so that they are right afterwards.
4. Virtual tables come from the side that their shadow tables do. Then triggers and views are put back as they stood.
5. What the first page says of the whole is as in the damaged file, where its header can be believed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from pagewarden.contracts import Damage, PastImage, RepairBench, RepairHistory
from pagewarden.live.connection import open_copy
from pagewarden.repair.closed import ClosedFile, TooDamaged
from pagewarden.repair.jobs import settle
from pagewarden.repair.moving import let_schema_be_written, stored_text
from pagewarden.restore.hold import filled_companions
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader
from pagewarden_repair_restore.schema import Choice, Schema, choose, credible, schema_of, unproven
from pagewarden_repair_restore.sides import Damaged, Image
from pagewarden_repair_restore.tables import Merge, refuse_others

_WHY = "the damaged database, before it was put together anew from a restore point"


def assemble(bench: RepairBench, history: RepairHistory, image: PastImage, *, newer: bool) -> None:
    """Put the new file together, and let it become the copy. With `newer`, the damaged file's newer rows are in it.

    Raises PagewardenError or sqlite3.Error; then the copy is as it was.
    """
    base = bench.scratch / "base.db"
    history.fetch(image, base)
    if newer:
        _bring_up_to_date(bench, base, certain=history.certain)
    bench.replace(base, _WHY)


def _bring_up_to_date(bench: RepairBench, base: Path, *, certain: bool) -> None:
    """Change the restore point's file into the new one, as far as the damaged file has something to add.

    Raises RepairRefused where it is not `certain` that the restore point is of this database, and its rows are others.
    """
    with ExitStack() as stack:
        older = stack.enter_context(ClosedFile(base))
        there = DatabaseHeader.parse(older.header)
        if filled_companions(bench.database):
            settle(bench.database)
        first = _beginning(bench.database)
        header = credible(first, there)
        damaged = stack.enter_context(ClosedFile(bench.database, header=first if header else older.header))
        if not damaged.pages:
            return
        known = schema_of(older)
        choice = choose(damaged, known, header, there)
        findings = bench.case.findings
        mangled = any(pattern.damage is Damage.NEWLINES for pattern in bench.case.patterns)
        try:
            ours = Image(older, known.trees)
            theirs = Damaged(damaged, ours, choice.schema.trees, findings, choice.schema.table_of, mangled=mangled)
            common = set(known.tables) & set(choice.schema.tables)
            if choice.own and known.tables and not any(theirs.resembles(ours, name) for name in common):
                # Another database's schema: whatever that file is, it is not what became of this one.
                choice = unproven(known, None)
                theirs = Damaged(damaged, ours, known.trees, findings, known.table_of, mangled=mangled)
        except TooDamaged:
            return
        if not certain:
            refuse_others(ours, theirs, known, choice)
        if theirs.survey.sums != ours.survey.sums:
            _write(bench, base, ours, theirs, known, choice)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_SIZE).ljust(HEADER_SIZE, b"\0")


def _write(bench: RepairBench, new: Path, ours: Image, theirs: Damaged, known: Schema, choice: Choice) -> None:
    there = DatabaseHeader.parse(ours.file.header)
    with closing(_open(new)) as connection:
        # What is written stands in a log until all is done, so that the pages of the restore point stay as they are.
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        with _only_tables(connection, choice):
            merge = Merge(bench, connection, ours, theirs, known, choice)
            merge.run()
        merge.rebuild_virtual()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        _adopt_header(connection, choice.header, there)
    with closing(_open(new)) as connection:  # the schema that was put together must be one
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def _open(path: Path) -> sqlite3.Connection:
    connection = open_copy(str(path))
    connection.text_factory = stored_text
    for setting in ("synchronous=OFF", "foreign_keys=OFF", "ignore_check_constraints=ON", "cache_size=-65536"):
        connection.execute(f"PRAGMA {setting}")
    return connection


@contextmanager
def _only_tables(connection: sqlite3.Connection, choice: Choice) -> Iterator[None]:
    """Leave ordinary tables and indexes alone in the schema, in one transaction; put the rest back at its end.

    Triggers do not fire meanwhile, and no virtual table needs its module. What comes back is of the chosen schema.
    """
    let_schema_be_written(connection)
    connection.execute("BEGIN IMMEDIATE")
    rest = "type IN ('trigger', 'view') OR (type = 'table' AND coalesce(rootpage, 0) = 0)"
    columns = "type, name, tbl_name, rootpage, sql"
    connection.execute(f"CREATE TEMP TABLE pagewarden_rest AS SELECT rowid AS number, {columns} FROM main.sqlite_master"
                       f" WHERE {rest}")  # fmt: skip
    connection.execute(f"DELETE FROM main.sqlite_master WHERE {rest}")
    _reload(connection)
    yield
    if choice.own:
        for entry in choice.schema.entries:
            if entry.kind in ("trigger", "view") or (entry.kind == "table" and not entry.stated):
                connection.execute(
                    f"INSERT INTO main.sqlite_master({columns}) VALUES (?, ?, ?, 0, ?)",
                    (entry.kind, entry.name, entry.table, entry.sql),
                )
    else:
        connection.execute(
            f"INSERT INTO main.sqlite_master(rowid, {columns}) SELECT number, {columns} FROM temp.pagewarden_rest"
        )
    connection.execute("DROP TABLE temp.pagewarden_rest")
    connection.execute("COMMIT")
    _reload(connection)
    connection.execute("PRAGMA writable_schema=OFF")


def _reload(connection: sqlite3.Connection) -> None:
    """Let the connection load the schema anew, and keep it writable."""
    connection.execute("PRAGMA writable_schema=RESET")
    connection.execute("PRAGMA writable_schema=ON")


def _adopt_header(connection: sqlite3.Connection, header: DatabaseHeader | None, there: DatabaseHeader) -> None:
    """Set what the first page says of the whole database as the damaged file has it, if it can be believed."""
    wanted = there if header is None else header
    connection.execute(f"PRAGMA user_version={_signed(wanted.user_version)}")
    connection.execute(f"PRAGMA application_id={_signed(wanted.application_id)}")
    vacuum = 2 if wanted.incremental_vacuum else 1 if wanted.largest_root else 0
    (now,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if wanted.page_size != there.page_size or bool(now) != bool(vacuum):
        connection.execute(f"PRAGMA page_size={wanted.page_size}")
        connection.execute(f"PRAGMA auto_vacuum={vacuum}")
        connection.execute("VACUUM")
    elif now != vacuum:
        connection.execute(f"PRAGMA auto_vacuum={vacuum}")
    connection.execute(f"PRAGMA journal_mode={'WAL' if wanted.wal else 'DELETE'}").fetchall()


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
