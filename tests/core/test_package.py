"""The public package: what it exports, and what importing it costs."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pagewarden
from pagewarden.errors import error_classes

INIT = Path(pagewarden.__file__)


def typed_exports() -> dict[str, str]:
    """Return the names that type checkers see, with their modules."""
    (block,) = [node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If)]
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_type_checkers_and_the_interpreter_see_the_same() -> None:
    """Each name of the TYPE_CHECKING block is exported lazily from the same module, and none beside."""
    typed = typed_exports()
    assert set(pagewarden.__all__) - {"__version__"} == set(typed)
    for name, module in typed.items():
        assert getattr(pagewarden, name) is getattr(sys.modules[module], name)
        assert name in dir(pagewarden)


def test_every_error_is_exported() -> None:
    """`except pagewarden.DatabaseBusy` needs no other import."""
    assert {leaf.__name__ for leaf in error_classes().values()} <= set(pagewarden.__all__)


def test_the_version_is_the_distributions() -> None:
    """There is one place for it, the metadata."""
    assert pagewarden.__version__ == importlib.metadata.version("pagewarden")


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pagewarden.nothing  # noqa: B018


def test_importing_costs_nothing_and_brings_no_sqlite() -> None:
    """`import pagewarden` imports none of its modules; opening and naming things imports no SQLite library (H2)."""
    program = """
import sys
import pagewarden
assert [name for name in sys.modules if name.startswith("pagewarden.")] == [], sys.modules
pagewarden.open("app.db"), pagewarden.hookimpl, pagewarden.Verdict, pagewarden.load_plugins
assert "sqlite3" not in sys.modules and "_sqlite3" not in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=environment)
