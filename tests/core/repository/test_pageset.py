from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from pagewarden.errors import OutOfSpace, RepositoryDamaged, TargetFailed, VerificationFailed
from pagewarden.pages import backend, database_sum
from pagewarden.repository import blocks
from pagewarden.repository.pageset import PageSetFile, read_info, verify_pageset
from tests.core.repository.sets import assemble, header, image, stock, write

PAGES = 21
DATA = image(PAGES)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A page set of 21 pages in 6 frames."""
    write(tmp_path / "set", DATA, header(PAGES))
    return tmp_path / "set"


def restore(path: Path, to: Path) -> bytes:
    """Restore `path` to a new file and return its bytes."""
    assemble([path], to)
    return to.read_bytes()


def test_what_is_restored_is_the_database(stored: Path, tmp_path: Path) -> None:
    """Restore gives back every byte, and what stock zstd gives."""
    assert restore(stored, tmp_path / "out") == DATA == stock(stored)


def test_a_real_database_comes_back(tmp_path: Path) -> None:
    """SQLite reads from the restored file what it wrote into the original."""
    original = tmp_path / "app.db"
    with closing(sqlite3.connect(original)) as connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        connection.executemany("INSERT INTO t(body) VALUES (?)", [("x" * (n % 3000),) for n in range(500)])
        connection.commit()
        rows = connection.execute("SELECT * FROM t").fetchall()
    data = original.read_bytes()
    page_size = struct.unpack(">H", data[16:18])[0]
    info = write(tmp_path / "set", data, header(len(data) // page_size, page_size, per_frame=64))
    assert restore(tmp_path / "set", tmp_path / "out.db") == data
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT * FROM t").fetchall() == rows
    sums = [
        struct.pack("<Q", backend().page_sum(k + 1, data[k * page_size : (k + 1) * page_size]))
        for k in range(len(data) // page_size)
    ]
    assert info.database_sum == database_sum(sums)


def test_pages_and_sums_are_read_by_range(stored: Path) -> None:
    """Any range of sums and any page is what the whole would give; what lies outside is refused."""
    with PageSetFile(stored) as file:
        assert (file.page_size, file.pages, file.position.txid, file.fileno() >= 0) == (512, PAGES, 1, True)
        every = file.sums(1, PAGES)
        for first in range(1, PAGES + 1):
            for count in range(PAGES - first + 2):
                assert file.sums(first, count) == every[(first - 1) * 8 : (first - 1 + count) * 8]
            page = DATA[(first - 1) * 512 : first * 512]
            assert file.page(first) == page
            assert struct.pack("<Q", backend().page_sum(first, page)) == file.sums(first, 1)
        for first, count in ((0, 1), (1, PAGES + 1), (PAGES + 1, 1), (1, -1)):
            with pytest.raises(ValueError, match="within"):
                file.sums(first, count)
        for pgno in (0, PAGES + 1):
            with pytest.raises(ValueError, match="within"):
                file.page(pgno)
    file.close()


def test_ranges_cross_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several blocks of index and sums everything is found, whichever block it is in."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", 5)
    info = write(tmp_path / "set", DATA, header(PAGES, per_frame=2))
    assert info.frames == 11
    with PageSetFile(tmp_path / "set") as file:
        frames = list(file.frames())
        assert [frame.first for frame in frames] == list(range(1, PAGES + 1, 2))
        every = file.sums(1, PAGES)
        for first in range(1, PAGES + 1):
            for count in range(PAGES - first + 2):
                assert file.sums(first, count) == every[(first - 1) * 8 : (first - 1 + count) * 8]
        assert b"".join(map(file.page, reversed(range(1, PAGES + 1)))) == b"".join(
            DATA[k * 512 : k * 512 + 512] for k in reversed(range(PAGES))
        )
    assert restore(tmp_path / "set", tmp_path / "out") == DATA


def test_progress_is_told_in_pages(stored: Path, tmp_path: Path) -> None:
    """Verifying and restoring tell how many pages are done of how many."""
    told: list[tuple[int, int]] = []
    verify_pageset(stored, threads=2, read_data=True, drop_cache=True, progress=lambda *done: told.append(done))
    assert told[-1] == (PAGES, PAGES)
    assemble([stored], tmp_path / "out", read_back=True, progress=lambda *done: told.append(done))
    assert told[-1] == (PAGES, PAGES)


def refused(path: Path, tmp_path: Path) -> None:
    """Assert that verify, with and without data, and restore refuse the file."""
    for read_data in (False, True):
        with pytest.raises(RepositoryDamaged):
            verify_pageset(path, threads=1, read_data=read_data, drop_cache=False)
    with pytest.raises(RepositoryDamaged):
        assemble([path], tmp_path / "out", threads=1)


def test_no_flipped_bit_passes(stored: Path, tmp_path: Path) -> None:
    """Any byte of the file, with one of its bits flipped, is refused by verify and by restore."""
    rng = random.Random(7)
    data = stored.read_bytes()
    end = read_info(stored).index_offset
    rest = (*range(128), *range(end, len(data)))
    for offset in (*rng.sample(range(128, end), 60), *rng.sample(rest, 200)):
        changed = bytearray(data)
        changed[offset] ^= 1 << rng.randrange(8)
        stored.write_bytes(changed)
        refused(stored, tmp_path)


def test_no_cut_or_lengthened_file_passes(stored: Path, tmp_path: Path) -> None:
    """A file that was cut off anywhere, or has something appended, is refused."""
    data = stored.read_bytes()
    rng = random.Random(8)
    for size in (0, 1, 127, 128, 319, 320, *(rng.randrange(len(data)) for _ in range(60)), len(data) - 1):
        stored.write_bytes(data[:size])
        refused(stored, tmp_path)
    for more in (b"\0", data[-192:], data):
        stored.write_bytes(data + more)
        refused(stored, tmp_path)


def test_parts_of_two_page_sets_do_not_make_one(tmp_path: Path) -> None:
    """Header, data, index and sums of another page set of the same shape are noticed."""
    info = write(tmp_path / "a", DATA, header(PAGES))
    write(tmp_path / "b", image(PAGES, seed=2), header(PAGES, txid=2))
    a, b = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    assert len(a) == len(b)  # random halves compress alike
    for begin, end in (
        (0, 128),
        (128, info.index_offset),
        (info.index_offset, info.sums_offset),
        (info.sums_offset, len(a) - 192),
        (len(a) - 192, len(a)),
    ):
        mixed = a[:begin] + b[begin:end] + a[end:]
        if mixed != a:
            (tmp_path / "mixed").write_bytes(mixed)
            refused(tmp_path / "mixed", tmp_path)


def reseal(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change a page set and make all its checksums right again, as a forger would who knows the format."""
    data = bytearray(path.read_bytes())
    info = read_info(path)
    change(data)
    spans = [(info.index_offset, info.sums_offset, 120), (info.sums_offset, len(data) - 192, 128)]
    tail = len(data) - 192
    for begin, end, slot in spans:
        data[end - 8 : end] = struct.pack("<Q", blocks.hash64(bytes(data[begin : end - 8])))
        data[tail + slot - 8 : tail + slot] = struct.pack("<Q", blocks.hash64(bytes(data[end - 8 : end])))
    data[120:128] = struct.pack("<Q", blocks.hash64(bytes(data[:120])))
    data[tail + 96 : tail + 104] = data[120:128]
    data[tail + 144 : tail + 152] = struct.pack("<Q", blocks.hash64(bytes(data[tail : tail + 144])))
    data[-40:-8] = hashlib.sha256(data[128:-40] + data[:128]).digest()
    path.write_bytes(data)


