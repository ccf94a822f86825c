"""`--log` and `[output] log`: every timing of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Type


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_check_logs_every_timing(type_in: Type, database: Path, home: Path) -> None:
    """Of opening, the pin, each checker, the ledger and the whole run; findings in between."""
    typed = type_in("check", database, "--log", "log", "--json")
    assert (typed.code, typed.err) == (0, "")
    logged = lines(home / "log")
    assert {line["database"] for line in logged} == {str(database)}
    names = [line["event"] for line in logged]
    assert names[0] == "check.started" and names[1] == "check.opened"
    assert names[-2:] == ["ledger.written", "check.finished"]
    assert "check.pinned" in names
    seconds = {line["fields"]["checker"]: line["seconds"] for line in logged if line["event"] == "checker.finished"}
    assert seconds == {checker["name"]: checker["seconds"] for checker in typed.document["checkers"]}
    assert all(line["seconds"] is not None for line in logged[1:])
    assert logged[-1]["seconds"] == typed.document["seconds"]


def test_a_configuration_may_name_the_log(type_in: Type, database: Path, home: Path) -> None:
    """From its own folder on; the option wins, "-" is stderr, and several databases share it."""
    (home / "etc").mkdir()
    (home / "etc" / "c.toml").write_text('[output]\nlog = "log"\n')
    assert type_in("check", database, "--config", "etc/c.toml").code == 0
    assert lines(home / "etc" / "log")[-1]["event"] == "check.finished"
    (home / "etc" / "c.toml").write_text('[output]\nlog = "-"\n')
    before = (home / "etc" / "log").read_bytes()
    (home / "other.db").write_bytes(database.read_bytes())
    assert type_in("check", database, "other.db", "--config", "etc/c.toml", "--log", "mine").code == 0
    ended = [line["database"] for line in lines(home / "mine") if line["event"] == "check.finished"]
    assert sorted(ended) == sorted([str(database), str(home / "other.db")])
    assert (home / "etc" / "log").read_bytes() == before


@pytest.mark.parametrize("log", ["", "no/such/folder", "app.db"])
def test_a_log_that_cannot_be_written_to_is_an_error_first(type_in: Type, database: Path, home: Path, log: str) -> None:
    """Nothing is judged then."""
    before = database.read_bytes()
    typed = type_in("check", database, "--log", log, "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (2, "configuration-invalid")
    assert database.read_bytes() == before
    assert not (home / ".local").exists()


def test_a_log_that_is_full_is_a_warning(type_in: Type, database: Path) -> None:
    """The check is what it would have been."""
    typed = type_in("check", database, "--log", "/dev/full", "--json")
    assert (typed.code, typed.document["verdict"]) == (0, "sound")
    assert typed.err == "warning: the log /dev/full cannot be written to: No space left on device\n"
