"""`pagewarden plugins`, `doctor`, `injure` and `config`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewarden.config_file import parse_config
from tests.cli.conftest import Type


def test_plugins_lists_what_is_installed(type_in: Type) -> None:
    """Our own strategies are plugins like any other."""
    typed = type_in("plugins", "--json")
    assert typed.code == 0
    found = {plugin["name"]: plugin for plugin in typed.document["plugins"]}
    assert found["check-pragma"]["checkers"] == ["check-pragma"]
    assert "file" in found["target-directory"]["targets"]
    assert typed.document["faults"] == []


def test_a_fault_is_exit_code_1_and_a_disabled_plugin_is_none(type_in: Type, home: Path) -> None:
    """A plugin that was named and cannot be used is an error."""
    (home / "c.toml").write_text('[plugins]\ndisabled = ["check-pages"]\n')
    typed = type_in("plugins", "--config", "c.toml", "--json")
    assert typed.code == 0
    assert [plugin["name"] for plugin in typed.document["plugins"] if plugin["disabled"]] == ["check-pages"]
    (home / "c.toml").write_text('[plugins]\nextra = ["no_such_module_here"]\n')
    typed = type_in("plugins", "--config", "c.toml", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (40, "plugin-unusable")


def test_the_doctor_looks_at_the_machine_and_a_database(type_in: Type, database: Path, home: Path) -> None:
    """Each fact has a state; the exit code says whether one is a problem."""
    typed = type_in("doctor", "--json")
    assert typed.document["database"] is None
    states = {fact["state"] for fact in typed.document["facts"]}
    assert states <= {"ok", "warning", "problem"}
    assert typed.code == (1 if "problem" in states else 0)
    typed = type_in("doctor", database, "--json")
    assert typed.document["database"] == str(database)
    (home / "c.toml").write_text('[databases.main]\npath = "app.db"\n')
    assert type_in("doctor", "main", "--config", "c.toml", "--json").document["database"] == str(database)
    assert "state" in type_in("doctor").out


def test_injure_damages_a_marked_copy_only(type_in: Type, database: Path) -> None:
    """The same seed does the same; without the mark nothing is done."""
    before = database.read_bytes()
    typed = type_in("injure", database, "--kind", "zeroed-page", "--seed", "7", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (30, "restore-refused")
    assert database.read_bytes() == before
    Path(f"{database}.pagewarden-copy").touch()
    first = type_in("injure", database, "--kind", "zeroed-page", "--seed", "7", "--json")
    assert first.code == 0
    once = database.read_bytes()
    assert once != before
    database.write_bytes(before)
    assert type_in("injure", database, "--kind", "zeroed-page", "--seed", "7", "--json").document == first.document
    assert database.read_bytes() == once
    database.write_bytes(before)
    shown = type_in("injure", database, "--kind", "flipped-bit", "--seed", "7")
    assert "flipped-bit, seed 7" in shown.out
    assert type_in("injure", database, "--kind", "nothing").code == 2


def test_the_example_is_accepted_by_the_check(type_in: Type, home: Path) -> None:
    """`config example > FILE`, then `config check`."""
    example = type_in("config", "example")
    assert example.code == 0
    parse_config(example.out.encode(), home / "x.toml")
    assert type_in("config", "example", "--json").document == {"example": example.out}
    (home / "c.toml").write_text(example.out)
    typed = type_in("config", "check", "--config", "c.toml")
    assert (typed.code, typed.out) == (0, f"{home / 'c.toml'} is valid: 1 database, 1 repository\n")
    document = type_in("config", "check", "--config", "c.toml", "--json").document
    assert document["databases"]["app"]["path"] == "/srv/app/app.db"
    assert document["repositories"]["main"]["read_data"] is True
    assert type_in("config", "check", "--config", "c.toml", "--quiet").out == ""


def test_the_check_says_when_there_is_no_file(type_in: Type) -> None:
    """The defaults hold."""
    typed = type_in("config", "check")
    assert (typed.code, typed.out) == (0, "there is no configuration file; the defaults hold\n")


@pytest.mark.parametrize(
    ("text", "code", "message", "hint"),
    [
        ("[defaults]\nlevel = 1\n", 2, "defaults.level", "quick"),
        ('[defaults]\ncheckers = ["check-nothing"]\n', 2, "defaults.checkers: no plugin brings", "check-pragma"),
        ('[databases.a]\npath = "a"\ncheckers = ["x"]\n', 2, "databases.a.checkers: no plugin brings", "known here"),
        ('[plugins]\nonly = ["check-nothing"]\n', 40, "check-nothing is not installed", "pagewarden plugins"),
    ],
)
def test_the_check_finds_what_a_run_would_trip_over(
    type_in: Type, home: Path, text: str, code: int, message: str, hint: str
) -> None:
    """Keys and values, and what no plugin brings."""
    (home / "c.toml").write_text(text)
    typed = type_in("config", "check", "--config", "c.toml")
    assert (typed.code, typed.out) == (code, "")
    assert message in typed.err
    assert hint in typed.err


def test_two_repositories_are_counted(type_in: Type, home: Path) -> None:
    """In the plural."""
    (home / "c.toml").write_text('[repositories.a]\nurl = "a"\n[repositories.b]\nurl = "b"\n')
    assert type_in("config", "check", "--config", "c.toml").out.endswith("0 databases, 2 repositories\n")
