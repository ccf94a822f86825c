"""Opening one commit of a database with a write-ahead log: steps 3 to 6 and 8 of docs/live-read.md.

As in test_attach, whatever needs a connection runs in another process (H1).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseUnsettled
from pagewarden.pages import backend
from pagewarden.processes import attach
from pagewarden.processes.attach import Attached, glance
from pagewarden.sqlite.shm import INDEX_SIZE, parse_index
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, frame_offset, wal_checksum
from tests.support.attaching import image, oracle
from tests.support.databases import build, masked
from tests.support.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Another process with a connection in WAL mode, some commits in the log, and no automatic checkpoints."""
    build(tmp_path / "a.db", mode="wal")
    with Session(tmp_path / "a.db") as made:
        made.run("PRAGMA wal_autocheckpoint=0")
        made.run("UPDATE item SET name = 'x' || name WHERE id % 3 = 0")
        made.run("INSERT INTO item(name, body) VALUES('big', randomblob(50000))")
        yield made


# Rollback-journal mode, and the database file


def test_the_newest_pages_come_from_the_log(session: Session, tmp_path: Path) -> None:
    """The main file of a live WAL database is not the database (H11): the commit is the oracle's, the file is not."""
    path = tmp_path / "a.db"
    attached = Attached(str(path))
    facts = attached.describe()
    assert facts["mode"] == "wal" and facts["uses_wal"] and facts["wal_fault"] == ""
    assert masked(image(attached)) == masked(oracle(path, tmp_path))
    assert image(attached) != path.read_bytes()
    assert facts["token"] == glance(str(path))
    attached.check()
    attached.close()


def test_after_a_whole_checkpoint_the_log_is_ignored(session: Session, tmp_path: Path) -> None:
    """nBackfill equal to mxFrame means that the file alone is the commit (step 4); its frame is told all the same."""
    path = tmp_path / "a.db"
    before = Attached(str(path))
    session.run("PRAGMA wal_checkpoint(PASSIVE)")
    attached = Attached(str(path))
    facts = attached.describe()
    assert not facts["uses_wal"]
    assert facts["wal_frames"] == before.describe()["wal_frames"]
    assert facts["token"] == before.describe()["token"]
    assert image(attached) == image(before) == path.read_bytes()
    attached.check()
    attached.close()
    before.close()


def test_frames_after_the_commit_are_never_looked_at(session: Session, tmp_path: Path) -> None:
    """A transaction that is written to the log but not committed is no part of any commit."""
    path = tmp_path / "a.db"
    expected = oracle(path, tmp_path)
    session.run("PRAGMA cache_size=1")
    size = Path(f"{path}-wal").stat().st_size
    session.run("BEGIN")
    session.run("UPDATE item SET body = randomblob(9000)")
    assert Path(f"{path}-wal").stat().st_size > size + 100 * 4096
    attached = Attached(str(path))
    assert masked(image(attached)) == masked(expected)
    session.run("ROLLBACK")
    attached.check()
    attached.close()


def test_a_partial_checkpoint_changes_nothing(session: Session, tmp_path: Path) -> None:
    """All frames are mapped, not only those above nBackfill."""
    path = tmp_path / "a.db"
    with Session(path) as other:
        other.run("BEGIN")
        other.run("SELECT count(*) FROM item")
        session.run("UPDATE item SET name = 'later'")
        session.run("PRAGMA wal_checkpoint(PASSIVE)")
        index = parse_index(Path(f"{path}-shm").read_bytes()[:INDEX_SIZE])
        assert index is not None and 0 < index.backfilled < index.frames
        attached = Attached(str(path))
        assert masked(image(attached)) == masked(oracle(path, tmp_path))
        attached.close()


def test_a_new_generation_is_unsettled(session: Session, tmp_path: Path) -> None:
    """Without a pin the log can begin anew under the reader: step 6 says so by its salts (H20)."""
    path = tmp_path / "a.db"
    attached = Attached(str(path))
    session.run("PRAGMA wal_checkpoint(RESTART)")
    attached.check()  # the log is as it was until the next commit
    session.run("UPDATE item SET name = 'new' WHERE id = 1")
    with pytest.raises(DatabaseUnsettled, match=r"write-ahead log of .* began a new generation"):
        attached.check()
    attached.close()


def test_a_wal_index_that_began_anew_is_unsettled(session: Session, tmp_path: Path) -> None:
    """The -shm's salts are looked at, too: it moves before the log does."""
    path = tmp_path / "a.db"
    attached = Attached(str(path))
    forge_index(path, lambda header: header.__setitem__(slice(32, 40), b"new salt"))
    with pytest.raises(DatabaseUnsettled, match=r"wal-index of .* began a new generation"):
        attached.check()
    attached.close()


