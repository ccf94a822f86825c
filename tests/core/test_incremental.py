"""Incremental backups: every restore point is the database as it was, whatever happened since and to the local map."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import (
    DatabaseUnreadable,
    PagewardenError,
    ReaderCrashed,
    RepositoryBusy,
    RepositoryDamaged,
    VerificationFailed,
)
from pagewarden.processes.reader import PageReader
from pagewarden.repository import PageSetInfo, Repository, keys
from pagewarden.repository.manifest import encode_manifest
from pagewarden.runtime import Runtime
from pagewarden.testing import FaultyOs, cut
from pagewarden.values import BackupReport
from tests.core.test_backup import DiskReader, DyingReader
from tests.support.databases import build
from tests.support.increments import backup, execute, flip, map_of, objects, restored, stored, touch
from tests.support.restoring import bring_back_chain


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """One warm page reader for all."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(tmp_path: Path, reader: PageReader) -> Runtime:
    """A runtime with a state directory of its own."""
    return Runtime(state=tmp_path / "state", reader=reader)


HISTORY: tuple[Callable[[random.Random], str], ...] = (
    lambda chance: touch(f"50 = {chance.randrange(50)}"),
    lambda chance: f"DELETE FROM item WHERE id > {chance.randrange(100, 200)}",
    lambda chance: f"DELETE FROM item WHERE id % 7 = {chance.randrange(7)}",
    lambda chance: f"INSERT INTO item(name, body) SELECT name, randomblob({chance.randrange(9000)}) FROM item LIMIT 9",
    lambda chance: f"CREATE TABLE IF NOT EXISTS t{chance.randrange(99)}(a, b UNIQUE)",
    lambda _: "VACUUM",
    lambda _: "SELECT 1",
    lambda _: "PRAGMA incremental_vacuum(5)",
    lambda _: "DROP INDEX IF EXISTS item_name",
    lambda _: "CREATE INDEX IF NOT EXISTS item_name ON item(name)",
    lambda _: "CREATE TABLE IF NOT EXISTS big AS SELECT randomblob(900) AS a FROM item",
    lambda _: "DROP TABLE IF EXISTS big",
)


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("seed", range(3))
def test_every_restore_point_is_the_database_as_it_was(mode: str, seed: int, tmp_path: Path, runtime: Runtime) -> None:
    """Random histories of writes, deletes, VACUUM, shrinks, schema changes; the map is lost now and then (H21, H22)."""
    chance = random.Random(seed)
    path = tmp_path / "app.db"
    execute(path, f"PRAGMA auto_vacuum={seed}")
    build(path, mode=mode, page_size=1024, seed=seed)
    seen: list[tuple[BackupReport, bytes]] = []
    for _ in range(12):
        statements = [chance.choice(HISTORY)(chance) for _ in range(chance.randrange(1, 3))]
        image = execute(path, *statements)
        if chance.random() < 0.2:
            for file in runtime.state.glob("maps/*"):
                file.unlink()
        report = backup(path, runtime, full=chance.random() < 0.1)
        assert report.warnings == () or mode == "wal"
        assert (report.kind == "unchanged") == bool(seen and seen[-1][1] == image and report.kind != "snapshot")
        seen.append((report, image))
    assert {"segment", "snapshot"} <= {report.kind for report, _ in seen}
    for report, image in seen:
        assert restored(report, runtime, tmp_path / "back.db") == image


def test_what_changed_is_stored_and_nothing_else(tmp_path: Path, runtime: Runtime) -> None:
    """The report, the manifest and the object of a segment tell the same true story."""
    path = build(tmp_path / "app.db", rows=300)
    before = path.read_bytes()
    first = backup(path, runtime)
    after = execute(path, touch("300 = 7"))
    report = backup(path, runtime)
    differ = sum(before[at : at + 4096] != after[at : at + 4096] for at in range(0, len(after), 4096))
    assert (report.kind, report.pages_copied, report.bytes_read) == ("segment", differ, len(after))
    assert 1 < differ < 10
    assert report.bytes_stored < first.bytes_stored / 20
    assert (report.position.timeline, report.position.txid) == (first.position.timeline, 2)
    assert (report.verified, report.why_full, report.warnings) == (True, "", ())
    manifest = runtime.repository(report.repository).resolve_chain().point
    assert (manifest.kind, manifest.parent, manifest.bytes) == ("segment", first.position, report.bytes_stored)
    assert manifest.database_sum == report.database_sum


