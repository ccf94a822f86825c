"""Backup under load: every backup of a busy database is exactly one of its committed states."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport
from tests.support import load
from tests.support.locks import WriteLockSampler

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

BACKUPS = 50 if os.environ.get("PAGEWARDEN_FULL") else 5
ROLES = {"wal": ["writer"] * 4 + ["checkpointer"], "delete": ["writer"] * 4}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The outside world of the test process's runs."""
    with Runtime(state=tmp_path / "state") as made:
        yield made


def ours(runtime: Runtime) -> set[int]:
    """Return the ids of this process and of its page reader."""
    return {os.getpid()} | ({runtime.reader.pid} if runtime.reader.pid is not None else set())


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_backups_of_a_busy_database_are_each_one_commit(mode: str, tmp_path: Path, runtime: Runtime) -> None:
    """Four writers commit and a fifth process runs all kinds of checkpoints (H11, H19); no backup mixes two commits."""
    database, repository = tmp_path / "busy.db", str(tmp_path / "repository")
    load.make(database, mode=mode)
    taken: list[BackupReport] = []
    with (
        load.running(database, ROLES[mode], tmp_path / "reports"),
        WriteLockSampler(database, lambda: ours(runtime)) as sampler,
    ):
        for _ in range(BACKUPS):
            taken.append(run_backup(BackupRequest(database=str(database), repository=repository), runtime))
    assert sampler.seen == []
    assert sampler.samples > BACKUPS and sampler.others > 0
    numbers = []
    for report in taken:
        restored = tmp_path / f"restored-{report.position.txid}.db"
        request = RestoreRequest(repository=repository, to=str(restored), txid=report.position.txid)
        assert run_restore(request, runtime).database_sum == report.database_sum
        numbers.append(load.number_of(restored))
        restored.unlink()
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0], "the load did not write"
    assert numbers[-1] <= load.number_of(database)
