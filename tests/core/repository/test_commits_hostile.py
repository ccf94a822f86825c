"""Page sets of commits from a hostile hand, and writers that are told what cannot be."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pagewarden import durable
from pagewarden.errors import OutOfSpace, PagewardenError, RepositoryDamaged, VerificationFailed
from pagewarden.pages import MAX_PAGES, backend, lock_page, spread_in
from pagewarden.repository import blocks
from pagewarden.repository import extract as extracting
from pagewarden.repository.commits import CommitsFile, CommitsWriter, verify_commits
from pagewarden.repository.extract import extract
from pagewarden.repository.format import Commit, PageSetHeader
from pagewarden.repository.join import join
from tests.core.repository.commitsets import FIRST, PAGE, History, commits_header
from tests.core.repository.segments import segment_header
from tests.core.repository.sets import NOW, image
from tests.support.commitsets import Entry, commits_set
from tests.support.segments import page_set

TIME = blocks.micros(NOW)
DATA = image(30)
COMMITS: tuple[tuple[int, ...], ...] = ((1, 4, 5), (2, 4, 11, 12), (), (1, 2, 3, 4, 21, 22))
SIZES = (20, 20, 9, 22)
SIZED = (COMMITS[0], COMMITS[1], COMMITS[2], (1, 2, 3, 4, *range(10, 23)))


def page_of(pgno: int) -> bytes:
    """Return a page."""
    return DATA[(pgno - 1) * PAGE : pgno * PAGE]


def table(**lies: dict[int, Any]) -> list[Entry]:
    """Return the entries of the four commits; what is given by field and commit stands there instead."""
    made: list[Entry] = []
    for at, (numbers, pages) in enumerate(zip(SIZED, SIZES, strict=True)):
        said = {"time": TIME, "pages": pages, "entries": len(numbers), "database_sum": at, "merged": 1, "flags": 0}
        said |= {field: values[at] for field, values in lies.items() if at in values}
        made.append(tuple(said.values()))  # type: ignore[arg-type]
    return made


HEADER = replace(commits_header(txid=FIRST + 4), pages=SIZES[-1], commits=4)


def forge(entries: list[Entry] | None = None, head: PageSetHeader = HEADER, **lies: Any) -> bytes:
    """Return a page set of the four commits, made by hand."""
    held = [{pgno: page_of(pgno) for pgno in numbers} for numbers in SIZED]
    return commits_set(head, table() if entries is None else entries, held, **lies)


def refused(path: Path, words: str = "set") -> None:
    """Assert that a file is refused, by whoever reads it, and that nothing is made of it."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: verify_commits(path, threads=2, read_data=True),
        lambda: extract(path, FIRST + 4, path.with_name("to"), level=1),
        lambda: join([path], path.with_name("to"), level=1),
    )
    for call in calls:
        with pytest.raises(RepositoryDamaged, match=words):
            call()
        assert not path.with_name("to").exists()


