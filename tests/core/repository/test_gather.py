"""Gathering: many small batches of a followed history become few, and nothing that could be restored is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from pagewarden.errors import DeletionRefused, PagewardenError, RepositoryBusy, RepositoryDamaged, RepositoryNotFound
from pagewarden.repository import keys, marks
from pagewarden.repository.gather import Gathered, History, gather
from pagewarden.repository.locate import locate
from pagewarden.repository.manifest import Manifest, encode_manifest
from pagewarden.repository.pinning import PinRequest, run_pin
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.stream import Stream
from pagewarden.repository.turn import Turn
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore.write import write_chain
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME
from tests.core.repository.gathering import Stage
from tests.core.repository.pruned import new_runtime
from tests.core.repository.sets import NOW, SOUND, MemoryTarget


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, runtime: Runtime) -> Stage:
    """A history of forty commits, of which nothing is stored yet."""
    return Stage(folder=tmp_path, runtime=runtime, images=histories(40))


def test_many_batches_become_one_and_every_commit_can_be_restored(stage: Stage) -> None:
    """Batches with commits, of one commit, and merged ones: what could be restored can be, and one manifest is left."""
    stage.follow(3, 1, -2, 2, 1)
    before = stage.txids
    assert before == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    gathered = stage.gather()
    assert (gathered.made, gathered.of) == (1, 4)
    assert stage.ends == [1, 9, 10]
    stage.prove(before)
    assert gathered.bytes_freed > 0
    made = stage.manifests[1]
    assert made.gathered == 2 and made.sequence == 5 and made.commits and made.commits.count == 7
    assert stage.gather() == Gathered()
    assert sorted(stage.files()) == sorted(
        [
            keys.MARKER,
            *(key for each in stage.manifests for key in each.object_keys),
            *(keys.manifest_key(NAME, *number) for number in ((1,), (5, 1), (6,))),
        ]
    )


def test_a_long_history_has_few_manifests(stage: Stage) -> None:
    """Gathered as it grows, the number of manifests grows with its logarithm, and every commit is there at the end."""
    stage.follow(1)
    with Stream.open(stage.repository, NAME, sleep=lambda seconds: None) as stream:
        for _ in range(38):
            stage.follower.follow(stream, 1)
            stage.gather()
    assert stage.ends == [1, 17, 33, 37, 38, 39, 40]
    stage.prove(range(1, 41))


def test_only_what_is_new_is_looked_at(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the history is, a call lists and reads what came since the last one, and what it gathers."""
    stage.follow(*[1] * 20)
    stage.gather()
    read: list[str] = []
    listed: list[str] = []
    real_documents, real_keys = Store.documents, Store.keys

    def documents(self: Store, keys: list[str]) -> Iterator[bytes | PagewardenError | None]:
        read.extend(keys)
        return real_documents(self, keys)

    def seen(self: Store, prefix: str) -> list[str]:
        found = real_keys(self, prefix)
        listed.extend(found)
        return found

    monkeypatch.setattr(Store, "documents", documents)
    monkeypatch.setattr(Store, "keys", seen)
    assert stage.gather() == Gathered()
    assert (read, [key for key in listed if "/objects/" in key]) == ([], [])
    stage.follow_on(1, 1)
    read.clear()
    assert stage.gather() == Gathered()
    assert read == [keys.manifest_key(NAME, 22), keys.manifest_key(NAME, 23)]


def test_what_a_person_or_a_verdict_said_stays_a_restore_point(stage: Stage) -> None:
    """A pin, a mark that one is deleted, a verdict and a healed gap keep their restore points; the rest is gathered."""
    stage.follow(*[1] * 20)
    store = stage.repository.store
    marks.pin(store, NAME, 4, note="", now=NOW)
    marks.delete(store, NAME, 8, why="", now=NOW)
    change(stage, 12, source=SOUND)
    manifest = change(stage, 16, merged=UNSET)
    change(stage, 16, facts=replace(manifest.facts, gap="log-restarted"))
    while stage.gather().made:
        pass
    assert stage.ends == [1, 4, 7, 8, 12, 15, 16, 20, 21]
    stage.prove(range(1, 22))
    assert [each.sequence for each in stage.manifests if each.source.verdict is Verdict.SOUND] == [1, 12]


