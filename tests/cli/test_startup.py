"""What a small check does not pay for: each of these would take a good part of the fifth of a second it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pagewarden_cli.command import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""

READER = """
import os, sys
from pagewarden.processes.reader_main import Reader, answer
reader = Reader(None, 2)
file = os.path.realpath(sys.argv[1])
for call, arguments in (
    ("ping", {}),
    ("attach", {"handle": 1, "database": file}),
    ("sums", {"handle": 1, "first": 1, "count": 2}),
    ("pages", {"handle": 1, "pgnos": [1]}),
):
    reply = answer(reader, call, arguments)
    assert "error" not in reply, reply
print(*sorted(sys.modules), file=sys.stderr)
"""

ALONE = """
import sys
import pagewarden.processes.repairer_main
print(*sorted(sys.modules), file=sys.stderr)
"""

HEAVY = {
    "asyncio",
    "difflib",
    "email.message",
    "importlib.metadata",
    "logging",
    "pagewarden.check.naming",
    "pagewarden.config_file",
    "pagewarden.lineage",
    "pagewarden.pages",
    "pagewarden.live.snapshot",
    "pagewarden.repository",
    "pagewarden.sqlite.btree",
    "pagewarden_check_pages.differences",
    "pagewarden_check_pragma.messages",
    "rich",
    "tempfile",
    "tomllib",
    "zipfile",
    "zstandard",
}


def modules_of(*words: str | Path, program: str = PROGRAM) -> set[str]:
    """Return the modules that one invocation imports."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return set(done.stderr.split())


def test_a_quick_check_of_a_sound_database_imports_little(database: Path) -> None:
    """Nothing that it does not use: no metadata parser, no terminal, no repository, no reader of trees."""
    modules = modules_of("check", "--level", "quick", database)
    assert "pagewarden.check.run" in modules
    assert HEAVY & modules == set()


def test_a_check_of_a_sound_database_imports_only_trees_besides(database: Path) -> None:
    """The default level reads the schema to tell the walk of the b-trees what they hold, and imports that much more."""
    modules = modules_of("check", database)
    assert "pagewarden_check_structure.checker" in modules
    assert HEAVY & modules == {"pagewarden.pages", "pagewarden.sqlite.btree"}


def test_a_page_reader_that_copies_nothing_imports_little(database: Path) -> None:
    """Loading zstandard alone takes longer than reading a small database."""
    modules = modules_of(database, program=READER)
    assert "pagewarden.pages" in modules
    assert not {name for name in modules if name.startswith(("zstandard", "pagewarden.repository", "sqlite3"))}


def test_a_process_of_one_repairer_imports_neither_run_nor_reader() -> None:
    """A check or a repair starts one for each foreign checker, each repairer and each job."""
    modules = modules_of(program=ALONE)
    assert "pagewarden.processes.checker_main" in modules
    assert not {"pagewarden.check.run", "pagewarden.processes.reader", "subprocess", "shutil", "rich"} & modules


def test_help_and_versions_import_no_run() -> None:
    """They answer at once."""
    for words in (["--help"], ["--version"], ["check", "--help"], ["config", "example"]):
        modules = modules_of(*words)
        assert not {"pagewarden.check", "pagewarden.live", "pagewarden.plugins", "rich", "subprocess"} & modules, words
