"""`pagewarden ledger`, and what `check` says of a ledger that is unusable."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Type


def test_a_database_without_a_history_has_an_empty_one(type_in: Type, database: Path) -> None:
    """Nothing is made for the question, and the database need not be there."""
    typed = type_in("ledger", database, "--json")
    assert (typed.code, typed.document) == (
        0,
        {"database": str(database), "suspects": [], "runs": [], "warnings": []},
    )
    assert "no page of" in type_in("ledger", "gone.db").out
    assert type_in("ledger", "gone.db", "--quiet").out == ""
    assert not Path(".local").exists()


def test_suspect_pages_and_checks_are_listed(type_in: Type, damaged: Path, home: Path) -> None:
    """An open one is exit code 1; a name of the configuration will do."""
    codes = [type_in("check", damaged, "--json").code for _ in range(2)]
    (home / "c.toml").write_text('[databases.main]\npath = "app.db"\n')
    typed = type_in("ledger", "main", "--config", "c.toml", "--json")
    assert (codes, typed.code) == ([1, 1], 1)
    assert {suspect["state"] for suspect in typed.document["suspects"]} == {"confirmed"}
    assert [run["verdict"] for run in typed.document["runs"]] == ["damaged", "damaged"]
    shown = type_in("ledger", damaged)
    assert "confirmed" in shown.out and "damaged" in shown.out
    quiet = type_in("ledger", damaged, "--quiet")
    assert "confirmed" in quiet.out and "standard" not in quiet.out


def test_a_check_goes_on_without_a_ledger_and_says_so(type_in: Type, database: Path, home: Path) -> None:
    """In the document and on stderr; the verb itself is an error with an exit code of its own."""
    (home / ".local" / "state" / "pagewarden" / "ledger.db").mkdir(parents=True)
    typed = type_in("check", database, "--json")
    assert (typed.code, typed.document["verdict"]) == (0, "sound")
    (warning,) = typed.document["warnings"]
    assert typed.err == f"warning: {warning}\n"
    assert type_in("check", database, "--quiet").err.startswith("warning: the ledger")
    typed = type_in("ledger", database, "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (60, "ledger-unusable")


def test_it_must_be_named(type_in: Type) -> None:
    """An empty name is refused, as everywhere."""
    assert type_in("ledger", "").code == 2
    assert type_in("ledger").code == 2
