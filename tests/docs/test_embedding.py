"""docs/embedding.md has every method, and its first example runs."""

from __future__ import annotations

import inspect
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pagewarden
from pagewarden.database import Database

TEXT = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()


def test_each_method_is_documented_with_its_parameters() -> None:
    """In the table, keyword parameters with an equals sign."""
    rows = dict(re.findall(r"^\| `(\w+)\(([^)]*)\)`", TEXT, re.MULTILINE))
    methods = {
        name: method
        for name, method in vars(Database).items()
        if inspect.isfunction(method) and not name.startswith("_") and name != "close"
    }
    assert set(rows) == set(methods)
    for name, method in methods.items():
        parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        shown = [p.name if p.default is p.empty else f"{p.name}=" for p in parameters]
        assert rows[name] == ", ".join(shown), name


def test_each_option_of_open_is_documented() -> None:
    """By name."""
    for name in inspect.signature(pagewarden.open).parameters:
        assert name == "path" or f"`{name}" in TEXT, name


def test_the_first_example_runs(tmp_path: Path) -> None:
    """As it stands, but for the place of the repository."""
    (block,) = re.findall(r"^```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE t(x)")
    program = block.replace("/backup/app", "backup")
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=tmp_path)
    assert (tmp_path / "backup" / "pagewarden.json").exists()
