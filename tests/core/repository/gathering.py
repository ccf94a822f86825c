"""Followed histories that are gathered and thinned in tests, and the database at any of their commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pagewarden.config import RetentionSettings
from pagewarden.repository.chain import Chains
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.extract import extract
from pagewarden.repository.gather import Gathered, History, gather
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.marks import read_marks
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.repository.repository import Repository
from pagewarden.repository.stream import Stream
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from pagewarden.values import PrunedDatabase, Verdict
from tests.core.repository.follower import NAME, Follower
from tests.core.repository.sets import NOW, assemble

MANY = 4
"""So many batches become one in these tests."""


@dataclass
class Stage:
    """A repository with one followed history, and what the database was at each of its commits."""

    folder: Path
    runtime: Runtime
    images: Sequence[bytes]
    history: History = field(default_factory=History)
    times: dict[int, datetime] = field(default_factory=dict)  # of commits, by txid; else each a second after the other
    now: datetime = NOW + timedelta(hours=9)

    def __post_init__(self) -> None:
        spool = self.folder / "spool"
        spool.mkdir()
        self.follower = Follower(folder=spool, images=self.images, times=self.times)
        self.runtime.clock = lambda: self.now

    @property
    def root(self) -> Path:
        """Where the repository is."""
        return self.folder / "repository"

    @property
    def repository(self) -> Repository:
        """The repository, opened anew."""
        return self.runtime.repository(str(self.root), create=True)

    def follow(self, *counts: int) -> None:
        """Store the first commit as a snapshot, then batches of so many commits; a negative number merges them."""
        with self.follower.begin(self.repository) as stream:
            self._follow(stream, counts)

    def follow_on(self, *counts: int) -> None:
        """Store more batches."""
        with Stream.open(self.repository, NAME, sleep=lambda seconds: None) as stream:
            self._follow(stream, counts)

    def _follow(self, stream: Stream, counts: Sequence[int]) -> None:
        for count in counts:
            self.follower.follow(stream, abs(count), merged=count < 0)

    def gather(self, history: History | None = None, *, many: int = MANY, most: int = 1 << 30) -> Gathered:
        """Gather, with what was known before or with `history`."""
        known = self.history if history is None else history
        return gather(self.repository, self.runtime, NAME, known, many=many, most=most)

    def prune(self, *, apply: bool = True, **rules: object) -> PrunedDatabase:
        """Prune at the time `now`; without rules, every commit stays for an hour."""
        retention = RetentionSettings(**{"chain_ratio": 99.0, "commits": "1h", **rules})  # type: ignore[arg-type]
        request = PruneRequest(repository=str(self.root), apply=apply, retention=retention)
        return run_prune(request, self.runtime).databases[0]

    @property
    def manifests(self) -> list[Manifest]:
        """Those that count, and whose purge has not begun."""
        repository = self.repository
        said = read_marks(repository.store, NAME)
        found = (entry for entry in repository.entries(NAME) if not said.gone(entry.sequence))
        return [entry.manifest for entry in found if entry.manifest is not None]

    @property
    def ends(self) -> list[int]:
        """The txids of the restore points that have manifests."""
        return [each.position.txid for each in self.manifests]

    @property
    def txids(self) -> list[int]:
        """The txids of everything that can be restored."""
        found: set[int] = set()
        for each in self.manifests:
            found.add(each.position.txid)
            if each.commits:
                with CommitsFile(self.root / each.commits.key) as file:
                    found.update(commit.txid for commit in file.commits)
                    assert len(file.commits) == each.commits.count
                    assert min(commit.time for commit in file.commits) == each.commits.earliest
        return sorted(found)

    def image(self, txid: int) -> bytes:
        """Restore a commit."""
        chains = Chains(self.manifests)
        own = [each for each in self.manifests if each.position.txid == txid]
        tops: list[Path] = []
        if not own:
            (batch,) = (each for each in self.manifests if each.parent and each.parent.txid < txid < each.position.txid)
            assert batch.commits and batch.parent
            own = [each for each in self.manifests if each.position == batch.parent]
            tops = [self.folder / "extracted"]
            extract(self.root / batch.commits.key, txid, tops[0], level=1)
        chain = chains.of(own[0])
        assert not chain.gap
        to = self.folder / "restored.db"
        assemble([*tops, *(self.root / key for key in reversed(chain.keys))], to)
        data = to.read_bytes()
        for path in (to, *tops):
            path.unlink()
        return data

    def prove(self, txids: Sequence[int] | None = None) -> None:
        """Assert that the repository verifies, and that what can be restored is `txids` and as it was (None: all)."""
        report = run_verify(VerifyRequest(repository=str(self.root), read_data=True), self.runtime)
        assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
        assert report.leftovers == ()
        found = self.txids
        assert txids is None or found == list(txids), found
        for txid in found:
            assert self.image(txid) == self.images[txid - 1], txid

    def files(self) -> dict[str, bytes]:
        """Return everything in the repository."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