def test_resealing_alone_changes_nothing(stored: Path) -> None:
    """The forger of these tests knows the format: with nothing changed its file is the same."""
    before = stored.read_bytes()
    reseal(stored, lambda data: None)
    assert stored.read_bytes() == before


def test_a_forged_page_sum_is_refused(stored: Path, tmp_path: Path) -> None:
    """With all checksums right, sums that do not add up, or do but are not the pages', are refused."""
    info = read_info(stored)
    original = stored.read_bytes()

    def flip(data: bytearray) -> None:
        data[info.sums_offset + 24] ^= 1

    reseal(stored, flip)
    refused(stored, tmp_path)
    stored.write_bytes(original)

    def flip_two(data: bytearray) -> None:  # the database sum stays
        data[info.sums_offset + 24] ^= 1
        data[info.sums_offset + 32] ^= 1

    reseal(stored, flip_two)
    verify_pageset(stored, threads=1, read_data=False, drop_cache=False)
    with pytest.raises(RepositoryDamaged, match="page 1") as caught:
        verify_pageset(stored, threads=1, read_data=True, drop_cache=False)
    assert caught.value.fields == {"pgno": 1, "frame": 0}
    with PageSetFile(stored) as file, pytest.raises(RepositoryDamaged, match="frame 0"):
        file.page(1)
    with pytest.raises(RepositoryDamaged, match="page 1"):
        assemble([stored], tmp_path / "out", threads=1)


