from __future__ import annotations

import hashlib
import os
import random
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard

from pagewarden import durable
from pagewarden.errors import OutOfSpace, TargetFailed, VerificationFailed
from pagewarden.pages import Batch, FrameCopy, PageSource, lock_page
from pagewarden.repository.pageset import PageSetFile, read_info, verify_pageset
from pagewarden.repository.writer import SnapshotWriter
from pagewarden.testing import FaultyOs, cut
from tests.core.repository.sets import header, image, source, stock, write


def prove(path: Path, data: bytes) -> None:
    """Assert that the file is a whole page set of `data`, to us and to stock zstd."""
    assert stock(path) == data
    info = verify_pageset(path, threads=2, read_data=True, drop_cache=False)
    assert info.bytes == path.stat().st_size
    stored = path.read_bytes()
    assert info.sha256 == hashlib.sha256(stored[128:-40] + stored[:128]).hexdigest()
    with PageSetFile(path) as file:
        assert b"".join(file.page(pgno + 1) for pgno in range(file.pages)) == data


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("pages", [0, 1, 3, 4, 5, 40])
def test_a_snapshot_is_the_database(tmp_path: Path, page_size: int, pages: int) -> None:
    """Stock zstd and our own reader give back every byte, for sizes around whole frames."""
    data = image(pages, page_size)
    info = write(tmp_path / "set", data, header(pages, page_size))
    assert (info.header.pages, info.frames) == (pages, -(-pages // 4))
    assert info == read_info(tmp_path / "set")
    prove(tmp_path / "set", data)


def test_pages_and_time_are_settled_when_it_is_sealed(tmp_path: Path) -> None:
    """The header of the file says what `seal` was told, and its digest is of that."""
    data = image(10)
    head = header(0)
    with source(tmp_path, data) as pages, SnapshotWriter(tmp_path / "set", head, level=3, threads=1) as writer:
        writer.copy(pages, 1, 10)
        info = writer.seal(pages=10, time=head.time + timedelta(seconds=1))
    assert info.header.pages == 10
    assert info.header.time == head.time + timedelta(seconds=1)
    prove(tmp_path / "set", data)


def test_frames_may_be_copied_in_any_order_and_again(tmp_path: Path) -> None:
    """What was copied last counts, and the file has its frames in page order whatever came first."""
    old, new = image(10, seed=1), image(10, seed=2)
    with SnapshotWriter(tmp_path / "set", header(10), level=1, threads=2) as writer:
        with source(tmp_path, old, name="old") as pages:
            writer.copy(pages, 9, 2)
            writer.copy(pages, 1, 4)
            writer.copy(pages, 5, 4)
        with source(tmp_path, new, name="new") as pages:
            writer.copy(pages, 5, 4)
        writer.seal(pages=10)
    prove(tmp_path / "set", old[: 4 * 512] + new[4 * 512 : 8 * 512] + old[8 * 512 :])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "set"]


def change(data: bytes, rng: random.Random) -> bytes:
    """Return a later state of a database: some pages changed, some more or fewer at the end."""
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 0xFF
    if rng.random() < 0.5:
        keep = rng.randrange(len(changed) // 512 + 1)
        return bytes(changed[: keep * 512])
    return bytes(changed) + image(rng.randrange(9), seed=rng.randrange(1000))


@pytest.mark.parametrize("seed", range(30))
def test_recopying_follows_a_database_that_changes(tmp_path: Path, seed: int) -> None:
    """After changes, growth and shrinking, a last whole recopy gives the last state; then nothing differs."""
    rng = random.Random(seed)
    data = image(rng.randrange(20), seed=seed)
    with SnapshotWriter(tmp_path / "set", header(0, per_frame=rng.choice([1, 3, 4])), level=1, threads=2) as writer:
        for _ in range(rng.randrange(1, 6)):
            before, data = data, change(data, rng)
            with source(tmp_path, data) as pages:
                whole = pages.pages // writer.header.pages_per_frame * writer.header.pages_per_frame
                if rng.random() < 0.3 and whole:  # a slice of it alone
                    writer.recopy_changed(pages, first=1, count=whole)
                else:
                    writer.recopy_changed(pages)
        with source(tmp_path, data) as pages:
            writer.recopy_changed(pages)
            assert writer.recopy_changed(pages) == 0
            writer.seal(pages=pages.pages)
    prove(tmp_path / "set", data)
    assert before is not None


def test_recopying_counts_the_pages_that_differ(tmp_path: Path) -> None:
    """One changed byte is one page, whatever else its frame holds; progress is told in pages."""
    data = image(40)
    told: list[tuple[int, int]] = []
    with SnapshotWriter(tmp_path / "set", header(40), level=1, threads=2) as writer:
        with source(tmp_path, data) as pages:
            writer.copy(pages, 1, 40, lambda done, total: told.append((done, total)))
        changed = bytearray(data)
        changed[0] ^= 1
        changed[511] ^= 1
        changed[512 * 30] ^= 1
        with source(tmp_path, bytes(changed)) as pages:
            assert writer.recopy_changed(pages, lambda done, total: told.append((done, total))) == 2
        writer.seal(pages=40)
    assert told[-1] == (40, 40)
    prove(tmp_path / "set", bytes(changed))


def test_a_file_copied_in_order_is_not_written_again(tmp_path: Path) -> None:
    """The common case seals the file that it wrote: its inode stays."""
    data = image(40)
    with source(tmp_path, data) as pages, SnapshotWriter(tmp_path / "set", header(40), level=1, threads=2) as writer:
        writer.copy(pages, 1, 20)
        writer.copy(pages, 21, 20)
        inode = (tmp_path / "set").stat().st_ino
        writer.seal(pages=40)
    assert (tmp_path / "set").stat().st_ino == inode


def test_sealing_refuses_what_is_not_whole(tmp_path: Path) -> None:
    """A missing frame, pages that were not copied, and a last frame of another length are errors of the caller."""
    with (
        source(tmp_path, image(10)) as pages,
        SnapshotWriter(tmp_path / "set", header(10), level=1, threads=1) as writer,
    ):
        writer.copy(pages, 1, 4)
        writer.copy(pages, 9, 2)
        with pytest.raises(ValueError, match="pages 5 to 8"):
            writer.seal(pages=10)
        writer.copy(pages, 5, 4)
        for wrong, words in ((11, "pages 9 to 11"), (13, "pages 9 to 12"), (9, "pages 9 to 9")):
            with pytest.raises(ValueError, match=words):
                writer.seal(pages=wrong)
    assert not (tmp_path / "set").exists()


def test_what_the_disk_changes_of_pages_put_aside_is_found(tmp_path: Path) -> None:
    """They are copied when the lock is gone, and must be what they were under it."""
    data = image(12)
    with (
        source(tmp_path, data) as pages,
        SnapshotWriter(tmp_path / "set", header(12), level=1, threads=1) as writer,
    ):
        writer.copy(pages, 1, 12)
        with source(tmp_path, image(4, seed=2) + data[4 * 512 :], name="later") as later:
            assert writer.recopy_changed(later, later=True) == 4
        assert writer._aside is not None
        writer._aside.put(2, data[:512])
        with pytest.raises(VerificationFailed, match="did not read back as it was written"):
            writer.seal(pages=12)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("first", "count"), [(2, 3), (1, 3), (5, 4), (1, 5)])
def test_ranges_that_are_not_whole_frames_are_refused(tmp_path: Path, first: int, count: int) -> None:
    """Half a frame, or pages beyond the source, cannot be copied."""
    with source(tmp_path, image(7)) as pages, SnapshotWriter(tmp_path / "set", header(7), level=1, threads=1) as writer:
        with pytest.raises(ValueError, match="pages"):
            writer.copy(pages, first, count)
        with pytest.raises(ValueError, match="pages"):
            writer.recopy_changed(pages, first=first, count=count)


def test_another_page_size_is_refused(tmp_path: Path) -> None:
    """Pages of 1024 bytes do not go into a snapshot of pages of 512."""
    with (
        source(tmp_path, image(4, 1024), 1024) as pages,
        SnapshotWriter(tmp_path / "set", header(4), level=1, threads=1) as writer,
        pytest.raises(ValueError, match="1024"),
    ):
        writer.copy(pages, 1, 4)


def test_an_existing_file_is_not_touched(tmp_path: Path) -> None:
    """A snapshot is always a new file."""
    (tmp_path / "set").write_bytes(b"precious")
    with pytest.raises(TargetFailed, match="exists"):
        SnapshotWriter(tmp_path / "set", header(1), level=1, threads=1)
    assert (tmp_path / "set").read_bytes() == b"precious"


def test_abandoning_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    """An abandoned snapshot leaves no file; a sealed one is not taken away by a late abandon."""
    with source(tmp_path, image(4)) as pages:
        writer = SnapshotWriter(tmp_path / "gone", header(4), level=1, threads=1)
        writer.copy(pages, 1, 4)
        writer.abandon()
        writer.abandon()
    assert not (tmp_path / "gone").exists()
    write(tmp_path / "kept", image(4), header(4))
    assert (tmp_path / "kept").exists()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """A snapshot holds what the database holds, so nobody else may read it, reordered or not."""
    with source(tmp_path, image(8)) as pages, SnapshotWriter(tmp_path / "set", header(8), level=1, threads=1) as writer:
        writer.copy(pages, 5, 4)
        writer.copy(pages, 1, 4)
        writer.seal(pages=8)
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_the_lock_byte_page_is_zeros(tmp_path: Path, page_size: int) -> None:
    """Beyond 1 GiB the page of the lock bytes is zeros with sum 0, whatever the file holds there (H12)."""
    lock = lock_page(page_size)
    pages = lock + 3
    path = tmp_path / "sparse.db"
    with path.open("wb") as file:
        file.truncate(pages * page_size)
        file.seek((lock - 1) * page_size)
        file.write(b"junk" * 4)
        file.seek(lock * page_size)
        file.write(b"data")
    descriptor = os.open(path, os.O_RDONLY)
    per_frame = (4 << 20) // page_size
    begin = (lock - 1) // per_frame * per_frame + 1
    frame = zstandard.compress(bytes(per_frame * page_size))
    try:
        big = PageSource(database=descriptor, page_size=page_size, pages=pages, file_size=pages * page_size)
        with SnapshotWriter(
            tmp_path / "set", header(pages, page_size, per_frame=per_frame), level=1, threads=2
        ) as writer:
            # What stands before is beside the point and would take the twin minutes: frames of zeros with any sums.
            for first in range(1, begin, per_frame):
                one = FrameCopy(first=first, count=per_frame, csize=len(frame))
                writer._take(Batch(frames=(one,), data=memoryview(frame), sums=bytes(8 * per_frame)))
            writer.copy(big, begin, pages - begin + 1)
            writer.seal(pages=pages)
    finally:
        os.close(descriptor)
    with PageSetFile(tmp_path / "set") as file:
        assert file.page(lock) == bytes(page_size)
        assert file.sums(lock, 1) == bytes(8)
        assert file.page(lock + 1)[:4] == b"data"
        assert file.sums(lock + 1, 1) != bytes(8)


@pytest.mark.parametrize(("number", "error"), [(28, OutOfSpace), (5, TargetFailed)])
def test_a_failing_disk_is_a_clean_error_at_every_write(tmp_path: Path, number: int, error: type[Exception]) -> None:
    """Whichever write fails, in order or while reordering: a named error, and no file is left (H30)."""
    failed = 0
    with source(tmp_path, image(12)) as pages:
        for at in range(1, 40):
            faulty = FaultyOs(at, number=number, calls=frozenset({"pwrite"}))
            try:
                with (
                    cut(durable, faulty),
                    SnapshotWriter(tmp_path / "set", header(0), level=1, threads=2) as writer,
                ):
                    writer.copy(pages, 9, 4)
                    writer.copy(pages, 1, 8)
                    writer.seal(pages=12)
            except error as raised:
                failed += 1
                assert str(tmp_path / "set") in str(raised)
                assert sorted(path.name for path in tmp_path.iterdir()) == ["source.db"]
                continue
            break
    assert failed == len(faulty.seen) >= 10
    prove(tmp_path / "set", image(12))


def test_a_disk_that_fills_while_frames_are_copied_is_out_of_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a stream that cannot take more names the file that was written, not the database that was read."""

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with source(tmp_path, image(12)) as pages:
        for later in (False, True):
            with (
                monkeypatch.context() as patch,
                SnapshotWriter(tmp_path / "set", header(12), level=1, threads=2) as writer,
            ):
                patch.setattr(os, "pwrite", full)
                with pytest.raises(OutOfSpace, match=rf"cannot write {'beside ' * later}.*/set"):
                    writer.recopy_changed(pages, later=later)
            assert not (tmp_path / "set").exists()


def test_what_an_earlier_pass_put_aside_is_forgotten(tmp_path: Path) -> None:
    """A pass that begins again at page 1 decides alone, whatever came between; so does a copy."""
    first, second = image(12), image(12, seed=2)
    with source(tmp_path, first) as pages:
        for between in (False, True):
            target = tmp_path / f"set-{between}"
            with SnapshotWriter(target, header(12), level=1, threads=2) as writer:
                writer.copy(pages, 1, 12)
                with source(tmp_path, second, name="other.db") as other:
                    assert writer.recopy_changed(other, later=True) == 12
                if between:
                    writer.copy(pages, 1, 4)
                else:
                    assert writer.recopy_changed(pages, later=True) == 0
                writer.seal(pages=12)
            prove(target, first)
