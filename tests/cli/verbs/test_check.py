"""`pagewarden check`."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Type, make_database


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_sound_database(type_in: Type, database: Path) -> None:
    """Exit code 0, the verdict for people and as one document, and not a byte changed."""
    before = digest(database)
    typed = type_in("check", database)
    assert (typed.code, typed.err) == (0, "")
    assert typed.out.startswith(f"{database} is sound\n")
    typed = type_in("check", database, "--json")
    assert (typed.code, typed.err) == (0, "")
    assert typed.document["verdict"] == "sound"
    assert typed.document["pages"] * typed.document["page_size"] == database.stat().st_size
    assert type_in("check", database, "--quiet").out == ""
    assert digest(database) == before


def test_a_damaged_database(type_in: Type, damaged: Path) -> None:
    """Exit code 1, and each finding has a kind, a message, evidence and a hint."""
    typed = type_in("check", damaged, "--json")
    assert (typed.code, typed.document["verdict"]) == (1, "damaged")
    assert typed.document["findings"]
    assert all(finding["kind"] and finding["message"] for finding in typed.document["findings"])
    shown = type_in("check", damaged)
    assert shown.code == 1
    assert "  damage " in shown.out


def test_a_violation_is_exit_code_1_with_a_sound_verdict(type_in: Type, database: Path) -> None:
    """The owner's rule is broken, the file is whole."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO note VALUES(9999, 9999, 'an orphan')")
        connection.commit()
    typed = type_in("check", database, "--json")
    assert (typed.code, typed.document["verdict"]) == (1, "sound")
    assert {finding["severity"] for finding in typed.document["findings"]} == {"violation"}


def test_what_cannot_be_judged_is_exit_code_3(type_in: Type, database: Path) -> None:
    """Locked by somebody: unknown, with the reason, never silence."""
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("INSERT INTO note VALUES(10000, 1, 'x')")
        typed = type_in("check", database, "--json", "--max-time", "1")
        assert (typed.code, typed.document["verdict"]) == (3, "unknown")
        assert all(checker["why"] for checker in typed.document["checkers"])