def test_unchanged_stores_nothing(tmp_path: Path, runtime: Runtime) -> None:
    """No object, no manifest, no intent; the position is the newest, however often it is asked, but with --full."""
    path = build(tmp_path / "app.db", rows=30)
    first = backup(path, runtime)
    before = stored(path)
    for _ in range(2):
        report = backup(path, runtime)
        assert (report.kind, report.position, report.database_sum) == ("unchanged", first.position, first.database_sum)
        assert (report.pages_copied, report.bytes_read, report.bytes_stored) == (0, path.stat().st_size, 0)
        assert stored(path) == before
    full = backup(path, runtime, full=True)
    assert (full.kind, full.position.txid, full.why_full) == ("snapshot", 2, "")
    assert backup(path, runtime).kind == "unchanged"
    execute(path, touch("30 = 1"))
    assert backup(path, runtime).kind == "segment"


def test_a_database_that_is_mostly_new_is_a_snapshot(tmp_path: Path, runtime: Runtime) -> None:
    """More than half of the pages, and another page size: told, and no reason to worry."""
    path = build(tmp_path / "app.db", rows=50)
    assert backup(path, runtime).why_full == ""
    execute(path, "UPDATE item SET body = randomblob(5000)")
    report = backup(path, runtime)
    assert (report.kind, report.why_full, report.warnings) == ("snapshot", "more than half of the pages changed", ())
    image = execute(path, "PRAGMA page_size=1024", "VACUUM")
    report = backup(path, runtime)
    assert (report.kind, report.warnings) == ("snapshot", ())
    assert "had 4096 bytes, and have 1024 now" in report.why_full
    assert restored(report, runtime, tmp_path / "back.db") == image
    assert report.position.txid == 3


def test_an_empty_database_and_back(tmp_path: Path, runtime: Runtime) -> None:
    """From nothing to something, and to nothing again."""
    path = tmp_path / "app.db"
    path.touch()
    assert backup(path, runtime).kind == "snapshot"
    assert backup(path, runtime).kind == "unchanged"
    image = build(path, rows=3).read_bytes()
    grown = backup(path, runtime)
    assert (grown.kind, restored(grown, runtime, tmp_path / "back.db")) == ("snapshot", image)
    path.write_bytes(b"")
    emptied = backup(path, runtime)
    assert (emptied.kind, emptied.pages_copied, restored(emptied, runtime, tmp_path / "back.db")) == ("segment", 0, b"")


@pytest.mark.parametrize("harm", ["lost", "header", "sums", "cut", "older"])
def test_a_map_that_is_lost_damaged_or_foreign_is_made_again(harm: str, tmp_path: Path, runtime: Runtime) -> None:
    """The repository has what is needed; damage of the local disk is worth a word, the rest is not."""
    path = build(tmp_path / "app.db", rows=300)
    backup(path, runtime)
    older = map_of(runtime).read_bytes()
    execute(path, touch("300 = 1"))
    assert backup(path, runtime).kind == "segment"

    def hurt() -> None:
        file = map_of(runtime)
        if harm == "lost":
            file.unlink()
        elif harm in ("header", "sums"):
            flip(file, 30 if harm == "header" else -30)
        else:
            file.write_bytes(file.read_bytes()[:100] if harm == "cut" else older)

    hurt()
    unchanged = backup(path, runtime)
    hurt()
    image = execute(path, touch("300 = 2"))
    report = backup(path, runtime)
    assert (unchanged.kind, report.kind) == ("unchanged", "segment")
    for warnings in (unchanged.warnings, report.warnings):
        assert ["it was made again" in warning for warning in warnings] == [True] * (harm not in ("lost", "older"))
    assert restored(report, runtime, tmp_path / "back.db") == image


def test_a_map_is_one_databases_and_one_places(tmp_path: Path, runtime: Runtime) -> None:
    """Two repositories, and two databases under one name in two: each goes by its own."""
    path, other = build(tmp_path / "app.db", rows=100), build(tmp_path / "other.db", rows=100, seed=2)
    for database in (path, other):
        for place in ("repository", "second"):
            url = str(tmp_path / place / database.stem)
            assert backup(database, runtime, repository=url, name="n").kind == "snapshot"
    assert len(list(runtime.state.glob("maps/*.map"))) == 4
    execute(path, touch("100 = 1"))
    for database, kind in ((path, "segment"), (other, "unchanged")):
        for place in ("repository", "second"):
            url = str(tmp_path / place / database.stem)
            assert backup(database, runtime, repository=url, name="n").kind == kind


