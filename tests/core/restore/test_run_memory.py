"""What is remembered of a restore is right whenever it is cut."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import DatabaseBusy
from pagewarden.lineage import read_lineage
from pagewarden.restore import swap
from pagewarden.restore.hold import Hold
from pagewarden.runtime import Runtime
from tests.core.restore.conftest import Backups, make, says
from tests.support import program
from tests.support.session import Session

KILLED = """
import os, signal, sys
from pathlib import Path
from pagewarden.restore import RestoreRequest, run_restore, swap
from pagewarden.runtime import Runtime

url, to, state = sys.argv[1:]
swap._finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with Runtime(state=Path(state)) as runtime:
    run_restore(RestoreRequest(repository=url, to=to, txid=1), runtime)
"""


def test_a_restore_killed_after_the_exchange_is_remembered(tmp_path: Path, runtime: Runtime, backups: Backups) -> None:
    """Else the next backup would carry on the newest position, which the file is not part of."""
    to, repository = make(tmp_path / "app.db", "old"), str(tmp_path / "repository")
    request = BackupRequest(database=str(to), repository=repository, check="none")
    before = run_backup(request, runtime).position
    done = program.run(KILLED, backups.url, to, runtime.state)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert says(to) == "one"
    assert run_backup(request, runtime).position.timeline != before.timeline


def test_a_restore_that_is_refused_late_is_not_remembered(
    tmp_path: Path, runtime: Runtime, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is as it was, and so is the history that it is part of."""
    to, repository = make(tmp_path / "app.db", "old", mode="wal"), str(tmp_path / "repository")
    request = BackupRequest(database=str(to), repository=repository, check="none")
    before = run_backup(request, runtime).position
    real, late = swap._stand_alone, []

    def opened_meanwhile(path: Path, hold: Hold) -> None:
        late.append(Session(path))
        assert read_lineage(runtime.state, str(to)).restored == backups.two.position
        real(path, hold)

    monkeypatch.setattr(swap, "_stand_alone", opened_meanwhile)
    with pytest.raises(DatabaseBusy, match="now"):
        backups.restore(to, runtime)
    late[0].close()
    assert run_backup(request, runtime).position == before  # nothing has changed
    after = run_backup(replace(request, full=True), runtime).position
    assert (after.timeline, after.txid) == (before.timeline, before.txid + 1)
