"""Opening one commit outside SQLite: each step of docs/live-read.md, and what a hostile hand can put in its way.

The tests attach in their own process, which must never hold a connection on the same database (H1): whatever needs one
runs in another process.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled, NotADatabase
from pagewarden.pages import backend, lock_page
from pagewarden.processes import attach
from pagewarden.processes.attach import Attached, open_regular
from tests.support.attaching import image
from tests.support.databases import build


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_closed_database_is_its_file(page_size: int, tmp_path: Path) -> None:
    """All pages, the header and the count are those of the file, whatever the page size (H12)."""
    path = build(tmp_path / "a.db", page_size=page_size)
    attached = Attached(str(path))
    facts = attached.describe()
    assert (facts["mode"], facts["page_size"], facts["uses_wal"]) == ("file", page_size, False)
    assert image(attached) == path.read_bytes()
    assert facts["header"] == path.read_bytes()[:100]
    assert facts["claimed_pages"] == facts["pages"] == path.stat().st_size // page_size
    attached.check()
    attached.close()


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    """SQLite takes a file of no bytes for a database of no pages, and so do we."""
    path = tmp_path / "a.db"
    path.touch()
    attached = Attached(str(path))
    assert attached.source.pages == 0
    assert attached.header == b""
    attached.check()
    attached.close()


def test_bytes_after_the_last_page_are_no_part_of_it(tmp_path: Path) -> None:
    """The count of the header is believed where it is valid (H13)."""
    path = build(tmp_path / "a.db")
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 5000)
    attached = Attached(str(path))
    assert image(attached) == whole
    assert attached.source.file_size == len(whole) + 5000
    attached.close()


def test_an_invalid_count_gives_way_to_the_files_size(tmp_path: Path) -> None:
    """A page that is cut off counts, as it does for SQLite, and its missing bytes are zeros (H13)."""
    path = build(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[28:32] = struct.pack(">I", 3)
    data[92:96] = struct.pack(">I", 99)
    path.write_bytes(data[:-1000])
    attached = Attached(str(path))
    assert attached.describe()["claimed_pages"] == 0
    assert image(attached) == bytes(data[:-1000]) + bytes(1000)
    attached.close()


def test_a_file_that_was_cut_off_has_zeros_at_its_end(tmp_path: Path) -> None:
    """The commit is as large as it says, so that the loss is seen."""
    path = build(tmp_path / "a.db")
    whole = path.read_bytes()
    cut = len(whole) // 2 + 100
    path.write_bytes(whole[:cut])
    attached = Attached(str(path))
    assert image(attached) == whole[:cut] + bytes(len(whole) - cut)
    attached.close()


def test_a_header_that_claims_terabytes_is_not_believed(tmp_path: Path) -> None:
    """No number of a hostile header makes anybody hash 16 TiB of zeros (H29); the claim itself is told."""
    path = build(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[28:32] = struct.pack(">I", 0xFFFFFFFE)
    path.write_bytes(data)
    attached = Attached(str(path))
    assert attached.source.pages == len(data) // 4096
    assert attached.describe()["claimed_pages"] == 0xFFFFFFFE
    attached.close()


def test_the_lock_byte_page_is_zeros(tmp_path: Path) -> None:
    """Beyond 1 GiB there is a page that never holds data: its sum is 0, whatever the file holds there (H12)."""
    path = build(tmp_path / "a.db", page_size=65536)
    lock = lock_page(65536)
    with path.open("r+b") as file:
        file.truncate((lock + 3) * 65536)
        file.seek((lock - 1) * 65536)
        file.write(b"never read")
        file.seek(28)
        file.write(struct.pack(">I", lock + 3))
    attached = Attached(str(path))
    assert attached.source.pages == lock + 3
    sums = backend().sums(attached.source, lock - 1, 3)
    assert sums[8:16] == bytes(8)
    assert bytes(8) not in (sums[:8], sums[16:])
    attached.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0", b"x"])
def test_what_is_no_database_is_named_so(content: bytes, tmp_path: Path) -> None:
    """A clear error, and no descriptor left open."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotADatabase, match=r"a\.db is not a SQLite database"):
        Attached(str(path))
    assert os.listdir("/proc/self/fd") == before


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Not a link, not a FIFO, which would hang, not a folder, not a device, not a file that is not there."""
    regular = build(tmp_path / "regular")
    os.symlink(regular, tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "."):
        with pytest.raises(DatabaseUnreadable, match="not a regular file"):
            open_regular(str(tmp_path / name))
    with pytest.raises(DatabaseUnreadable, match="not a regular file"):
        open_regular("/dev/null")
    with pytest.raises(DatabaseNotFound):
        open_regular(str(tmp_path / "nothing"))
    with pytest.raises(DatabaseUnreadable, match="cannot be opened: File name too long"):
        open_regular(str(tmp_path / ("x" * 300)))
    os.mkfifo(f"{regular}-shm")
    os.mkfifo(f"{regular}-wal")
    Attached(str(regular)).close()


def test_a_file_that_is_exchanged_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at must be what was opened."""
    regular = build(tmp_path / "regular")
    os.mkfifo(tmp_path / "fifo")
    look = os.lstat

    def exchanged(path: str) -> os.stat_result:
        return look(regular)

    monkeypatch.setattr(os, "lstat", exchanged)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DatabaseUnreadable, match="not a regular file"):
        open_regular(str(tmp_path / "fifo"))
    assert os.listdir("/proc/self/fd") == before
    other = build(tmp_path / "other")
    with pytest.raises(DatabaseUnsettled, match="other was replaced"):
        Attached(str(other))
    assert os.listdir("/proc/self/fd") == before


def test_a_database_that_shrinks_while_it_is_opened_is_unsettled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short read is never taken for a page."""
    path = build(tmp_path / "a.db")
    real = backend()

    class Late:
        def read(self, *args: object) -> None:
            os.truncate(path, 2000)
            real.read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(attach, "backend", Late)
    with pytest.raises(DatabaseUnsettled, match="shrank while it was read"):
        Attached(str(path))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 4096), "something that is not SQLite"),
        (lambda path: path.write_bytes(path.read_bytes()[:60] + b"\1" + path.read_bytes()[61:]), "not SQLite"),
        (lambda path: Path(f"{path}-wal").write_bytes(b"x"), "got a write-ahead log"),
        (lambda path: os.replace(shutil.copy(path, f"{path}.new"), path), "was replaced"),
        (lambda path: path.unlink(), "was replaced"),
    ],
)
def test_a_file_that_changes_under_a_lock_is_unsettled(change: object, what: str, tmp_path: Path) -> None:
    """Step 6 sees a truncation, a foreign write to the header, a new log, another file (H5)."""
    path = build(tmp_path / "a.db")
    attached = Attached(str(path))
    change(path)  # type: ignore[operator]
    with pytest.raises(DatabaseUnsettled, match=what):
        attached.check()
    attached.close()


# WAL mode
