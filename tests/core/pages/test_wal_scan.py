"""WAL verification against SQLite: whatever its recovery sees, the scan sees, and nothing more."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.pages import Backend, WalEnd, WalScan
from tests.core.pages.logs import (
    Frame,
    change,
    copied,
    frames_of,
    image,
    opened,
    rebuild,
    scan,
    serialized,
    wal_database,
)


def mapped(found: WalScan) -> dict[int, int]:
    """Return a scan's map as pages and frames, which must be sorted."""
    pairs = list(struct.iter_unpack("<2I", found.map))
    assert pairs == sorted(pairs)
    return dict(pairs)


def wal_size(path: Path) -> int:
    """Return the bytes of the WAL beside a database."""
    return os.stat(f"{path}-wal").st_size


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_every_commit_is_what_sqlite_served(pages_backend: Backend, tmp_path: Path, page_size: int) -> None:
    """Scanned up to any frame, the WAL gives exactly the database as of the last commit at or before that frame."""
    chance = random.Random(page_size)
    path = tmp_path / "a.db"
    with closing(wal_database(path, page_size=page_size)) as connection:
        states = {0: b""}
        for _ in range(8):
            change(connection, chance)
            frames = (wal_size(path) - 32) // (24 + page_size)
            states[frames] = bytes(connection.serialize())
        total = max(states)
        for limit in {1, 2, *states, *(frame - 1 for frame in states if frame > 1), total + 5}:
            found = scan(pages_backend, path, page_size, limit)
            assert found.frames_valid == min(limit, total)
            assert found.end is (WalEnd.LIMIT if limit <= total else WalEnd.END)
            assert (found.first_bad, found.why) == (None, "")
        for commit, state in list(states.items())[1:]:
            later = min((frame for frame in states if frame > commit), default=total + 1)
            assert scan(pages_backend, path, page_size, later - 1).last_commit == commit
            assert image(pages_backend, path, later - 1) == state
        whole = scan(pages_backend, path)
        assert (whole.page_size, whole.last_commit, whole.frames_valid) == (page_size, total, total)
        wal = Path(f"{path}-wal").read_bytes()
        assert whole.salts == wal[16:24]
        last = 32 + (total - 1) * (24 + page_size)
        assert whole.checksum == struct.unpack_from(">2I", wal, last + 16)
        assert whole.pages == struct.unpack_from(">I", wal, last + 4)[0]
        assert whole.big_endian_cksum == bool(wal[3] & 1)


def test_stale_frames_after_a_restart_are_left_out(pages_backend: Backend, tmp_path: Path) -> None:
    """H14: after a checkpoint that restarts the WAL, frames of the generation before stand behind the new ones."""
    chance = random.Random(2)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        for _ in range(6):
            change(connection, chance)
        before = scan(pages_backend, path)
        assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
        change(connection, chance)
        found = scan(pages_backend, path)
        assert found.salts != before.salts
        assert found.sequence == before.sequence + 1
        assert 0 < found.last_commit == found.frames_valid < before.frames_valid
        assert found.end is WalEnd.SALTS
        assert found.first_bad == found.frames_valid + 1
        assert found.why.startswith(f"frame {found.first_bad} carries other salts")
        assert image(pages_backend, path) == bytes(connection.serialize())


def test_spilled_frames_of_a_rolled_back_transaction_are_left_out(pages_backend: Backend, tmp_path: Path) -> None:
    """Frames that a large transaction spilled and then rolled back are valid, but belong to no commit."""
    chance = random.Random(3)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        change(connection, chance)
        committed = scan(pages_backend, path)
        state = bytes(connection.serialize())
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(data) VALUES (?)", [(chance.randbytes(3000),) for _ in range(60)])
        connection.execute("ROLLBACK")
        found = scan(pages_backend, path)
        assert found.frames_valid > committed.frames_valid
        assert (found.last_commit, found.checksum, found.map) == (
            committed.last_commit,
            committed.checksum,
            committed.map,
        )
        assert image(pages_backend, path) == state
        # The next commit overwrites the first of them; the rest no longer continues the chain.
        connection.execute("UPDATE t SET data = ? WHERE id = 1", (b"short",))
        again = scan(pages_backend, path)
        assert committed.last_commit < again.last_commit == again.frames_valid < found.frames_valid
        assert again.end is WalEnd.CHECKSUM
        assert image(pages_backend, path) == bytes(connection.serialize())


