"""A repository of a database that was followed, as version 1 of the formats wrote it, kept for ever."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import UNSET

from pagewarden.repository.commits import verify_commits
from pagewarden.repository.followed import Batch, BatchCommits, BatchSegment
from pagewarden.repository.manifest import Manifest, encode_document, encode_manifest
from pagewarden.repository.moments import NamedMoment, read_moments
from pagewarden.repository.pageset import verify_pageset
from pagewarden.repository.repository import Repository
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import Position, Verdict
from tests.core.repository.pruned import new_runtime
from tests.core.repository.sets import FACTS, NOW

ROOT = Path(__file__).parent / "repository-1-followed"
NAME = "app.db"
TIMELINE = "38b4e652e44da7f2370d9e260e271365"
IMAGES = {
    1: "5569202756ec09783e3eec521848a1c0aa9a0a9db7ae0e3ae35eac678b5441e4",
    2: "a9b3a6db97587409ac30b4248ec90ef8a3f50a176c3bbdb743013140a68a0f2b",
    3: "113ddd842642d7fa2a7c155cc111dd8c5499a3b901cf70b3374f89738717ea80",
    4: "62689f2568f9e595f30a37ef1f8e64a9b0f00998877ddd1ed6266d00248cae82",
    6: "a4df0f790b40b01956b21659d2de7afc29769eab84d44522c1c9a7c8dce71740",
    7: "344dbc5d763b912d8a82d61290908e36cf882312391a1d8b3f27fb496aaac2a1",
    8: "290e2ae7caecdeabd56b737fd2a78878b8c591caddc595534100d811afdf9053",
}
"""The SHA-256 of the database after each commit that is stored: rows come, go, and a VACUUM shrinks it."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm page reader."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(scope="module")
def manifests(runtime: Runtime) -> list[Manifest]:
    """What stands there, in order of commit: a backup, three batches, and a backup after a gap."""
    found = [entry.manifest for entry in opened(runtime).entries(NAME)]
    return [manifest for manifest in found if manifest is not None]


def opened(runtime: Runtime) -> Repository:
    """Open the golden repository."""
    return runtime.repository(str(ROOT))


def position(txid: int) -> Position:
    """Return the position of a commit."""
    return Position(timeline=TIMELINE, txid=txid, time=NOW + timedelta(seconds=txid))


def test_every_golden_commit_is_restored(runtime: Runtime, tmp_path: Path) -> None:
    """By its number and by its name, byte for byte; each is a database that SQLite finds whole."""
    to = tmp_path / "app.db"
    for txid, digest in IMAGES.items():
        report = run_restore(RestoreRequest(repository=str(ROOT), to=str(to), txid=txid), runtime)
        assert hashlib.sha256(to.read_bytes()).hexdigest() == digest, txid
        assert report.position == position(txid)
        with closing(sqlite3.connect(to)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        to.unlink()
    named = run_restore(RestoreRequest(repository=str(ROOT), to=str(to), mark="before the vacuum"), runtime)
    assert (named.position, named.before, named.after) == (position(3), position(2), position(4))


def test_the_golden_repository_verifies(runtime: Runtime) -> None:
    """Every object, every page, and the database sum of every commit."""
    report = run_verify(VerifyRequest(repository=str(ROOT), read_data=True), runtime)
    assert report.verdict is Verdict.SOUND and (report.objects, report.objects_read) == (6, 6)


def test_the_golden_manifests_say_what_was_followed(manifests: list[Manifest]) -> None:
    """Three commits of which each can be had, two that were merged, one alone, and a gap with its cause."""
    assert [each.position for each in manifests] == [position(txid) for txid in (1, 4, 6, 7, 8)]
    assert [each.span for each in manifests] == [0, 3, 2, 1, 1]
    assert [each.merged for each in manifests] == [UNSET, UNSET, 2, 1, UNSET]
    assert [each.facts.gap for each in manifests] == [UNSET, UNSET, UNSET, UNSET, "guard-was-down"]
    assert [bool(each.commits) for each in manifests] == [False, True, False, False, False]
    commits = manifests[1].commits
    assert commits and (commits.count, commits.earliest) == (3, position(2).time)


def test_batches_and_names_are_still_written_byte_for_byte(runtime: Runtime, manifests: list[Manifest]) -> None:
    """The documents of today's code are those of the golden repository."""
    for manifest in manifests:
        stored = ROOT / f"{NAME}/manifests/{manifest.sequence:016}.json"
        assert encode_manifest(manifest) == stored.read_bytes()
    for manifest in manifests[1:4]:
        assert manifest.parent is not None
        info = verify_pageset(ROOT / manifest.key, threads=1, read_data=True, drop_cache=False)
        commits: BatchCommits | None = None
        if manifest.commits:
            proved = verify_commits(ROOT / manifest.commits.key, threads=1, read_data=True)
            assert manifest.commits_contradiction(proved) == ""
            commits = BatchCommits.of(proved, count=3, earliest=position(2).time)
        batch = Batch(
            parent=manifest.parent,
            position=info.position,
            segment=BatchSegment.of(info),
            commits=UNSET if commits is None else commits,
            merged=UNSET if commits is not None else manifest.span,
            facts=replace(FACTS),
            compression=1,
            verified_at=NOW,
            created_by="pagewarden test",
        )
        made = batch.manifest(NAME, manifest.sequence, manifest.key, manifest.object_keys[-1])
        assert encode_manifest(made) == encode_manifest(manifest)
    (moment,) = read_moments(opened(runtime).store, NAME).moments
    assert moment == NamedMoment(database=NAME, position=position(3), text="before the vacuum", time=NOW, by="example")
    (stored,) = (ROOT / NAME / "marks").iterdir()
    assert encode_document("moment", moment) == stored.read_bytes()
