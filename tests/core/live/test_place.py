"""Where a database stands, told by `stat` alone."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled
from pagewarden.live import Place, examine, file_system
from pagewarden.live import place as module
from tests.support.databases import build


def test_a_place_is_described(tmp_path: Path) -> None:
    """Real path, inode, sizes of the companions, file system."""
    path = build(tmp_path / "a.db")
    Path(f"{path}-wal").write_bytes(b"xyz")
    os.symlink(path, tmp_path / "link")
    place = examine(tmp_path / "link")
    assert place.path == str(path)
    assert (place.inode, place.size) == (path.stat().st_ino, path.stat().st_size)
    assert (place.wal_size, place.journal_size, place.companions) == (3, 0, frozenset({"-wal"}))
    assert place.file_system and not place.on_network
    assert place.unchanged() and place.created_since() == ()
    Path(f"{path}-shm").touch()
    assert place.created_since() == ("-shm",)


def test_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to look whether it can be read (H1)."""
    path = build(tmp_path / "a.db")
    monkeypatch.delattr(os, "open")
    examine(path)


@pytest.mark.parametrize("length", [248, 253, 255])
def test_a_name_that_leaves_no_room_for_a_journal_s_is_refused(tmp_path: Path, length: int) -> None:
    """File systems take 255 bytes: what SQLite adds to them would not be found, and counts as not there."""
    path = tmp_path / ("n" * length)
    path.touch()
    with pytest.raises(DatabaseUnreadable, match="-journal or -wal beside it: file name too long") as caught:
        examine(path)
    assert caught.value.hint.endswith(f"mv {path} NAME")
    path.unlink()
    build(path.with_name("n" * 247))
    assert examine(path.with_name("n" * 247)).companions == frozenset()


def test_what_cannot_be_a_database_is_named(tmp_path: Path) -> None:
    """Missing, a folder, a FIFO, a socket, a device, a second name (H4), a name with a NUL."""
    path = build(tmp_path / "a.db")
    with pytest.raises(DatabaseNotFound, match=r"nothing\.db is not there"):
        examine(tmp_path / "nothing.db")
    with pytest.raises(DatabaseNotFound, match="is not there"):
        examine(path / "below")
    with pytest.raises(DatabaseNotFound, match="cannot be the name of a file"):
        examine("a\0b")
    with pytest.raises(DatabaseUnreadable, match="cannot be reached: file name too long"):
        examine(tmp_path / ("x" * 300))
    with pytest.raises(DatabaseUnreadable, match="is a directory"):
        examine(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in (tmp_path / "fifo", tmp_path / "socket", Path("/dev/null")):
            with pytest.raises(DatabaseUnreadable, match="is not a regular file"):
                examine(name)
    os.link(path, tmp_path / "b.db")
    with pytest.raises(DatabaseUnreadable, match="has 2 names") as caught:
        examine(path)
    assert str(path.stat().st_ino) in caught.value.hint


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("a.db", path)])
def test_what_stands_for_a_log_or_journal_and_is_no_file_is_refused(
    tmp_path: Path, suffix: str, make: Callable[[Path], None]
) -> None:
    """By its name: SQLite would wait at a FIFO for ever, and say of the others that a -shm is missing."""
    path = build(tmp_path / "a.db")
    make(Path(f"{path}{suffix}"))
    with pytest.raises(DatabaseUnreadable, match=rf"a\.db{suffix} is not a regular file") as refused:
        examine(path)
    assert shlex.split(refused.value.hint)[-1] == f"{path}{suffix}"


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before SQLite is asked, whose message would not say why."""
    path = build(tmp_path / "a.db")
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    with pytest.raises(DatabaseUnreadable, match="may not be read by this user"):
        examine(path)


def test_paths_in_hints_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With blanks and newlines in them, too."""
    folder = tmp_path / "a b\nc"
    folder.mkdir()
    path = build(folder / "a.db")
    with pytest.raises(DatabaseNotFound) as missing:
        examine(folder / "b.db")
    assert shlex.split(missing.value.hint) == ["ls", "-ld", str(folder)]
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    with pytest.raises(DatabaseUnreadable) as refused:
        examine(path)
    assert shlex.split(refused.value.hint) == ["ls", "-l", str(path)]


def test_the_log_of_an_emptied_database_is_kept(tmp_path: Path) -> None:
    """SQLite removes it at the next opening, even for a reader (H33): so we do not open."""
    path = tmp_path / "a.db"
    path.touch()
    Path(f"{path}-wal").write_bytes(b"all that is left")
    with pytest.raises(DatabaseUnsettled, match="is empty, but beside it lies a log"):
        examine(path)
    assert Path(f"{path}-wal").read_bytes() == b"all that is left"
    Path(f"{path}-wal").write_bytes(b"")
    assert examine(path).size == 0


