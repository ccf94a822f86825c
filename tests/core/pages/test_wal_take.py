"""Following the chain of a WAL from any place in it: frames, pages and sums, and where it ends."""

from __future__ import annotations

import random
import struct
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.pages import Backend, WalEnd, WalPoint, WalTail
from pagewarden.sqlite.wal import WalHeader
from tests.core.pages.logs import Frame, change, checksum, frames_of, opened, rebuild, wal_database


def point(wal: bytes, frame: int = 0) -> WalPoint:
    """Return a place in the chain of a WAL, its checksum as the WAL stores it."""
    header = WalHeader.parse(wal)
    at = 32 + (frame - 1) * (24 + header.page_size)
    stored = struct.unpack_from(">2I", wal, at + 16) if frame else header.checksum
    return WalPoint(
        page_size=header.page_size,
        big_endian=header.big_endian,
        salts=header.salts,
        frame=frame,
        checksum=(stored[0], stored[1]),
    )


def take(backend: Backend, path: Path, start: WalPoint, last: int) -> tuple[WalTail, bytes]:
    """Follow a WAL with and without its pages, which must agree; return what was found, and the pages."""
    room = bytearray(max(0, last - start.frame) * start.page_size)
    with opened(path) as wal:
        found = backend.wal_take(wal, start, last_frame=last, pages=room)
        assert backend.wal_take(wal, start, last_frame=last) == found
    return found, bytes(room[: len(found.numbers) * start.page_size])


def expect(backend: Backend, frames: list[Frame], found: WalTail, pages: bytes) -> None:
    """Compare what was found with the frames that it should be."""
    assert list(found.numbers) == [frame.pgno for frame in frames]
    assert list(found.sizes) == [frame.pages for frame in frames]
    assert pages == b"".join(frame.data for frame in frames)
    sums = [backend.page_sum(frame.pgno, frame.data) for frame in frames]
    assert found.sums == struct.pack(f"<{len(sums)}Q", *sums)


@pytest.mark.parametrize(("page_size", "big"), [(512, False), (4096, True), (65536, False)])
def test_the_chain_goes_on_from_any_frame(pages_backend: Backend, tmp_path: Path, page_size: int, big: bool) -> None:
    """From every frame to every later one: what stands there, and the checksum from which it goes on again."""
    chance, path = random.Random(page_size), tmp_path / "a.db"
    with closing(wal_database(path, page_size=page_size)) as connection:
        for _ in range(3):
            change(connection, chance)
        made = Path(f"{path}-wal").read_bytes()
    log = tmp_path / "log"
    frames = frames_of(made)[:30]
    log.write_bytes(rebuild(frames, big=big, page_size=page_size))
    wal = log.read_bytes()
    count = len(frames)
    for first in range(0, count + 1, 3):
        for last in range(first, count + 2, 2):
            found, pages = take(pages_backend, log, point(wal, first), last)
            expect(pages_backend, frames[first:last], found, pages)
            assert found.end is (WalEnd.LIMIT if last <= count else WalEnd.END)
            assert found.checksum == point(wal, min(last, count)).checksum