def test_a_chain_that_is_broken_is_not_continued(tmp_path: Path, runtime: Runtime) -> None:
    """A missing object, a manifest that cannot be read: every page is copied, and a warning says why."""
    for number, harm in enumerate(("first object", "last manifest", "first manifest")):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = build(folder / "app.db", rows=200)
        for step in range(3):
            execute(path, touch(f"200 = {step}"))
            backup(path, runtime)
        which, what = harm.split()
        found = objects(path) if what == "object" else sorted((folder / "repository").rglob("manifests/*"))
        if what == "object":
            found[0 if which == "first" else -1].unlink()
        else:
            flip(found[0 if which == "first" else -1], 40)
        image = execute(path, touch("200 = 9"))
        report = backup(path, runtime)
        assert report.kind == "snapshot", harm
        assert report.warnings == (f"every page was copied: {report.why_full}",), harm
        assert {"object": "is missing from", "manifest": "manifest"}[what] in report.why_full
        chain = runtime.repository(report.repository).resolve_chain(
            txid=report.position.txid, timeline=report.position.timeline
        )
        assert bring_back_chain(runtime.reader, runtime.repository(report.repository), chain, folder / "b") == image
        execute(path, touch("200 = 11"))
        assert backup(path, runtime).kind == "segment", harm


def test_a_damaged_object_is_found_when_the_map_must_be_made_again(tmp_path: Path, runtime: Runtime) -> None:
    """What it records cannot be believed then: every page is copied, with a warning."""
    path = build(tmp_path / "app.db", rows=200)
    backup(path, runtime)
    execute(path, touch("200 = 1"))
    backup(path, runtime)
    flip(objects(path)[-1], -100)
    map_of(runtime).unlink()
    image = execute(path, touch("200 = 2"))
    report = backup(path, runtime)
    assert (report.kind, len(report.warnings)) == ("snapshot", 1)
    assert "does not match" in report.why_full
    assert restored(report, runtime, tmp_path / "back.db") == image