def test_another_file_at_the_path_is_noticed(tmp_path: Path) -> None:
    """A rename over it, and a removal (H5)."""
    path = build(tmp_path / "a.db")
    place = examine(path)
    os.replace(build(tmp_path / "b.db"), path)
    assert not place.unchanged()
    path.unlink()
    assert not place.unchanged()


MOUNTS = rb"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /mnt rw - tmpfs tmpfs rw
23 22 0:21 / /mnt/with\040blank rw - nfs4 server:/export rw
24 21 0:22 / /home rw - xfs /dev/sdb rw
25 24 0:23 / /home rw - cifs //server/home rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a.db", "ext4"),
        ("/mnt/a.db", "tmpfs"),
        ("/mntother/a.db", "ext4"),
        ("/mnt/with blank/x/a.db", "nfs4"),
        ("/home/a.db", "cifs"),
    ],
)
def test_the_file_system_is_the_one_that_is_mounted_last_and_deepest(
    path: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mount points are told with escapes, and one may hide another."""
    monkeypatch.setattr(Path, "read_bytes", lambda _self: MOUNTS)
    assert file_system(path) == expected


def test_a_network_file_system_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its type; where the system tells nothing, nothing is assumed (H4)."""
    path = build(tmp_path / "a.db")
    monkeypatch.setattr(module, "file_system", lambda _path: "nfs4")
    assert examine(path).on_network
    monkeypatch.undo()

    def hidden(_path: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", hidden)
    assert file_system(str(path)) == ""
    place = Place(
        path="", device=0, inode=0, size=0, wal_size=0, journal_size=0, companions=frozenset(), file_system=""
    )
    assert not place.on_network


READ_ONLY = rb"""21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
22 21 0:20 / /whole ro,relatime - squashfs /dev/loop0 ro,errors=continue
23 21 8:1 /data /mount ro,relatime - ext4 /dev/sda1 rw
24 21 0:22 / /unnamed ro - tmpfs  ro
25 21 0:23 / /export ro - nfs4 server:/export ro,vers=4.2
26 21 0:24 / /layers ro - overlay overlay ro,lowerdir=/a
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/whole/a.db", True),
        ("/unnamed/a.db", True),
        ("/mount/a.db", False),  # another mount of the same file system can be written to
        ("/export/a.db", False),  # the server can
        ("/layers/a.db", False),  # whoever owns the layers can
        ("/a.db", False),
    ],
)
def test_frozen_is_what_nobody_can_write_to(path: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That all of the file system is read-only counts, not that one mount of it is."""
    read_only = os.statvfs_result((0,) * 8 + (os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)
    monkeypatch.setattr(Path, "read_bytes", lambda _self: READ_ONLY)
    device = os.makedev(*((0, 22) if "unnamed" in path else (0, 20) if "whole" in path else (8, 1)))
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result((0, 0, device, *(0,) * 7)))
    assert module.frozen(path) is expected
    # A mount over a parent folder hides the one whose name is the longest: the file is on another device.
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat_result((0, 0, os.makedev(9, 9), *(0,) * 7)))
    assert not module.frozen(path)


def test_a_log_or_journal_with_content_is_part_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file alone is not all of it then; an empty log holds nothing. What is gone is not frozen."""
    path = build(tmp_path / "a.db")
    assert not module.frozen(str(path))
    device = path.stat().st_dev
    mount = module._Mount("ext4", frozenset({"ro"}), f"{os.major(device)}:{os.minor(device)}")
    monkeypatch.setattr(module, "_mount", lambda _path: mount)
    monkeypatch.setattr(os, "ST_RDONLY", ~0)
    assert module.frozen(str(path))
    assert not module.frozen(str(tmp_path / "b.db"))
    Path(f"{path}-wal").touch()
    assert module.frozen(str(path))
    for suffix in ("-wal", "-journal"):
        Path(f"{path}{suffix}").write_bytes(b"x")
        assert not module.frozen(str(path))
        Path(f"{path}{suffix}").unlink()


def test_what_can_be_written_to_again_is_not_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may be mounted anew while it is read."""
    path = build(tmp_path / "a.db")
    monkeypatch.setattr(module, "frozen", lambda _path: True)
    place = examine(path)
    assert place.frozen and place.unchanged()
    monkeypatch.undo()
    assert not place.unchanged()
