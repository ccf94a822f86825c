"""Repositories that are pruned in tests: a stage with a clock, and what every restore point must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pagewarden.config import RetentionSettings
from pagewarden.repository.backups import BackupsRequest, run_backups
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore.write import write_chain
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import PrunedDatabase, PruneReport, Verdict
from tests.core.repository.chains import histories, make_chain
from tests.core.repository.sets import NOW

DAY = timedelta(days=1)
IMAGES = histories(8, seed=7)


def new_runtime(state: Path) -> Runtime:
    """Return a runtime with a clock that stands still until it is moved."""
    runtime = Runtime(plugins=PluginChoice(only=("target-directory",)), state=state)
    runtime.clock = lambda: NOW
    return runtime


@dataclass
class Stage:
    """A repository with one chain, what each restore point is, and a runtime."""

    folder: Path
    runtime: Runtime
    images: Sequence[bytes] = ()
    now: datetime = NOW + timedelta(minutes=1)

    def __post_init__(self) -> None:
        self.runtime.clock = lambda: self.now

    @property
    def root(self) -> Path:
        """Where the repository is."""
        return self.folder / "repository"

    def make(self, images: Sequence[bytes], snapshots: Sequence[int] = (1,)) -> None:
        """Store one restore point for each image."""
        self.images = images
        make_chain(self.root, images, snapshots=snapshots)

    def prune(self, *, apply: bool = True, **rules: object) -> PrunedDatabase:
        """Prune; keep the last one unless rules are given."""
        return self.report(apply=apply, **rules).databases[0]

    def report(self, *, apply: bool = True, **rules: object) -> PruneReport:
        """Prune and return the whole report."""
        # Of pages as few as here the snapshot is soon outweighed: that is for the tests that ask for it.
        retention = RetentionSettings(**{"chain_ratio": 99.0, **(rules or {"last": 1})})  # type: ignore[arg-type]
        return run_prune(PruneRequest(repository=str(self.root), apply=apply, retention=retention), self.runtime)

    def listed(self, *, deleted: bool = False) -> list[int]:
        """Return the txids of what is listed, or of what is deleted and can be undeleted."""
        report = run_backups(BackupsRequest(repository=str(self.root), deleted=deleted), self.runtime)
        assert report.problems == ()
        return [point.position.txid for point in report.backups if deleted is (point.deleted is not None)]

    def image(self, txid: int) -> bytes:
        """Restore a restore point and return it."""
        to = self.folder / "restored.db"
        repository = self.runtime.repository(str(self.root))
        chain = repository.resolve_chain("app.db", txid=txid)
        write_chain(chain, to, repository=repository, reader=self.runtime.reader, read_back=False)
        data = to.read_bytes()
        to.unlink()
        return data

    def prove(self, *, restore: bool = True) -> None:
        """Assert that the repository verifies, and that all that is listed or can be undeleted restores as it was."""
        report = run_verify(VerifyRequest(repository=str(self.root), read_data=True), self.runtime)
        assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
        if restore:
            for txid in (*self.listed(), *self.listed(deleted=True)):
                assert self.image(txid) == self.images[txid - 1], txid

    def files(self) -> dict[str, bytes]:
        """Return everything in the repository."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def states(pruned: PrunedDatabase) -> str:
    """Return the states of all restore points by their first letters."""
    return "".join(point.state[0] for point in pruned.points)
