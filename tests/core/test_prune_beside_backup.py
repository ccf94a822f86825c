"""A prune in the midst of a backup, and a backup in the midst of a prune: neither loses anything, both end well."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.config import RetentionSettings
from pagewarden.events import Event
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore.write import write_chain
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport, PruneReport, Verdict


class Pair:
    """A database, a repository with three restore points of it, and two runtimes as two processes would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[str] = []
        self.meanwhile: dict[str, Callable[[], object]] = {}  # what is done once, by the name of an event
        self.runtime = Runtime(state=folder / "state", on_event=self._observe)
        self.other = Runtime(state=folder / "state")
        for number in range(3):
            self.write(number)
            self.back_up(self.other)

    def _observe(self, event: Event) -> None:
        self.events.append(event.name)
        if (work := self.meanwhile.pop(event.name, None)) is not None:
            work()

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / "app.db"

    @property
    def url(self) -> str:
        """The repository."""
        return str(self.folder / "repository")

    def write_and_back_up(self, number: int) -> None:
        """Do both as another process."""
        self.write(number)
        self.back_up(self.other)

    def write(self, number: int) -> None:
        """Commit a row."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)")
            if number == 0:
                connection.executemany("INSERT INTO t(body) VALUES(?)", [(bytes(900),)] * 300)
            connection.execute("INSERT INTO t(body) VALUES(?)", (b"row %d" % number,))
            connection.commit()

    def back_up(self, runtime: Runtime) -> BackupReport:
        """Back the database up, and keep a copy of it."""
        report = run_backup(BackupRequest(database=str(self.database), repository=self.url, check="none"), runtime)
        shutil.copyfile(self.database, self.copy(report.position.txid))
        return report

    def prune(self, runtime: Runtime) -> PruneReport:
        """Keep the last one, and let it be a snapshot, whatever its chain is."""
        kept = RetentionSettings(last=1, grace="0s", chain_segments=1, chain_ratio=0.000001)
        return run_prune(PruneRequest(repository=self.url, apply=True, retention=kept), runtime)

    def copy(self, txid: int) -> Path:
        """Return where the copy of a restore point is."""
        return self.folder / f"{txid}.db"

    def prove(self, expected: list[int]) -> None:
        """Assert that these are the restore points, that the repository verifies, and that each is its copy."""
        repository = self.other.repository(self.url)
        points, problems = repository.restore_points("app.db")
        assert ([point.position.txid for point in points], problems) == (expected, ())
        report = run_verify(VerifyRequest(repository=self.url, read_data=True), self.other)
        assert (report.verdict, report.leftovers) == (Verdict.SOUND, ())
        for point in points:
            to = self.folder / "restored.db"
            write_chain(repository.chain(point), to, repository=repository, reader=self.other.reader, read_back=False)
            assert to.read_bytes() == self.copy(point.position.txid).read_bytes()
            to.unlink()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two processes at one repository."""
    made = Pair(tmp_path)
    yield made
    made.runtime.close()
    made.other.close()


@pytest.mark.parametrize("remembered", [True, False])
def test_a_backup_goes_on_while_what_it_continues_is_stored_anew(pair: Pair, remembered: bool) -> None:
    """Its segment continues the position, however that is stored by now; also where its page map must be made again."""
    pair.write(3)
    if not remembered:
        shutil.rmtree(pair.folder / "state" / "maps")
    pair.meanwhile["backup.started"] = lambda: pair.prune(pair.other)
    report = pair.back_up(pair.runtime)
    assert (report.kind, report.position.txid, pair.meanwhile) == ("segment", 4, {})
    pair.prove([3, 4])


def test_a_backup_that_was_committed_during_a_prune_is_there(pair: Pair) -> None:
    """The prune knows nothing of it, and leaves alone what it needs; the next one sees it."""
    pair.meanwhile["repository.folded"] = lambda: pair.write_and_back_up(3)
    states = [point.state for point in pair.prune(pair.runtime).databases[0].points]
    assert (states, pair.meanwhile) == (["purged", "purged", "kept"], {})
    pair.prove([3, 4])
    assert [point.state for point in pair.prune(pair.runtime).databases[0].points] == ["purged", "kept"]
    pair.prove([4])


def test_a_backup_that_is_under_way_is_not_pruned_away(pair: Pair) -> None:
    """What it has stored and not committed yet belongs to it: a prune removes nothing that it cannot explain."""
    pair.write(3)
    repository = pair.other.repository(pair.url)
    intent = repository.begin("app.db")
    repository.store.put(intent.key, b"what a backup has stored so far")
    pair.prune(pair.runtime)
    assert repository.store.exists(intent.key)
    repository.abandon(intent)
    pair.prove([3])