def test_pages_beyond_a_shrunken_commit_are_harmless(pages_backend: Backend, tmp_path: Path) -> None:
    """H21: frames of pages that a later commit cut off stay in the map, and never reach the database."""
    chance = random.Random(4)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        connection.execute("PRAGMA auto_vacuum=FULL")
        connection.execute("VACUUM")
        for _ in range(5):
            change(connection, chance)
        connection.execute("DELETE FROM t")
        found = scan(pages_backend, path)
        assert max(mapped(found)) > found.pages
        assert image(pages_backend, path) == bytes(connection.serialize())


@pytest.mark.parametrize("big", [False, True])
def test_both_byte_orders_are_sqlites(pages_backend: Backend, tmp_path: Path, big: bool) -> None:
    """A WAL rewritten with checksums over little- or big-endian words is one that SQLite recovers, and so do we."""
    chance = random.Random(6)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        for _ in range(4):
            change(connection, chance)
        other = copied(path, tmp_path / "copy")
        state = bytes(connection.serialize())
    wal = Path(f"{other}-wal")
    wal.write_bytes(rebuild(frames_of(wal.read_bytes()), big=big))
    found = scan(pages_backend, other)
    assert found.big_endian_cksum is big
    assert found.salts == b"saltsalt"
    assert found.end is WalEnd.END
    assert image(pages_backend, other) == state
    assert serialized(other) == state


def test_damaged_log_is_read_as_far_as_sqlite_reads_it(pages_backend: Backend, tmp_path: Path) -> None:
    """H14: for damage anywhere in the WAL our last commit is the one that SQLite's own recovery stops at."""
    chance = random.Random(8)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        for _ in range(4):
            change(connection, chance)
        origin = copied(path, tmp_path / "origin")
    original = Path(f"{origin}-wal").read_bytes()
    whole = scan(pages_backend, origin)
    ends = set()
    for number in range(24):
        at = chance.randrange(32) if number < 4 else 32 + chance.randrange(len(original) - 32)
        if 4 <= number < 12:  # in a frame's header: page, commit field, salts, checksum
            at = 32 + chance.randrange(whole.frames_valid) * 4120 + chance.randrange(24)
        damaged = bytearray(original)
        damaged[at] ^= 1 << chance.randrange(8)
        if number >= 20:
            del damaged[at:]
        path = copied(origin, tmp_path / f"damaged{number}")
        Path(f"{path}-wal").write_bytes(damaged)
        found = scan(pages_backend, path)
        ends.add(found.end)
        ours = image(pages_backend, path)
        assert ours == serialized(path), at
        if at < 32 and found.end is not WalEnd.NO_HEADER:
            assert (found.end, found.frames_valid, found.salts) == (WalEnd.BAD_HEADER, 0, b"")
            assert found.first_bad is None and "header" in found.why
        else:
            assert found.frames_valid == (at - 32) // 4120
    assert {WalEnd.CHECKSUM, WalEnd.BAD_HEADER, WalEnd.PARTIAL} <= ends


