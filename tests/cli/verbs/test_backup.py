"""`pagewarden backup`, `backups` and `verify`."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Type, make_database


def test_a_backup_is_listed_and_proved(type_in: Type, database: Path, home: Path) -> None:
    """Every field of the report is true of what the repository holds."""
    typed = type_in("backup", database, "--repo", "r", "--check", "standard", "--json")
    assert (typed.code, typed.err) == (0, "")
    report = typed.document
    assert (report["kind"], report["verified"], report["name"]) == ("snapshot", True, "app.db")
    assert report["repository"] == str(home / "r")
    assert report["source"]["verdict"] == "sound"
    (point,) = type_in("backups", "--repo", "r", "--json").document["backups"]
    assert point["position"] == report["position"]
    assert point["database_sum"] == report["database_sum"]
    assert (home / "r" / point["key"]).stat().st_size == point["bytes_stored"] == report["bytes_stored"]
    verified = type_in("verify", "--repo", "r", "--read-data", "--json")
    assert (verified.code, verified.document["verdict"]) == (0, "sound")
    assert verified.document["points"][0]["data"] is True


def test_what_people_read(type_in: Type, database: Path) -> None:
    """A few lines each, and nothing when quiet but the list."""
    shown = type_in("backup", database, "--repo", "r")
    assert f"{database} → " in shown.out
    assert "read back and verified" in shown.out
    assert type_in("backup", database, "--repo", "r", "--full", "--quiet").out == ""
    assert "nothing to store" in type_in("backup", database, "--repo", "r").out
    assert type_in("backups", "--repo", "r", "--quiet").out.startswith("app.db: 2 restore points, ")
    assert "2 restore points" in type_in("verify", "--repo", "r").out
    assert type_in("verify", "--repo", "r", "--quiet").out == ""


def test_a_damaged_database_is_backed_up_and_said_to_be(type_in: Type, damaged: Path) -> None:
    """Exit code 1 with the report; the list and the manifest keep the verdict (H18)."""
    typed = type_in("backup", damaged, "--repo", "r", "--check", "standard", "--json")
    assert (typed.code, typed.document["source"]["verdict"]) == (1, "damaged")
    assert type_in("backups", "--repo", "r", "--json").document["backups"][0]["source"]["verdict"] == "damaged"
    quiet = type_in("backup", damaged, "--repo", "r", "--check", "standard", "--quiet")
    assert "damaged" in quiet.out
    unchanged = type_in("backup", damaged, "--repo", "r", "--check", "none", "--json")
    assert (unchanged.code, unchanged.document["kind"]) == (1, "unchanged")
    assert unchanged.document["source"]["level"] == "standard"
    unjudged = type_in("backup", damaged, "--repo", "r", "--check", "none", "--full", "--json")
    assert (unjudged.code, unjudged.document["source"]["level"]) == (0, "none")


def test_what_changed_is_a_segment_unless_all_is_asked_for(type_in: Type, database: Path) -> None:
    """Each kind under its name, on one timeline; nothing is stored where nothing changed."""
    kinds = []
    for number, more in enumerate(((), (), ("--full",), ())):
        if number != 1:
            with closing(sqlite3.connect(database, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA user_version={number + 1}")
        report = type_in("backup", database, "--repo", "r", *more, "--json").document
        kinds.append((report["kind"], report["position"]["txid"]))
    assert kinds == [("snapshot", 1), ("unchanged", 1), ("snapshot", 2), ("segment", 3)]


def test_a_name_is_for_one_database(type_in: Type, database: Path, home: Path) -> None:
    """It is what --db finds later."""
    other = make_database(home / "other.db")
    assert type_in("backup", database, "--repo", "r", "--name", "main").code == 0
    assert type_in("backups", "--repo", "r", "--db", "main", "--json").document["backups"][0]["database"] == "main"
    typed = type_in("backup", database, other, "--repo", "r", "--name", "main", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (2, "configuration-invalid")


def test_several_databases(type_in: Type, database: Path, home: Path) -> None:
    """One document, one list; an error of one does not keep the others from their turn."""
    other = make_database(home / "other.db")
    typed = type_in("backup", home / "none.db", database, other, "--repo", "r", "--json")
    assert typed.code == 10
    assert list(typed.document) == ["databases"]
    assert [entry.get("verified") for entry in typed.document["databases"]] == [None, True, True]
    assert (
        type_in("verify", "--repo", "r", "--db", "other.db", "--json").document["points"][0]["database"] == "other.db"
    )
    assert len(type_in("verify", "--repo", "r", "--json").document["points"]) == 2


def test_no_repository_is_wrong_usage(type_in: Type, database: Path) -> None:
    """Nothing is made anywhere."""
    typed = type_in("backup", database)
    assert typed.code == 2
    assert "no repository was named" in typed.err


def test_the_configuration_names_repositories(type_in: Type, database: Path, home: Path) -> None:
    """For a database, by default, and by name; --repo wins."""
    (home / "c.toml").write_text(
        """
        [defaults]
        repository = "main"
        compression = 19
        [databases.app]
        path = "app.db"
        name = "chosen"
        repository = "second"
        check = "deep"
        [repositories.main]
        url = "one"
        [repositories.second]
        url = "two"
        db = "chosen"
        read_data = true
        """
    )
    configured = ("--config", "c.toml", "--json")
    report = type_in("backup", *configured).document
    assert (report["name"], report["repository"], report["source"]["level"]) == ("chosen", str(home / "two"), "deep")
    assert type_in("backup", "app", "--repo", "main", *configured).document["repository"] == str(home / "one")
    quick = type_in("backup", "app", "--full", "--check", "quick", *configured)
    assert quick.document["source"]["level"] == "quick"
    other = make_database(home / "other.db")
    assert type_in("backup", other, *configured).document["repository"] == str(home / "one")
    assert type_in("verify", "--repo", "second", *configured).document["read_data"] is True
    assert type_in("verify", "--repo", "second", "--no-read-data", *configured).document["read_data"] is False
    assert {p["database"] for p in type_in("backups", *configured).document["backups"]} == {"chosen", "other.db"}
    type_in("backup", other, "--repo", "second", *configured)
    assert {p["database"] for p in type_in("backups", "--repo", "second", *configured).document["backups"]} == {
        "chosen"
    }


def test_a_damaged_repository_is_exit_code_1(type_in: Type, database: Path, home: Path) -> None:
    """And the point that is damaged is named."""
    type_in("backup", database, "--repo", "r")
    key = type_in("backups", "--repo", "r", "--json").document["backups"][0]["key"]
    stored = home / "r" / key
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.chmod(0o600)
    stored.write_bytes(data)
    typed = type_in("verify", "--repo", "r", "--json")
    assert (typed.code, typed.document["verdict"]) == (1, "damaged")
    assert typed.document["points"][0]["state"] == "damaged"
    assert "damaged" in type_in("verify", "--repo", "r", "--quiet").out


def test_nothing_there(type_in: Type, home: Path) -> None:
    """A repository that is not there is an error with a hint; nothing is made."""
    for verb in ("backups", "verify"):
        typed = type_in(verb, "--repo", "r", "--json")
        assert (typed.code, typed.document["error"]["slug"]) == (20, "repository-not-found")
        assert typed.document["error"]["hint"].startswith("pagewarden backup ")
    assert not (home / "r").exists()


def test_a_path_that_is_no_utf_8(type_in: Type, database: Path, home: Path) -> None:
    """JSON says it with escapes, people read escapes; a repository needs a name for it that can be written."""
    odd = home / os.fsdecode(b"caf\xe9.db")
    database.rename(odd)
    assert type_in("check", odd, "--json").document["database"] == str(odd)
    assert "caf\\udce9.db is sound" in type_in("check", odd).out
    refused = type_in("backup", odd, "--repo", "r", "--json")
    assert (refused.code, refused.document["error"]["slug"]) == (2, "configuration-invalid")
    typed = type_in("backup", odd, "--repo", "r", "--name", "coffee", "--json")
    assert (typed.code, typed.err) == (0, "")
    assert typed.document["database"] == str(odd)
    assert "caf\\udce9.db" in type_in("backup", odd, "--repo", "r", "--name", "coffee").out