def test_nothing_is_taken_beyond_what_breaks_the_chain(pages_backend: Backend, tmp_path: Path) -> None:
    """A flipped bit in a frame or in the checksum that it goes on from, other salts, page 0, a cut: it ends there."""
    chance = random.Random(5)
    frames = [Frame(pgno=1 + n % 4, pages=9 * (n % 3 == 2), data=chance.randbytes(512)) for n in range(12)]
    wal, step, log = rebuild(frames, big=False, page_size=512), 536, tmp_path / "log"

    def found(data: bytes, start: WalPoint) -> tuple[int, WalEnd]:
        log.write_bytes(data)
        tail, pages = take(pages_backend, log, start, 12)
        assert pages == b"".join(frame.data for frame in frames[start.frame :][: len(tail.numbers)])
        return start.frame + len(tail.numbers), tail.end

    assert found(wal, point(wal, 3)) == (12, WalEnd.LIMIT)
    for bit in chance.sample(range(7 * step * 8, 8 * step * 8), 200):
        broken = bytearray(wal)
        broken[32 + bit // 8] ^= 1 << bit % 8
        assert found(bytes(broken), point(wal, 3))[0] == 7
        assert found(bytes(broken), point(wal, 8)) == (12, WalEnd.LIMIT)  # nothing before the place matters
    for size in (32 + 3 * step, 32 + 5 * step, 32 + 6 * step - 1, 40):
        expected = max(3, (size - 32) // step)
        assert found(wal[:size], point(wal, 3))[0] == expected
    other = point(wal, 3)
    for wrong in (other.checksum[0] ^ 1, other.checksum[1]), (other.checksum[0], other.checksum[1] ^ 1 << 31):
        start = WalPoint(page_size=512, big_endian=False, salts=other.salts, frame=3, checksum=wrong)
        assert found(wal, start) == (3, WalEnd.CHECKSUM)
    start = WalPoint(page_size=512, big_endian=False, salts=b"othersal", frame=3, checksum=other.checksum)
    assert found(wal, start) == (3, WalEnd.SALTS)
    nothing = [*frames[:5], Frame(pgno=0, pages=0, data=bytes(512)), *frames[6:]]
    data = rebuild(nothing, big=False, page_size=512)
    assert found(data, point(data, 3)) == (5, WalEnd.PGNO)


def test_the_page_of_the_lock_bytes_counts_nothing(pages_backend: Backend, tmp_path: Path) -> None:
    """H12: a frame of that page, which SQLite never writes, has the sum 0."""
    pgno = (1 << 30) // 512 + 1
    frames = [Frame(pgno=pgno, pages=pgno + 1, data=b"x" * 512), Frame(pgno=pgno + 1, pages=pgno + 1, data=b"y" * 512)]
    log = tmp_path / "log"
    log.write_bytes(rebuild(frames, big=False, page_size=512))
    found, _ = take(pages_backend, log, point(log.read_bytes()), 2)
    assert struct.unpack("<2Q", found.sums) == (0, pages_backend.page_sum(pgno + 1, b"y" * 512))


def test_places_that_cannot_be_are_refused(pages_backend: Backend, tmp_path: Path) -> None:
    """Before anything is read: page sizes, salts, numbers beyond 32 bits, and a buffer without room for all frames."""
    log = tmp_path / "log"
    log.write_bytes(b"")
    good = {"page_size": 512, "big_endian": False, "salts": bytes(8), "frame": 2, "checksum": (1, 2)}
    with opened(log) as wal:
        for wrong in (
            {"page_size": 500},
            {"page_size": 131072},
            {"salts": bytes(7)},
            {"frame": -1},
            {"frame": 1 << 32},
            {"checksum": (1 << 32, 0)},
        ):
            with pytest.raises(ValueError, match="nothing can stand behind"):
                pages_backend.wal_take(wal, WalPoint(**{**good, **wrong}), last_frame=9)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="need more than 1023 bytes"):
            pages_backend.wal_take(wal, WalPoint(**good), last_frame=4, pages=bytearray(1023))  # type: ignore[arg-type]
        assert pages_backend.wal_take(wal, WalPoint(**good), last_frame=1).end is WalEnd.LIMIT  # type: ignore[arg-type]


def test_a_map_names_the_last_frame_of_each_page(pages_backend: Backend) -> None:
    """Whatever the order: sorted by page, and of the frames from a given one on."""
    chance = random.Random(3)
    for count in (0, 1, 2, 500):
        numbers = [chance.choice((1, 7, 1 << 20, 0xFFFFFFFE, chance.randrange(1, 90))) for _ in range(count)]
        last = {pgno: frame for frame, pgno in enumerate(numbers, 41)}
        found = list(struct.iter_unpack("<2I", pages_backend.wal_map(numbers, 41)))
        assert found == sorted(last.items())


def test_both_say_the_same_of_hostile_logs(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    """Noise, with a chain that holds for a while: the native scan and its twin agree in everything."""
    chance, log = random.Random(9), tmp_path / "log"
    for _ in range(60):
        frames = [
            Frame(
                pgno=chance.choice((1, 2, 0, 1 << 31)), pages=chance.choice((0, 3, 1 << 31)), data=chance.randbytes(512)
            )
            for _ in range(chance.randrange(1, 9))
        ]
        wal = bytearray(rebuild(frames, big=chance.random() < 0.5, page_size=512))
        for _ in range(chance.randrange(3)):
            wal[chance.randrange(32, len(wal))] ^= 1 << chance.randrange(8)
        log.write_bytes(wal[: chance.choice((len(wal), chance.randrange(32, len(wal))))])
        start = point(bytes(wal), chance.randrange(len(frames)))
        assert take(both[0], log, start, 8) == take(both[1], log, start, 8)


def test_the_checksum_is_sqlites(pages_backend: Backend, tmp_path: Path) -> None:
    """The pair at the end is SQLite's checksum over all frames, written once more from its specification."""
    frames = [Frame(pgno=1, pages=1, data=bytes(range(256)) * 2)]
    log = tmp_path / "log"
    log.write_bytes(rebuild(frames, big=True, page_size=512))
    wal = log.read_bytes()
    found, _ = take(pages_backend, log, point(wal), 1)
    header = checksum(wal[:24], True, (0, 0))
    assert found.checksum == checksum(frames[0].data, True, checksum(wal[32:40], True, header))
