"""Damaged repositories: every byte of a small one, cut off at every length, and its files lost, copied and exchanged.

`verify` reports each, with the pages read and without, and `restore` refuses it or brings back the right bytes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewarden.errors import ConfigurationInvalid, RepositoryDamaged, RepositoryNotFound
from pagewarden.processes.reader import PageReader
from pagewarden.repository import VerifyRequest, keys, run_verify
from pagewarden.repository.proof import Link, Proved, SumsMap, prove_links
from pagewarden.repository.repository import Repository
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import RestorePoint, VerifyReport
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import after, assemble, back_up, image

NAME = "app.db"


@dataclass(frozen=True)
class Store:
    """A repository of restore points of two pages of 512 bytes, and what each holds."""

    root: Path
    points: tuple[RestorePoint, ...]
    images: tuple[bytes, ...]
    runtime: Runtime

    @property
    def files(self) -> dict[str, Path]:
        """Its files by what they are: "marker", "manifest 1", "object 1" …"""
        found = {"marker": self.root / keys.MARKER}
        for number, point in enumerate(self.points, 1):
            found[f"manifest {number}"] = self.root / keys.manifest_key(NAME, number)
            found[f"object {number}"] = self.root / point.key
        return found

    def verify(self, *, read_data: bool) -> VerifyReport:
        """Verify it."""
        return run_verify(VerifyRequest(repository=str(self.root), read_data=read_data), self.runtime)

    def restore(self, txid: int | None = None) -> bytes:
        """Return what is brought back, proved against its manifest as the verb does it, without the verb's swap."""
        repository = self.runtime.repository(str(self.root))
        chain = repository.resolve_chain(NAME, txid=txid)
        out = self.root.parent / "out"
        infos = assemble([repository.object_path(key) for key in reversed(chain.keys)], out, threads=1)
        repository.confirm(chain.links, infos[::-1])
        return out.read_bytes()


STEP = 1 if os.environ.get("PAGEWARDEN_FULL") else 3
ENDS = 200  # bytes: header and trailer


class NearReader(PageReader):
    """What the page reader does with page sets, done in this process: thousands of small ones are proved here."""

    def begin_proof(self) -> int:
        """Begin a map."""
        self.map = SumsMap()
        return 1

    def prove_links(self, proof: int, links: Sequence[Link], **_: Any) -> list[Proved]:
        """Prove them."""
        return prove_links(links, self.map, threads=1, drop_cache=False, progress=lambda _: None)

    def end_proof(self, proof: int) -> None:
        """Forget the map."""
        self.map.forget()


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A runtime whose page reader is near, and which keeps nothing of what thousands of verifications find."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Runtime(plugins=PluginChoice(only=("target-directory",)), reader=NearReader(threads=1)) as runtime,
    ):
        patch.setattr("pagewarden.repository.verify.keep_results", lambda *_, **__: "")
        yield runtime


def make_store(folder: Path, runtime: Runtime, count: int) -> Store:
    """Return a whole repository of so many restore points."""
    root = folder / "repository"
    target = DirectoryFactory().open(str(root), create=True)
    repository = Repository.open(target, str(root), create=True, token=seeded(5))
    images = tuple(image(2, seed=number) for number in range(count))
    return Store(root, tuple(back_up(repository, NAME, data) for data in images), images, runtime)


@pytest.fixture
def one(tmp_path: Path, runtime: Runtime) -> Store:
    """A whole repository of one restore point."""
    return make_store(tmp_path, runtime, 1)


@pytest.fixture
def two(tmp_path: Path, runtime: Runtime) -> Store:
    """A whole repository of two restore points."""
    return make_store(tmp_path, runtime, 2)


def reported(store: Store, what: str, *, modes: Iterable[bool] = (False, True)) -> None:
    """Assert that verify reports it, with the pages read and without, and says what it is."""
    for read_data in modes:
        report = store.verify(read_data=read_data)
        bad = [point for point in report.points if point.state != "ok"]
        assert report.exit_code == 1, what
        assert bad and all(point.state in ("damaged", "missing") and point.why for point in bad), what


def refused(store: Store, what: str, *asked: int | None) -> None:
    """Assert that restore refuses each of the positions that are asked for (None: the newest), and says what to do."""
    for txid in asked:
        with pytest.raises((RepositoryDamaged, RepositoryNotFound)) as caught:
            store.restore(txid)
        assert caught.value.hint, what


def marker_refused(store: Store, what: str) -> None:
    """Assert that nothing is done with a repository whose marker is not what it must be."""
    for call in (lambda: store.verify(read_data=False), store.restore):
        with pytest.raises((RepositoryDamaged, ConfigurationInvalid)) as caught:
            call()
        assert caught.value.hint, what


def noticed(store: Store, which: str, what: str) -> None:
    """Assert that the damage to a file of a repository with one restore point is reported and refused."""
    if which == "marker":
        marker_refused(store, what)
        return
    reported(store, what, modes=(False, True) if which.startswith("object") else (False,))
    refused(store, what, None)


@pytest.mark.parametrize("which", ["marker", "manifest 1", "object 1"])
def test_any_flipped_byte_is_reported_and_refused(one: Store, which: str) -> None:
    """Every byte of every file, one at a time: one bit of it, or all of them.

    In a test of usual length, one in three of those that stand neither at the beginning nor at the end.
    """
    chance = random.Random(which)
    path = one.files[which]
    data = path.read_bytes()
    ends = (*range(ENDS), *range(len(data) - ENDS, len(data)))
    for offset in sorted({*range(0, len(data), STEP), *(offset for offset in ends if 0 <= offset < len(data))}):
        changed = bytearray(data)
        changed[offset] ^= chance.choice((0xFF, *(1 << bit for bit in range(8))))
        path.write_bytes(changed)
        noticed(one, which, f"byte {offset} is {changed[offset]:#x}, not {data[offset]:#x}")
    path.write_bytes(data)
    assert one.verify(read_data=True).exit_code == 0
    assert one.restore() == one.images[0]


