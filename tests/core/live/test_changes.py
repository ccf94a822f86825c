"""Copies of what changed in a live database: whatever is written meanwhile, chain and database are one commit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseUnsettled
from pagewarden.live import ChangesTaken, PageSizeChanged, SnapshotTaken, changes_commit, settle, snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import FRAME_BYTES, Kind, PageSetHeader
from pagewarden.repository.mapfacts import MapFacts
from tests.core.live.slices import EARLY, HEADER, Between, big, sound
from tests.support.restoring import bring_back
from tests.support.session import Session

Change = Callable[..., tuple[ChangesTaken, bytes]]
"""Copies what changed in a database since it was made, and restores the chain."""


def facts_of(taken: SnapshotTaken) -> MapFacts:
    """Return what the page map of a snapshot claims."""
    header = taken.info.header
    return MapFacts(
        timeline=header.timeline,
        txid=header.txid,
        page_size=header.page_size,
        pages=header.pages,
        database_sum=taken.info.database_sum,
    )


def segment_header(page_size: int = 4096) -> PageSetHeader:
    """Return the header of a segment that continues the snapshot."""
    return PageSetHeader(
        kind=Kind.SEGMENT,
        page_size=page_size,
        pages=0,
        pages_per_frame=8,
        timeline=HEADER.timeline,
        txid=HEADER.txid + 1,
        txid_from=HEADER.txid,
        time=EARLY,
    )


@pytest.fixture(params=["delete", "wal"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both journal modes."""
    return str(request.param)


@pytest.fixture
def change(reader: PageReader, tmp_path: Path) -> Change:
    """The first call takes the snapshot that all the others are compared with."""
    base: list[MapFacts] = []

    def work(path: Path, **options: object) -> tuple[ChangesTaken, bytes]:
        if not base:
            base.append(facts_of(snapshot_commit(str(path), reader, tmp_path / "base", HEADER, 1)))
            reader.build_map(tmp_path / "map", base[0], [tmp_path / "base"])
        for name in ("set", "restored"):
            (tmp_path / name).unlink(missing_ok=True)
        taken = changes_commit(
            str(path),
            reader,
            tmp_path / "set",
            segment_header(),
            1,
            base=tmp_path / "map",
            facts=base[0],
            **options,  # type: ignore[arg-type]
        )
        chain = [tmp_path / "base"]
        if taken.info is not None:
            assert reader.verify_pageset(tmp_path / "set", read_data=True) == taken.info
            chain.insert(0, tmp_path / "set")
        assert (tmp_path / "set").exists() == (taken.info is not None)
        bring_back(reader, chain, tmp_path / "restored")
        return taken, (tmp_path / "restored").read_bytes()

    return work


def some(session: Session, value: int) -> None:
    """Write `value` into rows of about an eighth of the pages, in one transaction."""
    session.run("UPDATE d SET number = ? WHERE id % 4 < 2", value)


def closed(path: Path, session: Session) -> bytes:
    """Return the database's bytes once all of its log is in it."""
    session.run("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def test_what_differs_little_needs_one_look(mode: str, change: Change, tmp_path: Path) -> None:
    """With a rollback journal the one under the lock; nothing that differs is nothing stored."""
    path = big(tmp_path / "a.db", mode)
    with Session(path) as session:
        taken, _ = change(path)
        assert (taken.info, taken.changes.pages, taken.attempts) == (None, 0, 1)
        some(session, 1)
        taken, restored = change(path)
        assert restored == closed(path, session)
        assert taken.attempts == 1
        assert (taken.lock_seconds > 0) == (mode == "delete")
        assert taken.info is not None and taken.info.held == taken.changes.pages > 90


def test_commits_in_between_are_seen(change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs more than a little is copied without the lock first, and comes to rest at the last commit."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        change(path)
        some(session, 99)
        monkeypatch.setattr(settle, "_LITTLE", 1 << 16)
        between = Between(monkeypatch, 12, lambda n: some(session, n))
        taken, restored = change(path)
        assert restored == path.read_bytes()
        assert between.chances > 12 and taken.attempts >= 4
        sound(restored, tmp_path)


def test_every_kind_of_change_in_between_is_seen(
    change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows, shrinks, changes back: the chain is the file at the end (H21, H34)."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        session.run("VACUUM")  # so that a later one leaves most pages where they are
        change(path)
        changes = [
            "CREATE TABLE e AS SELECT * FROM a LIMIT 150",
            "UPDATE d SET number = 3 WHERE id % 8 = 0",
            "DROP TABLE e",
            "UPDATE d SET number = 0 WHERE id % 8 = 0",
            "VACUUM",
            "CREATE TABLE f AS SELECT * FROM b LIMIT 37",
            "PRAGMA user_version=6",
        ]
        monkeypatch.setattr(settle, "_LITTLE", 1 << 15)
        some(session, 1)
        Between(monkeypatch, len(changes), lambda n: session.run(changes[n - 1]))
        taken, restored = change(path)
        assert taken.info is not None
        assert restored == path.read_bytes()
        sound(restored, tmp_path)


def test_pages_that_come_from_the_disk_are_not_waited_for_under_the_lock(
    change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first look that takes long lets go, and the long way is gone; the clock says how long."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        change(path)
        some(session, 1)
        monkeypatch.setattr(settle, "_ALL_AGAIN", FRAME_BYTES)
        ticks = itertools.count()
        taken, restored = change(path, clock=lambda: float(next(ticks)))
        assert (taken.attempts, restored) == (2, path.read_bytes())


def test_a_database_that_never_rests_is_unsettled(
    change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a snapshot; the staging file is gone."""
    path = big(tmp_path / "a.db")
    with Session(path) as session:
        change(path)
        monkeypatch.setattr(settle, "_LITTLE", 0)
        monkeypatch.setattr(settle, "_ROUNDS", 3)
        Between(monkeypatch, 10**6, lambda n: session.run("UPDATE d SET number = ? WHERE id = 390", n))
        with pytest.raises(DatabaseUnsettled, match="did not come to rest in 5 attempts"):
            change(path)
        assert not (tmp_path / "set").exists()


def test_more_than_half_is_told_and_left(mode: str, change: Change, tmp_path: Path, reader: PageReader) -> None:
    """Nothing is stored; another page size is told at once."""
    path = big(tmp_path / "a.db", mode)
    with Session(path) as session:
        change(path)
        for table in "abc":
            session.run(f"UPDATE {table} SET number = 1")
        taken, _ = change(path)
        assert (taken.info, taken.changes.too_many) == (None, True)
        with pytest.raises(PageSizeChanged, match="had 1024 bytes, and have 4096 now"):
            facts = MapFacts(timeline=HEADER.timeline, txid=HEADER.txid, page_size=1024, pages=0, database_sum=0)
            changes_commit(
                str(path), reader, tmp_path / "set", segment_header(1024), 1, base=tmp_path / "map", facts=facts
            )
        assert not (tmp_path / "set").exists()


def test_a_map_that_goes_away_meanwhile_is_named(change: Change, tmp_path: Path, reader: PageReader) -> None:
    """It was proved before; nothing is left, and the next try makes it again."""
    path = big(tmp_path / "a.db")
    change(path)
    facts = MapFacts(timeline=HEADER.timeline, txid=HEADER.txid, page_size=4096, pages=0, database_sum=0)
    with pytest.raises(DatabaseUnsettled, match="is of another position"):
        changes_commit(str(path), reader, tmp_path / "set", segment_header(), 1, base=tmp_path / "map", facts=facts)
    assert not (tmp_path / "set").exists()
