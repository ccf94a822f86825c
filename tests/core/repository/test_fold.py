"""One page set of several: what it holds is what they make together, whatever the history."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import OutOfSpace, PagewardenError, RepositoryDamaged
from pagewarden.pages import lock_page
from pagewarden.repository import fold as folding
from pagewarden.repository.fold import fold
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.pageset import PageSetFile, verify_pageset
from pagewarden.repository.segment import SegmentWriter
from pagewarden.repository.writer import SnapshotWriter
from tests.core.repository.chains import reseal
from tests.core.repository.segments import mostly_zeros, parse, segment_header, sums_of, write_segment
from tests.core.repository.sets import TIMELINE, header, image, stock, write

PAGE = 512
SEEDS = 24 if os.environ.get("PAGEWARDEN_FULL") else 5


class Chain:
    """A snapshot and the segments after it, with the image that each leads to."""

    def __init__(self, folder: Path, seed: int, *, length: int = 6, pages: int = 40) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.images = [image(pages, seed=seed)]
        self.paths = [folder / f"{seed}-1.zst"]
        self.infos = [write(self.paths[0], self.images[0], header(pages))]
        for txid in range(2, length + 1):
            before = self.images[-1]
            self.images.append(self._next(before))
            self.paths.append(folder / f"{seed}-{txid}.zst")
            self.infos.append(write_segment(self.paths[-1], before, self.images[-1], txid=txid))

    def _next(self, before: bytes) -> bytes:
        """Return an image with some pages changed, and perhaps another size."""
        pages = max(4, len(before) // PAGE + self.rng.choice((0, 0, 0, 1, 5, -1, -6)))
        after = bytearray(before[: pages * PAGE])
        for pgno in range(len(after) // PAGE, pages):
            after[pgno * PAGE :] = self.rng.randbytes(PAGE)
        for pgno in self.rng.sample(range(pages), self.rng.randrange(pages // 4)):
            after[pgno * PAGE : (pgno + 1) * PAGE] = self.rng.randbytes(PAGE)
        return bytes(after)

    def snapshot(self, last: int) -> tuple[list[PageSetInfo], Path]:
        """Fold all up to number `last`, from 1, into a snapshot."""
        head = header(len(self.images[last - 1]) // PAGE, txid=last, per_frame=7)
        return self._fold(self.paths[:last], head)

    def segment(self, first: int, last: int) -> tuple[list[PageSetInfo], Path]:
        """Fold the segments from number `first` to number `last`, from 2, into one."""
        pages = len(self.images[last - 1]) // PAGE
        head = replace(segment_header(txid=last), pages=pages, txid_from=first - 1)
        return self._fold(self.paths[first - 1 : last], head)

    def _fold(self, paths: list[Path], head: PageSetHeader) -> tuple[list[PageSetInfo], Path]:
        to = self.folder / f"folded-{head.kind}-{head.txid_from}-{head.txid}.zst"
        to.unlink(missing_ok=True)
        return fold(paths, to, head, level=1, threads=2), to


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_snapshot_folded_from_a_chain_is_the_database(tmp_path: Path, seed: int) -> None:
    """H21: whatever grew, shrank and grew again, stock zstd makes the very image of it, and every sum is proved."""
    chain = Chain(tmp_path, seed)
    for last in range(1, len(chain.paths) + 1):
        infos, path = chain.snapshot(last)
        assert infos[:-1] == chain.infos[:last]
        assert stock(path) == chain.images[last - 1]
        assert verify_pageset(path, threads=2, read_data=True, drop_cache=False) == infos[-1]
        assert infos[-1].database_sum == chain.infos[last - 1].database_sum
        assert infos[-1].header.kind is Kind.SNAPSHOT and infos[-1].header.txid == last


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_segment_folded_from_others_leads_to_the_same_database(tmp_path: Path, seed: int) -> None:
    """Applied to the image that the first of them starts from, it makes the image that the last one leads to."""
    chain = Chain(tmp_path, seed)
    for first in range(2, len(chain.paths) + 1):
        for last in range(first, len(chain.paths) + 1):
            infos, path = chain.segment(first, last)
            parsed = parse(path)
            assert parsed.applied_to(chain.images[first - 2]) == chain.images[last - 1]
            assert parsed.database_sum_from == chain.infos[first - 2].database_sum
            assert parsed.database_sum == chain.infos[last - 1].database_sum
            assert verify_pageset(path, threads=2, read_data=True, drop_cache=False) == infos[-1]


def test_what_was_folded_can_be_folded_again(tmp_path: Path) -> None:
    """A folded segment is a segment like any other, and a folded snapshot carries others."""
    chain = Chain(tmp_path, 99, length=7)
    _, middle = chain.segment(3, 5)
    _, low = chain.snapshot(2)
    chain.paths = [low, middle, chain.paths[5], chain.paths[6]]
    head = header(len(chain.images[6]) // PAGE, txid=7)
    fold(chain.paths, tmp_path / "all", head, level=1, threads=2)
    assert stock(tmp_path / "all") == chain.images[6]


def test_frames_that_nothing_touched_are_copied_as_they_are_stored(tmp_path: Path) -> None:
    """Of a large snapshot with one page changed one frame is compressed anew: the others have the same bytes."""
    before = image(64, seed=3)
    after = before[: 9 * PAGE] + bytes(PAGE) + before[10 * PAGE :]
    base, change, to = tmp_path / "base", tmp_path / "change", tmp_path / "to"
    write(base, before, header(64))
    write_segment(change, before, after)
    fold([base, change], to, header(64, txid=2), level=19, threads=2)
    old, new = base.read_bytes(), to.read_bytes()
    assert stock(to) == after
    with PageSetFile(base) as one, PageSetFile(to) as two:
        frames = list(zip(one.frames(), two.frames(), strict=True))
    same = [old[a.offset : a.offset + a.csize] == new[b.offset : b.offset + b.csize] for a, b in frames]
    assert same == [number != 2 for number in range(16)]


def test_many_page_sets_are_open_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain longer than the descriptors that a process may have folds all the same."""
    monkeypatch.setattr(folding, "_OPEN", 2)
    chain = Chain(tmp_path, 5, length=9)
    assert stock(chain.snapshot(9)[1]) == chain.images[8]
    assert parse(chain.segment(2, 8)[1]).applied_to(chain.images[0]) == chain.images[7]


