"""Whatever becomes of header, freelist and pointer map: every row is there again, without any repository."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.core.pages.trees import build
from tests.plugins.repair_header.damage import INJURIES, Wounded, mend, opinion, rows

SEEDS = 60 if os.environ.get("PAGEWARDEN_FULL") else 3

SHAPES: dict[str, dict[str, Any]] = {
    "512": {"page_size": 512, "rows": 60},
    "4096": {"page_size": 4096, "rows": 120},
    "65536": {"page_size": 65536, "rows": 200},
    "utf-16le": {"page_size": 1024, "rows": 60, "pragmas": ("encoding='UTF-16le'",)},
    "utf-16be, full": {"page_size": 2048, "rows": 60, "pragmas": ("encoding='UTF-16be'", "auto_vacuum=FULL")},
    "full": {"page_size": 512, "rows": 80, "pragmas": ("auto_vacuum=FULL",)},
    "incremental": {"page_size": 512, "rows": 80, "pragmas": ("auto_vacuum=INCREMENTAL",)},
    "reserved": {"page_size": 1024, "rows": 60, "reserved": 8},
    "odd": {"page_size": 1024, "rows": 60, "reserved": 7, "pragmas": ("auto_vacuum=INCREMENTAL",)},
    "most": {"page_size": 512, "rows": 60, "reserved": 32},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_is_there_again(tmp_path: Path, shape: str) -> None:
    """Seeded injuries, one to three at a time: SQLite finds nothing wrong afterwards, and reads the very rows."""
    path = tmp_path / "app.db"
    sound = build(**SHAPES[shape])
    path.write_bytes(sound.data)
    before = rows(path)
    for seed in range(SEEDS):
        for injury in (*INJURIES, "header_garbage", "all"):
            path.write_bytes(sound.data)
            wounded = Wounded(path, random.Random(f"{shape} {injury} {seed}"))
            names = ("header_garbage", "trunk", "tail") if injury == "all" else (injury,)
            if not sum(getattr(wounded, name)() for name in names):
                continue
            wounded.write()
            mend(path, tmp_path / "scratch")
            assert opinion(path) == ["ok"], (injury, seed)
            assert rows(path) == before, (injury, seed)
