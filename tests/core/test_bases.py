"""What an incremental backup may stand on: nothing that is known to be broken, deleted, or gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.repository import keys, marks
from pagewarden.repository.manifest import encode_manifest
from pagewarden.repository.store import Store
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.runtime import Runtime
from tests.support.databases import build
from tests.support.increments import backup, execute, flip, objects, restored, touch


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """One warm page reader for all."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(tmp_path: Path, reader: PageReader) -> Runtime:
    """A runtime with a state directory of its own."""
    return Runtime(state=tmp_path / "state", reader=reader)


@pytest.fixture
def path(tmp_path: Path, runtime: Runtime) -> Path:
    """A database whose repository has a snapshot and a segment of it."""
    made = build(tmp_path / "app.db", rows=200)
    backup(made, runtime)
    execute(made, touch("200 = 1"))
    backup(made, runtime)
    return made


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("harm", ["gone", "cut", "found rotten"])
def test_nothing_is_stacked_on_what_is_known_to_be_broken(
    harm: str, which: int, changed: bool, path: Path, tmp_path: Path, runtime: Runtime
) -> None:
    """Whether the database changed or not every page is copied, once, a warning says why, and it can be restored."""
    victim = objects(path)[which]
    if harm == "gone":
        victim.unlink()
    elif harm == "cut":
        victim.chmod(0o600)
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        flip(victim, victim.stat().st_size // 3)
        run_verify(VerifyRequest(repository=str(path.parent / "repository"), read_data=True), runtime)
    image = execute(path, touch("200 = 9")) if changed else path.read_bytes()
    report = backup(path, runtime)
    assert report.kind == "snapshot"
    assert report.warnings == (f"every page was copied: {report.why_full}",)
    assert {"gone": "is missing from", "cut": "and its manifest says", "found rotten": "was found damaged"}[
        harm
    ] in report.why_full
    assert victim.name in report.why_full
    assert restored(report, runtime, tmp_path / "back.db") == image
    assert backup(path, runtime).kind == "unchanged"
    execute(path, touch("200 = 11"))
    assert (last := backup(path, runtime)).kind == "segment"
    assert restored(last, runtime, tmp_path / "last.db") == path.read_bytes()


def test_a_deleted_restore_point_keeps_no_database(path: Path, tmp_path: Path, runtime: Runtime) -> None:
    """It will be purged: what did not change since is copied whole, and nobody is told that it is kept already."""
    repository = runtime.repository(str(path.parent / "repository"))
    marks.delete(repository.store, "app.db", 2, why="a test", now=runtime.clock())
    report = backup(path, runtime)
    assert (report.kind, report.warnings) == ("snapshot", ())
    assert "is deleted" in report.why_full
    assert restored(report, runtime, tmp_path / "back.db") == path.read_bytes()
    assert [point.position for point in repository.restore_points()[0]][-1] == report.position
    assert backup(path, runtime).kind == "unchanged"
    assert marks.decide(repository.store, "app.db", 2, marks.KEPT, now=runtime.clock()) == marks.KEPT


def test_a_chain_that_is_stored_anew_under_the_look_is_looked_at_again(
    path: Path, tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune that folds between the manifests and the listing of objects is no alarm, and costs no snapshot."""
    sizes = Store.sizes
    looks: list[str] = []

    def fold_first(self: Store, prefix: str) -> dict[str, int]:
        looks.append(prefix)
        if len(looks) == 1:
            repository = runtime.repository(str(path.parent / "repository"))
            for number, manifest in enumerate(repository.resolve_chain(txid=2).links, start=1):
                other = replace(
                    manifest, key=manifest.key.replace("-", "-f", 1)[: -len("0.pageset.zst")] + ".pageset.zst"
                )
                self.put(other.key, repository.object_path(manifest.key).read_bytes())
                self.put(keys.manifest_key("app.db", number, generation=1), encode_manifest(other))
                self.delete(keys.manifest_key("app.db", number))
                self.delete(manifest.key)
        return sizes(self, prefix)

    monkeypatch.setattr(Store, "sizes", fold_first)
    image = execute(path, touch("200 = 2"))
    report = backup(path, runtime)
    assert (report.kind, report.why_full, report.warnings, len(looks)) == ("segment", "", (), 2)
    assert restored(report, runtime, tmp_path / "back.db") == image
