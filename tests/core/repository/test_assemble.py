"""Databases made of chains of page sets: each page by its last version, all of it proved."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.errors import OutOfSpace, RepositoryDamaged, TargetFailed, VerificationFailed
from pagewarden.pages import lock_page
from pagewarden.repository import assemble as assembling
from pagewarden.repository.assemble import Assembly, Claims
from pagewarden.repository.format import Kind
from pagewarden.repository.layers import Layers
from pagewarden.repository.pageset import PageSetFile
from tests.core.repository.conftest import Opener
from tests.core.repository.segments import segment_header, write_segment
from tests.core.repository.sets import assemble, header, image, write
from tests.support.segments import database_sum_of, page_set, segment_between


def random_history(seed: int, steps: int = 8, pages: int = 40) -> list[bytes]:
    """Return images of a database that is written to, grows and shrinks."""
    rng = random.Random(seed)
    images = [image(pages, seed=seed)]
    for _ in range(steps):
        now = bytearray(images[-1])
        size = len(now) // 512
        kind = rng.randrange(4)
        if kind == 0:
            now += rng.randbytes(512 * rng.randrange(1, 12))
        elif kind == 1 and size > 3:
            del now[512 * rng.randrange(2, size) :]
        for pgno in rng.sample(range(1, len(now) // 512 + 1), rng.randrange(0, max(1, len(now) // 1024))):
            now[(pgno - 1) * 512 + 7 : (pgno - 1) * 512 + 11] = rng.randbytes(4)
        images.append(bytes(now))
    return images


def store(folder: Path, images: list[bytes]) -> list[Path]:
    """Store a history: a snapshot, then segments; return their files from the newest down."""
    write(folder / "1", images[0], header(len(images[0]) // 512))
    for txid, (before, after) in enumerate(pairwise(images), 2):
        (folder / str(txid)).write_bytes(segment_between(before, after, segment_header(txid=txid)))
    return [folder / str(txid) for txid in range(len(images), 0, -1)]


@pytest.mark.parametrize("room", [0, 3000, 1 << 30], ids=["nothing waits", "some wait", "all wait"])
@pytest.mark.parametrize("seed", range(2))
def test_every_point_of_a_chain_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opener, seed: int, room: int
) -> None:
    """Written to, grown and shrunk: each restore point equals its image, however many pages wait in memory (H21)."""
    monkeypatch.setattr(assembling, "WAITING", room)
    images = random_history(seed)
    paths = store(tmp_path, images)
    told: list[tuple[int, int]] = []
    for number in range(len(images)):
        chain = paths[len(images) - 1 - number :]
        told.clear()
        infos = assemble(chain, tmp_path / "out", read_back=number % 2 == 0, progress=lambda *done: told.append(done))
        assert (tmp_path / "out").read_bytes() == images[number]
        assert [info.header.txid for info in infos] == list(range(number + 1, 0, -1))
        assert all(done <= total == len(images[number]) // 512 for done, total in told)
        layers = Layers(chain, opened)
        assert layers.infos == infos
        pages = layers.info.header.pages
        assert b"".join(map(layers.page, range(1, pages + 1))) == images[number]
        for first, count in ((1, pages), (1, 0), (pages, 1), (2, pages - 1)):
            part = layers.sums(first, count)
            assert len(part) == count * 8
        assert all(layers.sums(1, pages)[(n - 1) * 8 : n * 8] == layers.sums(n, 1) for n in range(1, pages + 1))
        for wrong in ((0, 1), (1, pages + 1), (pages + 1, 1), (1, -1)):
            with pytest.raises(ValueError, match="within"):
                layers.sums(*wrong)
        for pgno in (0, pages + 1):
            with pytest.raises(ValueError, match="within"):
                layers.page(pgno)


def test_page_sets_may_come_in_several_goes(tmp_path: Path) -> None:
    """One by one, or all at once: the same database; a page set that does not open changes nothing."""
    images = random_history(5)
    paths = store(tmp_path, images)
    out = tmp_path / "out"
    with out.open("w+b") as file, Assembly(out, file.fileno(), threads=2) as assembly:
        with pytest.raises(ValueError, match="nothing was added"):
            assembly.finish()
        for number, path in enumerate(paths):
            with pytest.raises(TargetFailed, match="no such file"):
                assembly.add([path, tmp_path / "gone"])
            assembly.add([path] if number else paths[:2])
        assembly.finish()
    assert out.read_bytes() == images[-1]


@pytest.mark.parametrize("where", ["snapshot", "segment"])
def test_a_flipped_bit_anywhere_in_the_chain_is_found(tmp_path: Path, where: str) -> None:
    """Whether the page is wanted or an older version of it: every byte that is read goes through a digest."""
    images = random_history(6, steps=4)
    paths = store(tmp_path, images)
    path = paths[-1] if where == "snapshot" else paths[1]
    data = path.read_bytes()
    rng = random.Random(1)
    for offset in rng.sample(range(len(data)), 60):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(RepositoryDamaged, match=path.name):
            assemble(paths, tmp_path / "out")
    path.write_bytes(data)
    assemble(paths, tmp_path / "out")


def test_a_chain_with_a_hole_is_refused(tmp_path: Path, opened: Opener) -> None:
    """Without a segment, without its snapshot, or with another one in its place: never a database of mixed pages."""
    images = random_history(7, steps=5)
    paths = store(tmp_path, images)
    for chain in (paths[:2] + paths[3:], paths[:-1], [paths[0], paths[-1]]):
        with pytest.raises(RepositoryDamaged, match=r"database sum|in none of"):
            assemble(chain, tmp_path / "out")
        with pytest.raises(RepositoryDamaged, match=r"add up|continue"):
            Layers(chain, opened)
    write(tmp_path / "other", image(40, seed=99), header(40))
    with pytest.raises(RepositoryDamaged, match="database sum"):
        assemble([*paths[:-1], tmp_path / "other"], tmp_path / "out")


def test_segments_of_another_database_are_refused(tmp_path: Path, opened: Opener) -> None:
    """Another timeline or another page size: named before anything is written."""
    images = random_history(8, steps=3)
    paths = store(tmp_path, images)
    head = replace(segment_header(txid=2), timeline="f" * 32)
    (tmp_path / "timeline").write_bytes(segment_between(images[0], images[1], head))
    with pytest.raises(RepositoryDamaged, match="segment of another database"):
        assemble([paths[0], tmp_path / "timeline", paths[-1]], tmp_path / "out")
    write(tmp_path / "larger", image(40, 1024), header(40, 1024))
    with pytest.raises(RepositoryDamaged, match="pages of 1024 bytes, not 512"):
        assemble([*paths[:-1], tmp_path / "larger"], tmp_path / "out")
    with pytest.raises(RepositoryDamaged, match="what the page sets above it continue"):
        Layers([*paths[:-1], tmp_path / "larger"], opened)


def test_a_database_that_grew_over_the_lock_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H12: no page set holds that page, and it is zeros; any other that is missing is told."""
    size, lock = 65536, lock_page(65536)
    pages = lock + 1
    # The snapshot would have 1 GiB: what is smaller and says nothing of those pages stands in for it.
    data = {pgno: bytes([pgno % 251]) * size for pgno in (1, 2)}
    head = replace(header(2, size), pages=2)
    whole = b"".join(data.values())
    (tmp_path / "1").write_bytes(page_set(head, data, database_sum=database_sum_of(whole, size)))
    with PageSetFile(tmp_path / "1") as base:
        out = tmp_path / "out"
        with out.open("w+b") as file, Assembly(out, file.fileno(), threads=1) as assembly:
            assembly.add([base.path])
            newest = replace(base.info, header=replace(base.info.header, pages=pages))
            assembly._newest = newest
            with pytest.raises(RepositoryDamaged, match=f"{lock - 2:,} pages"):
                assembly.finish()
            assembly._claims.take(3, lock - 3)
            assembly._claims.take(lock + 1, 1)
            assembly.finish()
    monkeypatch.undo()


