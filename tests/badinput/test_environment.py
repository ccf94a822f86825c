"""A world that does not play along: permissions, locks, full disks, and files that change under the reader."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pagewarden.live.pin import Pin
from pagewarden.processes.reader import PageReader
from pagewarden.restore import hold
from tests.badinput.conftest import Refuse, tree
from tests.cli.conftest import Type, Typed
from tests.core.live.test_connection import POWERLESS
from tests.support.databases import build
from tests.support.program import run

COMMANDS = """
import contextlib, io, json, sys
from pagewarden_cli.command import main
for line in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""

SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
"""What makes each file as full as a disk can be."""


Line = Sequence[str | Path]


def typed(before: str, *lines: Line) -> list[Typed]:
    """Run command lines, with --json, one after the other in a process that `before` has prepared."""
    # Where files may not grow, those that measure coverage may not, either.
    words = [json.dumps([*map(str, line), "--json"]) for line in lines]
    done = run(COMMANDS, *words, before=before, measured=before != SMALL_FILES)
    assert done.returncode == 0 and "Traceback" not in done.stderr + done.stdout, done
    return [Typed(*json.loads(answer)) for answer in done.stdout.splitlines()]


def codes(before: str, *lines: Line) -> list[int]:
    """Run command lines and return their exit codes."""
    return [answer.code for answer in typed(before, *lines)]


def refused(home: Path, before: str, *lines: Line) -> list[str]:
    """Run command lines that must end with an error and touch nothing; return the errors' slugs."""
    was = tree(home)
    slugs = []
    for answer in typed(before, *lines):
        error = answer.document["error"]
        assert error["hint"] and answer.code == error["exit_code"] >= 2, answer
        slugs.append(str(error["slug"]))
    assert tree(home) == was
    return slugs


def test_what_this_user_may_not_read_is_named(good: Path, repository: Path, home: Path) -> None:
    """A database, a repository, an object in it, a configuration, a folder on the way."""
    closed = home / "closed"
    closed.mkdir()
    shutil.copytree(repository, closed / "r")
    shutil.copy(good, closed / "app.db")
    stored = next(repository.rglob("*.zst"))
    (home / "c.toml").touch()
    for path in (good, home / "c.toml", stored, closed):
        path.chmod(0)
    assert (
        refused(
            home,
            POWERLESS,
            ("check", good),
            ("backup", good, "--repo", repository),
            ("check", closed / "app.db"),
            ("backup", closed / "app.db", "--repo", repository),
            ("doctor", closed / "app.db"),
        )
        == ["database-unreadable"] * 5
    )
    assert (
        refused(
            home,
            POWERLESS,
            ("plugins", "--config", home / "c.toml"),
            ("config", "check", "--config", home / "c.toml"),
            ("restore", "--repo", repository, "--to", home / "new.db"),
            ("verify", "--repo", closed / "r"),
            ("backups", "--repo", closed / "r"),
        )
        == ["configuration-invalid"] * 2 + ["target-failed"] * 3
    )
    assert codes(POWERLESS, ("doctor", good), ("verify", "--repo", repository)) == [1, 3]
    closed.chmod(0o700)


