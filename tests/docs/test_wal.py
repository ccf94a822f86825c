"""docs/wal.md says of presets and of `synchronous` what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagewarden.wal.durability import SYNCHRONOUS, Synchronous, loss
from pagewarden.wal.presets import PRESETS, PresetName
from tests.benchmarks.presets import SETTINGS

TEXT = (Path(__file__).parents[2] / "docs" / "wal.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def rows(section: str) -> dict[str, list[str]]:
    """Return the cells of a section's first table by the first one of each row."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", SECTIONS[section], re.MULTILINE)
    table: dict[str, list[str]] = {}
    for name, rest in found:
        table.setdefault(name, rest.split(" | "))
    return table


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_documented_one(name: PresetName) -> None:
    """Each number in its row."""
    preset = PRESETS[name]
    assert rows("Presets")[name] == [
        f"`{preset.synchronous}`",
        f"{preset.autocheckpoint:,} pages",
        f"{preset.journal_size_limit >> 20} MiB",
        f"{preset.busy_timeout:,} ms",
        f"{preset.policy.passive_frames:,} frames",
        f"{preset.policy.bound_bytes >> 20} MiB",
    ]


@pytest.mark.parametrize("value", SYNCHRONOUS)
def test_what_a_power_loss_takes_is_the_documented_loss(value: Synchronous) -> None:
    """In both kinds of journal mode; nothing where the application alone crashes."""
    in_wal, in_rollback = rows("What a crash can lose")[value]
    assert in_wal == loss("wal", value).machine_crash
    assert in_rollback in (loss("rollback", value).machine_crash, "the same")
    assert "nothing" in loss("wal", value).application_crash


def test_the_measured_table_has_every_preset() -> None:
    """And the benchmark measures them with the lines that are printed."""
    measured = SECTIONS["Presets"].split("| | commits |")[1]
    assert all(f"| `{name}` |" in measured for name in PRESETS)
    assert {name: PRESETS[name].pragmas() for name in PRESETS} == {name: SETTINGS[name] for name in PRESETS}