@pytest.mark.parametrize("which", ["marker", "manifest 1", "object 1"])
def test_any_cut_is_reported_and_refused(one: Store, which: str) -> None:
    """Cut off at a length of each part, at a sample of others, and with a byte too many."""
    path = one.files[which]
    data = path.read_bytes()
    sizes = {0, 1, 8, 127, 128, 129, len(data) - 192, len(data) - 40, len(data) - 8, len(data) - 1}
    sizes.update(random.Random(which).sample(range(len(data)), 40))
    for size in sorted(size for size in sizes if 0 <= size < len(data)):
        path.write_bytes(data[:size])
        noticed(one, which, f"cut to {size} bytes")
    for more in (b"\0", b"\n", data):
        path.write_bytes(data + more)
        noticed(one, which, f"{len(more)} bytes more")


@pytest.mark.parametrize("which", ["manifest 1", "manifest 2", "object 1", "object 2"])
def test_a_lost_file_is_reported_and_its_restore_point_refused(two: Store, which: str) -> None:
    """A lost manifest of the newest backup does not quietly make the one before it the newest."""
    two.files[which].unlink()
    reported(two, which)
    lost = int(which[-1])
    refused(two, which, lost)
    assert two.restore(3 - lost) == two.images[2 - lost]
    if lost == 2:
        refused(two, which, None)
    else:
        assert two.restore() == two.images[1]


def test_a_lost_manifest_in_the_middle_is_minded_by_time(tmp_path: Path, runtime: Runtime) -> None:
    """What may be the last backup before a time is asked for by its number, or not at all."""
    root = tmp_path / "repository"
    target = DirectoryFactory().open(str(root), create=True)
    repository = Repository.open(target, str(root), create=True, token=seeded(5))
    points = [back_up(repository, NAME, image(2, seed=n), after(n)) for n in range(3)]
    (root / keys.manifest_key(NAME, 2)).unlink()
    with pytest.raises(RepositoryDamaged, match="no manifest names") as caught:
        repository.resolve(NAME, at=after(1.5))
    assert caught.value.hint.endswith("--txid 1")
    assert repository.resolve(NAME, txid=1) == points[0]
    assert repository.resolve(NAME) == points[2]


def test_a_lost_marker_is_no_repository(two: Store) -> None:
    """And none is begun anew over what is there."""
    two.files["marker"].unlink()
    marker_refused(two, "no marker")


@pytest.mark.parametrize("kind", ["manifest", "object"])
def test_exchanged_files_are_reported_and_refused(two: Store, kind: str) -> None:
    """Two that are whole, each in the place of the other, and one in both places."""
    first, second = two.files[f"{kind} 1"], two.files[f"{kind} 2"]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    reported(two, "exchanged")
    refused(two, "exchanged", None, 1, 2)
    first.write_bytes(one)
    reported(two, "the first one twice")
    refused(two, "the first one twice", None, 2)
    assert two.restore(1) == two.images[0]


def test_a_manifest_in_the_place_of_an_object_and_the_other_way_round(one: Store) -> None:
    """Nothing is taken for what it is not."""
    manifest, stored = one.files["manifest 1"], one.files["object 1"]
    one_data, other = manifest.read_bytes(), stored.read_bytes()
    for first, second in ((other, one_data), (other, other), (one_data, one_data)):
        manifest.write_bytes(first)
        stored.write_bytes(second)
        noticed(one, "object 1", "each in the place of the other")


def test_duplicates_are_reported_and_never_restored(two: Store) -> None:
    """A copy of an object as a later one, of a manifest under the next number, of all under another name."""
    stored = two.files["object 2"]
    later = stored.with_name(stored.name.replace("0000000000000002-", "0000000000000003-"))
    shutil.copyfile(stored, later)
    reported(two, "an object")
    refused(two, "an object", None, 3)
    assert two.restore(2) == two.images[1]
    later.unlink()
    manifest = two.files["manifest 2"]
    later = manifest.with_name("0000000000000003.json")
    shutil.copyfile(manifest, later)
    reported(two, "a manifest")
    refused(two, "a manifest", None)
    assert two.restore(2) == two.images[1]
    later.unlink()
    shutil.copytree(two.root / NAME, two.root / "other.db")
    reported(two, "all under another name")
    with pytest.raises(RepositoryDamaged):
        two.runtime.repository(str(two.root)).resolve("other.db")
    assert two.restore() == two.images[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_overwritten_runs_of_bytes_never_give_wrong_pages(one: Store, changes: list[tuple[int, bytes]]) -> None:
    """Any bytes anywhere, the checksums included: what is restored is right, or nothing is."""
    path = one.files["object 1"]
    data = path.read_bytes()
    changed = bytearray(data)
    for place, run in changes:
        offset = place % len(data)
        changed[offset : offset + len(run)] = run
    path.write_bytes(changed)
    try:
        if bytes(changed) == data:
            assert one.restore() == one.images[0]
        else:
            noticed(one, "object 1", repr(changes))
    finally:
        path.write_bytes(data)