def test_a_pin_that_comes_meanwhile_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was gathered is taken back before anything goes, and the next time the pin is known."""
    stage.follow(1, 1, 1, 1, 1, 1)
    before = stage.files()
    real = Store.put

    def put(self: Store, key: str, data: bytes) -> bool:
        if key == keys.manifest_key(NAME, 6, 1):
            marks.pin(self, NAME, 3, note="", now=NOW)
        return real(self, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", put)
        with pytest.raises(RepositoryBusy, match="were pinned meanwhile"):
            stage.gather()
    assert {key: data for key, data in stage.files().items() if "/pins/" not in key} == before
    assert stage.gather().made == 1
    assert stage.ends == [1, 3, 4, 5, 6, 7]
    stage.prove(range(1, 8))


def test_whoever_pins_what_was_gathered_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that happened in the moment of pinning; a pin of the batch keeps its commits."""
    stage.follow(1, 1, 1, 1, 1, 1)
    real = marks.pin

    def pin(store: Store, name: str, sequence: int, **said: Any) -> None:
        stage.gather()
        real(store, name, sequence, **said)

    with monkeypatch.context() as patched:
        patched.setattr(marks, "pin", pin)
        with pytest.raises(RepositoryNotFound, match="a commit of the batch that ends with txid 6"):
            run_pin(PinRequest(repository=str(stage.root), txid=3), stage.runtime)
    assert stage.ends == [1, 6, 7]
    assert stage.repository.store.keys(keys.pins_prefix(NAME)) == []
    with pytest.raises(RepositoryNotFound, match="keeps all commits that it has") as caught:
        run_pin(PinRequest(repository=str(stage.root), txid=3), stage.runtime)
    assert caught.value.hint.endswith("--txid 6")
    assert run_pin(PinRequest(repository=str(stage.root), txid=6), stage.runtime).pinned


def test_a_restore_that_has_begun_ends_though_its_batches_are_gathered(stage: Stage) -> None:
    """What was looked up before is gone: restore points and commits are found again where they are now."""
    stage.follow(3, 1, -2, 2, 1, 1)
    repository, reader = stage.repository, stage.runtime.reader
    begun = {txid: locate(repository, reader, NAME, txid=txid).chain for txid in (3, 4, 7, 8, 9, 10, 11)}
    stage.gather()
    assert stage.ends == [1, 10, 11]
    for txid, chain in begun.items():
        to = stage.folder / f"{txid}.db"
        write_chain(chain, to, repository=repository, reader=reader, read_back=False)
        assert to.read_bytes() == stage.images[txid - 1], txid


