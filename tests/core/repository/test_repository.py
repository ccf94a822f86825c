from __future__ import annotations

import gc
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.contracts import BulkTarget, Target
from pagewarden.errors import (
    ConfigurationInvalid,
    OutOfSpace,
    RepositoryBusy,
    RepositoryDamaged,
    RepositoryNotFound,
    TargetFailed,
)
from pagewarden.repository import keys
from pagewarden.repository.pageset import read_info
from pagewarden.repository.repository import Repository
from pagewarden.values import Position
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, MemoryTarget, after, assemble, back_up, commit, image, store

DATA = image(9)


def everything(target: Target) -> dict[str, bytes]:
    """Return every stored object."""
    return {info.key: target.get(info.key) for info in target.list("")}


def test_a_new_repository_is_empty_and_opens_again(target: Target) -> None:
    """It holds its marker and nothing else; opening it again, to create or not, changes nothing."""
    Repository.open(target, target.url, create=True)
    before = everything(target)
    for create in (False, True):
        repository = Repository.open(target, target.url, create=create)
        assert repository.names() == ()
        assert repository.restore_points() == ((), ())
    assert everything(target) == before
    assert list(before) == ["pagewarden.json"]


def test_the_marker_is_the_same_everywhere(target: Target) -> None:
    """docs/formats/repository-1.md shows it, so that a lost one can be put back."""
    Repository.open(target, target.url, create=True)
    marker = target.get(keys.MARKER).decode()
    assert marker.startswith('{"repository":{"format":1,"kind":"pagewarden-repository"},"sha256":"')
    text = (Path(__file__).parents[3] / "docs/formats/repository-1.md").read_text()
    assert marker in text


def test_what_is_no_repository_is_refused(target: Target) -> None:
    """Nothing at all is RepositoryNotFound; somebody else's files are never built upon."""
    with pytest.raises(RepositoryNotFound, match="no repository") as missing:
        Repository.open(target, target.url)
    assert missing.value.hint.startswith("pagewarden backup")
    target.put("letters/one.txt", b"dear")
    for create in (False, True):
        with pytest.raises(ConfigurationInvalid, match="holds other files"):
            Repository.open(target, target.url, create=create)
    assert everything(target) == {"letters/one.txt": b"dear"}


