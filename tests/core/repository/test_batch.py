"""Segments of pages that are known to have changed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.errors import TargetFailed
from pagewarden.pages import ENVIRONMENT, ShortRead, backend
from pagewarden.repository import blocks
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.pageset import verify_pageset
from tests.core.repository.segments import mostly_zeros, parse, segment_header, sums_of
from tests.core.repository.sets import NOW, header, image, source

DATA = image(40)


@pytest.mark.parametrize("wish", ["require", "off"])
@pytest.mark.parametrize("block", [3, 1 << 16])
def test_what_is_gathered_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, wish: str) -> None:
    """Runs of any lengths: numbers and sums can be judged before the file is sealed, and are those in it."""
    monkeypatch.setenv(ENVIRONMENT, wish)
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", block)
    for runs in ([(1, 1)], [(1, 40)], [(2, 3), (5, 1), (9, 11), (40, 1)], [(3, 1), (4, 1), (5, 9)], []):
        held = [pgno for first, count in runs for pgno in range(first, first + count)]
        with (
            source(tmp_path, DATA) as pages,
            BatchWriter(tmp_path / "set", segment_header(), level=1, threads=2) as writer,
        ):
            writer.gather(pages, iter(runs))
            sums = b"".join(sums_of(DATA)[(pgno - 1) * 8 : pgno * 8] for pgno in held)
            assert (writer.numbers.count, writer.sums.get(0, 40)) == (len(held), sums)
            assert [pgno for numbers, _ in writer.entries() for pgno in numbers] == held
            assert b"".join(some for _, some in writer.entries()) == sums
            assert writer.folded() == backend().fold(sums)
            info = writer.seal(40, 11, 12, NOW + timedelta(seconds=1))
        assert verify_pageset(tmp_path / "set", threads=1, read_data=True, drop_cache=False) == info
        assert info.header == replace(segment_header(), pages=40, time=NOW + timedelta(seconds=1))
        assert (info.held, info.frames, info.database_sum_from, info.database_sum) == (
            len(held),
            -(-len(held) // 4),
            11,
            12,
        )
        parsed = parse(tmp_path / "set")
        assert parsed.numbers == tuple(held)
        assert parsed.content == tuple(DATA[(pgno - 1) * 512 : pgno * 512] for pgno in held)
        (tmp_path / "set").unlink()


def test_pages_come_from_a_log(tmp_path: Path) -> None:
    """A page source with frames of a log: those, and zeros for what is nowhere (H21)."""
    rng = random.Random(2)
    content = {pgno: rng.randbytes(512) for pgno in (3, 9, 10)}
    log = mostly_zeros(tmp_path / "log", 12, 512, content)
    with BatchWriter(tmp_path / "set", segment_header(), level=1, threads=2) as writer:
        writer.gather(log, [(3, 1), (9, 4)])
        writer.seal(12, 0, 0)
    assert parse(tmp_path / "set").content == (content[3], content[9], content[10], bytes(512), bytes(512))


def test_what_cannot_be_a_batch_is_refused(tmp_path: Path) -> None:
    """Another kind, another page size, a second gathering; nothing is left of it."""
    with pytest.raises(ValueError, match="of the kind SNAPSHOT"):
        BatchWriter(tmp_path / "set", header(40), level=1, threads=1)
    with source(tmp_path, DATA) as pages, source(tmp_path, DATA, 1024, "other.db") as other:
        with BatchWriter(tmp_path / "set", segment_header(), level=1, threads=1) as writer:
            with pytest.raises(ValueError, match="1024 bytes do not fit a segment of 512"):
                writer.gather(other, [(1, 1)])
            writer.gather(pages, [(1, 1)])
            with pytest.raises(ValueError, match="gathered already"):
                writer.gather(pages, [(2, 1)])
        with BatchWriter(tmp_path / "set", segment_header(), level=1, threads=1) as writer:
            short = replace(pages, pages=60, file_size=60 * 512)
            with pytest.raises(ShortRead):
                writer.gather(short, [(39, 5)])
        assert not (tmp_path / "set").exists()
        with pytest.raises(TargetFailed, match="cannot write"):
            BatchWriter(tmp_path / "none" / "set", segment_header(), level=1, threads=1)
