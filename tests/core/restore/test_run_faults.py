"""A restore whose copy goes wrong: nothing that does not read back is used, and the path stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import RepositoryDamaged, TargetFailed
from pagewarden.processes.reader import PageReader
from pagewarden.restore import RestoreRequest, UndoRequest, pending_intents, run_restore, run_undo
from pagewarden.runtime import Runtime
from tests.core.restore.conftest import Backups, make, names, says


class LosingReader(PageReader):
    """A page reader on a disk that loses the file."""

    path = Path()

    def begin_assembly(self, to_path: str | os.PathLike[str], **named: Any) -> int:
        """Note the file."""
        self.path = Path(to_path)
        return super().begin_assembly(to_path, **named)

    def finish_assembly(self, *arguments: Any, **named: Any) -> None:
        """Restore, then remove the file."""
        super().finish_assembly(*arguments, **named)
        self.path.unlink()


def test_a_copy_that_is_gone_is_not_used(tmp_path: Path, backups: Backups) -> None:
    """A disk that loses what was written is found out before the live file is touched."""
    to = make(tmp_path / "app.db", "old")
    before = {name: os.lstat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    with Runtime(state=tmp_path.parent / "state") as runtime:
        runtime._reader = LosingReader()
        with pytest.raises(TargetFailed):
            backups.restore(to, runtime)
    assert {name: os.lstat(tmp_path / name).st_mtime_ns for name in names(tmp_path)} == before
    assert says(to) == "old"


def test_a_copy_that_is_read_back_is_compared(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """The whole restore with a reading back from the disk: the plan says so, and the file is the database."""
    to = tmp_path / "app.db"
    told: list[tuple[int, int]] = []
    request = RestoreRequest(repository=backups.url, to=str(to), read_back=True, dry_run=True)
    assert any("read it back from the disk" in step for step in run_restore(request, runtime).steps)
    runtime.progress = lambda _step, done, total: told.append((done, total))
    run_restore(replace(request, dry_run=False), runtime)
    assert says(to) == "two"
    assert told.count(told[-1]) == 2  # once written, once read back


KILLED = """
import os, signal, sys
from pathlib import Path
from pagewarden.processes.reader import PageReader
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime

class KillingReader(PageReader):
    def finish_assembly(self, *arguments, **named):
        super().finish_assembly(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

url, to, state = sys.argv[1:]
with Runtime(state=Path(state)) as runtime:
    runtime._reader = KillingReader()
    run_restore(RestoreRequest(repository=url, to=to), runtime)
"""


def test_a_restore_that_is_killed_while_it_writes_leaves_the_path_alone(
    tmp_path: Path, runtime: Runtime, backups: Backups
) -> None:
    """The half-made file stays beside it, hidden; the next restore removes it and succeeds."""
    to = make(tmp_path / "app.db", "old")
    run = [sys.executable, "-c", KILLED, backups.url, str(to), str(tmp_path / "state")]
    assert subprocess.run(run, check=False).returncode == -9
    assert says(to) == "old"
    assert len(list(tmp_path.glob(".pagewarden-*.new"))) == 1
    (cut,) = pending_intents(to)
    assert cut.phase == "writing"
    backups.restore(to, runtime)
    assert not list(tmp_path.glob(".pagewarden-*"))
    assert says(to) == "two"
    run_undo(UndoRequest(path=str(to)), runtime)
    assert says(to) == "old"


def test_a_damaged_object_is_never_restored(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """One flipped bit in the repository, and nothing at the path changes."""
    to = make(tmp_path / "app.db", "old")
    repository = runtime.repository(backups.url)
    stored = repository.object_path(repository.resolve(txid=1).key)
    data = bytearray(stored.read_bytes())
    data[len(data) // 3] ^= 4
    mode = stored.stat().st_mode
    stored.chmod(0o600)
    stored.write_bytes(data)
    try:
        with pytest.raises(RepositoryDamaged):
            backups.restore(to, runtime, txid=1)
    finally:
        data[len(data) // 3] ^= 4
        stored.write_bytes(data)
        stored.chmod(mode)
    assert says(to) == "old"
    assert not list(tmp_path.glob(".pagewarden*"))
