"""Proving chains in one go: each file read once, and the database sum of each restore point proved."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from pagewarden.errors import PagewardenError, RepositoryDamaged, TargetFailed
from pagewarden.pages import MAX_PAGES
from pagewarden.repository.layers import Layers
from pagewarden.repository.pageset import PageSetFile
from pagewarden.repository.proof import Link, Proved, SumsMap, prove_links
from tests.core.repository.chains import claim_pages, histories, make_chain, reseal
from tests.core.repository.conftest import Opener
from tests.core.repository.segments import write_segment
from tests.core.repository.sets import assemble, header, image, write


def prove(
    paths: Sequence[Path], chain: SumsMap | None = None, *, data: bool = True, told: list[int] | None = None
) -> list[Proved]:
    """Prove a chain, from the lowest up."""
    links = [Link(path=str(path), chained=True, data=data) for path in paths]
    progress = (told if told is not None else []).append
    return prove_links(links, chain or SumsMap(), threads=2, drop_cache=False, progress=progress)


def chain_of(folder: Path, images: Sequence[bytes]) -> list[Path]:
    """Return the files of a chain."""
    root = folder / "repository"
    return [root / manifest.key for manifest in make_chain(root, images)]


def changed(data: bytes) -> bytes:
    """Return an image with another byte in its ninth page."""
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("data", [False, True])
def test_each_database_sum_of_a_chain_is_proved(tmp_path: Path, seed: int, data: bool) -> None:
    """Through changes, growth and shrinking; every byte of the frames is told as progress, once."""
    paths = chain_of(tmp_path, histories(12, seed=seed))
    told: list[int] = []
    found = prove(paths, data=data, told=told)
    assert [(each.summed, each.error) for each in found] == [(True, None)] * 12
    assert [each.info.header.txid for each in found if each.info] == list(range(1, 13))
    assert sum(told) == sum(each.info.numbers_offset - 128 for each in found if each.info)


def test_a_chain_is_proved_in_parts(tmp_path: Path) -> None:
    """The map stays where the last part ended; one that begins elsewhere is proved by itself."""
    paths = chain_of(tmp_path, histories(6))
    chain = SumsMap()
    assert [each.summed for each in prove(paths[:4], chain)] == [True] * 4
    assert [each.summed for each in prove(paths[4:], chain)] == [True] * 2
    assert [(each.summed, each.error) for each in prove(paths[2:4])] == [(False, None)] * 2
    alone = prove_links(
        [Link(path=str(paths[0]), chained=False)], chain, threads=2, drop_cache=True, progress=lambda _: None
    )
    assert [(each.summed, each.error) for each in alone] == [(False, None)]


def test_tables_alone_bring_the_map_there(tmp_path: Path) -> None:
    """What is not read is not proved but in its structure, and the database sums after it are proved all the same."""
    paths = chain_of(tmp_path, histories(6))
    damaged = bytearray(paths[1].read_bytes())
    damaged[140] ^= 1  # in a frame
    paths[1].write_bytes(damaged)
    links = [Link(path=str(path), chained=True, read=at > 2, data=at > 2) for at, path in enumerate(paths)]
    found = prove_links(links, SumsMap(), threads=2, drop_cache=True, progress=lambda _: None)
    assert [(each.summed, each.error) for each in found] == [(True, None)] * 6


@pytest.mark.parametrize("which", range(5))
def test_one_that_is_not_whole_hides_no_other(tmp_path: Path, which: int) -> None:
    """It has its error, those below are proved, those above by themselves; a snapshot begins anew."""
    images = histories(6)
    root = tmp_path / "repository"
    paths = [root / manifest.key for manifest in make_chain(root, images, snapshots=(1, 6))]
    for damage in ("flip", "cut", "gone", "tail"):
        data = paths[which].read_bytes()
        if damage == "gone":
            paths[which].unlink()
        else:
            changed = bytearray(data)
            changed[140 if damage == "flip" else -20] ^= 1
            paths[which].write_bytes(data[: len(data) // 2] if damage == "cut" else changed)
        found = prove(paths)
        error = TargetFailed if damage == "gone" else RepositoryDamaged
        assert isinstance(found[which].error, error), damage
        assert found[which].info is None
        assert [each.error for at, each in enumerate(found) if at != which] == [None] * 5, damage
        assert [each.summed for each in found] == [at < which or at == 5 for at in range(6)], damage
        paths[which].write_bytes(data)


def test_several_that_are_not_whole(tmp_path: Path) -> None:
    """Every other file of a chain: each has its own error."""
    paths = chain_of(tmp_path, histories(9))
    for path in paths[1::2]:
        data = bytearray(path.read_bytes())
        data[140] ^= 1
        path.write_bytes(data)
    found = prove(paths)
    assert [each.error is None for each in found] == [at % 2 == 0 for at in range(9)]


def test_a_forged_database_sum_is_seen(tmp_path: Path) -> None:
    """With all checksums and the SHA-256 right, only the map tells that the pages do not make that sum."""
    paths = chain_of(tmp_path, histories(5))
    reseal(paths[2], database_sum=12345)
    found = prove(paths)
    assert [each.summed for each in found] == [True, True, False, False, False]
    assert "make the database sum" in str(found[2].error)
    assert "of what it continues" in str(found[2].error)


def test_a_segment_of_another_history_is_seen(tmp_path: Path) -> None:
    """It begins with another database sum, or has pages of another size."""
    images = histories(3)
    paths = chain_of(tmp_path, images)
    write_segment(tmp_path / "other", changed(images[0]), images[1], txid=2)
    assert "does not continue" in str(prove([paths[0], tmp_path / "other"])[1].error)
    larger = image(9, 1024)
    write_segment(tmp_path / "larger", larger, changed(larger), 1024)
    found = prove([paths[0], tmp_path / "larger"])
    assert "does not continue" in str(found[1].error)
    assert found[0].summed


def test_a_segment_that_lacks_new_pages_is_seen(tmp_path: Path) -> None:
    """H21: what the database grew by is in it, or it is refused, though its sums be forged."""
    before = image(20)
    write(tmp_path / "snapshot", before, header(20))
    grown = before + image(5, seed=3)
    info = write_segment(tmp_path / "segment", grown, grown, txid=2)  # of a database that had these pages before
    assert (info.held, info.header.pages) == (0, 25)
    whole = prove([tmp_path / "snapshot"])[0].info
    assert whole is not None
    reseal(tmp_path / "segment", database_sum=whole.database_sum, database_sum_from=whole.database_sum)
    found = prove([tmp_path / "snapshot", tmp_path / "segment"])
    assert "lacks pages by which the database grew" in str(found[1].error)


def test_no_memory_is_taken_for_what_a_file_says_and_does_not_hold(tmp_path: Path, opened: Opener) -> None:
    """A few bytes that claim billions of pages are refused for that, and take nothing; those after them are proved."""
    root = tmp_path / "repository"
    images = histories(3)
    paths = [root / manifest.key for manifest in make_chain(root, images, snapshots=(1, 3))]
    claim_pages(paths[1], MAX_PAGES)
    tracemalloc.start()
    try:
        found = prove(paths)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [each.summed for each in found] == [True, False, True]
    assert "lacks pages by which the database grew" in str(found[1].error)
    assert taken < 16 << 20
    with pytest.raises(RepositoryDamaged, match="lacks pages by which"):
        Layers([paths[1], paths[0]], opened)
    with pytest.raises(RepositoryDamaged, match="and not what its manifest says"):
        assemble([paths[1], paths[0]], tmp_path / "out", size=(512, len(images[1]) // 512))
    assert (tmp_path / "out").stat().st_blocks == 0


@pytest.mark.parametrize("where", ["open", "read", "sum"])
def test_want_of_memory_for_one_hides_no_other(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it then, and it is not said to be damaged; a snapshot after it begins anew."""
    root = tmp_path / "repository"
    paths = [root / manifest.key for manifest in make_chain(root, histories(4), snapshots=(1, 3))]
    method = {"open": "prove", "read": "prove_digest", "sum": "numbers"}[where]
    real = getattr(PageSetFile, method)

    def starved(self: PageSetFile, *arguments: object) -> object:
        if self.path == paths[1] and (where != "sum" or sys._getframe(1).f_code.co_name == "_go"):
            raise MemoryError
        return real(self, *arguments)

    monkeypatch.setattr(PageSetFile, method, starved)
    found = prove(paths)
    assert [each.summed for each in found] == [True, False, True, True]
    assert "not enough memory" in str(found[1].error)
    assert not isinstance(found[1].error, RepositoryDamaged)


def test_nothing_that_a_hostile_file_says_gets_out(tmp_path: Path) -> None:
    """A seeded sample of flipped bits anywhere: an error of the project's, or the same proof as before."""
    paths = chain_of(tmp_path, histories(4))
    rng = random.Random(7)
    for path in paths:
        data = path.read_bytes()
        for offset in rng.sample(range(len(data)), 12):
            changed = bytearray(data)
            changed[offset] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            found = prove(paths)
            bad = [at for at, each in enumerate(found) if each.error is not None]
            assert bad == [paths.index(path)], (path, offset)
            assert isinstance(found[bad[0]].error, PagewardenError)
        path.write_bytes(data)
