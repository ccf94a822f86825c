"""What is installed: entry points and versions, read from the folders of `sys.path`.

The standard library's importlib.metadata answers the same, but to import it (it brings the machinery of email and zip)
and to let it parse every distribution takes a fifth of the time in which a small database is checked. So the plain
case, folders with `NAME-VERSION.dist-info` or `NAME.egg-info` in them, is read here, by the same rules; wherever
anything else may provide distributions, importlib.metadata is asked. A test compares the two.

The format: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_ENDINGS = (".dist-info", ".egg-info")
_VALUE = re.compile(r"(?P<module>[\w.]+)\s*(:\s*(?P<object>[\w.]+)\s*)?(\[.*\]\s*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """One entry point of one installed distribution."""

    name: str
    value: str  # "module" or "module:object"
    distribution: str  # as its metadata spells it
    version: str

    def load(self) -> Any:
        """Import the module and return it, or the object in it. Raises what that raises; ImportError for nonsense."""
        match = _VALUE.fullmatch(self.value)
        if match is None:
            raise ImportError(f"{self.value!r} names no module")
        found: Any = importlib.import_module(match["module"])
        for name in filter(None, (match["object"] or "").split(".")):
            found = getattr(found, name)
        return found


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of `group`, of each distribution once: the first on `sys.path` wins."""
    if not _is_plain():
        return _asked(group)
    found: list[EntryPoint] = []
    for folder in _distributions():
        names = list(_read_group(folder, group))
        if names:
            distribution, version = _read_metadata(folder)
            found += [EntryPoint(name=n, value=v, distribution=distribution, version=version) for n, v in names]
    return tuple(found)


def version(distribution: str) -> str:
    """Return the version of an installed distribution, "unknown" where there is none of that name."""
    if not _is_plain():
        import importlib.metadata

        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
    for folder in _distributions():
        if _normalized(folder) == _normalize(distribution):
            return _read_metadata(folder)[1]
    return "unknown"


def _is_plain() -> bool:
    """Whether nothing but folders on `sys.path` can provide distributions."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    return all(finder is PathFinder for finder in finders) and not any(
        entry.endswith(".egg") or Path(entry).is_file() for entry in search_path()
    )


def search_path() -> tuple[str, ...]:
    """Return the folders in which distributions are looked for."""
    return tuple(dict.fromkeys(sys.path))


def _distributions() -> Iterator[Path]:
    """Yield the metadata folders of all distributions, each distribution once."""
    seen: set[str] = set()
    for place in search_path():
        try:
            for entry in Path(place).iterdir():
                if entry.suffix in _ENDINGS and (key := _normalized(entry)) not in seen:
                    seen.add(key)
                    yield entry
        except OSError:  # as for imports: what cannot be read provides nothing
            continue


def _normalized(folder: Path) -> str:
    return _normalize(folder.stem.partition("-")[0])


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _read_group(folder: Path, group: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each entry point of one group in one distribution."""
    section = ""
    for line in _lines(folder / "entry_points.txt"):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _read_metadata(folder: Path) -> tuple[str, str]:
    """Return name and version of a distribution, from the headers of its metadata."""
    name, version = "", ""
    for file in ("METADATA", "PKG-INFO"):
        for line in _lines(folder / file):
            header, _, value = line.partition(":")
            if header == "Name":
                name = value.strip()
            elif header == "Version":
                version = value.strip()
            if not line or (name and version):
                break
    return name, version


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _asked(group: str) -> tuple[EntryPoint, ...]:
    import importlib.metadata

    return tuple(
        EntryPoint(
            name=entry.name,
            value=entry.value,
            distribution="" if entry.dist is None else entry.dist.name,
            version="" if entry.dist is None else entry.dist.version,
        )
        for entry in importlib.metadata.entry_points(group=group)
    )