def forge_index(path: Path, change: object) -> None:
    """Change the wal-index header, with right checksums, through a descriptor that the test process may have."""
    with Path(f"{path}-shm").open("r+b") as file:
        header = bytearray(file.read(48))
        change(header)  # type: ignore[operator]
        checksum = wal_checksum(bytes(header[:40]), big_endian=sys.byteorder == "big")
        header[40:48] = struct.pack("=2I", *checksum)
        file.seek(0)
        file.write(bytes(header) * 2)


def test_files_that_are_exchanged_are_unsettled(session: Session, tmp_path: Path) -> None:
    """Every file that was opened must still stand at its path (H5)."""
    path = tmp_path / "a.db"
    for suffix in ("", "-wal", "-shm"):
        attached = Attached(str(path))
        os.rename(f"{path}{suffix}", tmp_path / "aside")
        shutil.copy(tmp_path / "aside", f"{path}{suffix}")
        with pytest.raises(DatabaseUnsettled, match=f"a.db{suffix} was replaced"):
            attached.check()
        os.rename(tmp_path / "aside", f"{path}{suffix}")
        attached.check()
        attached.close()


def test_a_new_generation_between_index_and_log_is_unsettled(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that does not fit the index is damaged only if the index still says the same."""
    path = tmp_path / "a.db"
    scan = backend().wal_scan

    class Late:
        def wal_scan(self, *args: object, **kwargs: object) -> object:
            session.run("PRAGMA wal_checkpoint(RESTART)")
            session.run("UPDATE item SET name = 'new' WHERE id = 1")
            return scan(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(attach, "backend", Late)
        with pytest.raises(DatabaseUnsettled, match="began a new generation"):
            Attached(str(path))
    Attached(str(path)).close()


def test_a_damaged_frame_is_served_as_sqlite_serves_it_and_named(session: Session, tmp_path: Path) -> None:
    """Readers inside SQLite verify no checksum (H14), so the image is theirs, and the fault is told."""
    path = tmp_path / "a.db"
    healthy = Attached(str(path))
    before = image(healthy)
    frame = struct.unpack_from("<2I", healthy.source.frames, 8)[1]
    healthy.close()
    with Path(f"{path}-wal").open("r+b") as log:
        log.seek(frame_offset(frame, 4096) + FRAME_HEADER_SIZE + 3000)
        byte = log.read(1)[0]
        log.seek(-1, 1)
        log.write(bytes([byte ^ 4]))
    attached = Attached(str(path))
    assert attached.describe()["wal_fault"] == f"the checksum of frame {frame} does not match"
    after = image(attached)
    assert next(i for i in range(len(after)) if after[i] != before[i]) % 4096 == 3000
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    attached.check()
    attached.close()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda log: log.__delitem__(slice(frame_offset(3, 4096) + 100, None)), "the file ends within frame 3"),
        (lambda log: log.__delitem__(slice(frame_offset(3, 4096), None)), "it ends after frame 2 of"),
        (lambda log: log.__setitem__(0, 0), "its header is not the one that the wal-index names: the header's magic"),
    ],
)
def test_a_damaged_log_is_named(change: object, what: str, session: Session, tmp_path: Path) -> None:
    """Cut off, or with a wrong header: what is served is bounded by what is there."""
    path = tmp_path / "a.db"
    log = bytearray(Path(f"{path}-wal").read_bytes())
    change(log)  # type: ignore[operator]
    with Path(f"{path}-wal").open("r+b") as file:  # the same file: other processes have it open
        file.write(log)
        file.truncate(len(log))
    attached = Attached(str(path))
    assert what in str(attached.describe()["wal_fault"])
    image(attached)
    attached.close()


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (20, 7, "pages, the wal-index 7"),
        (24, 7, "the checksum of frame .* is not the one that the wal-index names"),
        (16, 2, "carries no commit"),
    ],
)
def test_a_log_that_does_not_prove_its_index_is_named(
    at: int, value: int, what: str, session: Session, tmp_path: Path
) -> None:
    """Size, checksum and commit of the last frame are compared with the wal-index (step 4)."""
    path = tmp_path / "a.db"
    forge_index(path, lambda header: struct.pack_into("=I", header, at, value))
    attached = Attached(str(path))
    fault = str(attached.describe()["wal_fault"])
    assert re.search(what, fault), fault
    attached.close()


def test_an_index_of_a_new_database_leaves_the_size_to_the_file(tmp_path: Path) -> None:
    """nPage 0, as after a recovery that found no frame: the header's count is taken (step 5)."""
    path = build(tmp_path / "a.db", mode="wal")
    with Session(f"file:{path}?mode=ro", uri=True) as session:
        session.run("SELECT count(*) FROM item")
        index = parse_index(Path(f"{path}-shm").read_bytes()[:INDEX_SIZE])
        assert index is not None and index.pages == index.frames == 0
        attached = Attached(str(path))
        assert image(attached) == path.read_bytes()
        attached.check()
        attached.close()


def test_a_log_beside_a_database_in_rollback_mode_is_read(session: Session, tmp_path: Path) -> None:
    """SQLite opens any log that is not empty, whatever the header says: see pagerOpenWalIfPresent() in pager.c."""
    path = tmp_path / "b.db"
    build(path)
    assert Attached(str(path)).describe()["mode"] == "file"
    shutil.copy(tmp_path / "a.db-wal", f"{path}-wal")
    attached = Attached(str(path))
    assert attached.describe()["mode"] == "wal"
    assert masked(image(attached)) == masked(oracle(path, tmp_path))
    attached.close()


# No usable -shm: step 8


def test_without_an_index_the_log_is_read_to_its_last_commit(session: Session, tmp_path: Path) -> None:
    """A log that was left behind is what SQLite would recover: every commit up to the first bad frame (H14)."""
    path = tmp_path / "left" / "a.db"
    path.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path / 'a.db'}{suffix}", f"{path}{suffix}")
    attached = Attached(str(path))
    facts = attached.describe()
    assert facts["uses_wal"] and facts["wal_fault"] == ""
    assert masked(image(attached)) == masked(oracle(path, tmp_path))
    attached.check()
    assert glance(str(path)) == facts["token"]
    with Path(f"{path}-wal").open("r+b") as log:
        log.seek(16)
        log.write(b"new salt")
    with pytest.raises(DatabaseUnsettled, match="began a new generation"):
        attached.check()
    attached.close()
    attached = Attached(str(path))  # a header that is wrong makes SQLite ignore the whole log
    assert not attached.describe()["uses_wal"]
    assert image(attached) == path.read_bytes()
    attached.close()


