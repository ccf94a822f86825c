"""The spool: what is in it outlives any kill, proves itself, and is never thrown away for a passing failure."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import ReaderCrashed
from pagewarden.guard.spool import Spool, Waiting
from pagewarden.repository.manifest import SourceFacts
from pagewarden.repository.stream import Batch, BatchSegment
from pagewarden.values import Position

TIMELINE = "ab" * 16
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def position(txid: int) -> Position:
    """Return a position of one timeline."""
    return Position(timeline=TIMELINE, txid=txid, time=NOW)


def batch(txid: int) -> Batch:
    """Return a batch of one commit."""
    sums = {"database_sum": "0" * 16, "database_sum_from": "0" * 16}
    return Batch(
        parent=position(txid),
        position=position(txid + 1),
        segment=BatchSegment(bytes=7, sha256="0" * 64, page_size=4096, pages=2, **sums),
        merged=1,
        facts=SourceFacts(path="/app.db", host="here", change_counter=1, schema_cookie=1, journal_mode="wal"),
        compression=1,
        verified_at=NOW,
        created_by="a test",
    )


def fill(folder: Path, count: int) -> Spool:
    """Return a spool with batches, one after the other."""
    spool = Spool(folder, 1 << 20)
    for txid in range(1, count + 1):
        segment, commits = spool.begin()
        segment.write_bytes(b"segment")
        commits.write_bytes(b"commits")
        spool.add(batch(txid), commits=txid % 2 == 0)
    return spool


def sound(_waiting: Waiting) -> str:
    """Find nothing wrong."""
    return ""


def numbers(found: tuple[Waiting, ...]) -> list[int]:
    """Return the numbers of batches."""
    return [each.number for each in found]


def test_what_was_added_is_found_again(tmp_path: Path) -> None:
    """In order, with its files; and numbers go on behind it."""
    spool = fill(tmp_path, 4)
    spool.settle()
    assert (spool.count, spool.bytes) == (4, 4 * 7 + 2 * 7)
    again = Spool(tmp_path, 1 << 20)
    found, problem = again.recover(sound)
    assert (numbers(found), problem) == ([1, 2, 3, 4], "")
    assert [each.batch for each in found] == [batch(txid) for txid in range(1, 5)]
    assert [each.commits is not None for each in found] == [False, True, False, True]
    again.begin()[0].write_bytes(b"segment")
    assert again.add(batch(5), commits=False).number == 5


def test_what_is_stored_leaves_nothing(tmp_path: Path) -> None:
    """Neither does what no document names."""
    spool = fill(tmp_path, 1)
    found, _ = spool.recover(sound)
    (tmp_path / "0000000000000009.segment").write_bytes(b"half")
    spool.stored(found[0])
    spool.stored(found[0])
    Spool(tmp_path, 1).recover(sound)
    assert list(tmp_path.iterdir()) == []


def test_what_is_discarded_is_kept_within_the_bound(tmp_path: Path) -> None:
    """It is found no more, a later batch does not take its name, and of too much the oldest goes."""
    spool = fill(tmp_path, 3)
    assert (spool.count, spool.discard(), spool.count) == (3, 3, 0)
    aside = sorted(file.name for file in tmp_path.iterdir())
    assert "0000000000000001.json.broken" in aside and all(name.endswith(".broken") for name in aside)
    again = Spool(tmp_path, 1 << 20)
    assert again.recover(sound) == ((), "")
    assert sorted(file.name for file in tmp_path.iterdir()) == aside
    again.begin()[0].write_bytes(b"segment")
    assert again.add(batch(4), commits=False).number == 4
    little = Spool(tmp_path, sum(file.stat().st_size for file in tmp_path.iterdir()) // 2)
    little.recover(sound)
    assert little.discard() == 1
    left = sorted(file.name for file in tmp_path.iterdir())
    assert "0000000000000004.segment.broken" in left and "0000000000000001.json.broken" not in left


def test_a_broken_batch_ends_what_is_used_and_is_kept(tmp_path: Path) -> None:
    """What comes after it does not continue anything; it stays on the disk under another name."""
    fill(tmp_path, 4)
    spool = Spool(tmp_path, 1 << 20)
    found, problem = spool.recover(lambda waiting: "it rotted" if waiting.number == 3 else "")
    assert numbers(found) == [1, 2]
    assert problem == f"batch 3 in {tmp_path}: it rotted"
    aside = sorted(file.name for file in tmp_path.iterdir() if file.suffix == ".broken")
    assert "0000000000000004.commits.broken" in aside
    assert len(aside) == 6, "two documents and four page sets"
    assert Spool(tmp_path, 1).recover(sound)[1] == ""
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix == ".broken") == aside


@pytest.mark.parametrize("harm", ["document", "segment", "gap"])
def test_what_does_not_prove_itself_is_not_used(tmp_path: Path, harm: str) -> None:
    """A document with another byte, a file that is missing, a batch that continues another position."""
    fill(tmp_path, 3)
    document = tmp_path / "0000000000000002.json"
    if harm == "document":
        data = bytearray(document.read_bytes())
        data[40] ^= 1
        document.write_bytes(data)
    elif harm == "segment":
        (tmp_path / "0000000000000002.segment").unlink()
    else:
        document.unlink()
    found, problem = Spool(tmp_path, 1 << 20).recover(sound)
    assert numbers(found) == [1]
    assert problem


def test_a_passing_failure_takes_nothing(tmp_path: Path) -> None:
    """Where the page reader dies, or a file cannot be opened now, everything is as it was, and is found later."""
    fill(tmp_path, 4)
    before = sorted(file.name for file in tmp_path.iterdir())

    def fail(waiting: Waiting) -> str:
        if waiting.number == 3:
            raise ReaderCrashed("killed")
        return ""

    with pytest.raises(ReaderCrashed):
        Spool(tmp_path, 1 << 20).recover(fail)
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert numbers(Spool(tmp_path, 1 << 20).recover(sound)[0]) == [1, 2, 3, 4]


def test_room(tmp_path: Path) -> None:
    """It says when what is added should be little, and when nothing should be."""
    spool = Spool(tmp_path / "deep" / "folder", 30)
    seen = []
    for txid in range(1, 6):
        seen.append((spool.nearly_full, spool.full))
        spool.begin()[0].write_bytes(b"segment")
        spool.add(batch(txid), commits=False)
    assert seen == [(False, False), (False, False), (False, False), (False, False), (True, False)]
    assert spool.full
    shutil.rmtree(tmp_path / "deep")
    with pytest.raises(OSError, match="deep"):
        spool.add(batch(6), commits=False)
    assert spool.count == 5