def test_what_is_made_by_hand_is_whole(tmp_path: Path) -> None:
    """So whatever is refused below is refused for its one lie."""
    (tmp_path / "set").write_bytes(forge())
    info = verify_commits(tmp_path / "set", threads=2, read_data=True)
    assert (info.held, info.header.commits) == (sum(map(len, SIZED)), 4)


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"time": {1: 1 << 62}}, "names"),
        ({"time": {3: TIME + 1}}, "do not lead to"),
        ({"pages": {1: MAX_PAGES + 1}}, f"names 4 pages changed in a database of {MAX_PAGES + 1}"),
        ({"pages": {1: 11}}, "commit 9 in .* holds a page that its database of 11 has not"),
        ({"pages": {1: 3}}, "names 4 pages changed in a database of 3"),
        ({"pages": {1: 21}}, "commit 9 in .* lacks pages by which the database grew to 21"),
        ({"pages": {2: 8}}, "commit 11 in .* lacks pages"),
        ({"pages": {3: 23}}, "commit 11 in .* lacks pages"),
        ({"entries": {0: 2}}, "commit 9 in .* do not ascend"),
        ({"entries": {0: 4, 1: 3}}, "commit 8 in .* do not ascend"),
        ({"entries": {3: 16}}, "do not lead to|lacks pages"),
        ({"entries": {3: 18}}, "have more pages than"),
        ({"entries": {0: (1 << 32) - 1}}, "names 4294967295 pages"),
        ({"database_sum": {3: 9}}, "do not lead to"),
        ({"merged": {1: 0}}, "names 0 commits"),
        ({"merged": {1: 2}}, "do not lead to"),
        ({"merged": {1: (1 << 32) - 1}}, "do not lead to"),
        ({"flags": {1: 1}}, "flags 0x1, which this version cannot read"),
    ],
)
def test_commits_that_contradict_the_rest_are_refused(
    tmp_path: Path, lies: dict[str, dict[int, Any]], words: str
) -> None:
    """With every checksum right: commits, page numbers, header and trailer must agree (H21, H29)."""
    (tmp_path / "set").write_bytes(forge(table(**lies), database_sum=3))
    refused(tmp_path / "set", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"commits": 0}, "does not fit"),
        ({"commits": 3}, "does not fit"),
        ({"commits": 5, "txid": FIRST + 5}, "does not fit"),
        ({"txid": FIRST + 5}, "do not lead to"),
        ({"txid_from": FIRST - 1}, "do not lead to"),
        ({"pages": 21}, "do not lead to"),
    ],
)
def test_a_header_that_contradicts_the_commits_is_refused(tmp_path: Path, change: dict[str, int], words: str) -> None:
    """How many there are, between which positions, and what they lead to."""
    (tmp_path / "set").write_bytes(forge(head=replace(HEADER, **change)))  # type: ignore[arg-type]
    refused(tmp_path / "set", words)


@pytest.mark.parametrize("block", [2, 1 << 16])
def test_forged_page_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Within each commit they ascend, whatever blocks they are in, and none is 0 or beyond the database."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", block)
    true = [pgno for numbers in SIZED for pgno in numbers]
    for place, pgno in ((0, 0), (1, 1), (2, 4), (2, 21), (6, 11), (6, 1), (len(true) - 1, 23), (8, (1 << 32) - 1)):
        said = list(true)
        said[place] = pgno
        (tmp_path / "set").write_bytes(forge(numbers=said))
        refused(tmp_path / "set", "do not ascend|has not|lacks pages")


def test_the_page_of_the_lock_bytes_is_refused(tmp_path: Path) -> None:
    """H12: no page set holds it, so neither does a commit, whoever writes it."""
    lock = lock_page(65536)
    page, pages = bytes(65536), lock + 2
    head = replace(commits_header(65536, txid=FIRST + 1), pages=pages, commits=1)
    for numbers, good in (((2, lock + 1), True), ((2, lock), False), ((lock,), False), ((lock, lock + 1), False)):
        held = dict.fromkeys(numbers, page)
        made = commits_set(head, [(TIME, pages, len(numbers), 1, 1, 0)], [held])
        (tmp_path / "set").write_bytes(made)
        commit = Commit(txid=FIRST + 1, time=NOW, pages=pages, entries=len(numbers), database_sum=1)
        data, sums = page * len(numbers), backend().listed_sums(page * len(numbers), 65536, numbers)
        with CommitsWriter(tmp_path / "written", commits_header(65536), level=1) as writer:
            if good:
                verify_commits(tmp_path / "set", threads=1, read_data=True)
                writer.add(commit, numbers, data, sums)
                continue
            refused(tmp_path / "set", "has not")
            with pytest.raises(ValueError, match=f"of commit {FIRST + 1}"):
                writer.add(commit, numbers, data, sums)
        assert not (tmp_path / "written").exists()


def test_growing_over_the_page_of_the_lock_bytes_needs_no_such_page(tmp_path: Path) -> None:
    """H12, H21: all pages by which the database grew are there, but for the one that no page set holds."""
    lock = lock_page(65536)
    page, pages = bytes(65536), lock + 1
    head = replace(commits_header(65536, txid=FIRST + 2), pages=pages, commits=2)
    entries = [(TIME, lock - 1, 0, 1, 1, 0), (TIME, pages, 1, 2, 1, 0)]
    (tmp_path / "set").write_bytes(commits_set(head, entries, [{}, {lock + 1: page}]))
    verify_commits(tmp_path / "set", threads=1, read_data=True)
    (tmp_path / "set").write_bytes(commits_set(head, entries, [{}, {lock - 1: page}]))
    refused(tmp_path / "set", "lacks pages")


