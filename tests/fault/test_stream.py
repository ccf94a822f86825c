"""A session that is killed at each of its steps: all that was answered stands, and the next session goes on."""

from __future__ import annotations

import os
import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from pagewarden.repository import keys
from pagewarden.repository import stream as module
from pagewarden.repository.repository import Repository
from pagewarden.repository.stream import Stream
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import Position, Verdict
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower, Sealed
from tests.core.repository.sets import back_up
from tests.fault.steps import do_and_die

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
STEP = 1 if FULL else 6
"""Every so-manieth step is a cut in a test of usual length; which ones comes with the seed."""

COUNTS = (3, 1, 4)


class Stage:
    """A repository with one backup, and the batches that a guard has in its spool."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.runtime = runtime
        self.root, self._template = folder / "repository", folder / "template"
        (folder / "spool").mkdir()
        self.follower = Follower(folder=folder / "spool", images=histories(1 + sum(COUNTS), seed=6))
        repository = runtime.repository(str(self.root), create=True)
        at = back_up(repository, NAME, self.follower.images[0], self.follower.time(1)).position
        self.batches: list[Sealed] = []
        for count in COUNTS:
            self.batches.append(self.follower.seal(at, count))
            at = self.batches[-1].batch.position
        shutil.copytree(self.root, self._template)

    def put_up(self) -> None:
        """Put the repository back as it was."""
        shutil.rmtree(self.root)
        shutil.copytree(self._template, self.root)

    @property
    def repository(self) -> Repository:
        """The repository, opened."""
        return self.runtime.repository(str(self.root))

    def follow(self, done: list[Position]) -> None:
        """Ship all batches, with a renewal in between; `done` gets what was answered."""
        with Stream.open(self.repository, NAME, sleep=lambda seconds: None) as stream:
            for sealed in self.batches:
                done.append(stream.append(sealed.batch, sealed.segment, sealed.commits).position)
                stream.renew()

    def prove(self, *, every: bool) -> None:
        """Assert that all is whole, and that each commit comes back as it was."""
        report = run_verify(VerifyRequest(repository=str(self.root), read_data=True), self.runtime)
        assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
        newest = report.points[-1].position
        assert newest is not None
        to = self.root.parent / "restored.db"
        for txid in range(1, newest.txid + 1) if every else (1, newest.txid):
            run_restore(RestoreRequest(repository=str(self.root), to=str(to), txid=txid), self.runtime)
            assert to.read_bytes() == self.follower.images[txid - 1], txid
            to.unlink()


def test_whatever_is_cut_nothing_that_was_answered_is_lost(
    tmp_path: Path, warm: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H30: at each step all verifies, each restore point is whole, and a session that ships all again ends the same."""
    stage = Stage(tmp_path, warm)
    number, cuts = random.Random(1).randrange(1, STEP + 1), 0
    while True:
        stage.put_up()
        done: list[Position] = []
        if not do_and_die(partial(stage.follow, done), number, module, monkeypatch):
            break
        standing = [entry.manifest.position for entry in stage.repository.entries(NAME) if entry.manifest is not None]
        assert standing[1:][: len(done)] == done and len(standing) <= len(done) + 2, number
        stage.prove(every=FULL)
        again: list[Position] = []
        stage.follow(again)
        assert again == [each.batch.position for each in stage.batches], number
        repository = stage.repository
        named = {key for entry in repository.entries(NAME) for key in entry.object_keys}
        assert set(repository.store.keys(keys.objects_prefix(NAME))) == named, number
        assert repository.store.keys(keys.PENDING) == [] and repository.leftovers() == (), number
        stage.prove(every=FULL or number % 7 == 0)
        number, cuts = number + STEP, cuts + 1
    assert cuts >= 16 // STEP, cuts
