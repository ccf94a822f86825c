"""What a repair costs: diagnosis beyond the check, an index rebuilt, a page put back, and recovery by each route.

`python -m tests.benchmarks.run --part repairs`. Each is a copy of the database, injured where it stands, and one
`pagewarden repair` from process start; the report says what of it was check, diagnosis, repair and verdict.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagewarden.testing import INJURIES

Row = tuple[str, str]
"""A line of the table: what, and the figure."""

DIAGNOSIS_BAR = 2.0  # seconds beyond the check
STEP_BAR = 10.0  # seconds for an index or a page, without the deep verdict
ROUTE_BAR = 30.0  # seconds for recovery by any route, from process start

_CLI = (sys.executable, "-P", "-m", "pagewarden_cli")

Hurt = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to be hurt and repaired."""

    name: str
    hurt: Hurt
    backed_up: bool  # whether there is a repository
    later: bool = False  # whether something was committed since the backup
    bar: float = STEP_BAR
    without_verdict: bool = True  # whether the bar is meant without the deep check


def rows(database: Path, folder: Path, rounds: int) -> list[Row]:
    """Measure every route on copies of `database`; return the lines."""
    found: list[Row] = []
    for route in ROUTES:
        turns = [_turn(database, folder, route, seed) for seed in range(1, rounds + 1)]
        judged = "without its deep verdict" if route.without_verdict else "in all"
        took = [each["seconds"] - (each["seconds_judging"] if route.without_verdict else 0.0) for each in turns]
        parts = ", ".join(
            f"{name} {statistics.median(each[f'seconds_{name}'] for each in turns):.1f}"
            for name in ("check", "diagnosis", "repair", "judging")
        )
        spread = f"{min(took):.1f} to {max(took):.1f}"
        figure = f"{statistics.median(took):.1f} s {judged} ({spread}; bar {route.bar:.0f}; {parts})"
        found.append((f"repair: {route.name}", figure))
        slowest = max(each["seconds_diagnosis"] for each in turns)
        found.append((f"diagnosis of it, beyond the check (bar {DIAGNOSIS_BAR:.0f})", f"{slowest:.2f} s at most"))
    return found


def _turn(database: Path, folder: Path, route: Route, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="repair-") as name:
        room = Path(name)
        path = room / "app.db"
        shutil.copy(database, path)
        environment = os.environ | {"XDG_STATE_HOME": str(room / "state")}
        words: list[str | Path] = ["repair", path, "--apply", "--json"]
        if route.backed_up:
            _run(environment, "backup", path, "--repo", room / "repository", "--json")
            words += ["--repo", room / "repository"]
        if route.later:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("UPDATE orders SET status = 'later' WHERE id % 1000 = 7")
                connection.commit()
        time.sleep(0.1)
        written = path.stat()
        route.hurt(path)
        os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # rot moves no time (docs/repair.md)
        report = _run(environment, *words)
        assert report["applied"] and report["verdict_after"] == "sound", report
        assert sum(each["rows_lost"] for each in report["tables"]) == 0, report["tables"]
        return report


def _run(environment: dict[str, str], *words: str | Path) -> dict[str, Any]:
    began = time.perf_counter()
    done = subprocess.run([*_CLI, *map(str, words)], env=environment, stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    report["seconds"] = time.perf_counter() - began  # from process start, not only what the run knows of
    return report


def _named(kind: str) -> Hurt:
    def hurt(path: Path) -> None:
        INJURIES[kind].apply(path, 7)

    return hurt


def _zeroed_index_page(path: Path) -> None:
    """Let a leaf of the largest index become zeros."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events_ts'").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        pgno = root
        while True:
            file.seek((pgno - 1) * page_size)
            page = file.read(page_size)
            if page[0] == 10:
                break
            pgno = int.from_bytes(page[8:12], "big")
        file.seek((pgno - 1) * page_size)
        file.write(bytes(page_size))


def _zeroed_table_page(path: Path) -> None:
    """Let some leaves of the largest table become zeros."""
    chance = random.Random(7)
    size = path.stat().st_size // 4096
    with path.open("r+b") as file:
        left = 3
        while left:
            pgno = chance.randrange(size // 2, size)
            file.seek((pgno - 1) * 4096)
            if file.read(1) == b"\x0d":
                file.seek((pgno - 1) * 4096)
                file.write(bytes(4096))
                left -= 1


ROUTES = (
    Route(name="a damaged index rebuilt", hurt=_zeroed_index_page, backed_up=False),
    Route(name="a damaged header derived", hurt=_named("header-garbage"), backed_up=False, bar=ROUTE_BAR),
    Route(name="a page put back, nothing committed since the backup", hurt=_zeroed_table_page, backed_up=True),
    Route(
        name="restored, with what was committed since the backup",
        hurt=_zeroed_table_page,
        backed_up=True,
        later=True,
        bar=ROUTE_BAR,
        without_verdict=False,
    ),
)
