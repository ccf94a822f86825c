"""The layout holds: what imports what, what is named how, and how long a module may be."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages/core/src/pagewarden"
PLUGINS = sorted((ROOT / "packages/plugins").iterdir())
DISTRIBUTIONS = [ROOT / "native", ROOT / "packages/core", ROOT / "packages/cli", *PLUGINS]
STANDARD = set(sys.stdlib_module_names)


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def settings(distribution: Path) -> dict[str, object]:
    """Return the [project] table of a distribution."""
    project: dict[str, object] = tomllib.loads((distribution / "pyproject.toml").read_text())["project"]
    return project


def asked_for(distribution: Path) -> list[str]:
    """Return the requirements of a distribution, those of its extras included."""
    project = settings(distribution)
    always, extras = project.get("dependencies", []), project.get("optional-dependencies", {})
    assert isinstance(always, list) and isinstance(extras, dict)
    return [*always, *(word for words in extras.values() for word in words)]


def test_core_imports_only_what_it_may() -> None:
    """Core imports the standard library, pluggy, msgspec and zstandard, and the native module in one module only."""
    native = []
    for module in CORE.rglob("*.py"):
        foreign = imports(module) - STANDARD - {"pagewarden", "pluggy", "msgspec", "zstandard"}
        if "pagewarden_native" in foreign:
            native.append(module)
            foreign.remove("pagewarden_native")
        contract_suites = CORE / "testing"
        if contract_suites in module.parents:
            foreign.discard("pytest")
        assert not foreign, f"{module} imports {foreign}"
    assert len(native) == 1, native


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_plugins_import_core_and_never_each_other(plugin: Path) -> None:
    """A plugin imports the standard library, core and what its own pyproject.toml names."""
    for module in plugin.rglob("src/**/*.py"):
        own = f"pagewarden_{plugin.name.replace('-', '_')}"
        named = {re.split(r"[^A-Za-z0-9-]", word)[0] for word in asked_for(plugin)}
        assert not imports(module) - STANDARD - named - {own}, module


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_has_one_stem(plugin: Path) -> None:
    """Folder, distribution, import name and entry point are made from one stem."""
    project = settings(plugin)
    package = f"pagewarden_{plugin.name.replace('-', '_')}"
    assert project["name"] == f"pagewarden-{plugin.name}"
    assert [folder.name for folder in (plugin / "src").iterdir() if not folder.name.endswith(".egg-info")] == [package]
    assert project["entry-points"] == {"pagewarden": {plugin.name: package}}


def test_versions_are_in_lock_step() -> None:
    """Every distribution has the same version and asks for its siblings at exactly that version."""
    versions = {str(settings(distribution)["version"]) for distribution in DISTRIBUTIONS}
    assert len(versions) == 1
    version = versions.pop()
    for distribution in DISTRIBUTIONS:
        project = settings(distribution)
        wanted = project.get("dependencies", [])
        assert isinstance(wanted, list)
        assert all(word.endswith(f"=={version}") for word in wanted if word.startswith("pagewarden"))


def test_no_module_is_longer_than_500_lines() -> None:
    """A module is one noun or verb of the field."""
    sources = [*ROOT.glob("packages/**/*.py"), *ROOT.glob("native/**/*.[ch]"), *ROOT.glob("tests/**/*.py")]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources if path.is_file()}
    assert {name: lines for name, lines in long.items() if lines > 500 and "/build/" not in name} == {}


def test_every_test_folder_is_a_package() -> None:
    """Each folder of tests has an __init__.py, so that twins of names never run each other."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_tree_speaks_of_itself_alone() -> None:
    """No document or source names a path of the machine it was written on."""
    words = ("/work/", "/root/")
    patterns = ("*.md", "docs/**/*.md", "packages/**/*.py", "native/**/*.c")
    for path in [path for pattern in patterns for path in ROOT.glob(pattern)]:
        text = path.read_text()
        assert not [word for word in words if word in text], path
