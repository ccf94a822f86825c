"""Small programs in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: object, before: str = "", measured: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python source, indented as it stands in a test, and return how it ended and what it printed.

    With `before`, that source runs first, and gets the program as its first argument. A program that is not `measured`
    is not seen by a coverage run, which imports things.
    """
    source = textwrap.dedent(program)
    sources = [before, source] if before else [source]
    command = [sys.executable, "-c", *sources, *map(str, arguments)]
    environment = dict(os.environ) if measured else unmeasured()
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=environment)


def output(module: str, *words: object) -> str:
    """Run a module of the tests that must end with status 0, as a program; return what it printed."""
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unmeasured() -> dict[str, str]:
    """Return the environment of a process that a coverage run does not see, and that starts in a tenth of the time."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def succeed(program: str, *arguments: object, measured: bool = True) -> str:
    """Run Python source that must end with status 0; return what it printed."""
    done = run(program, *arguments, measured=measured)
    assert done.returncode == 0, done.stderr
    return done.stdout
