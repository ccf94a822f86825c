"""Backups of one database that several processes begin: all but one give way before they copy anything."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import RepositoryBusy
from pagewarden.repository import keys
from pagewarden.repository.intent import Pending
from pagewarden.repository.manifest import decode_document, encode_document
from pagewarden.repository.repository import Repository
from pagewarden.repository.rivals import PATIENCE
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, after, back_up, commit, image, store

DATA = image(9)

BEGIN = """
import sys, time
from pagewarden.errors import RepositoryBusy
from pagewarden.repository.repository import Repository
from pagewarden_target_directory import DirectoryFactory

root = sys.argv[1]
repository = Repository.open(DirectoryFactory().open(root, create=True), root, create=True)
print("ready", flush=True)
sys.stdin.readline()
try:
    intent = repository.begin("app.db")
except RepositoryBusy as error:
    print(error, flush=True)
else:
    print("begun", flush=True)
    sys.stdin.readline()
    repository.abandon(intent)
"""


class Backup:
    """A process that begins a backup when it is told to, and abandons it when it is told to."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.hear() == "ready"

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Return what it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> None:
        """Wait for its end."""
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def test_who_comes_second_fails_before_any_page_is_copied(root: Path) -> None:
    """The process that is at it is named, nothing is left, and another database is not in the way."""
    first = Backup(root)
    first.tell()
    assert first.hear() == "begun"
    repository = Repository.open(DirectoryFactory().open(str(root), create=True), str(root))
    before = repository.store.keys("")
    with pytest.raises(RepositoryBusy, match=f"is under way: process {first.process.pid} began it at ") as caught:
        repository.begin("app.db")
    assert caught.value.hint.endswith(f"ps -p {first.process.pid}")
    assert repository.store.keys("") == before
    back_up(repository, "other.db", DATA)
    first.end()
    back_up(repository, "app.db", DATA)


def test_of_processes_that_begin_together_one_goes_on(root: Path) -> None:
    """The others are told that a backup is under way; none of them copies in vain."""
    backups = [Backup(root) for _ in range(3)]
    for backup in backups:
        backup.tell()
    said = [backup.hear() for backup in backups]
    assert said.count("begun") == 1, said
    assert sum("is under way" in each for each in said) == 2, said
    for backup in backups:
        backup.end()
    assert Repository.open(DirectoryFactory().open(str(root), create=False), str(root)).store.keys("pending/") == []


def rival_of(repository: Repository, target: Target, process: int, *, minutes: float) -> str:
    """Put the intent of a backup that another live process began so many minutes after NOW; return its key."""
    intent = repository.begin("app.db")
    key = keys.pending_key(intent.nonce)
    pending = decode_document("intent", target.get(key), Pending, key)
    target.delete(key)
    started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    runner = replace(pending.runner, pid=process, started=started)
    target.put(key, encode_document("intent", replace(pending, runner=runner, time=after(minutes))))
    return key


def test_who_was_first_waits_until_the_other_has_given_way(target: Target) -> None:
    """For a while; one that does not go has not seen that it was second, and goes on."""
    slept: list[float] = []
    gone: list[str] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        for key in gone:
            target.delete(key)

    repository = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(3), sleep=sleep)
    key = rival_of(repository, target, os.getppid(), minutes=1)
    with pytest.raises(RepositoryBusy, match=f"process {os.getppid()} began it"):
        repository.begin("app.db")
    assert sum(slept) == pytest.approx(PATIENCE)
    assert repository.store.keys("pending/") == [key]
    slept.clear()
    gone.append(key)
    repository.abandon(repository.begin("app.db"))
    assert len(slept) == 1


def test_who_was_second_gives_way_at_once(target: Target) -> None:
    """Nobody waits for a whole backup."""

    def sleep(seconds: float) -> None:
        raise AssertionError(seconds)

    repository = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(3), sleep=sleep)
    key = rival_of(repository, target, os.getppid(), minutes=-1)
    with pytest.raises(RepositoryBusy, match="is under way"):
        repository.begin("app.db")
    assert repository.store.keys("pending/") == [key]


def test_a_manifest_that_was_put_meanwhile_is_seen_before_any_page_is_copied(target: Target) -> None:
    """Its intent has gone by then, so nothing else tells of it."""
    repository = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(3))
    other = Repository.open(target, target.url, clock=lambda: NOW, token=seeded(4))
    put = target.put

    def put_after_another(key: str, data: bytes) -> None:
        target.put = put  # type: ignore[method-assign]
        back_up(other, "app.db", DATA)
        put(key, data)

    target.put = put_after_another  # type: ignore[method-assign]
    with pytest.raises(RepositoryBusy, match="was committed first"):
        repository.begin("app.db")
    assert repository.store.keys("pending/") == []
    assert len(repository.restore_points()[0]) == 1


def test_a_number_that_was_taken_and_stored_anew_since_is_seen(target: Target) -> None:
    """Its first key is free again then: put-if-absent alone would give one number to two restore points."""
    slow = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(3))
    other = Repository.open(target, target.url, clock=lambda: NOW, token=seeded(4))
    intent = slow.begin("app.db")
    first = back_up(other, "app.db", DATA)
    key = keys.manifest_key("app.db", 1)
    target.put(keys.manifest_key("app.db", 1, generation=1), target.get(key))
    target.delete(key)
    info = store(slow, intent, DATA)
    with pytest.raises(RepositoryBusy, match="was committed first"):
        commit(slow, intent, info)
    assert other.restore_points() == ((first,), ())
    assert slow.store.keys("pending/") == [] and not slow.store.exists(intent.key)
    assert not slow.store.exists(key)