def test_a_full_disk_is_out_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC at any call names the space, for pages that are written at once and for those that waited."""
    images = random_history(9, steps=4)
    paths = store(tmp_path, images)

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for room in (0, 1 << 30):
        for call in ("pwrite", "fsync", "posix_fallocate"):
            with monkeypatch.context() as patch:
                patch.setattr(assembling, "WAITING", room)
                patch.setattr(os, call, full)
                with pytest.raises(OutOfSpace, match=r"cannot write .*out: no space"):
                    assemble(paths, tmp_path / "out")


def test_what_does_not_read_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes a page of a segment or of the snapshot is found out by its sum."""
    images = random_history(10, steps=3)
    paths = store(tmp_path, images)
    fsync = os.fsync
    for pgno in (1, len(images[-1]) // 512):

        def flip(descriptor: int, at: int = (pgno - 1) * 512 + 5) -> None:
            byte = os.pread(descriptor, 1, at)
            os.pwrite(descriptor, bytes([byte[0] ^ 1]), at)
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", flip)
            with pytest.raises(VerificationFailed, match=f"page {pgno} of .* did not read back"):
                assemble(paths, tmp_path / "out", read_back=True)


def test_pages_beyond_a_shrunken_database_are_dropped(tmp_path: Path) -> None:
    """H21: they stay in older page sets and come back with nothing; a segment of no page is enough to say so."""
    before = image(20)
    write(tmp_path / "1", before, header(20))
    write_segment(tmp_path / "2", before, before[: 3 * 512])
    assert [info.held for info in assemble([tmp_path / "2", tmp_path / "1"], tmp_path / "out")] == [0, 20]
    assert (tmp_path / "out").read_bytes() == before[: 3 * 512]
    grown = segment_between(before[: 3 * 512], before[: 2 * 512] + bytes(512 * 5), segment_header(txid=3))
    (tmp_path / "3").write_bytes(grown)
    chain = [tmp_path / "3", tmp_path / "2", tmp_path / "1"]
    assemble(chain, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == before[: 2 * 512] + bytes(512 * 5)
    write_segment(tmp_path / "4", before[: 2 * 512] + bytes(512 * 5), b"", txid=4)
    assemble([tmp_path / "4", *chain], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


def test_claims_are_taken_once() -> None:
    """Any sequence of runs gives each page once, whichever chunk it is in."""
    rng = random.Random(11)
    claims, taken = Claims(), set[int]()
    for _ in range(400):
        first = rng.choice([rng.randrange(1, 300), (1 << 16) - rng.randrange(0, 200), rng.randrange(1, 1 << 32)])
        count = rng.choice([1, 1, rng.randrange(1, 300)])
        got = [start + step for start, some in claims.take(first, count) for step in range(some)]
        assert got == [pgno for pgno in range(first, first + count) if pgno not in taken]
        taken.update(got)
        assert claims.count == len(taken)
        assert claims.holds(first) and claims.holds(first + count - 1)
    assert not claims.holds(max(taken) + 1)
    for first in ((1 << 16) - 70, (1 << 17) - 3, 1 << 20):
        known = sum(pgno in taken for pgno in range(first, first + 140))
        assert not claims.take_rest(first, 140, known + 1)
        assert claims.count == len(taken)
        assert claims.take_rest(first, 140, known)
        taken.update(range(first, first + 140))
        assert claims.count == len(taken)
        assert claims.take(first, 140) == ()
    assert claims.take_all(((5, 3),), 4) == ()


def test_memory_is_asked_for_modestly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not say what is available, little is taken."""

    def unreadable(self: Path) -> str:
        raise FileNotFoundError(self)

    assert assembling._available() > 0
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert assembling._available() == 256 << 20
    monkeypatch.setattr(Path, "read_text", lambda self: "nothing of use")
    assert assembling._available() == 256 << 20


def test_a_snapshot_in_the_midst_ends_the_chain(tmp_path: Path, opened: Opener) -> None:
    """What is below a snapshot is of no use: adding it changes nothing, and reading layers refuses it."""
    images = random_history(12, steps=2)
    paths = store(tmp_path, images)
    write(tmp_path / "again", images[1], header(len(images[1]) // 512, txid=2))
    assemble([paths[0], tmp_path / "again", paths[-1]], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == images[2]
    with pytest.raises(RepositoryDamaged, match="continue"):
        Layers([paths[0], tmp_path / "again", paths[-1]], opened)
    assert opened(str(tmp_path / "again")).info.header.kind is Kind.SNAPSHOT