def test_no_flipped_bit_passes(tmp_path: Path) -> None:
    """Any byte of a page set of commits, with one of its bits flipped, is refused."""
    history = History(4, commits=8)
    info = history.write(tmp_path / "good")
    data, rng = (tmp_path / "good").read_bytes(), random.Random(7)
    frames = rng.sample(range(128, info.numbers_offset), 60)
    for offset in (*frames, *range(0, 128, 3), *range(info.numbers_offset, len(data), 2)):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << rng.randrange(8)
        (tmp_path / "set").write_bytes(flipped)
        with pytest.raises(RepositoryDamaged):
            verify_commits(tmp_path / "set", threads=1, read_data=True)
        with pytest.raises(RepositoryDamaged):
            extract(tmp_path / "set", info.position.txid, tmp_path / "to", level=1)
        with pytest.raises(RepositoryDamaged):
            join([tmp_path / "set"], tmp_path / "to", level=1)
    assert not (tmp_path / "to").exists()


def test_no_cut_or_lengthened_file_passes(tmp_path: Path) -> None:
    """One that was cut off anywhere, or has something appended, is refused."""
    data, rng = forge(), random.Random(8)
    for size in (0, 127, 128, 319, *(rng.randrange(len(data)) for _ in range(40)), len(data) - 1):
        (tmp_path / "set").write_bytes(data[:size])
        refused(tmp_path / "set")
    for more in (b"\0", data[-192:], data):
        (tmp_path / "set").write_bytes(data + more)
        refused(tmp_path / "set")


def test_commits_of_another_file_are_refused(tmp_path: Path) -> None:
    """Whole blocks, put into another page set, do not fit its trailer."""
    (tmp_path / "set").write_bytes(forge(commits_check=5))
    refused(tmp_path / "set", "other blocks")
    data = bytearray(forge())
    other = forge(table(time={0: TIME + 5}))
    size = blocks.blocks_size(4, blocks.COMMITS_ENTRY)
    data[-192 - size : -192] = other[-192 - size : -192]
    (tmp_path / "set").write_bytes(data)
    refused(tmp_path / "set", "other blocks")


@pytest.mark.parametrize("offset", [80, 88])
def test_an_absurd_count_costs_no_memory(tmp_path: Path, offset: int) -> None:
    """H29: billions of commits, frames or pages that a few bytes claim are refused by the size of the file."""
    most = (1 << 32) - 1
    for head in (HEADER, replace(HEADER, commits=most, txid=FIRST + most, pages=MAX_PAGES)):
        data = bytearray(forge(head=head))
        tail = len(data) - 192
        struct.pack_into("<Q", data, tail + offset, (1 << 63) - 1)
        struct.pack_into("<Q", data, tail + 144, blocks.hash64(bytes(data[tail : tail + 144])))
        (tmp_path / "set").write_bytes(data)
        tracemalloc.start()
        refused(tmp_path / "set", "does not fit")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        tracemalloc.stop()