def test_headers_that_are_none(pages_backend: Backend, tmp_path: Path) -> None:
    """An empty file, a cut header, noise and a WAL of another page size have no chain, and say which it is."""
    good = rebuild([Frame(pgno=1, pages=1, data=bytes(4096))], big=False)
    path = tmp_path / "wal"
    for content, end in (
        (b"", WalEnd.NO_HEADER),
        (good[:31], WalEnd.NO_HEADER),
        (bytes(5000), WalEnd.BAD_HEADER),
        (random.Random(1).randbytes(5000), WalEnd.BAD_HEADER),
        (rebuild([], big=False, page_size=1), WalEnd.BAD_HEADER),
        (rebuild([], big=True, page_size=131072), WalEnd.BAD_HEADER),
        (rebuild([], big=True, page_size=8192), WalEnd.PAGE_SIZE),
        (good[:32], WalEnd.END),
        (good[:33], WalEnd.PARTIAL),
        (rebuild([Frame(pgno=0, pages=1, data=bytes(4096))], big=True), WalEnd.PGNO),
    ):
        path.write_bytes(content)
        with opened(path) as wal:
            found = pages_backend.wal_scan(wal, page_size=4096)
        assert (found.end, found.frames_valid, found.last_commit, found.map) == (end, 0, 0, b"")
        assert bool(found.why) == (end is not WalEnd.END)
        assert bool(found.salts) == (end not in (WalEnd.NO_HEADER, WalEnd.BAD_HEADER))


def test_limits_are_exact(pages_backend: Backend, tmp_path: Path) -> None:
    """A limit of 0 reads no frame, a limit beyond 32 bits is as good as none, a negative one is refused."""
    path = tmp_path / "wal"
    path.write_bytes(rebuild([Frame(pgno=n, pages=n, data=bytes(512)) for n in (3, 5, 3)], big=False, page_size=512))
    with opened(path) as wal:
        assert pages_backend.wal_scan(wal, page_size=512, last_frame=0).end is WalEnd.LIMIT
        for limit in (2**32 - 2, 2**32 - 1, 2**40, None):
            found = pages_backend.wal_scan(wal, page_size=0, last_frame=limit)
            assert (found.frames_valid, found.pages, mapped(found)) == (3, 3, {3: 3, 5: 2})
        for wrong in ({"page_size": 1000}, {"page_size": 512, "last_frame": -1}):
            with pytest.raises(ValueError):
                pages_backend.wal_scan(wal, **wrong)


def test_native_equals_twin_on_changed_logs(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    """On hundreds of WALs with bytes changed, frames swapped, cut and repeated, both backends say the same."""
    chance = random.Random(13)
    path = tmp_path / "wal"
    frames = [
        Frame(
            pgno=chance.choice([1, 2, 3, 2**32 - 1]), pages=chance.choice([0, 0, 4, 2**31]), data=chance.randbytes(512)
        )
        for _ in range(7)
    ]
    for number in range(250):
        some = chance.choices(frames, k=chance.randrange(8))
        content = bytearray(rebuild(some, big=bool(number % 2), page_size=512))
        for _ in range(chance.randrange(3)):
            place = chance.randrange(len(content))
            content[place] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        path.write_bytes(content)
        limit = chance.choice([None, None, chance.randrange(9)])
        with opened(path) as wal:
            native, twin = (backend.wal_scan(wal, page_size=512, last_frame=limit) for backend in both)
        assert native == twin


def test_more_frames_than_one_call_follows(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    """A log longer than the native binding follows in one call gives one chain and one map."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE t(data)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (zeroblob(?))", [(400,) for _ in range(17000)])
        connection.execute("COMMIT")
        native, twin = (scan(backend, path) for backend in both)
        assert native == twin
        assert native.frames_valid > 16384


def test_superseded_frames_are_let_go_as_the_scan_goes(
    both: tuple[Backend, Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that holds few pages many times gives the same map however often its entries are compacted meanwhile."""
    from pagewarden.pages import _native

    chance = random.Random(19)
    monkeypatch.setattr(_native, "_COMPACT", 64)
    monkeypatch.setattr(_native, "_ENTRIES", 7)
    path = tmp_path / "wal"
    for number in range(40):
        frames = [
            Frame(pgno=chance.randrange(1, 12), pages=chance.choice([0, 0, 0, 9]), data=bytes(512)) for _ in range(90)
        ]
        path.write_bytes(rebuild(frames, big=False, page_size=512))
        with opened(path) as wal:
            native, twin = (backend.wal_scan(wal, page_size=512, last_frame=90 - number) for backend in both)
        assert native == twin
        assert len(native.map) <= 11 * 8
