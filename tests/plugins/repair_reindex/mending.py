"""Databases with every kind of index, injuries of their pages, and a repair of them with SQLite as the judge."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker, Loss, Repairer, RepairStep
from pagewarden.sqlite.names import quote
from pagewarden.sqlite.owner import find_owners
from pagewarden.sqlite.schema import Layout, read_schema
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Level
from pagewarden_check_indexes import pagewarden_checkers as indexes
from pagewarden_check_structure import pagewarden_checkers as structure
from pagewarden_check_virtual_tables import pagewarden_checkers as virtual_tables
from pagewarden_repair_reindex import pagewarden_repairers

SCHEMA = """
CREATE TABLE people(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT COLLATE NOCASE, born REAL, notes TEXT);
CREATE INDEX people_name ON people(name, born DESC);
CREATE INDEX people_partial ON people(born) WHERE notes IS NOT NULL;
CREATE INDEX people_expression ON people(lower(name) || '!', length(notes));
CREATE INDEX people_padded ON people(notes COLLATE RTRIM);
CREATE TABLE keyed(a TEXT, b INTEGER, c, PRIMARY KEY(a DESC, b)) WITHOUT ROWID;
CREATE UNIQUE INDEX keyed_c ON keyed(c);
CREATE TABLE plain(x, y, z, UNIQUE(x, y));
CREATE TABLE child(id INTEGER PRIMARY KEY, up INTEGER REFERENCES people(id), mail TEXT REFERENCES people(email));
CREATE INDEX child_up ON child(up);
CREATE TABLE log(event);
CREATE TRIGGER gone AFTER DELETE ON people BEGIN INSERT INTO log VALUES(old.id); END;
CREATE VIEW a_view AS SELECT name FROM people;
"""

Rows = dict[str, list[tuple[object, ...]]]


def make(path: Path, *, rows: int = 300, seed: int = 1, pragmas: str = "PRAGMA page_size=512", more: str = "") -> Path:
    """Make a database."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(pragmas)
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(SCHEMA + more)
        connection.execute("BEGIN")
        for number in range(1, rows + 1):
            name = f"{chance.choice(('Ann', 'bob', 'CID', 'Zoë'))} {number % 37}"
            notes = None if number % 3 else "word " * chance.randrange(60) + " " * (number % 3)
            email = f"{number}@example.org"
            connection.execute("INSERT INTO people VALUES(?, ?, ?, ?, ?)", (number, email, name, number / 7, notes))
            connection.execute("INSERT INTO keyed VALUES(?, ?, ?)", (name, number, chance.randbytes(9)))
            connection.execute("INSERT INTO plain VALUES(?, ?, ?)", (number % 50, number, None))
            connection.execute("INSERT INTO child VALUES(?, ?, ?)", (number, chance.randrange(1, number + 1), email))
        connection.execute("DELETE FROM plain WHERE y % 5 = 0")
        connection.execute("COMMIT")
    return path


def all_rows(path: Path) -> Rows:
    """Return all rows of all tables, read from their own b-trees."""
    found: Rows = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
        for (name,) in names:
            table = quote(name.decode())
            primary = [row[1] for row in connection.execute(f"PRAGMA index_list({table})") if row[3] == b"pk"]
            terms = [connection.execute(f"PRAGMA index_xinfo({quote(key.decode())})").fetchall() for key in primary]
            itself = terms != [] and all(term[1] != -1 for term in terms[0])
            how = f"INDEXED BY {quote(primary[0].decode())}" if itself else "NOT INDEXED"
            rowid = "" if itself else "rowid, "
            found[name.decode()] = connection.execute(f"SELECT {rowid}* FROM {table} {how}").fetchall()
    return found


def integrity(path: Path) -> list[str]:
    """Return what SQLite finds wrong, and foreign keys that are broken."""
    with closing(sqlite3.connect(path)) as connection:
        said = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
        return [line for line in said if line != "ok"] + [
            str(row) for row in connection.execute("PRAGMA foreign_key_check")
        ]


def findings(path: Path, *, deep: bool = False) -> tuple[Finding, ...]:
    """Return what the checkers that know about indexes find in a closed file."""
    collected = Collected()
    checkers: list[Checker] = [*structure(), *indexes(), *(virtual_tables() if deep else ())]
    for checker in checkers:
        with ClosedSubject(path, level=Level.DEEP) as subject:
            collected.add(checker.check(subject))
    return tuple(collected.findings)


def pages_of(path: Path, kind: str, *, name: str = "") -> list[int]:
    """Return the b-tree pages of the indexes, or tables, of a sound file."""
    image = FileImage(path)
    layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
    owners = find_owners(image.page, range(2, image.pages + 1), layout, budget=1 << 20)
    kinds = {entry.name: entry.kind for entry in read_schema(image.page, layout)}
    return [
        pgno
        for pgno, owner in sorted(owners.items())
        if owner.object is not None and kinds.get(owner.object) == kind and name in ("", owner.object)
    ]


def change(path: Path, pgno: int, edit: Callable[[bytes], bytes], page_size: int = 512) -> None:
    """Change a page."""
    with path.open("r+b") as file:
        file.seek((pgno - 1) * page_size)
        page = file.read(page_size)
        file.seek((pgno - 1) * page_size)
        file.write(edit(page))


def indexes_of(step: RepairStep) -> list[str]:
    """Return the indexes that a step builds."""
    named = step.task["indexes"]
    assert isinstance(named, list)
    return named


def repairers() -> tuple[Repairer, Repairer]:
    """Return the one that loses nothing, and the one that moves rows."""
    first, second = pagewarden_repairers()
    return first, second


def mend(
    path: Path,
    scratch: Path,
    *,
    moving: bool = False,
    found: Sequence[Finding] | None = None,
    refused: str = "",
    loss: Loss = Loss.NOTHING,
) -> tuple[ClosedBench, tuple[RepairStep, ...]]:
    """Plan and apply; return the bench and the steps."""
    scratch.mkdir(exist_ok=True)
    repairer = repairers()[moving]
    case = ClosedCase(path, findings(path) if found is None else found, refused=refused)
    steps = tuple(repairer.plan(case))
    bench = ClosedBench(path, scratch, case)
    repairer.apply(bench, steps)
    assert moving or all(step.loss is loss for step in steps)
    return bench, steps