def test_a_bomb_in_a_frame_is_refused(tmp_path: Path) -> None:
    """H29: a frame that would become more than its pages is never decoded."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    true = [pgno for numbers in SIZED for pgno in numbers]
    groups = [true[at : at + 4] for at in range(0, len(true), 4)]
    frames = [zstandard.ZstdCompressor().compress(b"".join(map(page_of, group))) for group in groups]
    for forged in (bomb, b"\x28\xb5\x2f\xfd" + b"\xff" * 30, frames[1][:-1]):
        (tmp_path / "set").write_bytes(forge(frames=[frames[0], forged, *frames[2:]]))
        refused(tmp_path / "set", "frame 1")


def test_a_history_that_cannot_be_is_not_written(tmp_path: Path) -> None:
    """Commits that do not follow each other, pages that are missing, too many or in the wrong order."""
    first = Commit(txid=FIRST + 1, time=NOW, pages=10, entries=2, database_sum=1)
    sums = bytes(16)

    def write(*steps: Callable[[CommitsWriter], object]) -> None:
        with CommitsWriter(tmp_path / "set", commits_header(), level=1) as writer:
            for step in steps:
                step(writer)
            writer.seal(0)

    def add(commit: Commit, *numbers: int) -> Callable[[CommitsWriter], object]:
        return lambda writer: writer.add(commit, numbers, bytes(PAGE * len(numbers)), bytes(8 * len(numbers)))

    def put(*numbers: int) -> Callable[[CommitsWriter], object]:
        return lambda writer: writer.put(numbers, bytes(PAGE * len(numbers)), bytes(8 * len(numbers)))

    def extend(rows: list[tuple[int, int, int]], *numbers: int) -> Callable[[CommitsWriter], object]:
        pages, sums = bytes(PAGE * len(numbers)), bytes(8 * len(numbers))
        return lambda writer: writer.extend(NOW, rows, numbers, pages, sums)

    second = replace(first, txid=FIRST + 2)
    for steps, words in (
        ((), "no commits"),
        ((add(second, 1, 2),), "does not follow 7"),
        ((add(replace(second, merged=3), 1, 2),), "does not follow 7"),
        ((add(first, 1, 2), add(first, 1, 2)), "does not follow 8"),
        ((add(first, 1),), "lacks 1 of its pages"),
        ((add(first, 1), add(second, 1, 2)), "lacks 1 of its pages"),
        ((add(first, 1, 2, 3),), "3 page numbers with 1536 bytes and 24 of sums, of 2"),
        ((add(first, 2, 1),), "pages 2 to 1 of commit 8, of 10 pages, after page 0"),
        ((add(first, 0, 1),), "pages 0 to 1"),
        ((add(first, 10, 11),), "pages 10 to 11"),
        ((add(first, 3), put(3)), "pages 3 to 3 of commit 8, of 10 pages, after page 3"),
        ((add(first, 1, 2), add(replace(second, pages=11), 1, 2)), "1 by which the database grew"),
        ((lambda writer: writer.add(first, (1, 2), bytes(PAGE), sums),), "with 512 bytes"),
        ((lambda writer: writer.add(first, (1, 2), bytes(2 * PAGE), sums[:8]),), "8 of sums"),
    ):
        with pytest.raises(ValueError, match=words):
            write(*steps)
    for rows, numbers, words in (
        ([(10, 2, 1), (10, 1, 1)], (1, 2), "commit 9 lacks 1 of its pages"),
        ([(10, 2, 1), (10, 1, 1)], (1, 2, 3, 4), "4 page numbers, of 3"),
        ([(10, 2, 1)], (2, 1), "pages 2 to 1 of commit 8"),
        ([(10, 1, 1), (10, 2, 1)], (1, 3, 2), "pages 3 to 2 of commit 9"),
        ([(10, 1, 1), (10, 1, 1)], (1, 0), "pages 0 to 0 of commit 9"),
        ([(10, 1, 1), (10, 1, 1)], (1, 11), "pages 11 to 11 of commit 9, of 10 pages"),
        ([(10, 1, 1), (12, 1, 1)], (1, 12), "1 by which the database grew"),
        ([(10, 1, 1), (9, 1, 1), (10, 1, 1)], (1, 9, 9), "1 by which the database grew"),
        ([(10, 1, 1 << 64)], (1,), "what no commit after 7 can be"),
        ([(10, -1, 1)], (), "what no commit after 7 can be"),
        ([(1, 2, 1)], (1, 2), "2 pages changed in a database of 1"),
    ):
        with pytest.raises(ValueError, match=words):
            write(extend(rows, *numbers))
    with pytest.raises(ValueError, match="lacks 1 of its pages"):
        write(add(first, 1), extend([(10, 1, 1)], 1))
    with pytest.raises(ValueError, match="1 by which the database grew"):
        write(add(first, 1, 2), extend([(11, 1, 1)], 1))
    assert not (tmp_path / "set").exists()
    write(add(first, 1), put(), put(5), add(replace(second, pages=11), 1, 11))
    with pytest.raises(ValueError, match="of the kind SEGMENT"):
        CommitsWriter(tmp_path / "other", segment_header(), level=1)
    for change in (
        {"merged": 0},
        {"merged": 9},
        {"entries": 11},
        {"database_sum": -1},
        {"time": NOW.replace(tzinfo=None)},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            replace(first, **change)


def test_joining_checks_what_the_parts_make_together(tmp_path: Path) -> None:
    """Parts that are whole, and say that they follow each other, may lack pages all the same (H21)."""
    (tmp_path / "set").write_bytes(forge())
    head = replace(segment_header(txid=FIRST + 5), pages=30)
    for name, numbers in (("whole", range(23, 31)), ("lacks", range(24, 31))):
        pages = {pgno: page_of(pgno) for pgno in numbers}
        (tmp_path / name).write_bytes(page_set(head, pages, database_sum=9, database_sum_from=3))
    join([tmp_path / "set", tmp_path / "whole"], tmp_path / "to", level=1)
    (tmp_path / "to").unlink()
    with pytest.raises(RepositoryDamaged, match="lacks 0 of its pages, and 1 by which the database grew"):
        join([tmp_path / "set", tmp_path / "lacks"], tmp_path / "to", level=1)
    far = replace(segment_header(), txid_from=1, txid=1 << 40, pages=3)
    (tmp_path / "far").write_bytes(page_set(far, {1: page_of(1)}, database_sum=1))
    with pytest.raises(RepositoryDamaged, match=f"stands for {(1 << 40) - 1} commits"):
        join([tmp_path / "far"], tmp_path / "to", level=1)
    assert not (tmp_path / "to").exists()


def test_memory_does_not_grow_with_a_commit(tmp_path: Path) -> None:
    """Written, joined and extracted, a commit of many pages takes the memory of a few frames."""
    pages, size = 2500, 4096
    head = commits_header(size, per_frame=16)
    rng = random.Random(5)
    tracemalloc.start()
    with CommitsWriter(tmp_path / "set", head, level=1) as writer:
        for txid in (FIRST + 1, FIRST + 2):
            writer.begin(Commit(txid=txid, time=NOW, pages=pages, entries=pages, database_sum=txid))
            for first in range(1, pages + 1, 100):
                data = rng.randbytes(100 * size)
                writer.put(range(first, first + 100), data, backend().buffer_sums(data, size, first, 100))
        writer.seal(0)
    with CommitsFile(tmp_path / "set") as file:
        assert file.info.bytes > 2 * pages * size
    made = extract(tmp_path / "set", FIRST + 2, tmp_path / "segment", level=1)
    assert made.held == pages
    join([tmp_path / "set"], tmp_path / "joined", level=1)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the room ends, the error says so and the file that was begun is gone."""
    history = History(6)
    history.write(tmp_path / "set")
    real, left = durable.write_at, 0

    def write_at(descriptor: int, data: durable.Buffer, offset: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(28, "No space left on device")
        real(descriptor, data, offset)

    monkeypatch.setattr(durable, "write_at", write_at)
    to, last = tmp_path / "to", history.changes[-1].commit.txid
    makers: tuple[Callable[[], object], ...] = (
        lambda: extract(tmp_path / "set", last, to, level=1, threads=1),
        lambda: join([tmp_path / "set"], to, level=1, threads=1),
    )
    for make in makers:
        ended: PagewardenError | None = None
        for at in range(1, 300):
            left = at
            try:
                make()
            except PagewardenError as error:
                ended = error
                assert isinstance(error, OutOfSpace)
                assert not to.exists()
            else:
                break
        assert ended is not None
        to.unlink()


def test_what_does_not_read_back_beside_is_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pages change, or are cut off, while they wait for their places, nothing is left."""
    history = History(6)
    history.write(tmp_path / "set")

    def hurt(kind: str) -> Callable[..., Any]:
        def hurting(*arguments: Any, fd_out: int, **more: Any) -> Any:
            yield from spread_in(*arguments, fd_out=fd_out, **more)
            if kind == "cut":
                os.ftruncate(fd_out, 700)
            else:
                durable.write_at(fd_out, b"\x5a", 9)

        return hurting

    for kind in ("cut", "changed"):
        monkeypatch.setattr(extracting, "spread_in", hurt(kind))
        with pytest.raises(VerificationFailed, match="did not read back"):
            extract(tmp_path / "set", history.changes[-1].commit.txid, tmp_path / "to", level=1)
        assert not (tmp_path / "to").exists()
