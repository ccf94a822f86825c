"""How fast the integrity engine is beside its peers, and what a check costs a writer that goes on meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.memory import TreePeak

CLI = (sys.executable, "-P", "-m", "pagewarden_cli")

_WRITER = """
import random, sqlite3, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
chance = random.Random(1)
connection = sqlite3.connect(path, isolation_level=None, timeout=60)
connection.execute("PRAGMA synchronous=NORMAL")
connection.execute("CREATE TABLE IF NOT EXISTS written(id INTEGER PRIMARY KEY, body TEXT)")
end, commits = time.monotonic() + seconds, 0
while time.monotonic() < end:
    connection.execute("INSERT INTO written(body) VALUES(?)", ("x" * chance.randrange(20, 400),))
    commits += 1
print(commits)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Commits a second of one writer on a core of its own, with and without checks on another core, in turns."""

    without: tuple[float, ...]
    beside: tuple[float, ...]
    checks: int

    @property
    def loss(self) -> float:
        """The median over the turns of the part that is lost: 0.05 is 5 %."""
        return statistics.median(1 - b / a for a, b in zip(self.without, self.beside, strict=True))


def whole(*words: str | Path) -> float:
    """Run `pagewarden check` as its users do; return wall-clock seconds from process start to exit."""
    began = time.perf_counter()
    done = subprocess.run([*CLI, "check", *map(str, words), "--json"], stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"check {words} ended with {done.returncode}")
    return seconds


def quick_check(database: Path) -> float:
    """Run the shell's quick_check; return wall-clock seconds."""
    began = time.perf_counter()
    subprocess.run(["sqlite3", str(database), "PRAGMA quick_check"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def structure(database: Path) -> Callable[[], float]:
    """Return a function that judges the structure alone, from process start to exit."""
    return lambda: whole(database, "--only", "check-structure")


def quick(database: Path, baseline: Path) -> Callable[[], float]:
    """Return a function that checks at level quick against a baseline, from process start to exit."""
    return lambda: whole(database, "--level", "quick", "--baseline", baseline)


def take_baseline(database: Path, repository: Path) -> Path:
    """Back a database up; return the snapshot, to be declared current."""
    shutil.rmtree(repository, ignore_errors=True)
    words = [*CLI, "backup", str(database), "--repo", str(repository), "--check", "none", "--json"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return next(repository.rglob("*.pageset.zst"))


def peak(*words: str | Path) -> float:
    """Return the peak of resident memory of a check and its children together, in MB."""
    process = subprocess.Popen([*CLI, "check", *map(str, words), "--json"], stdout=subprocess.DEVNULL)
    with TreePeak(process.pid) as tree:
        process.wait()
    return tree.bytes / 1e6


def throughput(database: Path, seconds: float, rounds: int) -> Throughput:
    """Let one writer commit at full speed on core 0, in turns alone and beside checks on core 1.

    `database` is in WAL mode and is written to.
    """
    without: list[float] = []
    beside: list[float] = []
    checks = 0
    for _ in range(rounds):
        for busy in (False, True):
            words = ["taskset", "-c", "0", sys.executable, "-c", _WRITER, str(database), str(seconds)]
            writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            while busy and writer.poll() is None:
                command = ["taskset", "-c", "1", *CLI, "check", str(database), "--json"]
                checker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                while checker.poll() is None and writer.poll() is None:
                    time.sleep(0.05)
                checks += checker.poll() is not None
                checker.kill()
                checker.wait()
            out, _ = writer.communicate()
            (beside if busy else without).append(int(out) / seconds)
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("DELETE FROM written")
                connection.commit()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Throughput(without=tuple(without), beside=tuple(beside), checks=checks)


def spare_core() -> bool:
    """Whether the machine has a core for the checks beside the writer's."""
    return len(os.sched_getaffinity(0)) > 1
