"""Where the corpora are, unpacked once a run, and a seeded choice of their members."""

from __future__ import annotations

import csv
import os
import random
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def folder() -> Path:
    """Return the folder of the archives; a clear failure where it is missing."""
    path = Path(os.environ.get("PAGEWARDEN_CORPORA", ROOT / "../shared/corpora")).resolve()
    if not path.is_dir():
        raise SystemExit(f"no corpora at {path}: set PAGEWARDEN_CORPORA to the folder that holds healthy.tar.xz")
    return path


def unpack(name: str, into: Path) -> Path:
    """Unpack one archive below `into`; return the folder with its members."""
    with tarfile.open(folder() / f"{name}.tar.xz") as archive:
        archive.extractall(into, filter="data")
    return into / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """A seeded choice of an archive's members."""

    count: int | None  # None: all
    seed: int

    def __call__(self, paths: Iterable[Path]) -> list[Path]:
        """Return the chosen ones of the sorted paths."""
        ordered = sorted(paths)
        if self.count is None or self.count >= len(ordered):
            return ordered
        return sorted(random.Random(self.seed).sample(ordered, self.count))


def rows(path: Path) -> list[dict[str, str]]:
    """Return a CSV file's rows."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
