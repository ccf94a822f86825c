"""The real command, killed at a random moment, and what it leaves: the old state or the new one, and a way on.

A stage holds a database with a log that is needed, a repository with two restore points of it, and a target. `play`
puts it up afresh, starts one verb as a process of its own, and ends that process, or its page reader, with SIGKILL.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.restore import pending_intents
from pagewarden.restore.quarantine import Quarantine
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict, VerifyReport
from tests.fault import cutting
from tests.support.program import unmeasured
from tests.support.restoring import bring_back_chain
from tests.support.session import Session

ROOT = Path(__file__).parents[2]
ROWS = 700
BALLAST = 1000  # rows that never change: so what does is less than half of the pages
POINTS = ("one", "two", "four", "five", "six")
"""What the restore points show that a prune begins with, from txid 1: a snapshot and segments."""

PATIENCE = 60.0  # seconds that any process may take to end
_AT_WORK = 0.7  # of the kills come after the first change: before that, a command mostly imports
AGED = 25 * 60 * 60.0  # seconds after which a target takes a half-written file for nobody's


@dataclass(slots=True, kw_only=True)
class Played:
    """One killed run."""

    victim: str  # "main" or "reader"
    at_work: bool  # whether the delay began with the first change that it made, not with its start
    delay: float  # seconds
    code: int  # as it ended; negative: by that signal


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where one verb is played, always at the same paths."""

    folder: Path
    chance: random.Random
    seconds: float = 0.0  # that the verb takes when it is left alone
    working: float = 0.0  # the last part of them, from the first change that it makes
    templates: Path = field(init=False)

    def __post_init__(self) -> None:
        self.templates = self.folder / "templates"

    @property
    def place(self) -> Path:
        """Where everything stands."""
        return self.folder / "place"

    @property
    def path(self) -> Path:
        """The database, which shows "three"; restore point 1 shows "one"."""
        return self.place / "app.db"

    @property
    def repository(self) -> Path:
        """The repository, with two restore points."""
        return self.place / "repository"

    def words(self, action: str) -> list[str]:
        """Return the command line of a verb."""
        return {
            "backup": ["backup", str(self.path), "--repo", str(self.repository)],
            "full": ["backup", str(self.path), "--repo", str(self.repository), "--full"],
            "restore": ["restore", "--repo", str(self.repository), "--txid", "1", "--to", str(self.path)],
            "undo": ["undo", str(self.path)],
            "prune": ["prune", "--repo", str(self.repository), "--apply", "--config", str(self.place / "policy.toml")],
        }[action]

    def begin(self) -> None:
        """Make what every verb begins with: a repository with two restore points."""
        (self.place / "tmp").mkdir(parents=True)
        _set(self.path, "one")
        self.succeed("backup")
        _set(self.path, "two")
        self.succeed("backup")
        shutil.copytree(self.place, self.templates / "begun")

    def make(self, action: str) -> None:
        """Make what every round of `action` begins with, and measure how long it takes alone. After `begin`."""
        self.put_up("begun")
        if action == "prune":
            (self.place / "policy.toml").write_text('[retention]\nlast = 2\ngrace = "0s"\nchain_segments = 2\n')
            for who in POINTS[2:]:
                _set(self.path, who)
                self.succeed("backup")
        _set(self.path, "three", in_log=True)
        if action == "undo":
            self.succeed("restore")
        shutil.copytree(self.place, self.templates / action)
        before, began = self._changes(), time.monotonic()
        process = self.start(action)
        self._await_change(process, before)
        changed = time.monotonic()
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (out, err)
        ended = time.monotonic()
        self.seconds, self.working = ended - began, ended - changed

    def put_up(self, action: str) -> None:
        """Put everything back as `make`, or `begin`, left it."""
        shutil.rmtree(self.place)
        shutil.copytree(self.templates / action, self.place)

    def start(self, action: str) -> subprocess.Popen[str]:
        """Start a verb."""
        environment = unmeasured() | {"XDG_STATE_HOME": str(self.place / "state"), "TMPDIR": str(self.place / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-m", "pagewarden_cli", *self.words(action), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def succeed(self, action: str) -> None:
        """Run a verb that must succeed."""
        code, out, err = self.run(action)
        assert code == 0, (code, out, err)

    def run(self, action: str) -> tuple[int, str, str]:
        """Run a verb; return its exit code and what it printed."""
        process = self.start(action)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def play(self, action: str) -> Played:
        """Put everything up, start the verb, and kill it; its page reader must end by itself."""
        while True:  # until the moment that was chosen comes before the end
            self.put_up(action)
            victim = self.chance.choice(["main", "main", "reader"])
            at_work, moment = self.chance.random() < _AT_WORK, self.chance.random()
            before = self._changes()
            process = self.start(action)
            if at_work:
                self._await_change(process, before)
            delay = moment * (self.working if at_work else self.seconds)
            time.sleep(delay)
            readers = _readers(process.pid)
            victim = victim if readers else "main"
            if process.poll() is None and _kill(readers[0] if victim == "reader" else process.pid):
                break
            process.communicate()
        out, err = process.communicate(timeout=PATIENCE)
        if victim == "reader":
            _ended_well(process.returncode, out, err)
        elif self.chance.random() < 0.5:  # otherwise the next run begins while the orphan may still be at work
            began = time.monotonic()
            while any(Path(f"/proc/{reader}").exists() for reader in readers):
                assert time.monotonic() - began < PATIENCE, f"the page reader {readers} outlives its parent"
                time.sleep(0.002)
        return Played(victim=victim, at_work=at_work, delay=delay, code=process.returncode)

    def _changes(self) -> dict[Path, int]:
        """Return what shows that a verb has begun to work: the folders of the repository and of the quarantine."""
        found = [self.repository, *self.place.glob(".pagewarden"), *self.place.glob(".pagewarden/app.db/0*")]
        return {path: path.stat().st_mtime_ns for path in found}

    def _await_change(self, process: subprocess.Popen[str], before: dict[Path, int]) -> None:
        """Wait until the verb has changed something, or has ended."""
        while process.poll() is None and self._changes() == before:
            time.sleep(0.001)

    def shown(self) -> str:
        """Return what an application would see at the path, which is looked at in a copy."""
        look = self.folder / "look"
        shutil.rmtree(look, ignore_errors=True)
        look.mkdir()
        for suffix in ("", "-wal", "-journal"):
            file = Path(f"{self.path}{suffix}")
            if file.exists():
                shutil.copyfile(file, look / file.name)
        return cutting.content(look / self.path.name)

    def newest(self, runtime: Runtime) -> str:
        """Return what the newest restore point shows."""
        return self.shows(runtime)

    def shows(self, runtime: Runtime, txid: int | None = None) -> str:
        """Return what a restore point shows, the newest one by default."""
        back = self.folder / "back.db"
        repository = runtime.repository(str(self.repository))
        bring_back_chain(runtime.reader, repository, repository.resolve_chain(txid=txid), back)
        return cutting.content(back)

    def listed(self, runtime: Runtime) -> list[int]:
        """Return the txids of the restore points."""
        points, problems = runtime.repository(str(self.repository)).restore_points()
        assert problems == ()
        return [point.position.txid for point in points]

    def verify(self, runtime: Runtime) -> VerifyReport:
        """Prove the repository with all its data: nothing in it may be damaged or missing."""
        report = run_verify(VerifyRequest(repository=str(self.repository), read_data=True), runtime)
        assert report.verdict is Verdict.SOUND, report
        return report

    def age_halves(self) -> None:
        """Let a day go by for files that a killed process was about to put (docs/formats/repository-1.md)."""
        for file in self.repository.glob("+staging/*.put"):
            old = time.time() - AGED
            os.utime(file, (old, old))

    def leftovers(self) -> list[str]:
        """Return everything that should not be there once a run has succeeded."""
        found = [*self.repository.glob("+staging/*"), *self.repository.glob("pending/*")]
        found += [*self.place.glob(".pagewarden-*"), *self.place.glob(".pagewarden/*/*/.entry.json.*")]
        found += (self.place / "tmp").iterdir()
        return sorted(str(file.relative_to(self.place)) for file in found)

    def mended(self) -> bool:
        """Return whether no restore or undo is under way, and the path has one name."""
        whole = not self.path.exists() or self.path.stat().st_nlink == 1
        return whole and not pending_intents(self.path)

    def entries(self) -> list[str]:
        """Return the phases of what the quarantine holds."""
        return [str(entry.phase) for entry in Quarantine(path=self.path).entries()]


def _set(path: Path, who: str, *, in_log: bool = False) -> None:
    """Let every row say `who`; with `in_log` the log alone holds it, as after the crash of an application."""
    session = Session(path)
    session.run("PRAGMA journal_mode=WAL")
    session.run("PRAGMA wal_autocheckpoint=0")
    session.run("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, who TEXT, body BLOB)")
    session.run("CREATE TABLE IF NOT EXISTS ballast(id INTEGER PRIMARY KEY, body BLOB)")
    session.run("BEGIN")
    session.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT OR IGNORE INTO ballast SELECT i, randomblob(3000) FROM n",
        BALLAST,
    )
    session.run("DELETE FROM t")
    session.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO t(who, body) SELECT ?, randomblob(3000) FROM n",
        ROWS,
        who,
    )
    session.run("COMMIT")
    if in_log:
        session.kill()
    else:
        session.close()


def _kill(pid: int) -> bool:
    """Kill a process; return whether it was still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _readers(pid: int) -> list[int]:
    """Return the page readers that a process has started. proc(5)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if parent == pid and b"pagewarden.processes.reader_main" in command:
            found.append(int(folder.name))
    return found


def _ended_well(code: int, out: str, err: str) -> None:
    """Assert that a command which lost its page reader succeeded without it, or ended with a named error."""
    assert "Traceback" not in err, err
    document = json.loads(out)
    assert code == 0 or (10 <= code < 70 and document["error"]["hint"]), (code, document)
