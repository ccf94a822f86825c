"""A database that grows and shrinks while it is read."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import Level, Verdict
from tests.odd import tide
from tests.odd.journey import judge

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

ROUNDS = 60 if os.environ.get("PAGEWARDEN_FULL") else 8
"""How often it is judged and backed up."""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_that_grows_and_shrinks_is_read_at_one_commit(mode: str, tmp_path: Path, runtime: Runtime) -> None:
    """Nothing is found beside a writer that makes the file longer and shorter; each backup is one of its commits."""
    database, repository = tmp_path / "tide.db", str(tmp_path / "repository")
    tide.make(database, mode=mode)
    taken = []
    with tide.running(database):
        for number in range(ROUNDS):
            level = list(Level)[number % 3]
            assert judge(database, runtime, level=level).verdict is Verdict.SOUND
            taken.append(run_backup(BackupRequest(database=str(database), repository=repository), runtime))
            assert taken[-1].source.verdict is not Verdict.DAMAGED, taken[-1].source
    proved = run_verify(VerifyRequest(repository=repository, read_data=True), runtime)
    assert proved.verdict is Verdict.SOUND
    # One is "unchanged" where nothing came between.
    assert len(proved.points) == len({report.position for report in taken})
    for report in taken:
        restored = tmp_path / f"restored-{report.position.txid}.db"
        request = RestoreRequest(repository=repository, to=str(restored), txid=report.position.txid)
        assert run_restore(request, runtime).database_sum == report.database_sum
        tide.rows_of(restored)
    sizes = [report.pages_copied for report in taken]
    steps = [after - before for before, after in pairwise(sizes)]
    assert min(steps) < 0 < max(steps), sizes