def test_level_only_and_max_time_choose_the_work(type_in: Type, database: Path) -> None:
    """More at a higher level, exactly what was named, and no time is no judgement."""

    def names(*words: str) -> list[str]:
        return [checker["name"] for checker in type_in("check", database, "--json", *words).document["checkers"]]

    assert set(names("--level", "quick")) < set(names("--level", "standard")) <= set(names("--level", "deep"))
    assert names("--only", "check-pragma") == ["check-pragma"]
    assert set(names("--only", "check-pragma", "--only", "check-pages")) == {"check-pragma", "check-pages"}
    assert type_in("check", database, "--max-time", "0.000001").code == 3
    typed = type_in("check", database, "--only", "check-nothing", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (40, "plugin-unusable")


def test_assertions_of_the_configuration_are_run_at_level_deep(type_in: Type, database: Path, home: Path) -> None:
    """One that does not hold is a violation; one that cannot be run makes the verdict unknown."""
    (home / "c.toml").write_text('[defaults]\nassertions = ["SELECT count(*) < 9 FROM note", "SELECT * FROM none"]\n')
    words = ("check", database, "--config", "c.toml", "--json")
    assert "check-assertions" not in {checker["name"] for checker in type_in(*words).document["checkers"]}
    typed = type_in(*words, "--level", "deep")
    assert (typed.code, typed.document["verdict"]) == (1, "unknown")
    assert [finding["kind"] for finding in typed.document["findings"]] == ["assertion"]


def test_a_baseline_shows_what_sqlite_cannot_see(type_in: Type, database: Path, home: Path) -> None:
    """A flipped bit in a text: a sound file for SQLite, damage against a snapshot that is declared current."""
    backup = type_in("backup", database, "--repo", "r", "--json").document
    key = type_in("backups", "--repo", "r", "--json").document["backups"][0]["key"]
    stored = Path(backup["repository"]) / key
    assert type_in("check", database, "--baseline", stored).code == 0
    data = bytearray(database.read_bytes())
    at = data.index(b"note 77 xxxx") + 8
    data[at] ^= 1
    database.write_bytes(data)
    assert type_in("check", database, "--only", "check-pragma").code == 0
    typed = type_in("check", database, "--baseline", stored, "--json")
    assert typed.code == 1
    (finding,) = typed.document["findings"]
    assert (finding["kind"], finding["pgno"]) == ("flipped-bit", at // 4096 + 1)
    shown = type_in("check", database, "--baseline", stored).out
    assert f"  damage flipped-bit  page {finding['pgno']}, note" in shown
    assert "    hint: pagewarden backups " in shown


def test_a_repository_is_compared_with(type_in: Type, database: Path, home: Path) -> None:
    """The position of its newest page map is in the report; a configured one is compared with where that is wanted."""
    taken = type_in("backup", database, "--repo", "r", "--json").document
    typed = type_in("check", database, "--repo", "r", "--json")
    assert (typed.code, typed.document["position"]) == (0, taken["position"])
    assert "compared with position" in type_in("check", database, "--repo", "r").out
    (home / "c.toml").write_text('[defaults]\nrepository = "./r"\n')
    assert type_in("check", database, "--config", "c.toml", "--json").document["position"] is None
    (home / "c.toml").write_text('[defaults]\nrepository = "./r"\ncompare = true\n')
    assert type_in("check", database, "--config", "c.toml", "--json").document["position"] == taken["position"]


def test_a_backup_under_another_name_is_compared_with(type_in: Type, database: Path) -> None:
    """It is found by the name that it was given."""
    taken = type_in("backup", database, "--repo", "r", "--name", "main", "--json").document
    typed = type_in("check", database, "--repo", "r", "--name", "main", "--json")
    assert (typed.code, typed.document["position"]) == (0, taken["position"])
    assert type_in("check", database, "--repo", "r", "--json").document["position"] is None


def test_several_databases_are_one_document(type_in: Type, database: Path, home: Path) -> None:
    """With the worst verdict; an error of one stands in its place, and does not keep the others from their turn."""
    other = make_database(home / "other.db")
    typed = type_in("check", database, other, "--json")
    assert (typed.code, typed.document["verdict"]) == (0, "sound")
    assert [entry["database"] for entry in typed.document["databases"]] == [str(database), str(other)]
    typed = type_in("check", home / "none.db", other, "--json")
    assert (typed.code, typed.document["verdict"]) == (10, "unknown")
    missing, sound = typed.document["databases"]
    assert missing["error"]["slug"] == "database-not-found"
    assert missing["database"] == str(home / "none.db")
    assert sound["verdict"] == "sound"
    shown = type_in("check", home / "none.db", other, "--debug")
    assert f"{other} is sound" in shown.out
    assert f"{home / 'none.db'} is not there" in shown.err
    assert "Traceback" in shown.err


def test_several_databases_are_as_bad_as_the_worst(type_in: Type, damaged: Path, home: Path) -> None:
    """Damage wins over an error, an error over unknown, unknown over sound."""
    make_database(home / "other.db")
    (home / "c.toml").write_text('[databases.hasty]\npath = "other.db"\nmax_time = 0.000001\n')
    sound = make_database(home / "sound.db")

    def code(*words: str | Path) -> int:
        return type_in("check", "--config", "c.toml", *words).code

    assert code("none.db", damaged, "hasty") == 1
    assert code("hasty", sound) == 3
    assert code("hasty", "none.db") == 10


def test_names_and_settings_come_from_the_configuration(type_in: Type, database: Path, home: Path) -> None:
    """By name, by path, and all of them without an argument; the command line wins."""
    make_database(home / "other.db")
    (home / "c.toml").write_text(
        """
        [databases.first]
        path = "app.db"
        checkers = ["check-pragma"]
        [databases.second]
        path = "other.db"
        level = "quick"
        """
    )

    def names(*words: str) -> list[str]:
        document = type_in("check", "--config", "c.toml", "--json", *words).document
        return [checker["name"] for checker in document["checkers"]]

    assert names("first") == names("app.db") == ["check-pragma"]
    assert names("first", "--only", "check-pages") == ["check-pages"]
    assert "check-foreign-keys" not in names("second")
    assert "check-foreign-keys" in names("second", "--level", "standard")
    everything = type_in("check", "--config", "c.toml", "--json").document
    assert [entry["database"] for entry in everything["databases"]] == [str(database), str(home / "other.db")]
