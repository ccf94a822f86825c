"""What is installed: the same answer as importlib.metadata gives, sooner."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from pagewarden import installed


def by_the_library(group: str) -> list[tuple[str, str, str, str]]:
    """Return what importlib.metadata says."""
    found = importlib.metadata.entry_points(group=group)
    return sorted((e.name, e.value, e.dist.name, e.dist.version) for e in found if e.dist is not None)


def by_us(group: str) -> list[tuple[str, str, str, str]]:
    """Return what we say."""
    return sorted((e.name, e.value, e.distribution, e.version) for e in installed.entry_points(group))


def install(folder: Path, metadata: str, name: str, version: str, entries: str | None) -> None:
    """Write the metadata of a distribution."""
    info = folder / metadata
    info.mkdir(parents=True)
    file = "METADATA" if metadata.endswith(".dist-info") else "PKG-INFO"
    (info / file).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: of the text\n")
    if entries is not None:
        (info / "entry_points.txt").write_text(entries)


@pytest.mark.parametrize("group", ["pagewarden", "console_scripts", "pytest11", "no-such-group"])
def test_this_very_environment(group: str) -> None:
    """Every entry point, with its distribution and version."""
    assert by_us(group) == by_the_library(group)


def test_what_the_format_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, blank lines, other groups, spaces, objects, extras, eggs' metadata, names of any spelling."""
    entries = """
# a comment
[console_scripts]
tool = tool:main

[pagewarden]
one = module_one
 two=module_two : attribute.inner
# another
three = module_three:thing [extra]

[other]
four = module_four
"""
    install(tmp_path / "a", "My.Plugin-1.0.dist-info", "My.Plugin", "1.0", entries)
    install(tmp_path / "a", "plain-2.dist-info", "plain", "2", None)
    install(tmp_path / "b", "my_plugin-9.9.dist-info", "my-plugin", "9.9", "[pagewarden]\nshadowed = x\n")
    install(tmp_path / "b", "Old_Style.egg-info", "Old-Style", "0.1", "[pagewarden]\nold = old_style\n")
    install(tmp_path / "b", "built-3.1-py3.11.egg-info", "built", "3.1", "[pagewarden]\nbuilt = built\n")
    (tmp_path / "b" / "single-1.0.egg-info").write_text("Name: single\nVersion: 1.0\n")
    for folder in ("b", "a"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    monkeypatch.syspath_prepend(str(tmp_path / "no such folder"))
    assert by_us("pagewarden") == by_the_library("pagewarden")
    names = {name for name, *_ in by_us("pagewarden")}
    assert {"one", "two", "three", "old", "built"} <= names
    assert not {"four", "shadowed"} & names
    assert installed.version("old.style") == importlib.metadata.version("old.style") == "0.1"


def test_a_zip_on_the_path_is_left_to_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is everything else, then."""
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as bundle:
        bundle.writestr("zipped-4.0.dist-info/METADATA", "Name: zipped\nVersion: 4.0\n")
        bundle.writestr("zipped-4.0.dist-info/entry_points.txt", "[pagewarden]\nzipped = zipped\n")
    monkeypatch.syspath_prepend(str(tmp_path / "bundle.zip"))
    assert ("zipped", "zipped", "zipped", "4.0") in by_us("pagewarden")
    assert by_us("pagewarden") == by_the_library("pagewarden")
    assert installed.version("zipped") == "4.0"
    assert installed.version("no-such-distribution") == "unknown"


def test_a_finder_that_brings_distributions_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is, the library knows how."""

    class Finder(PathFinder):
        pass

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert by_us("pagewarden") == by_the_library("pagewarden")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("json", "json"), ("json:loads", "loads"), ("json.decoder : JSONDecoder.decode [x]", "decode")],
)
def test_an_entry_point_is_loaded(value: str, expected: str) -> None:
    """A module, an object in one, an object in that."""
    entry = installed.EntryPoint(name="x", value=value, distribution="d", version="1")
    assert entry.load().__name__ == expected


@pytest.mark.parametrize("value", ["", "no such module", "no_such_module_here", "json:no_such_object"])
def test_what_cannot_be_loaded_says_so(value: str) -> None:
    """ImportError or AttributeError, as an import would."""
    with pytest.raises((ImportError, AttributeError)):
        installed.EntryPoint(name="x", value=value, distribution="d", version="1").load()


def test_a_distribution_that_is_not_there_has_no_version() -> None:
    """The source tree may be used without an installation."""
    assert installed.version("no-such-distribution") == "unknown"


def test_the_library_is_not_imported_for_the_plain_case() -> None:
    """That is what it is for."""
    import subprocess

    program = "import sys; from pagewarden import installed; installed.entry_points('pagewarden'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"importlib.metadata", "email", "zipfile"} & set(done.stdout.split())
