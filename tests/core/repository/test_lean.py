"""What reads all manifests reads each once: 10,000 restore points are listed in less than a second that way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pagewarden.repository import BackupsRequest, catalogue, keys, run_backups
from pagewarden.repository.repository import Repository
from pagewarden.runtime import PluginChoice, Runtime
from tests.core.repository.chains import histories, make_chain
from tests.core.repository.sets import MemoryTarget, after


@dataclass
class Counting(MemoryTarget):
    """A target that reads many at once, and remembers what it was asked for."""

    asked: Counter[str] = field(default_factory=Counter)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield keys."""
        self.asked[f"keys {prefix}"] += 1
        return (each.key for each in super().list(prefix))

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield the beginnings of objects."""
        self.asked["read_many"] += 1
        for key in keys:
            self.asked[key] += 1
            data = self.objects.get(key)
            yield None if data is None else data[:length]

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range."""
        self.asked[key] += 1
        return super().read(key, offset, length)

    def open(self, key: str) -> Path | None:
        """Count objects that are opened."""
        self.asked[f"open {key}"] += 1
        return super().open(key)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """A repository of twelve restore points, read five at a time."""
    monkeypatch.setattr(catalogue, "_AT_ONCE", 5)
    root = tmp_path / "repository"
    make_chain(root, histories(12), snapshots=(1, 7))
    return Counting(
        objects={str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    )


def manifests_read(target: Counting) -> list[int]:
    """Return how often each manifest was read."""
    return [target.asked[keys.manifest_key("app.db", number)] for number in range(1, 13)]


def test_backups_reads_each_manifest_once(target: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as few turns as there have to be, and opens no object."""
    with Runtime(plugins=PluginChoice(only=("target-directory",)), state=tmp_path / "state") as runtime:
        monkeypatch.setattr(runtime, "repository", lambda *_, **__: Repository.open(target, target.url))
        report = run_backups(BackupsRequest(repository=target.url), runtime)
    assert [point.chain for point in report.backups] == [1, 2, 3, 4, 5, 6] * 2
    assert report.backups[5].chain_bytes == sum(point.bytes_stored for point in report.backups[:6])
    assert report.bytes_stored == sum(point.bytes_stored for point in report.backups)
    assert manifests_read(target) == [1] * 12
    assert target.asked["read_many"] == 3
    assert not any(asked.startswith("open ") for asked in target.asked)
    assert target.asked["keys app.db/manifests/"] == 1


def test_resolving_reads_each_manifest_once(target: Counting) -> None:
    """With its chain, and one listing of each kind."""
    repository = Repository.open(target, target.url)
    chain = repository.resolve_chain(at=after(1))
    assert len(chain.links) == 6
    assert manifests_read(target) == [1] * 12
    assert max(count for asked, count in target.asked.items() if asked.startswith("keys app.db/")) == 1
    assert not any(asked.startswith("open ") for asked in target.asked)
