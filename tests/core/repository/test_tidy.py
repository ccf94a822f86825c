from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.contracts import Target
from pagewarden.errors import PagewardenError, RepositoryBusy, TargetFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Intent, Pending, Runner
from pagewarden.repository.manifest import decode_document, encode_document
from pagewarden.repository.repository import Repository
from pagewarden.testing import cut, each_fault
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, assemble, back_up, commit, image, store

DATA = image(9)


def kill(target: Target, intent: Intent | str) -> None:
    """Make a backup (or the one of a nonce) look as if its process had ended."""
    key = keys.pending_key(intent if isinstance(intent, str) else intent.nonce)
    pending = decode_document("intent", target.get(key), Pending, key)
    target.delete(key)
    dead = replace(pending, runner=replace(pending.runner, started="1"))
    target.put(key, encode_document("intent", dead))


def contents(target: Target) -> dict[str, bytes]:
    """Return everything stored."""
    return {info.key: target.get(info.key) for info in target.list("")}


@pytest.mark.parametrize("stage", ["begun", "staged", "adopted"])
def test_what_a_dead_backup_left_is_found_and_removed(repository: Repository, target: Target, stage: str) -> None:
    """However far it came before its commit; the next backup takes its place."""
    first = back_up(repository, "app.db", DATA)
    before = contents(target)
    intent = repository.begin("app.db")
    if stage != "begun":
        store(repository, intent, DATA)
    if stage == "adopted":
        target.adopt(intent.key, intent.staging)
    assert repository.leftovers() == ()
    assert repository.clean() == ()
    kill(target, intent)
    expected = [keys.pending_key(intent.nonce)] + [intent.key] * (stage == "adopted")
    assert list(repository.leftovers()) == expected
    following = repository.begin("app.db")
    assert (following.txid, following.sequence, following.parent) == (2, 2, first.position)
    repository.abandon(following)
    assert contents(target) == before
    assert not intent.staging.exists()


def test_a_half_reordered_staging_file_goes_too(root: Path) -> None:
    """The second file that sealing may need is known by its name."""
    target = DirectoryFactory().open(str(root), create=True)
    repository = Repository.open(target, str(root), create=True)
    intent = repository.begin("app.db")
    store(repository, intent, DATA)
    intent.staging.with_name(f"{intent.staging.name}.ordered").write_bytes(b"half")
    kill(target, intent)
    assert repository.clean() == (intent.key,)
    staging = target.staging()
    assert staging is not None and list(staging.iterdir()) == []


def test_a_dead_backup_that_committed_keeps_its_object(repository: Repository, target: Target) -> None:
    """Killed between manifest and intent: it counts, and only the intent goes."""
    intent = repository.begin("app.db")
    info = store(repository, intent, DATA)
    real = target.delete
    target.delete = lambda key: None  # type: ignore[method-assign]
    point = commit(repository, intent, info)
    target.delete = real  # type: ignore[method-assign]
    kill(target, intent)
    assert repository.leftovers() == (keys.pending_key(intent.nonce),)
    repository.clean()
    assert repository.leftovers() == ()
    assert repository.newest("app.db") == point
    assert target.get(point.key)


def test_an_object_whose_manifest_is_broken_is_kept(repository: Repository, target: Target) -> None:
    """Nobody can tell whether it counts, so it stays, and its intent with it."""
    intent = repository.begin("app.db")
    store(repository, intent, DATA)
    target.adopt(intent.key, intent.staging)
    target.put(keys.manifest_key("app.db", intent.sequence), b"half a manifest")
    kill(target, intent)
    before = set(contents(target))
    repository.clean()
    assert set(contents(target)) - before == {keys.claim_key(intent.nonce)}
    assert repository.leftovers() == (keys.pending_key(intent.nonce),)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        lambda data: b"",
        lambda data: encode_document("intent", Foreign.of(data)),
    ],
    ids=["flipped", "empty", "of another backup"],
)
def test_an_intent_that_cannot_be_believed_is_listed_and_left(
    repository: Repository, target: Target, damage: Callable[[bytes], bytes]
) -> None:
    """A broken one, or one that names another backup's object, removes nothing."""
    point = back_up(repository, "app.db", DATA)
    Foreign.key = point.key
    intent = repository.begin("app.db")
    kill(target, intent)
    key = keys.pending_key(intent.nonce)
    data = target.get(key)
    target.delete(key)
    target.put(key, damage(data))
    before = contents(target)
    assert repository.clean() == ()
    assert repository.leftovers() == (key,)
    assert contents(target) == before


