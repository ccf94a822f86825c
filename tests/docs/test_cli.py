"""docs/cli.md has every verb and every option, and the JSON that is printed."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from pagewarden import values
from pagewarden.errors import ConfigurationInvalid, to_wire
from pagewarden.repair.export import ExportReport
from pagewarden.repair.kept import KeptReport
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.shown import ShowReport
from pagewarden_cli.command import VERBS, cli

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
REPORTS = {
    "check": values.CheckReport,
    "backup": values.BackupReport,
    "backups": values.BackupsReport,
    "verify": values.VerifyReport,
    "restore": values.RestoreReport,
    "repair": RepairReport,
    "undo": values.UndoReport,
    "prune": values.PruneReport,
    "pin": values.PinReport,
    "unpin": values.PinReport,
    "undelete": values.UndeleteReport,
    "run": values.RunReport,
    "sync": values.SyncReport,
    "mark": values.MarkReport,
    "status": values.StatusReport,
    "ledger": values.LedgerReport,
    "plugins": values.PluginsReport,
    "doctor": values.DoctorReport,
    "injure": values.InjuryReport,
}

WAL_REPORTS = {
    "status": values.WalStatusReport,
    "enable": values.WalEnableReport,
    "checkpoint": values.WalCheckpointReport,
    "tune": values.WalTuneReport,
}

QUARANTINE_REPORTS = {"list": KeptReport, "show": ShowReport, "export": ExportReport}


def command(verb: str) -> click.Command:
    """Return a verb."""
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


def options(found: click.Command) -> set[str]:
    """Return the names of all options of a command."""
    named = [param for param in found.params if isinstance(param, click.Option)]
    return {name for option in named for name in (*option.opts, *option.secondary_opts)}


def rows(section: str) -> set[str]:
    """Return the options that a section's table lists."""
    cells = re.findall(r"^\| (`-[^|]*(?:\\\|[^|]*)*) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(--?[a-z-]+)", cell)}


def test_each_verb_has_a_section() -> None:
    """In the order of --help, after what all have in common."""
    assert list(SECTIONS) == ["Options of every verb", *VERBS]


COMMON = rows(SECTIONS["Options of every verb"]) - {"--version", "--help", "-h"}


def test_the_common_options_are_those_of_the_group() -> None:
    """Before the verb and after it, with the same meaning."""
    assert options(cli) == COMMON | {"--version"}


@pytest.mark.parametrize("verb", VERBS)
def test_each_option_has_a_row_and_each_row_an_option(verb: str) -> None:
    """A verb takes what its section lists and what all take."""
    found = command(verb)
    if isinstance(found, click.Group):
        taken = set()
        for name, inner in found.commands.items():
            assert options(inner) >= COMMON, name
            assert f"pagewarden {verb} {name}" in SECTIONS[verb]
            taken |= options(inner) - COMMON
        assert taken == rows(SECTIONS[verb])
        return
    assert options(found) == rows(SECTIONS[verb]) | COMMON


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_and_option_explains_itself(verb: str) -> None:
    """--help has a sentence for everything."""
    found = command(verb)
    assert found.help
    assert found.short_help
    for param in found.params:
        assert not isinstance(param, click.Option) or param.help, param.name


def shape(kind: Any) -> Any:
    """Return the field names of a report, nested, in order."""
    info = msgspec.inspect.type_info(kind)

    def fields(node: Any) -> Any:
        if isinstance(node, msgspec.inspect.DataclassType):
            types = {field.name: field.type for field in node.fields}
            return {field.name: fields(types[field.name]) for field in dataclasses.fields(node.cls)}
        if isinstance(node, msgspec.inspect.VarTupleType):
            return [fields(node.item_type)]
        if isinstance(node, msgspec.inspect.UnionType):
            return next(fields(inner) for inner in node.types if not isinstance(inner, msgspec.inspect.NoneType))
        return None

    return fields(info)


def covers(documented: Any, actual: Any, where: str) -> None:
    """Compare a documented object with the fields of a report; an empty object or list, or null, stands for any."""
    if isinstance(documented, dict) and documented:
        assert list(documented) == list(actual), where
        for name, value in documented.items():
            covers(value, actual[name], f"{where}.{name}")
    elif isinstance(documented, list) and documented:
        covers(documented[0], actual[0], f"{where}[]")


@pytest.mark.parametrize("verb", REPORTS)
def test_the_json_is_the_documented_one(verb: str) -> None:
    """Every field, in order, nested ones included."""
    (block,) = re.findall(r"^```json\n(.*?)```", SECTIONS[verb], re.DOTALL | re.MULTILINE)
    covers(json.loads(block), shape(REPORTS[verb]), verb)


@pytest.mark.parametrize(
    ("verb", "name", "report"),
    [("wal", *each) for each in WAL_REPORTS.items()] + [("quarantine", *each) for each in QUARANTINE_REPORTS.items()],
)
def test_the_json_of_a_verb_of_a_group_is_the_documented_one(verb: str, name: str, report: type) -> None:
    """Every field, in order, nested ones included."""
    (block,) = re.findall(rf"^`{verb} {name}`:\n\n```json\n(.*?)```", SECTIONS[verb], re.DOTALL | re.MULTILINE)
    covers(json.loads(block), shape(report), name)


def test_a_position_and_an_error_are_the_documented_ones() -> None:
    """They are the same everywhere."""
    assert list(shape(values.Position)) == ["timeline", "txid", "time"]
    assert list(to_wire(ConfigurationInvalid("m"))) == re.findall(
        r'"(\w+)"',
        re.search(r'"error": \{([^}]*)\}', TEXT)[1],  # type: ignore[index]
    )
