"""`pagewarden status`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Type


def test_configured_databases(type_in: Type, database: Path, home: Path) -> None:
    """Each with its own times; what is overdue is exit code 1."""
    (home / "c.toml").write_text(
        '[defaults]\nrepository = "r"\nbackup_every = "1h"\n'
        '[databases.main]\npath = "app.db"\ncheck_every = "1d"\n'
        '[databases.other]\npath = "other.db"\nbackup_every = "4w"\n'
        '[repositories.r]\nurl = "repo"\n'
    )
    typed = type_in("status", "--config", "c.toml", "--json")
    assert typed.code == 1
    assert [len(each["overdue"]) for each in typed.document["databases"]] == [2, 1]
    assert type_in("check", "main", "--config", "c.toml").code == 0
    assert type_in("backup", "main", "--config", "c.toml").code == 0
    typed = type_in("status", "main", "--config", "c.toml")
    assert typed.code == 0
    assert "sound" in typed.out and "s ago" in typed.out and "not yet" in typed.out
    assert type_in("status", "main", "--config", "c.toml", "--quiet").out == ""
    assert type_in("verify", "--repo", "r", "--config", "c.toml", "--read-data").code == 0
    assert "not yet" not in type_in("status", "main", "--config", "c.toml").out
    typed = type_in("status", "--config", "c.toml")
    assert typed.code == 1
    assert "overdue: " in typed.out and "other.db: it was never backed up, and is to be every 4w" in typed.out


def test_a_repository_of_the_command_line(type_in: Type, database: Path, home: Path) -> None:
    """All that is in it; options say what is due; a database that is named is looked for there."""
    assert type_in("backup", database, "--repo", "repo").code == 0
    typed = type_in("status", "--repo", "repo", "--backup-every", "1h", "--json")
    assert typed.code == 0
    (found,) = typed.document["databases"]
    assert (found["database"], found["name"], found["restore_points"], found["commits"]) == ("", "app.db", 1, 0)
    golden = Path(__file__).parents[2] / "golden" / "repository-1-followed"
    assert " 5, 5 commits " in type_in("status", "--repo", golden).out
    typed = type_in("status", database, "--repo", "repo", "--check-every", "1s", "--verify-every", "1d")
    assert typed.code == 1
    assert "never verified" in typed.out


def test_damage_is_named(type_in: Type, damaged: Path, home: Path) -> None:
    """Suspect pages, and restore points that cannot be restored, with the verb that says more."""
    type_in("backup", damaged, "--repo", "repo")
    assert type_in("check", damaged).code == 1
    for path in (home / "repo").rglob("*.zst"):
        path.unlink()
    assert type_in("verify", "--repo", "repo").code == 1
    typed = type_in("status", damaged, "--repo", "repo")
    assert typed.code == 1
    assert "1 restore point cannot be restored; verify says which can" in typed.out
    assert "ledger says which" in typed.out and "missing" in typed.out


def test_what_it_cannot_tell_of(type_in: Type, home: Path) -> None:
    """Nothing was named; a length of time that is none; a database without a repository; a repository without any."""
    assert type_in("status").code == 2
    assert type_in("status", "app.db", "--check-every", "soon").code == 2
    typed = type_in("status", "app.db")
    assert (typed.code, "no repository" in typed.out) == (0, True)
    assert type_in("status", "--repo", "none").code == 20
    (home / ".local/state/pagewarden/ledger.db").mkdir(parents=True)
    typed = type_in("status", "app.db")
    assert (typed.code, "problem: " in typed.out) == (3, True)