def test_a_forged_frame_is_refused(stored: Path, tmp_path: Path) -> None:
    """Frames that are no zstd, hold less or more, or do not say how much they hold are refused."""
    info = read_info(stored)
    original = stored.read_bytes()
    with PageSetFile(stored) as file:
        frame = next(file.frames())
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    liar = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    for forged in (b"", b"\x28\xb5\x2f\xfd" + b"\xff" * 30, bomb, liar.compress(DATA[: 4 * 512]) + liar.flush()):
        content = (forged + bytes(frame.csize))[: frame.csize]

        def put(data: bytearray, content: bytes = content) -> None:
            data[frame.offset : frame.offset + frame.csize] = content

        stored.write_bytes(original)
        reseal(stored, put)
        with pytest.raises(RepositoryDamaged):
            verify_pageset(stored, threads=1, read_data=True, drop_cache=False)
        with PageSetFile(stored) as file, pytest.raises(RepositoryDamaged):
            file.page(1)
    assert info.frames == 6


def test_a_forged_index_is_refused(stored: Path, tmp_path: Path) -> None:
    """With all checksums right, an index that leaves a gap at its end or places frames elsewhere is refused."""
    info = read_info(stored)
    original = stored.read_bytes()
    for offset in (0, 8, 12, 16, 20):
        for entry in (0, 3, 5):

            def flip(data: bytearray, at: int = info.index_offset + 24 + entry * 24 + offset) -> None:
                data[at] ^= 1

            stored.write_bytes(original)
            reseal(stored, flip)
            refused(stored, tmp_path)


def test_an_index_that_ends_early_is_refused(stored: Path, tmp_path: Path) -> None:
    """Every byte between header and index belongs to a frame: none can be hidden behind the last one."""
    info = read_info(stored)

    def shorten(data: bytearray) -> None:
        last = info.index_offset + 24 + (info.frames - 1) * 24 + 8
        data[last : last + 4] = struct.pack("<I", struct.unpack_from("<I", data, last)[0] - 1)

    reseal(stored, shorten)
    with pytest.raises(RepositoryDamaged, match=f"ends at byte {info.index_offset - 1}"):
        read_info(stored)
    refused(stored, tmp_path)


def test_what_is_no_file_is_a_named_error(tmp_path: Path) -> None:
    """A missing file, a directory and a FIFO neither hang nor crash."""
    os.mkfifo(tmp_path / "fifo")
    for name, error in (("missing", TargetFailed), ("fifo", RepositoryDamaged), ("", RepositoryDamaged)):
        with pytest.raises(error, match="tmp|" + name):
            read_info(tmp_path / name)
    with pytest.raises(TargetFailed, match="missing"):
        verify_pageset(tmp_path / "missing", threads=1, read_data=False, drop_cache=True)


@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.sums(1, PAGES),
        lambda file: file.page(PAGES),
        lambda file: file.prove_digest(),
        lambda file: file.prove_data(1),
    ],
)
def test_a_file_that_shrinks_while_it_is_read_is_damaged(stored: Path, read: Callable[[PageSetFile], object]) -> None:
    """What is read after the file was cut off under us is a named error, not a crash."""
    with PageSetFile(stored) as file:
        assert len(list(file.frames())) == 6
        file._blocks.clear()  # those that were read last need no reading
        os.truncate(stored, 200)
        with pytest.raises(RepositoryDamaged):
            read(file)


def test_a_full_disk_during_restore_is_out_of_space(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while the database is written, or at the last fsync, names the space, not the repository."""

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    for call in ("pwrite", "fsync", "posix_fallocate"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(OutOfSpace, match="space"):
                assemble([stored], stored.parent / "out", threads=1)


def test_what_does_not_read_back_is_refused(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes or loses what was written is found out when every page is read back, and not otherwise."""
    fsync = os.fsync

    def flip(descriptor: int) -> None:
        byte = os.pread(descriptor, 1, 9000)
        os.pwrite(descriptor, bytes([byte[0] ^ 1]), 9000)
        fsync(descriptor)

    def shorten(descriptor: int) -> None:
        os.ftruncate(descriptor, len(DATA) - 1)
        fsync(descriptor)

    for disk, page in ((flip, 9000 // 512 + 1), (shorten, PAGES)):
        for read_back in (True, False):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", disk)
                if read_back:
                    with pytest.raises(VerificationFailed, match=f"page {page} of .* did not read back") as caught:
                        assemble([stored], stored.parent / "out", read_back=True)
                    assert caught.value.fields["pgno"] == page
                else:
                    assemble([stored], stored.parent / "out")


def test_a_page_set_of_no_pages_is_whole(tmp_path: Path) -> None:
    """An empty database, which SQLite knows, can be stored, proved and brought back."""
    info = write(tmp_path / "set", b"", header(0))
    assert (info.frames, info.database_sum) == (0, 0)
    assert verify_pageset(tmp_path / "set", threads=2, read_data=True, drop_cache=False) == info
    assert restore(tmp_path / "set", tmp_path / "out") == b"" == stock(tmp_path / "set")
