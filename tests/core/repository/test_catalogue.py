"""Which manifest of a restore point counts, and what is never believed of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import PagewardenError, RepositoryDamaged, RepositoryNotFound
from pagewarden.repository import Entry, keys
from pagewarden.repository.manifest import Manifest, encode_manifest
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.values import RestorePoint
from tests.core.repository.chains import histories
from tests.core.repository.follower import Follower
from tests.core.repository.sets import after, back_up, image

NAME = "app.db"
DATA = image(9)


def anew(repository: Repository, target: Target, point: RestorePoint, generation: int, **changes: object) -> Manifest:
    """Store a point anew, with another object; return its manifest."""
    manifest = repository.chain(point).point
    parts = keys.parse_object_key(manifest.key)
    assert parts is not None
    key = keys.object_key(replace(parts, nonce=f"{generation:016x}"))
    if key not in {info.key for info in target.list("")}:
        target.put(key, target.get(manifest.key))
    manifest = replace(manifest, **{"key": key, **changes})  # type: ignore[arg-type]
    target.put(keys.manifest_key(NAME, manifest.sequence, generation), encode_manifest(manifest))
    return manifest


def entry_of(repository: Repository, number: int = 0) -> Entry:
    """Return one entry."""
    return tuple(repository.entries(NAME))[number]


def test_the_highest_generation_counts(repository: Repository, target: Target) -> None:
    """The point is the same, its object another one; the older ones are superseded, and no strays."""
    points = [back_up(repository, NAME, DATA, time=after(number)) for number in range(2)]
    first = repository.chain(points[0]).point
    made = [anew(repository, target, points[0], generation) for generation in (1, 2, 10)]
    entry = entry_of(repository)
    assert (entry.manifest, entry.sequence, entry.problem) == (made[-1], 1, "")
    assert [other.manifest for other in entry.others] == [made[1], made[0], first]
    assert entry.object_keys == {first.key, *(each.key for each in made)}
    found, problems = repository.restore_points(NAME)
    assert [point.position for point in found] == [point.position for point in points]
    assert (found[0].key, problems) == (made[-1].key, ())
    assert repository.resolve(NAME, txid=1).key == made[-1].key
    assert repository.chain(points[0]).links == (made[-1],)  # listed before it was stored anew
    assert repository.look(NAME)[1] == ()
    assert repository.begin(NAME).sequence == 3


def test_a_broken_generation_leaves_the_one_below(repository: Repository, target: Target) -> None:
    """The highest that can be read counts; the broken one is known, and the point is not lost."""
    point = back_up(repository, NAME, DATA)
    manifest = repository.chain(point).point
    target.put(keys.manifest_key(NAME, 1, 1), b"half a manifest")
    entry = entry_of(repository)
    assert entry.manifest == manifest
    (other,) = entry.others
    assert other.manifest is None and "SHA-256" in other.problem
    target.delete(keys.manifest_key(NAME, 1))
    assert entry_of(repository).manifest is None
    with pytest.raises(RepositoryDamaged, match="gone or broken"):
        repository.chain(point)


@pytest.mark.parametrize("field", ["position", "pages", "page_size", "database_sum"])
def test_generations_that_contradict_each_other_are_not_used(
    repository: Repository, target: Target, field: str
) -> None:
    """Nobody can tell which one lies, so neither is believed, and the other restore points are."""
    points = [back_up(repository, NAME, DATA, time=after(number)) for number in range(2)]
    manifest = repository.chain(points[0]).point
    other = {
        "position": replace(manifest.position, time=manifest.position.time + timedelta(1)),
        "pages": manifest.pages + 1,
        "page_size": 1024,
        "database_sum": "0" * 16,
    }[field]
    anew(repository, target, points[0], 1, **{field: other})
    entry = entry_of(repository)
    assert entry.manifest is None and "contradict each other" in entry.problem
    found, problems = repository.restore_points(NAME)
    assert found == (points[1],)
    assert len(problems) == 1


def test_a_point_that_is_gone_is_told_from_one_that_is_broken(repository: Repository, target: Target) -> None:
    """Pruned since it was listed: there is no such restore point any more."""
    points = [back_up(repository, NAME, DATA, time=after(number)) for number in range(2)]
    target.delete(keys.manifest_key(NAME, 1))
    with pytest.raises(RepositoryNotFound, match="any more") as caught:
        repository.chain(points[0])
    assert "backups" in caught.value.hint


def test_what_is_stored_anew_while_it_is_looked_at_is_found(repository: Repository, target: Target) -> None:
    """The key that was listed is gone when it is read: the new generation is looked up; a pruned point is none."""
    points = [back_up(repository, NAME, DATA, time=after(number)) for number in range(3)]
    listed = repository.store.keys(keys.manifests_prefix(NAME))
    made = anew(repository, target, points[0], 1)
    for sequence in (1, 2):
        target.delete(keys.manifest_key(NAME, sequence))
    real = repository.store.keys
    answers = [listed]

    def stale(prefix: str) -> list[str]:
        return answers.pop() if answers else real(prefix)

    repository.store.keys = stale  # type: ignore[method-assign]
    entries = tuple(repository.entries(NAME))
    assert [entry.sequence for entry in entries] == [1, 3]
    assert entries[0].manifest == made


@pytest.mark.parametrize(
    "key",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "app.db/objects/../../secret.pageset.zst",
        "app.db/objects/0123456789abcdef0123456789abcdef/../0000000000000001-00112233aabbccdd.pageset.zst",
        "app.db/objects/0123456789abcdef0123456789abcdef/0000000000000001-00112233aabbccdd.pageset.zst\n",
        "other.db/objects/{timeline}/0000000000000001-00112233aabbccdd.pageset.zst",
        "app.db/objects/{timeline}/0000000000000002-00112233aabbccdd.pageset.zst",
        "pagewarden.json",
        "",
    ],
)
def test_an_object_elsewhere_is_never_asked_for(repository: Repository, target: Target, key: str) -> None:
    """A forged manifest whose object is another file, of this repository or of the machine, is not used."""
    point = back_up(repository, NAME, DATA)
    manifest = repository.chain(point).point
    forged = replace(manifest, key=key.format(timeline=manifest.position.timeline))
    target.delete(keys.manifest_key(NAME, 1))
    target.put(keys.manifest_key(NAME, 1), encode_manifest(forged))
    entry = entry_of(repository)
    assert entry.manifest is None and "another place" in entry.problem
    with pytest.raises(RepositoryDamaged, match="no manifest of"):
        repository.resolve(NAME)


@pytest.mark.parametrize(
    "key",
    [
        "other.db/objects/{timeline}/0000000000000004-{nonce}.commits.zst",
        "app.db/objects/{timeline}/0000000000000005-{nonce}.commits.zst",
        "app.db/objects/00000000000000000000000000000000/0000000000000004-{nonce}.commits.zst",
        "app.db/objects/{timeline}/0000000000000004-{nonce}.pageset.zst",
        "app.db/objects/{timeline}/0000000000000004-{nonce}.commits.zst/..",
        "../secret",
        "",
    ],
)
def test_commits_of_another_place_are_refused(repository: Repository, tmp_path: Path, key: str) -> None:
    """A manifest that names the commits of another database, position or kind is used for nothing."""
    follower = Follower(folder=tmp_path, images=histories(4))
    with follower.begin(repository) as stream:
        follower.follow(stream, 3)
        assert stream.newest is not None and stream.newest.commits
        manifest = stream.newest
    nonce = manifest.object_keys[1].rpartition("/")[2][17:33]
    wrong = key.format(timeline=manifest.position.timeline, nonce=nonce)
    assert manifest.commits
    where = keys.manifest_key("app.db", 2)
    repository.store.delete(where)
    forged = replace(manifest, commits=replace(manifest.commits, key=wrong))
    repository.store.put(where, encode_manifest(forged))
    (_, entry) = repository.entries("app.db")
    assert entry.manifest is None and entry.problem == f"{where} holds the manifest of another place"


def followed(repository: Repository, folder: Path) -> list[Manifest]:
    """Store a snapshot and six batches of one commit each."""
    folder.mkdir()
    follower = Follower(folder=folder, images=histories(8))
    with follower.begin(repository) as stream:
        follower.follow(stream, *[1] * 6)
    return [entry.manifest for entry in repository.entries(NAME) if entry.manifest is not None]


def gather(target: Target, manifests: list[Manifest], first: int, last: int, **changes: object) -> str:
    """Put a manifest that stands for those numbered `first` to `last`; return its key."""
    parent, top = manifests[first - 1].parent, manifests[last - 1]
    made = replace(top, **{"parent": parent, "merged": last - first + 1, "gathered": first, **changes})  # type: ignore[arg-type]
    key = keys.manifest_key(NAME, last, 1)
    target.put(key, encode_manifest(made))
    return key


def test_what_is_gathered_counts_no_more(repository: Repository, target: Target, tmp_path: Path) -> None:
    """From the moment that the one stands which stands for all; its objects and theirs are no strays."""
    manifests = followed(repository, tmp_path / "spool")
    key = gather(target, manifests, 2, 4)
    entries = tuple(repository.entries(NAME))
    assert [entry.sequence for entry in entries] == [1, 4, 5, 6, 7]
    assert entries[1].key == key
    assert [other.sequence for other in entries[1].others] == [4, 3, 2]
    assert repository.look(NAME)[1] == ()
    target.delete(keys.manifest_key(NAME, 4))
    target.delete(keys.manifest_key(NAME, 2))
    entries = tuple(repository.entries(NAME))
    assert [entry.sequence for entry in entries] == [1, 4, 5, 6, 7]
    assert [other.sequence for other in entries[1].others] == [3]
    # Again, with what was gathered before.
    top = entries[3].manifest
    assert top is not None
    gather(target, [each.manifest for each in entries if each.manifest is not None][:1] + manifests[1:], 2, 6)
    entries = tuple(repository.entries(NAME))
    assert [entry.sequence for entry in entries] == [1, 6, 7]
    assert sorted(other.sequence for other in entries[1].others) == [3, 4, 5, 6]


def test_what_is_not_among_the_commits_of_a_batch_is_not_gathered_in_it(
    repository: Repository, target: Target, tmp_path: Path
) -> None:
    """Whatever numbers it claims: another timeline, and positions that it does not lead over, count on."""
    manifests = followed(repository, tmp_path / "spool")
    gather(target, manifests, 4, 5, gathered=1)
    assert [entry.sequence for entry in repository.entries(NAME)] == [1, 2, 3, 5, 6, 7]


def test_what_goes_away_while_it_is_read_is_seen_with_what_stands_for_it(
    repository: Repository, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of before and documents of after would show a chain with a gap that never was."""
    manifests = followed(repository, tmp_path / "spool")
    real = Store.documents

    def documents(self: Store, asked: Sequence[str]) -> Iterator[bytes | PagewardenError | None]:
        read = list(real(self, asked))  # those that are read late are read first
        if keys.manifest_key(NAME, 2) in asked:
            gather(target, manifests, 2, 4)
            for number in (4, 3, 2):
                target.delete(keys.manifest_key(NAME, number))
            read = [
                None if key in (keys.manifest_key(NAME, 2), keys.manifest_key(NAME, 3)) else data
                for key, data in zip(asked, read, strict=True)
            ]
        yield from read

    monkeypatch.setattr(Store, "documents", documents)
    entries = tuple(repository.entries(NAME))
    assert [(entry.sequence, entry.problem) for entry in entries] == [(n, "") for n in (1, 4, 5, 6, 7)]
    assert entries[1].others == ()