class Foreign:
    """Makes an intent that names the object of another backup."""

    key = ""

    @classmethod
    def of(cls, data: bytes) -> Pending:
        """Return the intent in `data` with another key."""
        return replace(decode_document("intent", data, Pending, "x"), key=cls.key)


def test_a_stranger_on_another_machine_is_cleaned_after_a_week(target: Target) -> None:
    """Nobody can look at its process, so time decides, and only then."""
    now = [NOW]
    repository = Repository.open(target, target.url, create=True, clock=lambda: now[0], token=seeded(2))
    intent = repository.begin("app.db")
    key = keys.pending_key(intent.nonce)
    pending = decode_document("intent", target.get(key), Pending, key)
    target.delete(key)
    stranger = replace(pending, runner=replace(pending.runner, host="elsewhere"))
    target.put(key, encode_document("intent", stranger))
    now[0] = NOW + timedelta(days=6)
    assert repository.clean() == ()
    now[0] = NOW + timedelta(days=8)
    assert repository.clean() == (intent.key,)


@pytest.mark.parametrize("moment", ["before adopt", "after adopt"])
def test_a_backup_that_was_taken_for_dead_does_not_commit(
    repository: Repository, target: Target, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Cleaned while it still ran: a clear error, and no manifest without its object, at whichever moment it happens."""
    back_up(repository, "app.db", DATA)
    before = contents(target)
    intent = repository.begin("app.db")
    info = store(repository, intent, DATA)
    kill(target, intent)
    adopt = target.adopt

    def adopt_then_clean(key: str, path: Path) -> None:
        adopt(key, path)
        tidy.clean(repository.store, NOW)

    if moment == "before adopt":
        tidy.clean(repository.store, NOW)
    else:
        monkeypatch.setattr(target, "adopt", adopt_then_clean)
    with pytest.raises((RepositoryBusy, TargetFailed)):
        commit(repository, intent, info)
    repository.clean()
    assert contents(target) == before


def test_a_cleaner_that_was_cut_off_is_followed_by_another(repository: Repository, target: Target) -> None:
    """Whether it had only claimed, or removed everything but its claim."""
    before = contents(target)
    intent = repository.begin("app.db")
    kill(target, intent)
    target.put(keys.claim_key(intent.nonce), b"")
    target.put(keys.claim_key("00" * 8), b"")
    target.put("pending/strange", b"not ours to judge")
    assert repository.clean() == (intent.key,)
    target.delete("pending/strange")
    assert contents(target) == before


def test_an_intent_stands_until_it_is_claimed(repository: Repository, target: Target) -> None:
    """The four states that an intent passes through."""
    intent = repository.begin("app.db")
    assert tidy.stands(repository.store, intent.nonce)
    target.put(keys.claim_key(intent.nonce), b"")
    assert not tidy.stands(repository.store, intent.nonce)
    target.delete(keys.pending_key(intent.nonce))
    assert not tidy.stands(repository.store, intent.nonce)
    target.delete(keys.claim_key(intent.nonce))
    assert not tidy.stands(repository.store, intent.nonce)


def opened(root: Path, seed: int) -> Repository:
    """Open a directory repository."""
    return Repository.open(DirectoryFactory().open(str(root), create=True), str(root), create=True, token=seeded(seed))


def judge(root: Path, before: tuple[object, ...]) -> bool:
    """Assert that a repository shows the old points or one more, all whole, and cleans itself; return which."""
    repository = opened(root, 99)
    points, problems = repository.restore_points("app.db")
    assert problems == ()
    assert points[: len(before)] == before
    assert len(points) <= len(before) + 1
    for point in points:
        repository.confirm(
            repository.chain(point).links,
            assemble([repository.object_path(point.key)], root.parent / "out", threads=1),
        )
    repository.abandon(repository.begin("app.db"))
    assert repository.leftovers() == ()
    kept = {"pagewarden.json"} | {point.key for point in points}
    kept |= {keys.manifest_key("app.db", number + 1) for number in range(len(points))}
    staging = root / "+staging"
    assert {
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.parent != staging
    } == kept
    assert [path.name for path in staging.iterdir() if not path.name.endswith(".put")] == []
    return len(points) > len(before)


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
def test_a_failing_disk_leaves_the_old_points_or_one_more(tmp_path: Path, forever: bool) -> None:
    """An error at call n = 1, 2, 3 … of a backup is a named error, and the repository mends itself (H30)."""
    before = (back_up(opened(tmp_path / "template", 1), "app.db", DATA),)
    for faulty in each_fault(forever=forever):
        root = tmp_path / f"{faulty.at}"
        shutil.copytree(tmp_path / "template", root)
        repository = opened(root, 2)
        done = False
        try:
            with cut(durable, faulty):
                intent = repository.begin("app.db")
                try:
                    info = store(repository, intent, image(5))
                    commit(repository, intent, info)
                    done = True
                except PagewardenError:
                    repository.abandon(intent)
                    raise
        except PagewardenError:
            pass
        for path in root.glob("pending/*.json"):  # the process that failed ends
            kill(DirectoryFactory().open(str(root), create=False), path.name[:16])
        assert judge(root, before) >= done
    assert done


KILL = """
import os, sys
from pathlib import Path
from tests.core.repository.test_tidy import opened
from tests.core.repository.sets import commit, image, store
seen = at = 0
def wrap(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global seen
        seen += 1
        if seen == at:
            os._exit(77)
        return real(*arguments, **named)
    setattr(os, name, call)
for name in ("fsync", "link", "mkdir", "pwrite", "replace", "rmdir", "unlink"):
    wrap(name)
for at in range(1, 200):
    child = os.fork()
    if not child:
        repository = opened(Path(sys.argv[1]) / str(at), 2)
        seen = 0
        intent = repository.begin("app.db")
        commit(repository, intent, store(repository, intent, image(5)))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(at)
        break
"""


def test_a_kill_leaves_the_old_points_or_one_more(tmp_path: Path) -> None:
    """A backup's process dies at call n = 1, 2, 3 …: the old state or the new one, and the repository mends itself."""
    most = 60
    before = (back_up(opened(tmp_path / "template", 1), "app.db", DATA),)
    for at in range(1, most):
        shutil.copytree(tmp_path / "template", tmp_path / f"{at}")
    done = subprocess.run([sys.executable, "-c", KILL, str(tmp_path)], capture_output=True, text=True, check=True)
    last = int(done.stdout)
    assert 10 < last < most
    outcomes = [judge(tmp_path / f"{at}", before) for at in range(1, last + 1)]
    assert outcomes[0] is False and outcomes[-1] is True
    assert outcomes == sorted(outcomes)  # old until the commit point, new from then on


def test_the_runner_of_an_intent_is_this_process(repository: Repository, target: Target) -> None:
    """So that another process on this machine can see that it lives."""
    intent = repository.begin("app.db")
    key = keys.pending_key(intent.nonce)
    pending = decode_document("intent", target.get(key), Pending, key)
    assert pending.runner == Runner.current()
    assert pending.runner.pid == os.getpid()
    assert (pending.key, pending.sequence, pending.database) == (intent.key, 1, "app.db")
