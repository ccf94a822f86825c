"""H1: no run drops a lock of the process that it runs in, whether it succeeds or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.config import RetentionSettings
from pagewarden.doctor import DoctorRequest, run_doctor
from pagewarden.errors import DatabaseBusy, RestoreRefused
from pagewarden.injure import MARKER, InjureRequest, run_injure
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.restore import RestoreRequest, UndoRequest, recover_intents, run_restore, run_undo
from pagewarden.runtime import Runtime
from pagewarden.wal.enable import WalEnableRequest, run_wal_enable
from pagewarden.wal.run import WalCheckpointRequest, run_wal_checkpoint
from pagewarden.wal.status import WalStatusRequest, run_wal_status
from pagewarden.wal.tune import WalTuneRequest, run_wal_tune
from tests.core.live.test_locks import Held


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader and a state directory of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(params=["wal", "delete"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    """A database with a transaction of this process, which must be whole at the end."""
    made = Held(tmp_path / "a.db", request.param)
    yield made
    made.prove()
    made.finish()


def backup(path: Path, runtime: Runtime) -> None:
    """Back it up, judged as deeply as can be."""
    url = str(path.parent / "repository")
    run_backup(BackupRequest(database=str(path), repository=url, check="deep"), runtime)


def doctor(path: Path, runtime: Runtime) -> None:
    """Look around it."""
    run_doctor(DoctorRequest(database=str(path)), runtime)


def dry_restore(path: Path, runtime: Runtime) -> None:
    """Back it up, and plan a restore over it."""
    backup(path, runtime)
    request = RestoreRequest(repository=str(path.parent / "repository"), to=str(path), dry_run=True)
    assert "this process" in "".join(run_restore(request, runtime).steps)


def restore(path: Path, runtime: Runtime) -> None:
    """Restore over it: refused, because this process has it open."""
    backup(path, runtime)
    with pytest.raises(DatabaseBusy, match="this process"):
        run_restore(RestoreRequest(repository=str(path.parent / "repository"), to=str(path)), runtime)


def restore_beside(path: Path, runtime: Runtime) -> None:
    """Restore a backup of it to another path, and take that back."""
    backup(path, runtime)
    to = path.with_name("b.db")
    run_restore(RestoreRequest(repository=str(path.parent / "repository"), to=str(to)), runtime)
    run_undo(UndoRequest(path=str(to)), runtime)


def undo(path: Path, runtime: Runtime) -> None:
    """Undo nothing."""
    with pytest.raises(RestoreRefused):
        run_undo(UndoRequest(path=str(path)), runtime)
    assert recover_intents(path) == ()


def prune(path: Path, runtime: Runtime) -> None:
    """Back it up twice and let the first backup go, which looks for checks of its path."""
    backup(path, runtime)
    repository = str(path.parent / "repository")
    run_backup(BackupRequest(database=str(path), repository=repository, full=True, check="deep"), runtime)
    kept = RetentionSettings(last=1, grace="0s")
    report = run_prune(PruneRequest(repository=repository, apply=True, retention=kept), runtime)
    assert [point.state for point in report.databases[0].points] == ["purged", "kept"]


def injure(path: Path, runtime: Runtime) -> None:
    """Injure it, though it is marked: refused, because this process has it open."""
    Path(f"{path}{MARKER}").touch()
    with pytest.raises(DatabaseBusy, match="this process"):
        run_injure(InjureRequest(path=str(path), kind="flipped-bit", seed=1), runtime)


def wal_verbs(path: Path, runtime: Runtime) -> None:
    """Look at its log, tune it, try to checkpoint it and to switch its mode, all of which others are in the way of."""
    found = run_wal_status(WalStatusRequest(database=str(path)), runtime)
    run_wal_tune(WalTuneRequest(database=str(path)), runtime)
    if found.journal_mode == "wal":
        for mode in ("passive", "truncate"):
            request = WalCheckpointRequest(database=str(path), mode=mode, max_time=0.05)
            assert run_wal_checkpoint(request, runtime).done is (mode == "passive")
    with pytest.raises(DatabaseBusy):
        off = found.journal_mode == "wal"
        run_wal_enable(WalEnableRequest(database=str(path), off=off, force=True, max_time=0.05), runtime)


def repair(path: Path, runtime: Runtime) -> None:
    """Plan a repair of it, and ask for it: refused, because this process has it open."""
    backup(path, runtime)
    repository, output = str(path.parent / "repository"), str(path.with_name("b.db"))
    run_repair(RepairRequest(database=str(path), repository=repository), runtime)
    for to in (None, output):
        with pytest.raises(DatabaseBusy, match="this process"):
            run_repair(RepairRequest(database=str(path), apply=True, output=to), runtime)


@pytest.mark.parametrize(
    "run", [backup, doctor, dry_restore, restore, restore_beside, undo, prune, injure, wal_verbs, repair]
)
def test_no_run_drops_a_lock_of_its_process(held: Held, runtime: Runtime, run: Callable[[Path, Runtime], None]) -> None:
    """A write transaction of the calling process stays whole, seen from a second process."""
    run(held.path, runtime)
    held.prove()