def test_a_segment_of_no_page_folds(tmp_path: Path) -> None:
    """Where only the size shrank there is nothing to hold."""
    images = [image(20), image(20)[: 15 * PAGE], image(20)[: 12 * PAGE]]
    paths = [tmp_path / "2", tmp_path / "3"]
    write(tmp_path / "1", images[0], header(20))
    for number, path in enumerate(paths):
        write_segment(path, images[number], images[number + 1], txid=number + 2)
    head = replace(segment_header(txid=3), pages=12, txid_from=1)
    fold(paths, tmp_path / "both", head, level=1, threads=2)
    assert parse(tmp_path / "both").numbers == ()
    fold([tmp_path / "1", *paths], tmp_path / "whole", header(12, txid=3), level=1, threads=2)
    assert stock(tmp_path / "whole") == images[2]


def test_the_page_of_the_lock_bytes_is_in_no_segment_and_zeros_in_a_snapshot(tmp_path: Path) -> None:
    """H12: a database that grew beyond 1 GiB between two positions has that page nowhere."""
    size, lock = 65536, lock_page(65536)
    old = mostly_zeros(tmp_path / "old", lock - 1, size, {})
    new = mostly_zeros(tmp_path / "new", lock + 1, size, {7: b"x" * size, lock + 1: b"y" * size})
    base, change, to = tmp_path / "base", tmp_path / "change", tmp_path / "to"
    with SnapshotWriter(base, header(lock - 1, size, per_frame=32), level=1, threads=2) as writer:
        writer.copy(old, 1, lock - 1)
        info = writer.seal(pages=lock - 1)
    with PageSetFile(base) as file:
        zeros = file.sums(1, lock - 1)
    facts = MapFacts(timeline=TIMELINE, txid=1, page_size=size, pages=lock - 1, database_sum=info.database_sum)
    write_map(tmp_path / "map", facts, lambda first, count: zeros[(first - 1) * 8 : (first - 1 + count) * 8])
    with (
        PageMap(tmp_path / "map", facts) as known,
        SegmentWriter(change, segment_header(size), known, level=1, threads=2) as segment,
    ):
        segment.copy(new, 1, lock + 1)
        seen = segment.seal(pages=lock + 1)
    for opened in (old, new):
        os.close(opened.database)
    assert parse(change).numbers == (7, lock + 1)
    infos = fold([base, change], to, header(lock + 1, size, txid=2, per_frame=1), level=1, threads=2)
    assert infos[-1].database_sum == seen.database_sum
    with PageSetFile(to) as file:
        assert file.page(7) == b"x" * size and file.page(lock) == bytes(size) and file.page(lock + 1) == b"y" * size
    fold([change], tmp_path / "alone", replace(segment_header(size), pages=lock + 1), level=1, threads=2)
    assert parse(tmp_path / "alone").numbers == (7, lock + 1)


