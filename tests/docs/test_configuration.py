"""docs/configuration.md has every key, with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagewarden.config import SECTIONS, DefaultsSection

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
DOCUMENTED = dict(re.findall(r"^## \[([\w.]+)\]\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))


def test_each_table_has_a_section() -> None:
    """In the order of the file."""
    assert list(DOCUMENTED) == list(SECTIONS)


@pytest.mark.parametrize("table", SECTIONS)
def test_each_key_has_a_row(table: str) -> None:
    """In the order of the example, with its meaning."""
    keys = re.findall(r"^\| `(\w+)` \|", DOCUMENTED[table], re.MULTILINE)
    assert keys == list(SECTIONS[table].__struct_fields__)


def test_the_defaults_are_the_documented_ones() -> None:
    """The third column is what the code does."""
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", DOCUMENTED["defaults"], re.MULTILINE))
    defaults = DefaultsSection()
    for key in ("level", "compare", "check", "compression", "threads"):
        assert rows[key].strip('`"') == str(getattr(defaults, key)).lower()
    assert (defaults.repository, defaults.checkers, defaults.max_time) == (None, (), None)