def test_a_base_that_is_stored_anew_meanwhile_is_looked_for_again(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prune may fold what the map is made of while it is made: nothing is wrong, and nothing is copied for it."""
    path = build(tmp_path / "app.db", rows=200)
    backup(path, runtime)
    map_of(runtime).unlink()
    execute(path, touch("200 = 1"))
    object_path = Repository.object_path
    stored_anew: list[str] = []

    def fold_first(self: Repository, key: str) -> Path:
        if not stored_anew:
            stored_anew.append(key)
            (manifest,) = self.resolve_chain().links
            other = replace(manifest, key=key.replace("-", "-f", 1)[: -len("0.pageset.zst")] + ".pageset.zst")
            self.store.put(other.key, object_path(self, key).read_bytes())
            self.store.put(keys.manifest_key("app.db", 1, generation=1), encode_manifest(other))
            self.store.delete(keys.manifest_key("app.db", 1))
            self.store.delete(key)
        return object_path(self, key)

    monkeypatch.setattr(Repository, "object_path", fold_first)
    report = backup(path, runtime)
    assert (report.kind, report.warnings) == ("segment", ())
    assert restored(report, runtime, tmp_path / "back.db") == path.read_bytes()


def test_where_no_map_can_be_kept_every_page_is_copied(tmp_path: Path, reader: PageReader) -> None:
    """A state directory that cannot be written: two words each time, and the backups are good."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "maps").touch()
    runtime = Runtime(state=tmp_path / "state", reader=reader)
    path = build(tmp_path / "app.db", rows=100)
    first = backup(path, runtime)
    assert ["could not be kept" in warning for warning in first.warnings] == [True]
    second = backup(path, runtime)
    assert (second.kind, second.position.txid) == ("snapshot", 2)
    assert ["copied" in warning or "kept" in warning for warning in second.warnings] == [True, True]


def test_a_map_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path: Path, runtime: Runtime) -> None:
    """The backup is done; the old map is of another position, and the next backup makes a new one."""
    path = build(tmp_path / "app.db", rows=100)
    backup(path, runtime)
    old = map_of(runtime).read_bytes()
    execute(path, touch("100 = 1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pagewarden.maps.durable.replace", _refuse)
        report = backup(path, runtime)
    assert (report.kind, len(report.warnings)) == ("segment", 2)  # that the lineage is not remembered either
    assert map_of(runtime).read_bytes() == old
    assert backup(path, runtime).kind in ("unchanged", "snapshot")


def _refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_segment_that_does_not_read_back_does_not_count(tmp_path: Path, runtime: Runtime) -> None:
    """A flipped bit, a dead reader: a named error, repository and map as they were, and the next one is a segment."""
    path = build(tmp_path / "app.db", rows=200)
    backup(path, runtime)
    image = execute(path, touch("200 = 1"))
    before, map_before = stored(path), map_of(runtime).read_bytes()
    cases: tuple[tuple[PageReader, type[PagewardenError]], ...] = (
        (DiskReader(), VerificationFailed),
        (DyingReader(), ReaderCrashed),
    )
    for broken, error in cases:
        with Runtime(state=tmp_path / "state", reader=broken) as failing, pytest.raises(error):
            backup(path, failing)
        assert stored(path) == before
        assert map_of(runtime).read_bytes() == map_before
    report = backup(path, runtime)
    assert (report.kind, restored(report, runtime, tmp_path / "back.db")) == ("segment", image)


class RivalReader(PageReader):
    """A page reader that lets another backup go first, once what it wrote is read back."""

    def __init__(self, rival: Callable[[], object]) -> None:
        super().__init__()
        self.rival = rival

    def verify_pageset(self, path: str | os.PathLike[str], **named: object) -> PageSetInfo:
        """Verify, then let the other one do all of its own."""
        info = super().verify_pageset(path, **named)  # type: ignore[arg-type]
        self.rival()
        return info


def test_of_two_at_once_the_loser_loses_nothing(tmp_path: Path, runtime: Runtime) -> None:
    """Two segments from one base: one is committed, the other one is a named error, and its next try is on top."""
    path = build(tmp_path / "app.db", rows=200)
    backup(path, runtime)
    image = execute(path, touch("200 = 1"))
    rivals: list[BackupReport] = []

    def rival() -> None:
        rivals.append(backup(path, runtime))

    with Runtime(state=tmp_path / "state", reader=RivalReader(rival)) as slow, pytest.raises(RepositoryBusy):
        backup(path, slow)
    assert [report.kind for report in rivals] == ["segment"]
    assert len(objects(path)) == 2 and not list((tmp_path / "repository" / "pending").glob("*"))
    assert restored(rivals[0], runtime, tmp_path / "back.db") == image
    assert backup(path, runtime).kind == "unchanged"
    assert [file.suffix for file in runtime.state.glob("maps/*")] == [".map"]


def test_another_host_takes_over(tmp_path: Path, runtime: Runtime, reader: PageReader) -> None:
    """It has no map and no memory: the map is made of what the repository records, and the history goes on."""
    path = build(tmp_path / "app.db", rows=200)
    first = backup(path, runtime)
    elsewhere = Runtime(state=tmp_path / "elsewhere", reader=reader)
    image = execute(path, touch("200 = 1"))
    report = backup(path, elsewhere)
    assert (report.kind, report.position.timeline, report.position.txid) == ("segment", first.position.timeline, 2)
    assert restored(report, runtime, tmp_path / "back.db") == image
    image = execute(path, touch("200 = 2"))
    branch = backup(path, runtime)  # what it remembers is not the newest any more: its history goes another way
    assert (branch.kind, branch.warnings) == ("snapshot", ())
    assert "does not continue the newest restore point" in branch.why_full
    assert branch.position.timeline != first.position.timeline
    assert restored(branch, runtime, tmp_path / "back.db") == image


def test_a_wreck_is_told_apart_from_what_never_was_a_database(tmp_path: Path, runtime: Runtime) -> None:
    """Also where it would be compared with a restore point; nothing is left."""
    path = build(tmp_path / "app.db", rows=5)
    backup(path, runtime)
    before = stored(path)
    path.write_bytes(b"SQLite format 3\0")
    with pytest.raises(DatabaseUnreadable, match="was a database, and is so damaged"):
        backup(path, runtime)
    assert stored(path) == before


def test_progress_is_told_in_pages_compared(tmp_path: Path, reader: PageReader) -> None:
    """Also of one that has nothing to store."""
    steps: list[tuple[str, int, int]] = []
    runtime = Runtime(state=tmp_path / "state", reader=reader, on_progress=lambda *step: steps.append(step))
    path = build(tmp_path / "app.db", rows=60)
    backup(path, runtime)
    pages = path.stat().st_size // 4096
    assert backup(path, runtime).kind == "unchanged"
    assert ("comparing pages", pages, pages) in steps


def test_every_failed_write_of_the_state_directory_leaves_a_good_backup(tmp_path: Path, reader: PageReader) -> None:
    """Whatever cannot be remembered: a warning, never a lost backup."""
    path = build(tmp_path / "app.db", rows=40)
    runtime = Runtime(state=tmp_path / "state", reader=reader)
    backup(path, runtime)
    image, failed = b"", 0
    for at in range(1, 40):
        image = execute(path, touch(f"40 = {at}"))
        faulty = FaultyOs(at, calls=frozenset({"replace", "mkdir", "unlink"}))
        try:
            with cut(durable, faulty):
                report = backup(path, runtime)
        except (PagewardenError, RepositoryDamaged):
            failed += 1  # in the repository itself
            continue
        assert restored(report, runtime, tmp_path / "back.db") == image
        if not faulty.fired:
            break
    assert not faulty.fired