def test_a_log_without_a_commit_leaves_the_file(session: Session, tmp_path: Path) -> None:
    """A cut within the first transaction: nothing of the log counts."""
    path = tmp_path / "left" / "a.db"
    path.parent.mkdir()
    shutil.copy(tmp_path / "a.db", path)
    Path(f"{path}-wal").write_bytes(Path(f"{tmp_path / 'a.db'}-wal").read_bytes()[: frame_offset(2, 4096)])
    attached = Attached(str(path))
    assert image(attached) == path.read_bytes()
    assert not attached.describe()["uses_wal"]
    attached.close()
    Path(f"{path}-wal").unlink()
    attached = Attached(str(path))
    assert attached.describe()["mode"] == "wal"
    assert image(attached) == path.read_bytes()
    attached.close()


def test_an_index_that_cannot_be_written_is_not_believed(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in it may be from before a crash: the log is read instead."""
    path = tmp_path / "a.db"
    expected = Attached(str(path))
    forge_index(path, lambda header: struct.pack_into("=I", header, 16, 1))
    monkeypatch.setattr(attach, "writable", lambda _path: False)
    attached = Attached(str(path))
    assert image(attached) == image(expected)
    attached.check()
    attached.close()
    expected.close()


def test_an_index_that_stays_torn_is_unsettled(session: Session, tmp_path: Path) -> None:
    """A writer that died in the midst of its update: SQLite recovers at the next pin, and only then is it read."""
    path = tmp_path / "a.db"
    with Path(f"{path}-shm").open("r+b") as file:
        file.seek(16)
        file.write(b"torn")
    slept: list[float] = []
    with pytest.raises(DatabaseUnsettled, match="torn whenever it was read"):
        Attached(str(path), sleep=slept.append)
    assert len(slept) == 50 and sum(slept) <= 0.1


def test_an_index_that_changes_all_the_time_is_unsettled(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readings with the same salts are needed (step 3); a third may be enough, a hundred without end are not."""
    path = tmp_path / "a.db"
    salts = iter([b"1", b"2", b"2"])

    def changing(data: bytes) -> object:
        found = parse_index(data)
        assert found is not None
        return replace(found, salts=next(salts), backfilled=found.frames)

    monkeypatch.setattr(attach, "parse_index", changing)
    Attached(str(path)).close()
    assert list(salts) == []
    counter = iter(range(1000))
    salts = iter(bytes([number % 256]) for number in counter)
    with pytest.raises(DatabaseUnsettled, match="new generations all the time"):
        Attached(str(path))
