"""docs/damage.md has every kind of finding and of injury, and no other; its bytes are those that injuries write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagewarden.contracts import Damage
from pagewarden.testing import INJURIES
from tests.support.injuring import SHAPES, make

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "damage.md").read_text()
SEED = 2
SOURCES = [
    *ROOT.glob("packages/plugins/check-*/src/**/*.py"),
    ROOT / "packages/core/src/pagewarden/check/run.py",
    ROOT / "packages/core/src/pagewarden/strays.py",
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
        found.update(re.findall(r'_(?:damage|notice)\("([a-z-]+)"', text))
        found.update(re.findall(r'^    FlawKind\.[A-Z_]+: "([a-z-]+)"', text, re.MULTILINE))
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


def example(kind: str, folder: Path) -> str:
    """Return the bytes that an injury changes, as the document shows them."""
    database, older = make(folder, SHAPES["with-wal" if kind == "damaged-wal-frame" else "small-pages"])
    report = INJURIES[kind].apply(database, SEED, older=older if INJURIES[kind].needs_older else None)
    before, after = (
        f"`{content[:16]}{'…' if len(content) > 16 else ''}`" if content else "nothing"
        for content in (report.before, report.after)
    )
    return f"page {report.pgno}, byte {report.offset}, {report.length} long: {before} → {after}"


@pytest.mark.parametrize("kind", INJURIES)
def test_every_injury_is_documented_with_its_bytes(kind: str, tmp_path: Path) -> None:
    """What it does, and an example that the injury itself writes."""
    assert documented("Damage on purpose")[kind].split(" | ")[1:] == [example(kind, tmp_path)]


def test_no_injury_is_invented() -> None:
    """Nor one left out."""
    assert list(documented("Damage on purpose")) == list(INJURIES)


def test_every_pattern_is_documented_and_none_is_invented() -> None:
    """By the name that reports have."""
    assert set(documented("Patterns of damage")) == {damage.value for damage in Damage}
