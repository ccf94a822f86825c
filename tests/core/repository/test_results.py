"""What verifications found is memory: kept whole or not used, and never of other bytes than those it was found of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from pagewarden import durable
from pagewarden.repository import keys
from pagewarden.repository.chain import Chains
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.results import Depth, Found, Results, keep_results, read_results
from pagewarden.values import Verification
from tests.core.repository.chains import histories, make_chain
from tests.core.repository.sets import NOW

URL = "/backup/repo"


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """A chain of three."""
    return make_chain(tmp_path_factory.mktemp("chain") / "repository", histories(3))


def found(manifest: Manifest, state: str = "ok", depth: Depth = Depth.DATA, minutes: int = 0, why: str = "") -> Found:
    """Return what was found of an object."""
    return Found(manifest.bytes, manifest.sha256, state, depth.value, NOW + timedelta(minutes=minutes), why)


def keep(state: Path, objects: dict[str, Found], *, alive: set[str] | None = None, **cursors: int) -> str:
    """Keep results of one database."""
    return keep_results(
        state,
        URL,
        objects,
        cursors={f"data {name}": at for name, at in cursors.items()},
        looked_at=[keys.objects_prefix("app.db")],
        alive=frozenset(objects if alive is None else alive),
    )


def test_the_example_of_the_format_is_read(tmp_path: Path) -> None:
    """docs/formats/state-1.md shows it."""
    text = (Path(__file__).parents[3] / "docs/formats/state-1.md").read_text()
    inner = msgspec.json.encode(json.loads(text.partition("```json\n")[2].partition("```")[0]))
    (tmp_path / "verification").mkdir()
    name = hashlib.sha256(b"/mnt/backup").hexdigest()[:32]
    file = tmp_path / "verification" / f"{name}.json"
    file.write_bytes(b'{"verification":%s,"sha256":"%s"}\n' % (inner, hashlib.sha256(inner).hexdigest().encode()))
    results = read_results(tmp_path, "/mnt/backup")
    (one,) = results.objects.values()
    assert (results.warning, one.bytes, one.state, one.depth, one.alone) == ("", 4096, "ok", "data", True)
    assert results.cursor("app.db", Depth.DATA) == 1


def test_what_was_kept_comes_back(tmp_path: Path, links: list[Manifest]) -> None:
    """Of objects, and how far a run for a part came; nothing of another repository."""
    assert read_results(tmp_path, URL) == Results()
    objects = {link.key: found(link) for link in links}
    assert keep(tmp_path, objects, app=7) == ""
    results = read_results(tmp_path, URL)
    assert results.objects == objects
    assert (results.cursor("app", Depth.DATA), results.cursor("app", Depth.STORED)) == (7, 0)
    assert results.warning == ""
    assert read_results(tmp_path, "/backup/other") == Results()


def test_what_is_gone_is_forgotten(tmp_path: Path, links: list[Manifest]) -> None:
    """Only of the databases that were looked at; what was not read again stays."""
    other = {"other.db/objects/x": found(links[0])}
    keep_results(tmp_path, URL, other, cursors={}, looked_at=["other.db/objects/"], alive=frozenset(other))
    keep(tmp_path, {link.key: found(link) for link in links})
    keep(tmp_path, {links[2].key: found(links[2], "damaged")}, alive={links[1].key, links[2].key})
    objects = read_results(tmp_path, URL).objects
    assert set(objects) == {"other.db/objects/x", links[1].key, links[2].key}
    assert (objects[links[1].key].state, objects[links[2].key].state) == ("ok", "damaged")


@pytest.mark.parametrize("state", ["damaged", "missing"])
def test_what_could_not_be_read_takes_no_damage_back(tmp_path: Path, links: list[Manifest], state: str) -> None:
    """Of the same bytes; that they are whole does, and what was whole is not known to be so any more."""
    one, other = links[0], links[1]
    keep(tmp_path, {one.key: found(one, state, why="rotten"), other.key: found(other)})
    keep(tmp_path, {each.key: found(each, "unknown", minutes=1) for each in (one, other)})
    objects = read_results(tmp_path, URL).objects
    assert objects[one.key] == found(one, state, why="rotten")
    assert objects[other.key].state == "unknown"
    anew = replace(one, sha256="0" * 64)
    keep(tmp_path, {one.key: found(anew, "unknown"), other.key: found(other, minutes=2)})
    assert [read_results(tmp_path, URL).objects[each.key].state for each in (one, other)] == ["unknown", "ok"]
    keep(tmp_path, {one.key: found(one, state)}, alive={one.key})
    keep(tmp_path, {one.key: found(one)})
    assert read_results(tmp_path, URL).objects[one.key].state == "ok"


def test_whole_bytes_take_no_damage_back_that_their_sums_show(tmp_path: Path, links: list[Manifest]) -> None:
    """Of the same bytes; that they were proved with data does."""
    one = links[0]
    wrong = msgspec.structs.replace(found(one, "damaged"), alone=False)
    keep(tmp_path, {one.key: wrong})
    keep(tmp_path, {one.key: found(one, depth=Depth.STORED, minutes=1)})
    assert read_results(tmp_path, URL).objects[one.key] == wrong
    keep(tmp_path, {one.key: found(one, minutes=2)})
    assert read_results(tmp_path, URL).objects[one.key].state == "ok"


def test_two_verifications_at_once_keep_what_both_found(
    tmp_path: Path, links: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that comes while the other is between reading and writing waits, and takes nothing away."""
    alive = {link.key for link in links}
    keep(tmp_path, {links[0].key: found(links[0])}, alive=alive)
    write = durable.write
    began: list[Thread] = []

    def write_late(path: Path, data: bytes) -> None:
        if not began:
            began.append(Thread(target=lambda: keep(tmp_path, {links[1].key: found(links[1])}, alive=alive)))
            began[0].start()
            began[0].join(0.2)  # long enough for one that does not wait
        write(path, data)

    monkeypatch.setattr(durable, "write", write_late)
    keep(tmp_path, {links[2].key: found(links[2], "damaged")}, alive=alive)
    began[0].join()
    objects = read_results(tmp_path, URL).objects
    assert [objects[link.key].state for link in links] == ["ok", "ok", "damaged"]