def test_any_changed_marker_is_refused(target: Target) -> None:
    """A flipped bit, a cut, a newer format: nothing of such a repository is used."""
    Repository.open(target, target.url, create=True)
    marker = target.get(keys.MARKER)
    for bit in range(len(marker) * 8):
        changed = bytearray(marker)
        changed[bit // 8] ^= 1 << bit % 8
        other = MemoryTarget(objects={keys.MARKER: bytes(changed)})
        with pytest.raises(RepositoryDamaged, match=r"pagewarden\.json"):
            Repository.open(other, other.url, create=True)
    for size in range(len(marker)):
        other = MemoryTarget(objects={keys.MARKER: marker[:size]})
        with pytest.raises(RepositoryDamaged, match=r"pagewarden\.json"):
            Repository.open(other, other.url)


def test_another_kind_of_repository_is_refused() -> None:
    """A marker that proves itself but says something else is none of ours."""
    from pagewarden.repository.manifest import encode_document
    from pagewarden.repository.repository import Marker

    target = MemoryTarget(objects={keys.MARKER: encode_document("repository", Marker(kind="cellar"))})
    with pytest.raises(RepositoryDamaged, match="not a repository's marker"):
        Repository.open(target, target.url)


def test_two_who_create_it_at_once_both_have_it() -> None:
    """Whoever comes second finds the same marker."""

    class Late(MemoryTarget):
        def put(self, key: str, data: bytes) -> None:
            super().put(key, data)
            raise FileExistsError(key)

    target = Late()
    assert Repository.open(target, target.url, create=True).names() == ()


def test_the_first_backup_starts_a_timeline_and_later_ones_continue_it(repository: Repository, target: Target) -> None:
    """txid counts from 1, sequences too; each manifest names its parent, and pages come back as they were."""
    points = [back_up(repository, "app.db", image(5 + number, seed=number), time=after(number)) for number in range(4)]
    assert [point.position.txid for point in points] == [1, 2, 3, 4]
    assert len({point.position.timeline for point in points}) == 1
    manifests = [repository.chain(point).point for point in points]
    assert [manifest.sequence for manifest in manifests] == [1, 2, 3, 4]
    assert [manifest.parent for manifest in manifests] == [None, *(point.position for point in points[:3])]
    assert repository.restore_points() == (tuple(points), ())
    assert repository.newest("app.db") == points[-1]
    for number, point in enumerate(points):
        assert repository.object_path(point.key).read_bytes() == target.get(point.key)
        repository.confirm(repository.chain(point).links, [read_info(repository.object_path(point.key))])
        assert point.bytes == (5 + number) * 512


def test_nothing_else_is_left_by_a_backup(repository: Repository, target: Target) -> None:
    """A marker, a manifest and an object: no intent, no staging file."""
    point = back_up(repository, "app.db", DATA)
    assert sorted(everything(target)) == sorted(
        ["pagewarden.json", "app.db/manifests/0000000000000001.json", point.key]
    )
    folder = target.staging()
    assert folder is None or list(folder.iterdir()) == []
    assert repository.leftovers() == ()


def test_databases_are_kept_apart(repository: Repository) -> None:
    """Names with any characters have histories of their own, listed by their real names."""
    names = ["app.db", "my app.db", "pending", ".", "ä=b"]
    for name in names:
        back_up(repository, name, DATA)
    assert repository.names() == tuple(sorted(names))
    for name in names:
        (point,) = repository.restore_points(name)[0]
        assert (point.database, point.position.txid) == (name, 1)
    assert len(repository.restore_points()[0]) == 5
    assert repository.newest("other") is None


def test_an_intent_has_the_header_of_its_snapshot(repository: Repository) -> None:
    """What is written by it is at the position that it names."""
    intent = repository.begin("app.db")
    head = intent.header(page_size=4096, pages=7, time=NOW)
    assert (head.timeline, head.txid, head.pages_per_frame, head.time) == (intent.timeline, 1, 128, NOW)


def test_a_page_set_of_another_position_is_not_committed(repository: Repository, target: Target) -> None:
    """The caller's mistake leaves nothing behind."""
    before = everything(target)
    intent = repository.begin("app.db")
    info = store(repository, replace(intent, txid=2), DATA)
    with pytest.raises(ValueError, match=":2"):
        commit(repository, intent, info)
    assert everything(target) == before


def test_abandoning_leaves_nothing(repository: Repository, target: Target) -> None:
    """Whether or not anything was written yet, and however often."""
    before = everything(target)
    for write_it in (False, True):
        intent = repository.begin("app.db")
        if write_it:
            store(repository, intent, DATA)
        repository.abandon(intent)
        repository.abandon(intent)
        assert everything(target) == before
        assert not intent.staging.exists()


def test_the_second_of_two_commits_is_refused_and_leaves_nothing(repository: Repository, target: Target) -> None:
    """Both backups of a name begin at the same position; one becomes it, the other gets RepositoryBusy."""
    for round_number in range(3):
        one, other = repository.begin("app.db"), repository.begin("app.db")
        one_info = store(repository, one, image(5, seed=1))
        other_info = store(repository, other, image(6, seed=2))
        point = commit(repository, one, one_info)
        before = everything(target)
        with pytest.raises(RepositoryBusy, match=r"backup of app\.db") as caught:
            commit(repository, other, other_info)
        assert caught.value.hint == "try again"
        left = everything(target)
        assert {key for key in before if key not in left} == {keys.pending_key(other.nonce)}
        assert not other.staging.exists()
        assert repository.newest("app.db") == point
        assert len(repository.restore_points("app.db")[0]) == round_number + 1


def test_of_many_first_backups_at_once_one_is_first(root: Path) -> None:
    """Six that begin together on an empty repository: one commits, five get RepositoryBusy, nothing else is left."""
    start = threading.Barrier(6, timeout=60)
    outcomes: list[object] = []

    def run(number: int) -> None:
        try:
            target = DirectoryFactory().open(str(root), create=True)
            repository = Repository.open(target, str(root), create=True, token=seeded(number))
            start.wait()
            intent = repository.begin("app.db")
            info = store(repository, intent, image(5, seed=number))
            start.wait()
            outcomes.append(commit(repository, intent, info))
        except RepositoryBusy as error:
            outcomes.append(error)
        except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
            start.abort()
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    repository = Repository.open(DirectoryFactory().open(str(root), create=False), str(root))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RepositoryBusy"] * 5 + ["RestorePoint"], outcomes
    points, problems = repository.restore_points()
    assert (list(points), problems) == ([each for each in outcomes if not isinstance(each, RepositoryBusy)], ())
    assert repository.store.keys("pending/") == []
    assert repository.store.keys("app.db/objects/") == [points[0].key]
    assert list((root / "+staging").iterdir()) == []


def test_a_target_that_tries_again_by_itself_does_not_beat_itself(repository: Repository, target: Target) -> None:
    """A put whose first attempt arrived although it seemed to fail is a commit, not a defeat."""
    real = target.put

    def put_twice(key: str, data: bytes) -> None:
        if "/manifests/" in key:
            real(key, data)
        real(key, data)

    target.put = put_twice  # type: ignore[method-assign]
    point = back_up(repository, "app.db", DATA)
    assert repository.newest("app.db") == point


def test_a_restored_database_starts_a_new_timeline(repository: Repository) -> None:
    """Only where what was restored is not the newest of its timeline; the manifest names the parent."""
    first, second = back_up(repository, "app.db", DATA), back_up(repository, "app.db", DATA)
    intent = repository.begin("app.db", first.position)
    assert (intent.txid, intent.parent) == (1, first.position)
    assert intent.timeline != first.position.timeline
    branch = commit(repository, intent, store(repository, intent, DATA))
    # Who restored the newest one continues it, on either timeline.
    intent = repository.begin("app.db", second.position)
    assert (intent.timeline, intent.txid) == (second.position.timeline, 3)
    repository.abandon(intent)
    intent = repository.begin("app.db", branch.position)
    assert (intent.timeline, intent.txid, intent.parent) == (branch.position.timeline, 2, branch.position)
    repository.abandon(intent)
    # Who knows nothing continues what was committed last.
    intent = repository.begin("app.db")
    assert (intent.timeline, intent.txid, intent.sequence) == (branch.position.timeline, 2, 4)


def test_an_origin_that_is_not_here_starts_a_timeline(repository: Repository) -> None:
    """A position of another repository, or one that is gone, is named as the parent all the same."""
    stranger = Position(timeline="ab" * 16, txid=7, time=NOW)
    for _ in range(2):
        intent = repository.begin("app.db", stranger)
        assert (intent.txid, intent.parent) == (1, stranger)
        assert intent.timeline != stranger.timeline
        commit(repository, intent, store(repository, intent, DATA))


def test_the_order_of_commits_counts_and_not_the_clock(repository: Repository) -> None:
    """The clock steps back: newest is the last one committed, and `at` takes the last that fits (H23)."""
    points = [back_up(repository, "app.db", DATA, time=after(minutes)) for minutes in (0, 30, 10, 5)]
    assert repository.newest("app.db") == points[3]
    assert repository.resolve() == points[3]
    assert repository.resolve(at=after(0)) == points[0]
    assert repository.resolve(at=after(7)) == points[3]
    assert repository.resolve(at=after(20)) == points[3]
    assert repository.resolve(at=after(60)) == points[3]
    with pytest.raises(RepositoryNotFound, match="at or before 2026-11-22T10:14"):
        repository.resolve(at=after(-1))


def test_restoring_at_a_time_takes_the_last_commit_at_or_before_it(repository: Repository) -> None:
    """A seeded walk over times, compared with the plain rule."""
    rng = random.Random(3)
    minutes = sorted(rng.sample(range(1000), 8))
    points = [back_up(repository, "app.db", DATA, time=after(minute)) for minute in minutes]
    for at in rng.sample(range(-5, 1005), 60):
        wanted = [point for point, minute in zip(points, minutes, strict=True) if minute <= at]
        if wanted:
            assert repository.resolve("app.db", at=after(at)) == wanted[-1]
        else:
            with pytest.raises(RepositoryNotFound):
                repository.resolve("app.db", at=after(at))


def test_a_txid_of_several_timelines_means_the_newest(repository: Repository) -> None:
    """Unless a timeline is given, by its beginning; what is not there is named with what is."""
    first = back_up(repository, "app.db", DATA)
    back_up(repository, "app.db", DATA)
    intent = repository.begin("app.db", first.position)
    branch = commit(repository, intent, store(repository, intent, DATA))
    assert repository.resolve(txid=1) == branch
    assert repository.resolve(txid=1, timeline=first.position.timeline[:8]) == first
    assert repository.resolve(txid=2).position.timeline == first.position.timeline
    with pytest.raises(RepositoryNotFound, match=r"at txid 9: they reach from txid 1 at .* to txid 1 at") as caught:
        repository.resolve(txid=9)
    assert caught.value.hint == f"pagewarden backups --repo {repository.url} --db app.db"
    with pytest.raises(RepositoryNotFound, match="on timeline zz at txid 1"):
        repository.resolve(txid=1, timeline="zz")


def test_a_name_may_be_left_out_where_there_is_one(repository: Repository) -> None:
    """None and several are errors that say what to type."""
    with pytest.raises(RepositoryNotFound, match="holds no backup yet"):
        repository.resolve()
    point = back_up(repository, "app.db", DATA)
    assert repository.resolve() == point
    back_up(repository, "other.db", DATA)
    with pytest.raises(RepositoryNotFound, match=r"2 databases: app\.db, other\.db") as caught:
        repository.resolve()
    assert "--db app.db" in caught.value.hint
    with pytest.raises(RepositoryNotFound, match="no restore point of third"):
        repository.resolve("third")


def replace_object(target: Target, key: str, data: bytes) -> None:
    """Change what stands under a key."""
    target.delete(key)
    target.put(key, data)


def test_a_broken_manifest_hides_nothing(repository: Repository, target: Target) -> None:
    """The others are listed and can be restored, the broken one is named, and numbers are not given twice."""
    points = [back_up(repository, "app.db", DATA) for _ in range(3)]
    key = keys.manifest_key("app.db", 3)
    replace_object(target, key, target.get(key).replace(b"snapshot", b"snapshop"))
    found, problems = repository.restore_points("app.db")
    assert found == tuple(points[:2])
    assert len(problems) == 1 and key in problems[0]
    with pytest.raises(RepositoryDamaged, match="after txid 2 that cannot be read"):
        repository.resolve()  # the newest was asked for: an older one is no answer
    with pytest.raises(RepositoryDamaged, match="after txid 2 that cannot be read"):
        repository.resolve(at=points[2].position.time)
    assert repository.resolve(txid=2) == points[1]
    assert repository.resolve(at=points[0].position.time, txid=1) == points[0]
    intent = repository.begin("app.db")
    assert (intent.sequence, intent.txid, intent.parent) == (4, 4, points[1].position)
    commit(repository, intent, store(repository, intent, DATA))
    with pytest.raises(RepositoryDamaged, match="gone or broken"):
        repository.chain(points[2])


def test_only_broken_manifests_are_said_to_be_so(repository: Repository, target: Target) -> None:
    """Resolving tells why there is nothing."""
    back_up(repository, "app.db", DATA)
    replace_object(target, keys.manifest_key("app.db", 1), b"{}")
    assert repository.names() == ("app.db",)
    with pytest.raises(RepositoryDamaged, match="SHA-256"):
        repository.resolve()
    intent = repository.begin("app.db")
    assert (intent.sequence, intent.parent) == (2, None)


def test_a_manifest_in_another_place_is_not_believed(repository: Repository, target: Target) -> None:
    """Copied to another number, another database, or a name that is no manifest's: named, never used."""
    point = back_up(repository, "app.db", DATA)
    data = target.get(keys.manifest_key("app.db", 1))
    target.put(keys.manifest_key("app.db", 2), data)
    target.put(keys.manifest_key("other.db", 1), data)
    target.put("app.db/manifests/copy.json", data)
    found, problems = repository.restore_points()
    assert found == (point,)
    assert len(problems) == 3
    assert all("place" in problem or "where a manifest stands" in problem for problem in problems)


def test_an_unreadable_manifest_hides_nothing(repository: Repository, target: Target) -> None:
    """A disk error under one manifest is that one's problem."""
    points = [back_up(repository, "app.db", DATA) for _ in range(2)]
    real = target.read

    def read(key: str, offset: int, length: int) -> bytes:
        if key == keys.manifest_key("app.db", 1):
            raise OSError(5, "Input/output error")
        if key == keys.manifest_key("app.db", 2) and gone:
            raise FileNotFoundError(key)
        return real(key, offset, length)

    def read_many(asked: Sequence[str], length: int) -> Iterator[bytes | None]:
        for key in asked:
            with suppress(FileNotFoundError):
                yield read(key, 0, length)
                continue
            yield None

    target.read = read  # type: ignore[method-assign]
    if isinstance(target, BulkTarget):
        target.read_many = read_many  # type: ignore[method-assign, assignment]
    gone = False
    found, problems = repository.restore_points("app.db")
    assert found == (points[1],)
    assert "input/output error" in problems[0]
    gone = True
    assert "went away" in repository.restore_points("app.db")[1][1]


def test_an_object_that_is_not_the_manifests_is_refused(repository: Repository, target: Target, tmp_path: Path) -> None:
    """Two whole objects that changed places restore fine by themselves, and are refused all the same."""
    one, two = back_up(repository, "app.db", image(5, seed=1)), back_up(repository, "app.db", image(5, seed=2))
    one_data, two_data = target.get(one.key), target.get(two.key)
    replace_object(target, one.key, two_data)
    replace_object(target, two.key, one_data)
    for point in (one, two):
        infos = assemble([repository.object_path(point.key)], tmp_path / "out", threads=1)
        with pytest.raises(RepositoryDamaged, match="not the one of its manifest") as caught:
            repository.confirm(repository.chain(point).links, infos)
        assert "verify" in caught.value.hint


def test_a_missing_object_is_named(repository: Repository, target: Target) -> None:
    """Asking for it says what is missing and what to do."""
    point = back_up(repository, "app.db", DATA)
    target.delete(point.key)
    with pytest.raises(RepositoryDamaged, match="is missing") as caught:
        repository.object_path(point.key)
    assert "verify" in caught.value.hint


def test_fetched_objects_do_not_outlive_the_repository() -> None:
    """What a target without local files made us fetch is removed with the repository."""
    target = MemoryTarget()
    repository = Repository.open(target, target.url, create=True, token=seeded(1))
    point = back_up(repository, "app.db", DATA)
    path = repository.object_path(point.key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    del repository
    gc.collect()
    assert not path.exists()


def test_a_target_that_fails_is_a_named_error(repository: Repository, target: Target) -> None:
    """Whatever OSError a target raises, callers meet TargetFailed or OutOfSpace, naming what could not be done."""

    def fail(number: int) -> None:
        def refuse(*arguments: object, **named: object) -> None:
            raise OSError(number, "no")

        for method in ("put", "adopt", "open", "read", "read_many", "list", "keys", "delete", "staging"):
            setattr(target, method, refuse)

    point = back_up(repository, "app.db", DATA)
    intent = repository.begin("app.db")
    info = store(repository, intent, DATA)
    for number, error in ((28, OutOfSpace), (13, TargetFailed)):
        fail(number)
        for call in (
            repository.names,
            lambda: repository.object_path(point.key),
            lambda: repository.begin("app.db"),
            repository.clean,
            repository.leftovers,
            lambda: repository.abandon(intent),
            lambda: Repository.open(target, target.url, create=True),
        ):
            with pytest.raises(error, match="cannot"):
                call()
        with pytest.raises(error, match="cannot store") as caught:
            commit(repository, intent, info)
        assert "could not be removed" in caught.value.__notes__[-1]


def test_a_nonce_that_is_taken_is_refused(target: Target) -> None:
    """Randomness that repeats itself never overwrites another backup's intent."""
    repository = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=lambda count: "00" * count)
    repository.begin("app.db")
    with pytest.raises(RepositoryBusy, match="number 0000"):
        repository.begin("app.db")


def test_a_directory_repository_needs_nothing_but_the_directory(root: Path) -> None:
    """What one process stored another one finds by the path alone."""
    first = Repository.open(DirectoryFactory().open(str(root), create=True), str(root), create=True)
    point = back_up(first, "app.db", DATA)
    again = Repository.open(DirectoryFactory().open(f"file://{root}", create=False), f"file://{root}")
    assert again.resolve() == point
    assert again.object_path(point.key) == root / point.key


def test_a_position_is_never_given_twice(repository: Repository, target: Target) -> None:
    """Even where a manifest was lost altogether, its object still says which txid it had."""
    for _ in range(2):
        back_up(repository, "app.db", DATA)
    target.delete(keys.manifest_key("app.db", 2))
    assert repository.begin("app.db").txid == 3
