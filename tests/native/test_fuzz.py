"""Fuzzing begins with what SQLite and zstd make, the same in every run; each target says which of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """All seeds by the word that asks for them."""
    monkeypatch.syspath_prepend(str(NATIVE / "tools"))
    monkeypatch.delitem(sys.modules, "seeds", raising=False)
    import seeds as module  # type: ignore[import-not-found, unused-ignore]

    return {word: list(made()) for word, made in module.SEEDS.items()}


def test_every_target_has_its_seeds(seeds: dict[str, list[bytes]]) -> None:
    """Each target names seeds that there are, and is compiled from one file; every parser's unit has one."""
    targets = sorted((NATIVE / "fuzz").glob("*.c"))
    for target in targets:
        asked = re.search(r"\bseeds: (\w+)", target.read_text("ascii"))
        assert asked is not None and seeds[asked[1]], target.name
        assert "LLVMFuzzerTestOneInput" in target.read_text("ascii")
    assert {"walk", "freelist", "keys", "wal", "source", "decompress"} <= {target.stem for target in targets}


def test_seeds_are_what_they_are_called(seeds: dict[str, list[bytes]]) -> None:
    """Databases begin as databases do, logs with a WAL's magic; all are small and no two are the same."""
    assert all(seed.startswith(b"SQLite format 3\0") for seed in seeds["database"])
    assert all(seed[:3] == b"\x37\x7f\x06" for seed in seeds["wal"])
    for word, made in seeds.items():
        assert len(set(made)) > 5, word
        assert max(map(len, made)) <= 65536 * 4, word
