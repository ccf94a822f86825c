"""H21: pages by which a database grows that are in no frame. SQLite itself is asked what they hold at each commit."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.following.values import Cause, Cursor, Gap, Taken
from pagewarden.pages import backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import write_map
from pagewarden.repository.pageset import PageSetFile
from tests.core.following.watching import TEMPLATE, TIMELINE, overlaid
from tests.core.pages.logs import Frame, rebuild

SIZE = 512


def frames_of(first_page: bytes, commits: list[tuple[int, list[int]]]) -> list[Frame]:
    """Return frames of commits, each the size of the database and the pages that it writes."""
    frames = []
    for number, (pages, written) in enumerate(commits):
        for pgno in written:
            data = bytes([number + 1, pgno % 251]) * (SIZE // 2)
            if pgno == 1:
                data = first_page[:28] + pages.to_bytes(4, "big") + first_page[32:]
            frames.append(Frame(pgno=pgno, pages=pages if pgno == written[-1] else 0, data=data))
    return frames


def made(folder: Path, frames: list[Frame]) -> Path:
    """Return a database of 12 pages, with a log of `frames` beside it."""
    folder.mkdir()
    path = folder / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={SIZE}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES(zeroblob(4400))")
        connection.commit()
    data = bytearray(path.read_bytes()[: 12 * SIZE])
    for pgno in range(2, 13):
        data[(pgno - 1) * SIZE : pgno * SIZE] = bytes([99, pgno]) * (SIZE // 2)
    path.write_bytes(data)
    Path(f"{path}-wal").write_bytes(rebuild(frames, big=False, page_size=SIZE))
    return path


COMMITS = [
    (12, [1, 6]),
    (5, [1]),  # it shrinks
    (9, [1, 8]),  # 6 from the log, 7 and 9 from the file
    (16, [1, 15]),  # 10 to 12 from the file, 13, 14 and 16 are zeros
    (16, [3, 3, 2]),  # a page twice, and not in order
    (4, [1, 14, 4]),  # a page beyond its end
    (15, [1]),  # 14 as it was written when the database did not have it
]


@pytest.mark.parametrize("how", ["one by one", "little by little", "merged", "late"])
def test_pages_that_were_never_written_are_what_sqlite_says(reader: PageReader, tmp_path: Path, how: str) -> None:
    """At each commit, and at the end; merged where the file may hold later versions already."""
    template = made(tmp_path / "template", []).read_bytes()
    frames = frames_of(template[:SIZE], COMMITS)
    ends = [at + 1 for at, frame in enumerate(frames) if frame.pages]
    states = []
    for number, end in enumerate(ends):
        path = made(tmp_path / f"state {number}", frames[:end])
        with closing(sqlite3.connect(path)) as connection:
            states.append(bytes(connection.serialize()))
        assert len(states[-1]) == COMMITS[number][0] * SIZE
    path = made(tmp_path / "a", frames)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        assert bytes(connection.serialize()) == states[-1]
        if how == "late":
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        handle, facts = _begun(reader, path, states[0], ends[0], tmp_path)
        image, txid, merged = states[0], 1, []
        while txid < len(states):
            segment, commits = tmp_path / f"{txid}.segment", tmp_path / f"{txid}.commits"
            header = PageSetHeader(
                kind=Kind.SEGMENT, page_size=SIZE, pages=0, pages_per_frame=8, timeline=TIMELINE, txid=txid + 1,
                txid_from=txid, time=TEMPLATE,
            )  # fmt: skip
            most = SIZE * 6 if how == "little by little" else 1 << 20
            taken = reader.follow_take(handle, header, segment, None if how == "merged" else commits, most_bytes=most)
            assert isinstance(taken, Taken), taken
            for inner in range(txid + 1, taken.txid if taken.commits is not None else txid):
                reader.extract_commit(commits, inner, tmp_path / f"{inner}.inner")
                with PageSetFile(tmp_path / f"{inner}.inner") as file:
                    assert overlaid(image, file) == states[inner - 1], inner
            with PageSetFile(segment) as file:
                image = overlaid(image, file)
            txid = taken.txid
            merged.append(taken.merged)
            assert image == states[txid - 1]
            sums = backend().buffer_sums(image, SIZE, 1, len(image) // SIZE)
            assert taken.database_sum == backend().fold(sums)
            assert reader.follow_map(handle, tmp_path / f"{txid}.map").pages == len(image) // SIZE
        assert facts.txid == 1
        expected = {"one by one": [0], "merged": [6], "late": [6]}
        assert merged == expected.get(how, merged)
        assert len(merged) > 1 or how != "little by little"
        reader.follow_end(handle)


def test_growth_that_cannot_be_is_not_believed(reader: PageReader, tmp_path: Path) -> None:
    """H29: a commit that says of billions of pages that they are there, and writes one."""
    template = made(tmp_path / "template", []).read_bytes()
    frames = frames_of(template[:SIZE], [(12, [1, 6]), (12, [3]), ((1 << 32) - 2, [1])])
    path = made(tmp_path / "a", frames)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA schema_version").fetchall()
        image = template[:SIZE] + b"".join(bytes([99, pgno]) * (SIZE // 2) for pgno in range(2, 13))
        handle, _ = _begun(reader, path, image, 2, tmp_path)
        header = PageSetHeader(
            kind=Kind.SEGMENT, page_size=SIZE, pages=0, pages_per_frame=8, timeline=TIMELINE, txid=2, txid_from=1,
            time=TEMPLATE,
        )  # fmt: skip
        for commits in (tmp_path / "commits", None):
            found = reader.follow_take(handle, header, tmp_path / "segment", commits)
            assert isinstance(found, Gap)
            assert found.cause is Cause.LOG_DAMAGED
        reader.follow_end(handle)


def _begun(reader: PageReader, path: Path, image: bytes, frame: int, folder: Path) -> tuple[int, MapFacts]:
    """Begin to follow at a frame, where the database is `image`; return the handle."""
    sums = backend().buffer_sums(image, SIZE, 1, len(image) // SIZE)
    facts = MapFacts(
        timeline=TIMELINE, txid=1, page_size=SIZE, pages=len(image) // SIZE, database_sum=backend().fold(sums)
    )
    shutil.rmtree(folder / "maps", ignore_errors=True)
    (folder / "maps").mkdir()
    write_map(folder / "maps" / "map", facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
    handle = reader.follow_begin(str(path), folder / "maps" / "map", facts, Cursor(salts=b"saltsalt", frame=frame))
    assert isinstance(handle, int), handle
    return handle, facts
