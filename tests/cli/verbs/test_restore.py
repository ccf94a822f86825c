"""`pagewarden restore` and `undo`."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from pagewarden_cli.command import main
from tests.cli.conftest import Type, make_database


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder with a database, and with two backups of it, a commit apart, in `r`; and the reports of the backups."""
    folder = tmp_path_factory.mktemp("prepared")
    database = make_database(folder / "app.db")
    reports = []
    for n in range(2):
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("INSERT INTO note VALUES(?, 1, 'between')", (20000 + n,))
            connection.commit()
        out = io.StringIO()
        with redirect_stdout(out):
            main(["backup", str(database), "--repo", str(folder / "r"), "--json"])
        reports.append(json.loads(out.getvalue()))
    return folder, reports


@pytest.fixture
def backups(prepared: tuple[Path, list[dict[str, Any]]], home: Path) -> list[dict[str, Any]]:
    """The reports of two backups of a database; it and the repository are copied to the home folder."""
    folder, reports = prepared
    shutil.copytree(folder / "r", home / "r")
    shutil.copy(folder / "app.db", home / "app.db")
    return reports


@pytest.fixture
def database(backups: list[dict[str, Any]], home: Path) -> Path:
    """The database that was backed up."""
    return home / "app.db"


@pytest.fixture
def five_hours_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is five hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XYZ-5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def notes(path: Path) -> int:
    """Return how many of the notes between the backups a database holds."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM note WHERE text = 'between'").fetchone()
        return int(count)


def test_the_newest_is_restored_and_can_be_taken_back(type_in: Type, backups: list[Any], home: Path) -> None:
    """To a new place; `undo` leaves nothing there."""
    typed = type_in("restore", "--repo", "r", "--to", "new.db", "--json")
    assert (typed.code, typed.document["verified"]) == (0, True)
    assert typed.document["to"] == str(home / "new.db")
    assert typed.document["position"] == backups[1]["position"]
    assert typed.document["database_sum"] == backups[1]["database_sum"]
    assert typed.document["undo"].startswith("pagewarden undo ")
    assert notes(home / "new.db") == 2
    undone = type_in("undo", "new.db", "--json")
    assert (undone.code, undone.document["restored"]) == (0, "nothing")
    assert not (home / "new.db").exists()
    again = type_in("undo", "new.db", "--json")
    assert (again.code, again.document["error"]["slug"]) == (30, "restore-refused")


def test_an_older_one_is_found_by_number_and_time(type_in: Type, backups: list[Any], home: Path) -> None:
    """--txid, and --at with the time of the backup; both at once is wrong usage."""
    assert type_in("restore", "--repo", "r", "--to", "a.db", "--txid", "1").code == 0
    assert notes(home / "a.db") == 1
    moment = backups[0]["position"]["time"]
    for n, at in enumerate((moment, moment.replace("T", " "))):
        assert type_in("restore", "--repo", "r", "--to", f"t{n}.db", "--at", at).code == 0
        assert notes(home / f"t{n}.db") == 1
    assert type_in("restore", "--repo", "r", "--to", "x.db", "--at", moment, "--txid", "1").code == 2
    typed = type_in("restore", "--repo", "r", "--to", "x.db", "--at", "-15m", "--json")
    assert typed.document["error"]["slug"] == "repository-not-found"
    assert type_in("restore", "--repo", "r", "--to", "x.db", "--at", "tuesday").code == 2


@pytest.mark.usefixtures("five_hours_ahead")
def test_a_local_time_is_read_with_a_note(type_in: Type, backups: list[Any], home: Path) -> None:
    """On stderr, so that JSON stays alone on stdout; quiet drops it."""
    from datetime import datetime

    moment = datetime.fromisoformat(backups[0]["position"]["time"]).astimezone().replace(tzinfo=None)
    typed = type_in("restore", "--repo", "r", "--to", "a.db", "--at", moment.isoformat(), "--json")
    assert typed.code == 0
    assert typed.document["position"] == backups[0]["position"]
    assert typed.err.startswith(f'note: "{moment.isoformat()}" was read as local time, ')
    typed = type_in("restore", "--repo", "r", "--to", "b.db", "--at", moment.isoformat(), "--quiet")
    assert "note" not in typed.err


def test_a_dry_run_touches_nothing(type_in: Type, backups: list[Any], home: Path) -> None:
    """The plan is a list of steps."""
    before = sorted(home.rglob("*"))
    typed = type_in("restore", "--repo", "r", "--to", "new.db", "--dry-run", "--json")
    assert typed.code == 0
    assert typed.document["dry_run"] is True
    assert typed.document["steps"]
    assert "  1. " in type_in("restore", "--repo", "r", "--to", "new.db", "--dry-run", "--quiet").out
    assert sorted(home.rglob("*")) == before


def test_an_open_file_is_refused_without_force(type_in: Type, backups: list[Any], database: Path) -> None:
    """The holder is named, and the file is as it was."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT count(*) FROM note").fetchone()
        typed = type_in("restore", "--repo", "r", "--to", database, "--txid", "1", "--json")
        assert (typed.code, typed.document["error"]["slug"]) == (13, "database-busy")
        assert notes(database) == 2
        assert type_in("restore", "--repo", "r", "--to", database, "--txid", "1", "--force").code == 0
    assert notes(database) == 1
    assert type_in("undo", database, "--force").code == 0
    assert notes(database) == 2