def heads(chain: Chain, last: int) -> PageSetHeader:
    """Return the header of the snapshot at number `last`."""
    return header(len(chain.images[last - 1]) // PAGE, txid=last)


def test_page_sets_that_do_not_follow_each_other_are_refused(tmp_path: Path) -> None:
    """A gap, another order, another database's segment, one too few or too many: nothing is written."""
    chain, other = Chain(tmp_path, 1), Chain(tmp_path, 2)
    one, two, three, four = chain.paths[:4]
    to = tmp_path / "to"
    segment = replace(segment_header(txid=4), pages=len(chain.images[3]) // PAGE, txid_from=2)
    for paths, head in (
        ([one, two, four], heads(chain, 4)),
        ([one, three, two, four], heads(chain, 4)),
        ([one, two, other.paths[2], four], heads(chain, 4)),
        ([two, three, four], heads(chain, 4)),
        ([one, two, three], heads(chain, 4)),
        ([one], replace(heads(chain, 1), pages=99)),
        ([one], replace(heads(chain, 1), timeline="f" * 32)),
        ([four], segment),
        ([two, three, four], segment),
        ([one, two, three, four], segment),
    ):
        with pytest.raises(RepositoryDamaged):
            fold(paths, to, head, level=1, threads=2)
        assert not to.exists()


def test_a_segment_that_lacks_new_pages_is_not_folded(tmp_path: Path) -> None:
    """H21: however large a database it claims, nothing is made of pages that no page set holds."""
    before = image(20)
    grown = before + image(5, seed=3)
    whole = write(tmp_path / "snapshot", before, header(20))
    write_segment(tmp_path / "segment", grown, grown, txid=2)  # of a database that had these pages before
    reseal(tmp_path / "segment", database_sum=whole.database_sum, database_sum_from=whole.database_sum)
    with pytest.raises(RepositoryDamaged, match="lacks pages by which the database grew"):
        fold([tmp_path / "snapshot", tmp_path / "segment"], tmp_path / "to", header(25, txid=2), level=1, threads=2)
    assert not (tmp_path / "to").exists()


def test_no_flipped_byte_is_folded(tmp_path: Path) -> None:
    """Wherever a bit of any page set flips, it is refused, and nothing is written."""
    chain, rng = Chain(tmp_path, 4, length=3), random.Random(4)
    copy, to = tmp_path / "hurt", tmp_path / "to"
    for _ in range(60):
        hurt = rng.choice(chain.paths)
        data = bytearray(hurt.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        copy.write_bytes(data)
        with pytest.raises(RepositoryDamaged):
            fold([copy if path == hurt else path for path in chain.paths], to, heads(chain, 3), level=1, threads=2)
        assert not to.exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the room ends, the error says so and the file that was begun is gone."""
    chain = Chain(tmp_path, 6)
    real, left = durable.write_at, 0

    def write_at(descriptor: int, data: durable.Buffer, offset: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(28, "No space left on device")
        real(descriptor, data, offset)

    monkeypatch.setattr(durable, "write_at", write_at)
    to = tmp_path / "to"
    ended: PagewardenError | None = None
    for at in range(1, 200):
        left = at
        try:
            fold(chain.paths, to, heads(chain, 6), level=1, threads=1)
        except PagewardenError as error:
            ended = error
            assert isinstance(error, OutOfSpace)
            assert not to.exists()
        else:
            break
    assert ended is not None and to.exists()
    assert sums_of(stock(to)) == sums_of(chain.images[-1])
