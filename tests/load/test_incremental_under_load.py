"""Incremental backups under load: every restore point of a busy database is exactly one of its committed states."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport, Verdict
from tests.support import load
from tests.support.locks import WriteLockSampler
from tests.support.restoring import bring_back_chain

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

BACKUPS = 200 if os.environ.get("PAGEWARDEN_FULL") else 10
"""Of what was committed since the one before."""
PATIENCE = 1.0 * BACKUPS + 60.0  # seconds for them, on a machine with other work
ROWS = 60_000  # so that what is committed between two backups is not more than half of the pages
ROLES = {"wal": ["writer"] * 3 + ["checkpointer"], "delete": ["writer"] * 3}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The outside world of the test process's runs."""
    with Runtime(state=tmp_path / "state") as made:
        yield made


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_incremental_backups_of_a_busy_database_are_each_one_commit(
    mode: str, tmp_path: Path, runtime: Runtime
) -> None:
    """Writers commit all the time, and all kinds of checkpoints run; no chain mixes two commits (H11, H19, H34).

    Nobody of ours takes the write lock. The last one, when all is quiet, has nothing to store or is the last commit.
    """
    database, repository = tmp_path / "busy.db", str(tmp_path / "repository")
    load.make(database, mode=mode, rows=ROWS)
    request = BackupRequest(database=str(database), repository=repository, check="none")
    taken: list[BackupReport] = [run_backup(request, runtime)]

    def ours() -> set[int]:
        return {os.getpid()} | ({runtime.reader.pid} if runtime.reader.pid is not None else set())

    with load.running(database, ROLES[mode], tmp_path / "reports"), WriteLockSampler(database, ours) as sampler:
        until = time.monotonic() + PATIENCE
        while sum(report.kind == "segment" for report in taken) < BACKUPS:  # others came before the next commit
            assert time.monotonic() < until, Counter(report.kind for report in taken)
            taken.append(run_backup(request, runtime))
    taken.append(run_backup(request, runtime))
    assert sampler.seen == []
    opened = runtime.repository(repository)
    numbers = []
    for report in taken:
        if report.kind == "unchanged":
            continue
        restored = tmp_path / "restored.db"
        bring_back_chain(runtime.reader, opened, opened.resolve_chain(txid=report.position.txid), restored)
        numbers.append(load.number_of(restored))
    assert numbers == sorted(numbers)
    assert numbers[-1] == load.number_of(database) > numbers[0]
    verified = run_verify(VerifyRequest(repository=repository, read_data=True), runtime)
    assert verified.verdict is Verdict.SOUND, verified
