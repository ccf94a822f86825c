"""Snapshots and raw copies of live databases: each is exactly one commit, and nothing is left of one that failed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, OutOfSpace, ReaderCrashed, TargetFailed
from pagewarden.live import Pin, scratch_copy, settle, snapshot_commit
from pagewarden.processes.reader import Attachment, PageReader
from pagewarden.repository.format import FRAME_BYTES
from tests.core.live.slices import EARLY, HEADER, Take, big, commit, number, oracle, sound
from tests.support.databases import build, masked
from tests.support.session import Session


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_snapshot_is_the_newest_commit(mode: str, page_size: int, take: Take, tmp_path: Path) -> None:
    """By the rule of docs/live-read.md, with the facts that tell later whether a commit was made since."""
    path = build(tmp_path / "a.db", mode=mode, page_size=page_size)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'newest'")
        taken, restored = take(path)
        assert masked(restored) == masked(oracle(path, tmp_path))
        assert restored.count(b"newest") >= 100
        assert taken.attempts == 1 and taken.created == ()
        assert taken.journal_mode == ("wal" if mode == "wal" else "delete")
        assert taken.schema_cookie == session.run("PRAGMA schema_version")[0][0]
        assert taken.change_counter == int.from_bytes(restored[24:28], "big")
        assert (len(taken.salts), taken.wal_frames > 0) == ((8, True) if mode == "wal" else (0, False))
        assert (taken.lock_seconds == 0.0) == (mode == "wal")
        header = taken.info.header
        assert header == replace(
            HEADER, page_size=page_size, pages=len(restored) // page_size, pages_per_frame=FRAME_BYTES // page_size
        )
        session.run("UPDATE item SET name = 'later'")
        again, _ = take(path)
        assert (again.salts, again.wal_frames, again.change_counter) != (
            taken.salts, taken.wal_frames, taken.change_counter,
        )  # fmt: skip
        sound(restored, tmp_path)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_time_is_one_at_which_it_was_committed_already(
    mode: str, take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is read after the last page, never before the pin: no later commit has an earlier time (H23)."""
    path = build(tmp_path / "a.db", mode=mode)
    order: list[str] = []
    real = Pin.release

    def release(pin: Pin) -> None:
        order.append("release")
        real(pin)

    monkeypatch.setattr(Pin, "release", release)

    def now() -> datetime:
        order.append("now")
        return EARLY + timedelta(days=1)

    taken, _ = take(path, now=now)
    assert taken.info.header.time == EARLY + timedelta(days=1)
    assert order[0] == "release" and order.count("now") == 1


def test_empty_and_tiny_databases_have_snapshots(take: Take, tmp_path: Path) -> None:
    """No page at all, and one page."""
    path = tmp_path / "a.db"
    path.touch()
    taken, restored = take(path)
    assert (restored, taken.info.header.pages, taken.change_counter, taken.schema_cookie) == (b"", 0, 0, 0)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=1")
    assert take(path)[1] == path.read_bytes()


def test_progress_counts_pages_of_the_whole(take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go and in several: it only grows, and ends at the size of the database."""
    monkeypatch.setattr(settle, "_AT_ONCE", FRAME_BYTES)
    for mode in ("wal", "delete"):
        path = build(tmp_path / f"{mode}.db", mode=mode, rows=400)
        told: list[tuple[int, int]] = []
        taken, _ = take(path, progress=lambda done, total, told=told: told.append((done, total)))
        pages = taken.info.header.pages
        assert told == sorted(told) and told[-1] == (pages, pages) and {total for _, total in told} == {pages}


def test_nothing_is_left_of_a_snapshot_that_failed(reader: PageReader, tmp_path: Path) -> None:
    """A callback that raises, a reader that crashes, a busy database: the staging file is gone, the lock, too."""
    path = build(tmp_path / "a.db", rows=300)

    class Enough(Exception):
        pass

    def enough(_done: int, _total: int) -> None:
        raise Enough

    def crash(_done: int, _total: int) -> None:
        own.kill()

    def attempt(reader: PageReader, **options: object) -> None:
        snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1, **options)  # type: ignore[arg-type]

    with pytest.raises(Enough):
        attempt(reader, progress=enough)
    with PageReader() as own:
        with pytest.raises(ReaderCrashed):
            attempt(own, progress=crash)
        with pytest.raises(ReaderCrashed):
            own.ping()
            folder = tmp_path / "scratch"
            folder.mkdir()
            scratch_copy(str(path), own, folder, progress=crash)
        assert list(folder.iterdir()) == []
    with Session(path) as session:
        session.run("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseBusy):
            attempt(reader, timeout=0.0)
        session.run("ROLLBACK")
        session.run("DELETE FROM item")
    (tmp_path / "set").write_bytes(b"somebody else's")
    with pytest.raises(TargetFailed, match="file exists"):
        attempt(reader)
    assert (tmp_path / "set").read_bytes() == b"somebody else's"
    (tmp_path / "set").unlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db", "scratch"]


def test_a_full_disk_while_sealing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails like the others."""
    path = build(tmp_path / "a.db")
    with PageReader() as own:

        def full(*_args: object) -> None:
            raise OutOfSpace("no space")

        monkeypatch.setattr(own, "seal", full)
        with pytest.raises(OutOfSpace):
            snapshot_commit(str(path), own, tmp_path / "set", HEADER, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_scratch_copy_is_the_newest_commit(mode: str, reader: PageReader, tmp_path: Path) -> None:
    """Under the same name, for its owner alone, without any -wal: what a long check reads instead."""
    path = big(tmp_path / "a.db", mode)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with Session(path) as session:
        commit(session, 3)
        copy = scratch_copy(str(path), reader, folder)
        assert copy == folder / "a.db"
        assert masked(copy.read_bytes()) == masked(oracle(path, tmp_path))
        assert number(copy.read_bytes(), tmp_path) == 3
        assert [file.name for file in folder.iterdir()] == ["a.db"]
        with pytest.raises(TargetFailed, match="file exists"):
            scratch_copy(str(path), reader, folder)


def test_damage_is_copied_verbatim(take: Take, tmp_path: Path) -> None:
    """A backup of a damaged database is that database (H18): its verdict is another matter."""
    path = build(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = os.urandom(4096)
    data[4096 * 5 : 4096 * 6] = bytes(4096)
    path.write_bytes(data)
    assert take(path)[1] == data
    shutil.copy(path, tmp_path / "b.db")
    os.truncate(tmp_path / "b.db", len(data) - 4096 * 2 - 50)
    assert take(tmp_path / "b.db")[1] == data[: -4096 * 2 - 50] + bytes(4096 * 2 + 50)


def test_an_attachment_that_is_refused_begins_nothing(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before the first page has nothing to remove."""
    path = build(tmp_path / "a.db")

    def attach(_reader: PageReader, _database: str) -> Attachment:
        raise ReaderCrashed("the page reader was killed")

    monkeypatch.setattr(PageReader, "attach", attach)
    with pytest.raises(ReaderCrashed):
        snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1)
