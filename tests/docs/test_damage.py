"""docs/damage.md has every kind of finding and of injury, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from pagewarden.testing import INJURIES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "damage.md").read_text()
SOURCES = [
    *ROOT.glob("packages/plugins/check-*/src/**/*.py"),
    ROOT / "packages/core/src/pagewarden/check/run.py",
]


def documented(chapter: str) -> dict[str, str]:
    """Return the kinds of one chapter with the rest of their rows."""
    text = TEXT.split(f"## {chapter}")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE))


def used() -> set[str]:
    """Return the kinds that the checkers and the run report."""
    found: set[str] = set()
    for source in SOURCES:
        text = source.read_text()
        found.update(re.findall(r'\bkind="([a-z-]+)"', text))
        found.update(re.findall(r'_damage\("([a-z-]+)"', text))
        found.update(re.findall(r'^    \("([a-z-]+)", re\.compile', text, re.MULTILINE))
        found.update(re.findall(r'\bkind: str = "([a-z-]+)"', text))
        found.update(re.findall(r'else "([a-z]+-page)"', text))
    return found


def test_every_kind_of_finding_is_documented_and_none_is_invented() -> None:
    """With its severity."""
    chapters = [line[3:] for line in TEXT.splitlines() if line.startswith("## Found by ")]
    kinds = {kind: row for chapter in chapters for kind, row in documented(chapter).items()}
    assert set(kinds) == used()
    assert all(row.split(" | ")[0] in ("damage", "violation", "notice") for row in kinds.values())


def test_every_injury_is_documented() -> None:
    """All of them, and no other."""
    assert set(documented("Damage on purpose")) == set(INJURIES)