def test_others_are_at_work_while_it_gathers(stage: Stage) -> None:
    """Beside it a session appends, every commit is located and restored, and all is verified: none is in the way."""
    stage.follow(*[1] * 4)
    ended = threading.Event()
    made: list[int] = []

    def gathering() -> None:
        with new_runtime(stage.folder / "state") as other:
            other.clock = stage.runtime.clock
            repository = other.repository(str(stage.root))
            while not ended.is_set():
                made.append(gather(repository, other, NAME, stage.history, many=3).made)

    thread = threading.Thread(target=gathering)
    thread.start()
    try:
        with Stream.open(stage.repository, NAME, sleep=lambda seconds: None) as stream:
            for txid in range(6, 22, 2):
                stage.follower.follow(stream, 2)
                to = stage.folder / "to.db"
                chain = locate(stage.repository, stage.runtime.reader, NAME, txid=txid // 2).chain
                write_chain(chain, to, repository=stage.repository, reader=stage.runtime.reader, read_back=False)
                assert to.read_bytes() == stage.images[txid // 2 - 1]
                to.unlink()
                report = run_verify(VerifyRequest(repository=str(stage.root)), stage.runtime)
                assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
    finally:
        ended.set()
        thread.join()
    assert sum(made) > 1
    stage.prove(range(1, 22))


def test_another_process_that_was_at_it_is_noticed(stage: Stage) -> None:
    """What is known is compared with what stands there before anything is stored, and read anew where it differs."""
    stage.follow(*[1] * 5)
    history = History()
    assert stage.gather(history, many=6) == Gathered()
    stage.gather()
    assert stage.ends == [1, 5, 6]
    assert stage.gather(history, many=3) == Gathered()
    stage.follow_on(*[1] * 5)
    assert stage.gather(history, many=3).made
    stage.prove(range(1, 12))


def test_where_nothing_may_be_removed_nothing_is_gathered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored twice there."""
    stage.follow(*[1] * 8)
    before = stage.files()

    def refuse(self: Store, key: str) -> None:
        raise DeletionRefused(f"{key} may not be removed")

    monkeypatch.setattr(Store, "delete", refuse)
    assert stage.gather().why_not == "nothing may be removed there"
    assert stage.gather().why_not == "nothing may be removed there"
    assert {key: data for key, data in stage.files().items() if not key.startswith(keys.PENDING)} == before


def test_a_manifest_that_cannot_be_read_stops_it(stage: Stage) -> None:
    """Nobody knows what such a one needs; once it is gone, gathering goes on."""
    stage.follow(*[1] * 8)
    broken = stage.root / keys.manifest_key(NAME, 99)
    broken.write_bytes(b"{}")
    before = stage.files()
    assert "cannot be read" in stage.gather().why_not
    assert stage.files() == before
    broken.unlink()
    assert stage.gather().made == 1


def test_a_damaged_batch_stays_as_it_is(stage: Stage) -> None:
    """H32: what cannot be proved is never made anew: the batches stay, and what is half stored goes."""
    stage.follow(2, 2, 2, 2, 2)
    facts = stage.manifests[2].commits
    assert facts
    path = stage.root / facts.key
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    before = stage.files()
    with pytest.raises(RepositoryDamaged):
        stage.gather()
    assert stage.files() == before


def test_a_prune_waits_for_whoever_gathers(stage: Stage) -> None:
    """It takes moments; who gathers goes at once where a prune is under way."""
    stage.follow(*[1] * 8)
    store = stage.repository.store
    slept: list[float] = []
    with Turn(store, NAME, "1" * 16, NOW, slept.append):
        with pytest.raises(RepositoryBusy, match="another prune of"):
            stage.gather()
        assert slept == []
    ended: list[Turn] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            ended[0].__exit__(None, None, None)

    ended.append(Turn(store, NAME, "2" * 16, NOW, sleep, gathering=True).__enter__())
    with Turn(store, NAME, "3" * 16, NOW + timedelta(seconds=1), sleep):
        assert len(slept) == 3


def test_nothing_becomes_too_large(stage: Stage) -> None:
    """Whoever restores a commit reads all of its batch, so there is a bound; what is beyond it is left alone."""
    stage.follow(*[2] * 15)
    size = max(each.bytes_stored for each in stage.manifests[1:])
    while stage.gather(most=4 * size).made:
        pass
    assert len(stage.manifests) > 4
    assert all(each.span == 2 or each.gathered for each in stage.manifests[1:])
    stage.prove(range(1, 32))


def test_from_a_target_that_keeps_no_local_files(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects are fetched, and their copies go."""
    target = MemoryTarget()
    stage = Stage(folder=tmp_path, runtime=runtime, images=histories(40))
    monkeypatch.setattr(Stage, "repository", property(lambda self: Repository.open(target, "memory:", create=True)))
    stage.follow(2, 1, -3, 2, 1)
    assert stage.gather().made == 1
    for key, data in target.objects.items():
        path = stage.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert stage.ends == [1, 9, 10]
    assert stage.txids == [1, 2, 3, 4, 7, 8, 9, 10]
    for txid in stage.txids:
        assert stage.image(txid) == stage.images[txid - 1]


def change(stage: Stage, sequence: int, **changes: object) -> Manifest:
    """Forge fields of a manifest."""
    (manifest,) = (each for each in stage.manifests if each.sequence == sequence)
    manifest = replace(manifest, **changes)  # type: ignore[arg-type]
    (stage.root / keys.manifest_key(NAME, sequence)).write_bytes(encode_manifest(manifest))
    return manifest


class Cut(BaseException):
    """The end of a process, as far as the repository sees it."""


def cut_before(stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int) -> Manifest:
    """Gather up to the removal of so many objects; return the manifest that was put."""
    removed = 0

    def stop(self: Store, names: Sequence[str]) -> None:
        nonlocal removed
        for name in names:
            if removed == number:
                raise Cut
            removed += 1
            real(self, name)

    real = Store.delete
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete_many", stop)
        patched.setattr(Turn, "__exit__", lambda *_: None)
        with pytest.raises(Cut):
            stage.gather()
    stage.repository.store.delete(f"{keys.PENDING}{stage.repository.store.keys(keys.PENDING)[0].split('/')[1]}")
    return next(each for each in stage.manifests if each.gathered is not UNSET)


def damage(path: Path) -> None:
    """Change a byte in the midst of a file."""
    data = bytearray(path.read_bytes())
    data[140] ^= 8
    path.write_bytes(data)


@pytest.mark.parametrize("which", [0, 1])
def test_what_was_gathered_and_is_not_whole_is_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """H32: as long as all that it stands for is there; then that is gathered again."""
    stage.follow(2, 1, 2, 2, 1)
    before = stage.txids
    made = cut_before(stage, monkeypatch, 0)
    damage(stage.root / made.object_keys[which])
    assert stage.gather(History()).made == 1
    (again,) = (each for each in stage.manifests if each.gathered is not UNSET)
    assert again.object_keys[which] != made.object_keys[which]
    assert not (stage.root / made.object_keys[which]).exists()
    stage.prove(before)


def test_where_nothing_is_whole_everything_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H32: nobody can say what may still be of use; the next call does not even look again."""
    stage.follow(2, 1, 2, 2, 1)
    made = cut_before(stage, monkeypatch, 3)
    damage(stage.root / made.key)
    before = stage.files()
    history = History()
    assert "is whole" in stage.gather(history).why_not
    assert "is whole" in stage.gather(history).why_not
    assert stage.files() == before
    assert "is whole" in stage.gather(History()).why_not
