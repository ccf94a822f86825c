"""`pagewarden injure`: its help and its completion know every kind."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from pagewarden.testing import INJURIES
from pagewarden_cli.verbs.injure import KINDS, command
from tests.cli.conftest import Type


def test_the_kinds_are_those_that_there_are() -> None:
    """They are written out, so that a start does not have to import them."""
    assert KINDS.split(", ") == list(INJURIES)


def test_a_shell_completes_kinds() -> None:
    """Those that begin with what was typed."""
    (kind,) = (option for option in command.params if option.name == "kind")
    found = kind.shell_complete(click.Context(command), "zeroed-")
    assert [item.value for item in found] == ["zeroed-page", "zeroed-sector", "zeroed-run"]


@pytest.mark.parametrize("kind", ["truncated-tail", "foreign-wal"])
def test_the_report_names_the_file_that_was_changed(type_in: Type, database: Path, kind: str) -> None:
    """The database or its -wal."""
    Path(f"{database}.pagewarden-copy").touch()
    size = database.stat().st_size
    document = type_in("injure", database, "--kind", kind, "--seed", "1", "--json").document
    if kind == "foreign-wal":
        assert document["path"] == f"{database}-wal"
        assert Path(document["path"]).stat().st_size == document["length"]
    else:
        assert (document["path"], document["after"]) == (str(database), "")
        assert database.stat().st_size == size - document["length"]


def test_what_offers_no_target_is_refused(type_in: Type, database: Path) -> None:
    """With its own exit code and what to do."""
    Path(f"{database}.pagewarden-copy").touch()
    before = database.read_bytes()
    typed = type_in("injure", database, "--kind", "overflow-pointer", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (30, "restore-refused")
    assert "no overflow page" in typed.document["error"]["message"]
    assert typed.document["error"]["hint"]
    assert database.read_bytes() == before
