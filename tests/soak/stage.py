"""What the soak plays on: the guard as a process that may die, the application's processes, and a target that goes."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import tree
from tests.soak.application import PATIENCE
from tests.support.program import ROOT, unmeasured

PROGRAM = (sys.executable, "-P", "-m", "pagewarden_cli")
CUTS = ("a file", "a link to itself", "an empty folder")
"""What stands where the repository was, while it cannot be reached; the last as when a file system is not mounted."""

_AT_FDCWD, _EXCHANGE = -100, 2  # of renameat2(2)
_ORPHANS = 10.0  # seconds that a dead guard's processes may take to end


class CommandFailed(Exception):
    """A command of pagewarden that ended with another code than 0."""

    def __init__(self, words: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
        try:
            self.message: str = json.loads(done.stdout)["error"]["message"]
        except (ValueError, KeyError):
            self.message = done.stderr or done.stdout
        super().__init__(f"`pagewarden {' '.join(words)}` ended with {done.returncode}: {self.message}")


class Stage:
    """Folders of one run, and how its commands are called."""

    def __init__(self, folder: Path, database: str = "app.db") -> None:
        self.folder = folder
        self.database = folder / "data" / database
        self.repository = folder / "repository"
        self.record = folder / "record"
        self.state = folder / "state"
        self.scratch = folder / "scratch"
        self.guard_log = folder / "guard.log"
        for each in (self.database.parent, self.state, self.scratch):
            each.mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of our commands, which a coverage run does not see."""
        return unmeasured() | {"XDG_STATE_HOME": str(self.state)}

    def command(self, *words: str | Path, patience: float = 120.0) -> dict[str, Any]:
        """Run one of our commands with --json; return its document. Raises CommandFailed."""
        said = [str(word) for word in words]
        done = subprocess.run(
            [*PROGRAM, *said, "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.environment(),
            timeout=patience,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(said, done)
        document: dict[str, Any] = json.loads(done.stdout)
        return document


class Target:
    """The folder of a repository, which can be cut off: something else stands at its path then, in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.away = False
        self._elsewhere = path.with_name(path.name + ".away")
        self._lock = threading.Lock()

    def cut(self, what: str) -> None:
        """Put something else where the folder is: one of `CUTS`."""
        if what == "a file":
            self._elsewhere.write_bytes(b"")
        elif what == "a link to itself":
            self._elsewhere.symlink_to(self.path)
        else:
            self._elsewhere.mkdir()
        self._exchange()

    def bring_back(self) -> None:
        """Put the folder back. Fails where something was stored in what stood there instead."""
        self._exchange()
        stood = self._elsewhere
        if stood.is_symlink() or not stood.is_dir():
            stood.unlink()
            return
        stored = [path for path in stood.rglob("*") if path.is_file()]
        shutil.rmtree(stood)
        assert not stored, f"what is no repository was stored in: {stored[:5]}"

    def _exchange(self) -> None:
        with self._lock:
            libc = ctypes.CDLL(None, use_errno=True)
            one, other = os.fsencode(self.path), os.fsencode(self._elsewhere)
            if libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE):
                raise OSError(ctypes.get_errno(), "renameat2", str(self.path))
            self.away = not self.away

    @contextmanager
    def readable(self) -> Iterator[Path]:
        """Give the folder's path, and keep it there as long as the block runs."""
        with self._lock:
            yield self._elsewhere if self.away else self.path


class Guard:
    """`pagewarden run` on the stage's database."""

    def __init__(self, stage: Stage, url: str) -> None:
        self.starts: list[float] = []  # seconds since 1970
        self._stage = stage
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; it appends what it says to the stage's log."""
        self.starts.append(time.time())
        with self._stage.guard_log.open("ab") as log:
            log.write(f"== guard {len(self.starts)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [*PROGRAM, "run", str(self._stage.database), "--repo", self._url],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._stage.environment(),
            )

    def kill(self) -> None:
        """End it without warning, and see that none of its processes outlives it."""
        assert self._process is not None
        family = tree(self._process.pid) - {self._process.pid}
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + _ORPHANS
        while any(Path(f"/proc/{pid}").exists() and "pagewarden" in _words(pid) for pid in family):
            assert time.monotonic() < end, f"processes of a dead guard live on: {[_words(pid) for pid in family]}"
            time.sleep(0.01)

    def end(self, patience: float = 60.0) -> int:
        """Ask it to end; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patience)

    def pause(self, seconds: float) -> None:
        """Let it stand still, as a machine under load would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def complaint(self) -> str:
        """Return the end of what it said."""
        return self._stage.guard_log.read_text(errors="replace")[-2000:]


class Application:
    """The processes of the application."""

    def __init__(self, stage: Stage, roles: Sequence[str], chance: random.Random) -> None:
        self._stage = stage
        self._roles = roles
        self._chance = chance
        self._processes: dict[int, subprocess.Popen[bytes]] = {}  # by place in `roles`
        self.lock = threading.RLock()

    def start(self) -> None:
        """Start what does not run."""
        with self.lock:
            for place, role in enumerate(self._roles):
                if place not in self._processes:
                    self._processes[place] = subprocess.Popen(
                        [
                            *(sys.executable, "-m", "tests.soak.application", role, str(self._stage.database)),
                            *(str(self._chance.randrange(1 << 32)), str(self._stage.record)),
                        ],
                        stdin=subprocess.PIPE,
                        cwd=ROOT,
                        env=unmeasured(),
                    )

    def stop(self) -> None:
        """Let all of it end: the last connection that closes may delete the -wal."""
        with self.lock:
            for process in self._processes.values():
                assert process.stdin is not None
                process.stdin.close()
            codes = {self._roles[place]: one.wait(PATIENCE + 30) for place, one in self._processes.items()}
            self._processes.clear()
            assert not any(codes.values()), f"processes of the application failed: {codes}"

    def kill(self, *, everyone: bool) -> None:
        """End one process, or all of them, without warning, and start the same again."""
        with self.lock:
            places = list(self._processes) if everyone else [self._chance.choice(list(self._processes))]
            for place in places:
                self._processes[place].kill()
            for place in places:
                process = self._processes.pop(place)
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
            self.start()

    def faults(self) -> list[str]:
        """Return which roles have ended by themselves."""
        with self.lock:
            found = ((self._roles[place], process.poll()) for place, process in self._processes.items())
            return [f"{role} ended with {code}" for role, code in found if code is not None]


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
