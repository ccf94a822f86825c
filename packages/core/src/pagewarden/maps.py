"""Where local page maps are kept: one for each database and each place that it is backed up to, in the state directory.

They are a cache of what a repository records (repository/pagemap.py): one that is lost costs the next backup the time
to make it again. So the oldest go when there are many.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pagewarden import durable, lineage

KEPT = 64
"""Maps that are kept, of whatever databases; 8 bytes for each of their pages."""


def map_path(state: Path, place: str, path: str) -> Path:
    """Return where the map of the database at the real path `path` is kept, as backed up to `place` (`place_of`)."""
    return state / "maps" / f"{lineage.file_name(place, path)}.map"


def begin(path: Path) -> Path:
    """Return the name of a new file to write the map `path` to, its folder made. Raises OSError."""
    durable.make_directories(path.parent)
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}")


def keep(written: Path, path: Path) -> None:
    """Put the map that was written in the place of the one before, durably, and forget the oldest. Raises OSError."""
    durable.replace(written, path)
    _tidy(path.parent)


def used(path: Path) -> None:
    """Note that a map was of use, which counts when the oldest go."""
    with suppress(OSError):  # it is a cache: one that cannot be touched goes a little earlier
        os.utime(path)


def _tidy(folder: Path) -> None:
    """Remove the maps that were used longest ago, and what killed processes left."""
    ages, others = [], []
    for file in folder.iterdir():
        if file.suffix != ".map":
            others.append(file)
            continue
        with suppress(FileNotFoundError):  # another process was first
            ages.append((file.lstat().st_mtime, file))
    durable.sweep(others)
    for _, file in sorted(ages)[:-KEPT]:
        file.unlink(missing_ok=True)