def test_results_are_of_the_bytes_that_they_were_found_of(links: list[Manifest]) -> None:
    """Another size or SHA-256 under the same key: nothing is known of it."""
    results = Results(objects={links[0].key: found(links[0])})
    assert results.of(links[0]) is not None
    assert results.of(replace(links[0], sha256="0" * 64)) is None
    assert results.of(replace(links[0], bytes=links[0].bytes + 1)) is None
    assert results.of(links[1]) is None


def test_any_flipped_bit_is_named_and_nothing_of_it_used(tmp_path: Path, links: list[Manifest]) -> None:
    """The damaged file is kept beside the new one that begins."""
    keep(tmp_path, {link.key: found(link) for link in links})
    (path,) = (tmp_path / "verification").iterdir()
    data = path.read_bytes()
    for offset in (0, 20, len(data) // 2, len(data) - 30, len(data) - 1):
        changed = bytearray(data)
        changed[offset] ^= 1
        path.write_bytes(changed)
        results = read_results(tmp_path, URL)
        assert not results.objects
        assert f"{path} is damaged" in results.warning
    warning = keep(tmp_path, {links[0].key: found(links[0])})
    aside = path.with_name(f"{path.name}.unusable")
    assert f"it is kept as {aside}" in warning
    assert aside.read_bytes() == bytes(changed)
    assert set(read_results(tmp_path, URL).objects) == {links[0].key}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"format":1', b'"format":2', "is of format 2"),
        (b'"format":1', b'"farmat":1', "cannot be understood"),
        (b'"repository":"/backup/repo"', b'"repository":"/backup/rep0"', "of another repository"),
        (b'"ok"', b'"so"', "cannot be understood"),
        (b'"data"', b'"deep"', "cannot be understood"),
    ],
)
def test_what_another_version_wrote_is_not_guessed_at(
    tmp_path: Path, links: list[Manifest], old: bytes, new: bytes, words: str
) -> None:
    """With a right digest, what this version does not know is named and not used."""
    import hashlib

    keep(tmp_path, {links[0].key: found(links[0])})
    (path,) = (tmp_path / "verification").iterdir()
    inner = json.dumps(json.loads(path.read_bytes())["verification"], separators=(",", ":")).encode()
    assert path.read_bytes() == seal(inner, hashlib.sha256(inner).hexdigest())
    inner = inner.replace(old, new, 1)
    path.write_bytes(seal(inner, hashlib.sha256(inner).hexdigest()))
    assert words in read_results(tmp_path, URL).warning


def seal(inner: bytes, digest: str) -> bytes:
    """Return the envelope."""
    return b'{"verification":' + inner + b',"sha256":"' + digest.encode() + b'"}\n'


def test_what_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    """A folder in the place of the file."""
    keep(tmp_path, {})
    (path,) = (tmp_path / "verification").iterdir()
    path.unlink()
    path.mkdir()
    assert "cannot be read" in read_results(tmp_path, URL).warning


def test_a_restore_point_is_what_its_chain_is(links: list[Manifest]) -> None:
    """Ok only where every object is; damage of one is known at once, and goes up; the oldest proof dates it."""
    one, two, three = links
    chains = Chains(links)

    def judged(*objects: tuple[Manifest, Found]) -> list[Verification | None]:
        results = Results(objects={manifest.key: each for manifest, each in objects})
        several = results.verifications(links, chains)
        alone = [results.verification(chains.of(link).links) for link in links]
        assert alone == [several[link.key] for link in links]
        return alone

    assert judged() == [None] * 3
    whole = judged((one, found(one, minutes=5)), (two, found(two, depth=Depth.STORED)), (three, found(three)))
    assert [(each.state, each.data, each.time) for each in whole if each] == [
        ("ok", True, NOW + timedelta(minutes=5)), ("ok", False, NOW), ("ok", False, NOW)
    ]  # fmt: skip
    assert judged((two, found(two)), (three, found(three))) == [None] * 3
    broken = judged((one, found(one)), (two, found(two, "missing", why="gone")), (three, found(three)))
    assert [each.state for each in broken if each] == ["ok", "missing", "missing"]
    worse = judged((two, found(two, "unknown")), (three, found(three, "damaged", why="rot")))
    assert [each and (each.state, each.why) for each in worse] == [None, ("unknown", ""), ("damaged", "rot")]
    assert Results(objects={two.key: found(two)}).verification([two]) is None  # a chain with a gap
