"""What stands behind the end of a log: proved by what SQLite wrote there, and by both backends alike."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.pages import Backend, WalBehind, WalEnd, WalScan, WalStart, survey
from pagewarden.pages.survey import survey_wal
from tests.core.pages.logs import change, copied, frames_of, opened, rebuild, scan, serialized, wal_database

FRAME = 24 + 4096


@pytest.fixture
def surveyed(pages_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Let surveys use each backend in turn."""
    monkeypatch.setattr(survey, "backend", lambda: pages_backend)
    return pages_backend


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with a log of some commits, as a crash leaves it."""
    folder = tmp_path_factory.mktemp("log")
    with closing(wal_database(folder / "a.db")) as connection:
        for _ in range(6):
            change(connection, random.Random(3))
        return copied(folder / "a.db", folder / "copy")


def look(path: Path, page_size: int = 4096) -> tuple[WalScan, WalBehind]:
    """Survey the log beside a database."""
    with opened(f"{path}-wal") as wal:
        return survey_wal(wal, page_size=page_size)


def test_behind_a_damaged_frame_all_that_sqlite_drops_is_counted(surveyed: Backend, log: Path, tmp_path: Path) -> None:
    """H14: as many commits as SQLite's own recovery leaves out, wherever the damage is; only in the last frame it is
    not proved."""
    original = Path(f"{log}-wal").read_bytes()
    whole, behind = look(log)
    assert (behind.stranded, behind.commits, behind.frames) == (0, 0, whole.frames_valid)
    marks = [number for number, frame in enumerate(frames_of(original), 1) if frame.pages]
    assert len(marks) == whole.commits
    chance = random.Random(1)
    for broken in range(1, whole.frames_valid + 1):
        damaged = bytearray(original)
        damaged[32 + (broken - 1) * FRAME + 24 + chance.randrange(4096)] ^= 1 << chance.randrange(8)
        path = copied(log, tmp_path / f"damaged{broken}")
        Path(f"{path}-wal").write_bytes(damaged)
        seen, behind = look(path)
        dropped = sum(mark >= broken for mark in marks)
        assert (seen.frames_valid, seen.commits) == (broken - 1, len(marks) - dropped)
        assert behind.stranded == whole.frames_valid - broken
        assert behind.commits == (dropped if broken < whole.frames_valid else 0)
        assert (behind.first, behind.last_commit) == ((broken + 1, marks[-1]) if behind.stranded else (0, 0))
        served = frames_of(original)[: max((mark for mark in marks if mark < broken), default=0)]
        Path(f"{copied(path, tmp_path / f'cut{broken}')}-wal").write_bytes(original[: 32 + len(served) * FRAME])
        assert serialized(path) == serialized(tmp_path / f"cut{broken}" / path.name)


@pytest.mark.parametrize("place", [3, 10, 20, 26])
@pytest.mark.parametrize("big", [False, True])
def test_behind_a_damaged_header_every_commit_is_counted(
    surveyed: Backend, log: Path, tmp_path: Path, place: int, big: bool
) -> None:
    """Whatever byte of it is damaged, and in either byte order; without a page size nothing is claimed."""
    path = copied(log, tmp_path / "damaged")
    wal = Path(f"{path}-wal")
    damaged = bytearray(rebuild(frames_of(wal.read_bytes()), big=big))
    damaged[place] ^= 0x15
    wal.write_bytes(damaged)
    whole = scan(surveyed, log)
    seen, behind = look(path)
    assert (seen.end, seen.frames_valid) == (WalEnd.BAD_HEADER, 0)
    assert (behind.stranded, behind.commits) == (whole.frames_valid, whole.commits)
    assert look(path, page_size=0)[1] == WalBehind()
    wal.write_bytes(damaged[:40])
    assert look(path)[1] == WalBehind()


def test_what_a_rolled_back_transaction_left_proves_no_commit(surveyed: Backend, tmp_path: Path) -> None:
    """Spilled frames continue each other behind the next commit; those of an older generation are told apart."""
    chance = random.Random(3)
    path = tmp_path / "a.db"
    with closing(wal_database(path)) as connection:
        for _ in range(30):
            change(connection, chance)
        assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
        change(connection, chance)
        assert look(path)[1].older > 20
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(data) VALUES (?)", [(chance.randbytes(3000),) for _ in range(20)])
        connection.execute("UPDATE t SET data = ?", (b"short",))
        connection.execute("ROLLBACK")
        connection.execute("UPDATE t SET data = ? WHERE id = 1", (b"other",))
        seen, behind = look(path)
        assert seen.last_commit == seen.frames_valid
        assert behind.stranded > 5
        assert (behind.commits, behind.last_commit) == (0, 0)


def test_frames_that_were_never_summed_up_are_told_and_proved_by_a_successor(
    surveyed: Backend, log: Path, tmp_path: Path
) -> None:
    """SQLite 3.40 may commit frames without salts and checksums; what is written next continues the frame before."""
    original = Path(f"{log}-wal").read_bytes()
    every = frames_of(original)
    marks = [number for number, frame in enumerate(every, 1) if frame.pages]
    first, last = marks[1] + 1, marks[2]
    path = copied(log, tmp_path / "bare")
    bare = bytearray(original)
    for number in range(first, last + 1):
        at = 32 + (number - 1) * FRAME
        bare[at + 8 : at + 24] = bytes(16)
    lost = bare[32 + (first - 1) * FRAME : 32 + last * FRAME]
    Path(f"{path}-wal").write_bytes(bare[: 32 + last * FRAME])
    seen, behind = look(path)
    assert (seen.frames_valid, seen.end) == (first - 1, WalEnd.SALTS)
    assert behind == WalBehind(frames=last, bare=last - first + 1, bare_commit=last)
    after = rebuild([*every[: first - 1], *every[last:]], big=False, salts=original[16:24])
    cut = 32 + (first - 1) * FRAME
    Path(f"{path}-wal").write_bytes(after[:cut] + lost + after[cut:])
    seen, behind = look(path)
    assert (seen.frames_valid, behind.bare, behind.bare_commit) == (first - 1, last - first + 1, last)
    assert (behind.stranded, behind.first) == (len(every) - last, last + 1)
    assert (behind.commits, behind.last_commit) == (len(marks) - 2, marks[-1])


def test_both_backends_see_the_same(both: tuple[Backend, Backend], log: Path, tmp_path: Path) -> None:
    """Over logs that were damaged in several places at random, and from any start."""
    native, twin = both
    original = Path(f"{log}-wal").read_bytes()
    seen = set()
    for seed in range(40):
        chance = random.Random(seed)
        damaged = bytearray(original)
        for _ in range(chance.randrange(1, 4)):
            within = chance.choice((chance.randrange(24), chance.randrange(FRAME)))
            damaged[32 + chance.randrange(len(original) // FRAME) * FRAME + within] ^= 1 << chance.randrange(8)
        for _ in range(seed % 4):  # frames without salts and checksum
            at = 32 + chance.randrange(len(original) // FRAME) * FRAME
            damaged[at + 8 : at + 24] = bytes(16)
        wal = tmp_path / "wal"
        wal.write_bytes(damaged[: chance.choice((len(damaged), chance.randrange(40, len(damaged))))])
        start = WalStart(
            page_size=4096,
            big_endian=False,
            salts=original[16:24],
            at=chance.randrange(4),
            checksum=(chance.getrandbits(32), 5),
            other=(6, chance.getrandbits(32)),
        )
        with opened(wal) as file:
            assert native.wal_behind(file, start) == twin.wal_behind(file, start)
            scans = [each.wal_scan(file, page_size=0, most=(None, 3)[seed % 2]) for each in both]
        assert scans[0] == scans[1]
        seen.add((scans[0].end, scans[0].map_left_out, scans[0].commits, scans[0].first_page_one > 1))
    assert len(seen) > 8


def test_a_map_of_too_many_pages_is_left_out(
    pages_backend: Backend, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded, whatever the log claims; where page 1 stands is still known."""
    whole = scan(pages_backend, log)
    if pages_backend.name == "native":
        from pagewarden.pages import _native

        monkeypatch.setattr(_native, "_COMPACT", 16)
        monkeypatch.setattr(_native, "_ENTRIES", 2)
    for most in (None, 10_000, 3, 0):
        with opened(f"{log}-wal") as wal:
            seen = pages_backend.wal_scan(wal, page_size=0, most=most)
        left_out = most is not None and most < len(whole.map) // 8
        assert (seen.map, seen.map_left_out) == (b"" if left_out else whole.map, left_out)
        assert (seen.page_one, seen.first_page_one, seen.last_commit) == (
            whole.page_one,
            whole.first_page_one,
            whole.last_commit,
        )


@pytest.mark.parametrize(
    "start",
    [
        WalStart(page_size=1000, big_endian=False, salts=bytes(8), at=0, checksum=(0, 0), other=(0, 0)),
        WalStart(page_size=512, big_endian=False, salts=bytes(7), at=0, checksum=(0, 0), other=(0, 0)),
        WalStart(page_size=512, big_endian=False, salts=bytes(8), at=-1, checksum=(0, 0), other=(0, 0)),
        WalStart(page_size=512, big_endian=False, salts=bytes(8), at=0, checksum=(0, 1 << 32), other=(0, 0)),
    ],
)
def test_places_that_cannot_be_are_refused(pages_backend: Backend, start: WalStart) -> None:
    """Before anything is read."""
    with pytest.raises(ValueError, match="nothing can stand behind"):
        pages_backend.wal_behind(-1, start)


def test_a_read_that_fails_is_an_error(pages_backend: Backend, tmp_path: Path) -> None:
    """With the system's own number."""
    start = WalStart(page_size=512, big_endian=False, salts=bytes(8), at=0, checksum=(0, 0), other=(0, 0))
    with pytest.raises(OSError), opened(tmp_path) as folder:
        pages_backend.wal_behind(folder, start)