def test_the_restored_file_is_what_people_are_told(type_in: Type, backups: list[Any], home: Path) -> None:
    """Place, position, size, and the command that takes it back."""
    shown = type_in("restore", "--repo", "r", "--db", "app.db", "--to", "new.db")
    assert f"{home / 'new.db'} is restored to " in shown.out
    assert f"undo: pagewarden undo {home / 'new.db'}" in shown.out
    assert f"{home / 'new.db'} is gone" in type_in("undo", "new.db").out


FOLLOWED = Path(__file__).parents[2] / "golden" / "repository-1-followed"


def test_a_commit_is_restored_by_number_time_and_name(type_in: Type, home: Path) -> None:
    """Each option finds its commit; the plan and the document tell the moments beside it."""
    for options in (("--txid", 3), ("--mark", "before the vacuum"), ("--at", "before the vacuum")):
        typed = type_in("restore", "--repo", FOLLOWED, "--to", "new.db", *options, "--dry-run", "--json")
        assert typed.code == 0
        beside = [typed.document[name]["txid"] for name in ("before", "position", "after")]
        assert beside == [2, 3, 4], options
    typed = type_in("restore", "--repo", FOLLOWED, "--to", "new.db", "--at", "2026-11-22T10:15:02.2Z", "--dry-run")
    assert "bring back app.db as of txid 2, 2026-11-22T10:15:02.123456Z; right before it txid 1, " in typed.out
    assert not (home / "new.db").exists()
    typed = type_in("restore", "--repo", FOLLOWED, "--to", "new.db", "--txid", 2, "--verbose")
    assert typed.code == 0
    assert "right before it 38b4e652:1 of 2026-11-22 10:15:01Z; right after it 38b4e652:3 of " in typed.out
    with closing(sqlite3.connect(home / "new.db")) as connection:
        assert connection.execute("SELECT count(*) FROM golden").fetchone() == (40,)


def test_what_is_no_commit_is_explained(type_in: Type, home: Path) -> None:
    """One that was merged, a name that nothing has, a word that is no time either, and two wishes at once."""
    where = ("restore", "--repo", FOLLOWED, "--to", "new.db")
    for options, code, words in (
        (("--txid", 5), 20, "merged with those after it: what can be restored is txid 4 of "),
        (("--mark", "x"), 20, 'no moment of app.db that is named "x": the last that are named: "before the vacuum"'),
        (("--at", "yesterday"), 2, '"yesterday" is no time; '),
        (("--at", "-1h", "--mark", "x"), 2, "--at, --txid and --mark exclude each other"),
    ):
        typed = type_in(*where, *options)
        assert (typed.code, words in typed.err) == (code, True), typed.err
    assert not (home / "new.db").exists()
