"""`pagewarden repair` and `pagewarden quarantine`, and `undo` after them, on real databases."""

from __future__ import annotations

import io
import json
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pagewarden_cli.command import main
from tests.cli.conftest import Type


def make_duplicates(path: Path) -> Path:
    """Make a database whose table breaks its UNIQUE index, as an index that was lost and made again lets it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, mail TEXT)")
        connection.execute("CREATE INDEX person_mail ON person(mail)")
        connection.executemany("INSERT INTO person VALUES(?, ?)", [(n, f"p{n % 98}\x1b[2J") for n in range(1, 101)])
        connection.execute("PRAGMA writable_schema=ON")
        sql = "CREATE UNIQUE INDEX person_mail ON person(mail)"
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'person_mail'", (sql,))
    return path


@dataclass(frozen=True)
class Repaired:
    """What was said of a database before and after it was repaired."""

    path: Path
    original: bytes
    plan: dict[str, Any]
    plan_code: int
    done: dict[str, Any]
    done_code: int


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repaired]:
    """A database with duplicates of a UNIQUE key, planned for and repaired; the state directory is its own."""
    folder = tmp_path_factory.mktemp("repaired")
    path = make_duplicates(folder / "app.db")
    original = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("XDG_STATE_HOME", raising=False)
        said = []
        for words in (["repair", str(path), "--json"], ["repair", str(path), "--apply", "--json"]):
            out = io.StringIO()
            with redirect_stdout(out):
                code = main(words)
            said.append((json.loads(out.getvalue()), code))
            if len(said) == 1:
                assert path.read_bytes() == original
                assert not (folder / ".pagewarden").exists()
        yield Repaired(path, original, *said[0], *said[1])


def test_a_plan_changes_nothing_and_says_what_to_type(repaired: Repaired) -> None:
    """Exit code 1, because the damage is there; the command that it names applies the same plan."""
    plan = repaired.plan
    assert (repaired.plan_code, plan["applied"], plan["verdict_before"], plan["verdict_after"]) == (
        1,
        False,
        "damaged",
        None,
    )
    assert plan["database"] == str(repaired.path)
    assert plan["plan"] and plan["patterns"] and plan["undo"] == ""
    assert shlex.split(plan["next"]) == ["pagewarden", "repair", str(repaired.path), "--apply"]


def test_what_was_repaired_is_sound_and_nothing_is_thrown_away(repaired: Repaired) -> None:
    """Exit code 0; the rows that had to leave are counted, kept and shown."""
    done = repaired.done
    assert (repaired.done_code, done["applied"], done["verdict_after"]) == (0, True, "sound")
    (table,) = done["tables"]
    assert (table["name"], table["rows_expected"], table["rows_kept"], table["rows_quarantined"]) == (
        "person",
        100,
        98,
        2,
    )
    with closing(sqlite3.connect(f"file:{repaired.path}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), max(id) FROM person").fetchone() == (98, 98)
    folder = Path(done["quarantine"])
    assert (folder / "previous").read_bytes() == repaired.original
    assert json.loads((folder / "report.json").read_bytes())["verdict_after"] == "sound"
    assert "What was done" in (folder / "report.html").read_text()


def test_the_quarantine_is_listed_shown_and_exported(repaired: Repaired, type_in: Type, home: Path) -> None:
    """By path, by folder, by number; the exported SQL puts the rows back into a table that takes them."""
    (entry,) = type_in("quarantine", "list", repaired.path, "--json").document["entries"]
    assert (entry["kind"], entry["phase"], entry["number"], entry["undo"]) == (
        "repair",
        "done",
        1,
        f"pagewarden undo {repaired.path}",
    )
    assert type_in("quarantine", "list", repaired.path.parent, "--json").document["entries"] == [entry]
    shown = type_in("quarantine", "show", repaired.path, "1", "--rows", "1", "--json").document
    (row,) = shown["rows"]
    assert (row["table"], row["columns"][-1], row["values"][-1][:6]) == ("person", "mail", "CAST(X")
    assert shown["entry"] == entry
    exported = type_in("quarantine", "export", repaired.path, "--to", "out", "--only", "rows", "--json").document
    assert (exported["rows"], exported["files"], exported["to"]) == (2, ["rows.sql"], str(home / "out"))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE person(id INTEGER PRIMARY KEY, mail TEXT)")
        connection.executescript((home / "out" / "rows.sql").read_text())
        assert connection.execute("SELECT id, mail FROM person").fetchall() == [(99, "p1\x1b[2J"), (100, "p2\x1b[2J")]
    typed = type_in("quarantine", "export", repaired.path, "--to", "out", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (33, "repair-refused")


def test_people_see_nothing_that_a_terminal_obeys(repaired: Repaired, type_in: Type) -> None:
    """H29: a value with an escape sequence is shown as what it is."""
    for words in (("list", repaired.path), ("show", repaired.path), ("show", repaired.path, "--table", "person", "-v")):
        typed = type_in("quarantine", *words)
        assert typed.code == 0
        assert "\x1b" not in typed.out
    assert "2 rows of person" in typed.out


def test_what_is_asked_wrongly_is_named(repaired: Repaired, type_in: Type, home: Path) -> None:
    """No such number, no such table, nothing kept, no such file, options that need others."""
    for words, code in (
        (("quarantine", "show", repaired.path, "7"), 30),
        (("quarantine", "show", repaired.path, "--table", "nosuch"), 30),
        (("quarantine", "export", repaired.path, "--to", ""), 2),
        (("quarantine", "list", "none.db"), 10),
        (("quarantine", "list"), 2),
        (("repair", "none.db"), 10),
        (("repair", repaired.path, "--output", "new.db"), 2),
        (("repair", repaired.path, "--apply", "--output", ""), 2),
        (("repair", repaired.path, "--orphans", "drown"), 2),
        (("repair", repaired.path, "--max-time", "0"), 2),
    ):
        typed = type_in(*words)
        assert typed.code == code, (words, typed)
        assert typed.err.startswith("pagewarden: ")
        assert typed.out == ""
    assert os.listdir(home) == []


def test_a_sound_database_is_left_alone(type_in: Type, database: Path) -> None:
    """Exit code 0, no plan, no quarantine; with --apply, too."""
    before = database.read_bytes()
    typed = type_in("repair", "app.db", "--apply")
    assert typed.code == 0
    assert "is sound; there is nothing to repair" in typed.out
    assert type_in("repair", "app.db", "--quiet").out == ""
    assert database.read_bytes() == before
    assert not (database.parent / ".pagewarden").exists()
    assert "nothing is kept" in type_in("quarantine", "list", "app.db").out


def test_what_nothing_mends_is_left_as_it_was(type_in: Type, damaged: Path) -> None:
    """Exit code 1, why, and what to type next; the database is byte for byte what it was."""
    before = damaged.read_bytes()
    typed = type_in("repair", "app.db", "--apply", "--json")
    assert (typed.code, typed.document["applied"], typed.document["verdict_before"]) == (1, False, "damaged")
    assert typed.document["why"]
    assert typed.document["next"] == f"pagewarden repair {damaged} --repo URL"
    assert damaged.read_bytes() == before


def test_a_copy_can_be_asked_for_and_the_configuration_has_its_say(type_in: Type, home: Path) -> None:
    """With --output the database stays as it is; `only_lossless` of the configuration holds until an option says no."""
    path = make_duplicates(home / "app.db")
    before = path.read_bytes()
    (home / "c.toml").write_text("[repair]\nonly_lossless = true\n")
    refused = type_in("repair", "app.db", "--apply", "--output", "new.db", "--config", "c.toml", "--json")
    assert (refused.code, refused.document["applied"]) == (1, False)
    assert not (home / "new.db").exists()
    words = ("repair", "app.db", "--apply", "--output", "new.db", "--config", "c.toml", "--with-loss")
    typed = type_in(*words)
    assert typed.code == 0, typed
    assert f"the repaired copy is {home / 'new.db'}" in typed.out
    assert path.read_bytes() == before
    with closing(sqlite3.connect(home / "new.db")) as connection:
        assert connection.execute("SELECT count(*) FROM person").fetchone() == (98,)
    again = type_in(*words, "--json")
    assert (again.code, again.document["error"]["slug"]) == (33, "repair-refused")


def test_undo_brings_the_original_back(repaired: Repaired, type_in: Type) -> None:
    """Byte for byte; the repaired database is kept, and the list says that it was taken back."""
    typed = type_in("undo", repaired.path)
    assert typed.code == 0
    assert repaired.path.read_bytes() == repaired.original
    assert "undone" in type_in("quarantine", "list", repaired.path).out