def test_a_read_only_folder_is_read_and_never_written(good: Path, repository: Path, home: Path) -> None:
    """What needs no writing works there, and what does names the folder."""
    folder = home / "readonly"
    folder.mkdir()
    shutil.copy(good, folder / "app.db")
    build(folder / "wal.db", mode="wal", rows=20)
    shutil.copytree(repository, folder / "r")
    Path(folder / "app.db.pagewarden-copy").touch()
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(folder)
    assert codes(
        POWERLESS,
        ("check", folder / "app.db"),
        ("check", folder / "wal.db"),
        ("verify", "--repo", folder / "r", "--read-data"),
        ("backups", "--repo", folder / "r"),
    ) == [0, 3, 0, 0]
    assert tree(folder) == before
    assert refused(
        home,
        POWERLESS,
        ("backup", folder / "wal.db", "--repo", repository),
        ("backup", good, "--repo", folder / "r"),
        ("backup", good, "--repo", folder / "new"),
        ("restore", "--repo", repository, "--to", folder / "app.db"),
        ("restore", "--repo", repository, "--to", folder / "new.db"),
        ("injure", folder / "app.db", "--kind", "flipped-bit"),
    ) == ["database-unreadable", *["target-failed"] * 2, *["restore-refused"] * 2, "target-failed"]
    folder.chmod(0o755)


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Let another process hold a database with an exclusive lock; yield its number."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA locking_mode=EXCLUSIVE'); c.execute('BEGIN EXCLUSIVE'); print('held', flush=True);"
        "sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", program, path], text=True, **pipes)  # type: ignore[call-overload]
    with holder:
        assert holder.stdout.readline() == "held\n"
        yield holder.pid
        holder.stdin.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_exclusive_lock_is_respected_and_its_holder_named(
    mode: str, refuse: Refuse, type_in: Type, repository: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` cannot judge, every other verb refuses; nobody waits for ever."""
    patient = Pin.__init__
    monkeypatch.setattr(Pin, "__init__", lambda pin, place, **named: patient(pin, place, **{**named, "timeout": 0.5}))
    monkeypatch.setattr(hold, "LOCK_SECONDS", 0.5)
    path = build(home / "app.db", mode=mode, rows=20)
    Path(f"{path}.pagewarden-copy").touch()
    with exclusive(path) as pid:
        before = tree(home)
        checked = type_in("check", path, "--max-time", "2", "--json")
        assert checked.code in (3, 13) and str(pid) in checked.out
        assert tree(home) == before
        backed_up = type_in("backup", path, "--repo", repository, "--json").document["error"]
        assert (backed_up["slug"], str(pid) in backed_up["message"] + backed_up["hint"]) == ("database-busy", True)
        assert tree(home) == before
        for words in (
            ("restore", "--repo", repository, "--to", path),
            ("injure", path, "--kind", "flipped-bit"),
        ):
            answer = refuse(*words)
            assert answer.slug == "database-busy"
            assert str(pid) in answer.message + answer.hint


def test_a_full_disk_loses_nothing_and_leaves_nothing(home: Path, type_in: Type) -> None:
    """A limit on the size of files stands in for it."""
    path = build(home / "app.db", rows=200)
    assert type_in("backup", path, "--repo", "r").code == 0
    assert path.stat().st_size > 200_000
    assert (
        refused(
            home,
            SMALL_FILES,
            ("backup", path, "--full", "--repo", home / "r"),
            ("restore", "--repo", home / "r", "--to", home / "new.db"),
            ("restore", "--repo", home / "r", "--to", path),
        )
        == ["out-of-space"] * 3
    )
    assert type_in("verify", "--repo", "r", "--read-data").code == 0
    assert type_in("restore", "--repo", "r", "--to", path).code == 0


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 3 * 4096)


def _write(path: Path) -> None:
    program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(8192); f.write(b'x' * 4096)"
    subprocess.run([sys.executable, "-c", program, path], check=True)


def _replace(path: Path) -> None:
    os.replace(build(path.with_name("other.db"), rows=20, seed=2), path)


def _make_text(path: Path) -> None:
    path.with_name("text").write_text("no database\n" * 1000)
    os.replace(path.with_name("text"), path)


MOVES: dict[str, Callable[[Path], None]] = {
    "shrinks": _shrink,
    "grows": _grow,
    "changes": _write,
    "vanishes": Path.unlink,
    "is replaced": _replace,
    "becomes text": _make_text,
}


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("verb", ["check", "backup"])
@pytest.mark.parametrize("what", MOVES)
def test_a_file_that_moves_under_the_reader_is_never_half_read(
    what: str, verb: str, mode: str, type_in: Type, repository: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is judged and stored is what stands there, damage and all, or an error says why it is not."""
    path = build(home / "app.db", mode=mode, rows=20)
    attach = PageReader.attach
    moved: list[str] = []

    def moving(self: PageReader, *given: Any, **named: Any) -> Any:
        attachment = attach(self, *given, **named)
        if not moved:
            moved.append(what)
            MOVES[what](path)
        return attachment

    with monkeypatch.context() as patch:
        patch.setattr(PageReader, "attach", moving)
        answer = type_in(verb, path, *(["--repo", repository] if verb == "backup" else []), "--json")
    assert moved and "Traceback" not in answer.err
    if "error" in answer.document:
        error = answer.document["error"]
        assert error["hint"] and answer.code == error["exit_code"]
        assert error["slug"] in ("database-not-found", "database-unreadable", "database-unsettled", "not-a-database")
    else:
        assert answer.code == 3 or (answer.code in (0, 1) and what not in ("vanishes", "becomes text"))
    left = {each.name for each in home.iterdir()} - {"app.db", "app.db-shm", "app.db-wal", "other.db"}
    assert left == {"tmp", "good.db", "r", ".local"}
    assert list((home / "tmp").iterdir()) == []
    assert list((repository / "pending").glob("*")) == []
    if verb == "backup":
        assert type_in("verify", "--repo", repository, "--read-data").code == 0


def test_a_busy_repository_is_named(refuse: Refuse, good: Path, repository: Path, home: Path) -> None:
    """A backup of another process that lives: this one gives way, and takes nothing with it."""
    program = """
    import sys
    from pagewarden.runtime import Runtime
    with Runtime() as runtime:
        runtime.repository(sys.argv[1]).begin("good.db")
        print("begun", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(repository)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "begun\n"
        answer = refuse("backup", good, "--repo", repository)
        assert answer.slug == "repository-busy"
        assert str(other.pid) in answer.message
        other.stdin.close()


def test_restore_reads_no_damage(refuse: Refuse, type_in: Type, good: Path, repository: Path, home: Path) -> None:
    """Through the verb itself: the file at the path stays, and nothing is beside it."""
    stored = next(repository.rglob("*.zst"))
    data = stored.read_bytes()
    with closing(sqlite3.connect(good)) as connection, connection:
        connection.execute("UPDATE item SET name = 'newer'")
    changes = (data[:-1], data[:5000], data[:3000] + b"xxxx" + data[3004:], b"")
    for changed, to in zip(changes, (good, home / "new.db") * 2, strict=True):
        stored.write_bytes(changed)
        assert refuse("restore", "--repo", repository, "--to", to).slug == "repository-damaged"
        assert type_in("verify", "--repo", repository).code == 1
    stored.unlink()
    assert refuse("restore", "--repo", repository, "--to", good).slug == "repository-damaged"
