"""A restore whose copy goes wrong: nothing that does not read back is used, and the path stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewarden.errors import (
    PagewardenError,
    RepositoryDamaged,
    TargetFailed,
    VerificationFailed,
)
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import PageSetInfo
from pagewarden.restore import UndoRequest, pending_intents, run_undo
from pagewarden.runtime import Runtime
from tests.core.restore.conftest import Backups, make, names, says


class FlippingReader(PageReader):
    """A page reader on a disk that flips a bit between what was written and what is read back."""

    def restore_pageset(self, *arguments: object, **named: object) -> PageSetInfo:
        """Restore, then flip a bit."""
        info = super().restore_pageset(*arguments, **named)  # type: ignore[arg-type]
        file = Path(str(arguments[1]))
        data = bytearray(file.read_bytes())
        data[9000] ^= 1
        file.write_bytes(data)
        return info


class ShorteningReader(PageReader):
    """A page reader on a disk that loses the end of what was written."""

    def restore_pageset(self, *arguments: object, **named: object) -> PageSetInfo:
        """Restore, then cut off a byte."""
        info = super().restore_pageset(*arguments, **named)  # type: ignore[arg-type]
        os.truncate(str(arguments[1]), Path(str(arguments[1])).stat().st_size - 1)
        return info


class LosingReader(PageReader):
    """A page reader on a disk that loses the file."""

    def restore_pageset(self, *arguments: object, **named: object) -> PageSetInfo:
        """Restore, then remove the file."""
        info = super().restore_pageset(*arguments, **named)  # type: ignore[arg-type]
        Path(str(arguments[1])).unlink()
        return info


@pytest.mark.parametrize(
    ("reader", "error"),
    [(FlippingReader, VerificationFailed), (ShorteningReader, VerificationFailed), (LosingReader, TargetFailed)],
)
def test_what_does_not_read_back_is_not_used(
    tmp_path: Path, backups: Backups, reader: type[PageReader], error: type[PagewardenError]
) -> None:
    """A disk that changes, shortens or loses what was written is found out before the live file is touched."""
    to = make(tmp_path / "app.db", "old")
    before = {name: os.lstat(tmp_path / name).st_mtime_ns for name in names(tmp_path)}
    with Runtime(state=tmp_path.parent / "state") as runtime:
        runtime._reader = reader()
        with pytest.raises(error):
            backups.restore(to, runtime)
    assert {name: os.lstat(tmp_path / name).st_mtime_ns for name in names(tmp_path)} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from pagewarden.processes.reader import PageReader
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime

class KillingReader(PageReader):
    def restore_pageset(self, *arguments, **named):
        super().restore_pageset(*arguments, **named)
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
    stored = repository.object_path(repository.resolve(txid=1))
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
