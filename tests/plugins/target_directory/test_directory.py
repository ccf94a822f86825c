from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pagewarden import durable
from pagewarden.errors import OutOfSpace, TargetFailed
from pagewarden.testing.contracts import TargetContract
from pagewarden_target_directory import DirectoryFactory, DirectoryTarget
from pagewarden_target_directory.directory import STAGING


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the target."""
    return tmp_path / "repository"


@pytest.fixture
def target(root: Path) -> DirectoryTarget:
    """An empty target."""
    target = DirectoryFactory().open(str(root), create=True)
    assert isinstance(target, DirectoryTarget)
    return target


class TestContract(TargetContract):
    """What every target must do."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> DirectoryTarget:
        """An empty target."""
        (tmp_path / "repository").mkdir()
        return DirectoryTarget(tmp_path / "repository", "file:///anywhere")


def listed(target: DirectoryTarget, prefix: str = "") -> list[str]:
    """Return the keys."""
    return [info.key for info in target.list(prefix)]


def test_a_staged_file_is_linked_and_not_copied(target: DirectoryTarget, root: Path) -> None:
    """The file that was read back and proved is the very file that is stored: same inode, one name."""
    staging = target.staging()
    assert staging is not None
    staged = staging / "new"
    staged.write_bytes(b"x" * 1000)
    inode = staged.stat().st_ino
    target.adopt("a/object", staged)
    assert (root / "a/object").stat().st_ino == inode
    assert (root / "a/object").stat().st_nlink == 1


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_a_backup(tmp_path: Path, umask: int) -> None:
    """Files are 0600 and folders 0700 under any umask."""
    before = os.umask(umask)
    try:
        target = DirectoryFactory().open(str(tmp_path / "new/repository"), create=True)
        target.put("name/manifests/one.json", b"{}")
    finally:
        os.umask(before)
    root = tmp_path / "new"
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_directory_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    """What the owner set up is not changed."""
    (tmp_path / "mine").mkdir(mode=0o750)
    os.chmod(tmp_path / "mine", 0o750)
    DirectoryFactory().open(str(tmp_path / "mine"), create=True).put("key", b"data")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o750


def test_nothing_of_a_failed_put_stays(target: DirectoryTarget, root: Path) -> None:
    """The one who is refused leaves no file in the staging folder."""
    target.put("key", b"first")
    with pytest.raises(FileExistsError):
        target.put("key", b"second")
    assert list((root / STAGING).iterdir()) == []


def test_of_many_who_put_one_key_one_wins(target: DirectoryTarget, root: Path) -> None:
    """Threads that put the same key at once: one succeeds, the others are refused, and what stays is the winner's."""
    won: list[bytes] = []
    lost: list[bytes] = []
    start = threading.Barrier(8)

    def put(data: bytes) -> None:
        start.wait()
        try:
            target.put("deep/er/key", data)
        except FileExistsError:
            lost.append(data)
        else:
            won.append(data)

    threads = [threading.Thread(target=put, args=(b"%d" % number * 5000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert target.get("deep/er/key") == won[0]
    assert list((root / STAGING).iterdir()) == []


def test_folders_come_and_go_under_two_users(target: DirectoryTarget) -> None:
    """One who empties a folder while another one stores in it does not make that one fail."""
    failures: list[BaseException] = []

    def churn(name: str) -> None:
        try:
            for _ in range(100):
                target.put(f"shared/folder/{name}", b"data")
                target.delete(f"shared/folder/{name}")
        except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert listed(target) == []


def test_deleting_takes_empty_folders_along(target: DirectoryTarget, root: Path) -> None:
    """A removed object leaves no empty folders, and takes none that holds something."""
    target.put("a/b/c/one", b"1")
    target.put("a/two", b"2")
    target.delete("a/b/c/one")
    assert sorted(path.name for path in (root / "a").iterdir()) == ["two"]
    target.delete("a/two")
    assert sorted(path.name for path in root.iterdir()) == [STAGING]


def test_what_is_no_object_is_not_listed_and_not_read(target: DirectoryTarget, root: Path, tmp_path: Path) -> None:
    """Links, FIFOs and names that no key has are somebody else's."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (root / "a").mkdir()
    (root / "a/link").symlink_to(tmp_path / "outside/secret")
    (root / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "a/fifo")
    (root / "a/with space").write_bytes(b"")
    (root / "a/ours").write_bytes(b"ours")
    assert listed(target) == ["a/ours"]
    assert listed(target, "linked/") == []
    for key in ("a/link", "linked/secret", "a/fifo", "a"):
        for call in (target.get, target.open, lambda key: target.read(key, 0, 1)):
            with pytest.raises((FileNotFoundError, TargetFailed)):
                call(key)


@pytest.mark.parametrize("prefix", ["../", "/", "a//", f"{STAGING}/", "a b/"])
def test_a_prefix_that_no_key_has_lists_nothing(target: DirectoryTarget, prefix: str) -> None:
    """It is no error, and leads nowhere else."""
    target.put("a/b", b"data")
    assert listed(target, prefix) == []


def test_no_symbolic_link_leads_out(target: DirectoryTarget, root: Path, tmp_path: Path) -> None:
    """Storing and deleting through a linked folder is refused, and nothing happens there."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/theirs").write_bytes(b"theirs")
    (root / "linked").symlink_to(tmp_path / "outside")
    with pytest.raises(TargetFailed, match="symbolic link leads to"):
        target.put("linked/mine", b"mine")
    target.delete("linked/theirs")
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["theirs"]
    assert list((root / STAGING).iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_a_named_error(target: DirectoryTarget) -> None:
    """It is not mistaken for an object that exists already."""
    target.put("a", b"a file")
    with pytest.raises(TargetFailed, match="where a folder has to be"):
        target.put("a/b", b"data")
    with pytest.raises(TargetFailed, match="where a folder has to be"):
        target.put("a/b/c", b"data")
    target.delete("a/b")
    assert listed(target, "a/b/") == []


def test_a_file_system_without_hard_links_is_a_named_error(
    target: DirectoryTarget, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where link(2) is not supported the message says what is needed, and nothing is stored or left."""
    for number in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):

        def refuse(*arguments: object, number: int = number, **named: object) -> None:
            raise OSError(number, os.strerror(number), "a", None, "b")

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse)
            with pytest.raises(TargetFailed, match="cannot link") as caught:
                target.put("key", b"data")
        assert "hard links" in caught.value.hint
        assert [path.name for path in root.rglob("*")] == [STAGING]


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, OutOfSpace), (errno.EDQUOT, OutOfSpace), (errno.EACCES, TargetFailed), (errno.EROFS, TargetFailed)],
)
def test_what_the_system_refuses_has_a_name(
    target: DirectoryTarget, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    """A full disk is OutOfSpace, anything else TargetFailed; both name the file, and nothing is left."""
    target.staging()

    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    for call in ("pwrite", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(error, match=str(root / "key")):
                target.put("key", b"data")
        assert [path.name for path in root.rglob("*")] == [STAGING]


def test_a_file_from_elsewhere_is_copied(target: DirectoryTarget, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From outside the staging folder the object is copied, durable before it has its key."""
    elsewhere = root.parent / "elsewhere"
    data = os.urandom(9 << 20)
    elsewhere.write_bytes(data)
    target.put("taken", b"")
    with pytest.raises(FileExistsError):
        target.adopt("taken", elsewhere)
    assert elsewhere.exists()
    target.adopt("object", elsewhere)
    assert not elsewhere.exists()
    assert target.get("object") == data

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    elsewhere.write_bytes(data)
    monkeypatch.setattr(durable, "write_at", full)
    with pytest.raises(OutOfSpace):
        target.adopt("another", elsewhere)
    assert elsewhere.exists()
    assert list((root / STAGING).iterdir()) == []


def test_forgotten_halves_are_removed(target: DirectoryTarget) -> None:
    """What a killed `put` left in the staging folder goes after a day; what may still be written stays."""
    staging = target.staging()
    assert staging is not None
    for name, age in (("old.put", 2 * 86400), ("new.put", 60), ("old.pageset.zst", 2 * 86400)):
        (staging / name).write_bytes(b"half")
        os.utime(staging / name, (time.time() - age,) * 2)
    target.staging()
    assert sorted(path.name for path in staging.iterdir()) == ["new.put", "old.pageset.zst"]


def test_listing_survives_objects_that_go(target: DirectoryTarget, root: Path) -> None:
    """An object or folder that is removed while the listing runs is left out, not an error."""
    for key in ("a/one", "b/two", "c"):
        target.put(key, b"data")
    listing = target.list("")
    assert next(listing).key == "a/one"
    target.delete("b/two")
    target.delete("c")
    assert [info.key for info in listing] == []


def test_a_missing_directory_is_a_named_error(target: DirectoryTarget, root: Path) -> None:
    """If the whole directory goes away, reading is FileNotFoundError, and listing shows nothing."""
    (root / STAGING).rmdir() if (root / STAGING).exists() else None
    root.rmdir()
    assert listed(target) == []
    with pytest.raises(FileNotFoundError):
        target.get("key")


def test_of_many_one_that_cannot_be_read_is_a_named_error(
    target: DirectoryTarget, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links and FIFOs are no objects there either, what the system refuses names the file, and nothing stays open."""
    for key in ("a/one", "a/two", "b/three"):
        target.put(key, key.encode())
    os.mkfifo(root / "a/fifo")
    (root / "a/link").symlink_to(root / "a/one")
    (root / "linked").symlink_to(root / "a")
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    asked = ["a/one", "a/fifo", "linked/one", "a/two", "gone/x", "b/three"]
    assert list(target.read_many(asked, 9)) == [b"a/one", None, None, b"a/two", None, b"b/three"]
    assert list(target.keys("")) == ["a/one", "a/two", "b/three"]
    real = os.open

    def refuse(path: str, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if path == "two":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, flags, *mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    reading: Any = target.read_many(["a/one", "a/two", "b/three"], 9)
    assert next(reading) == b"a/one"
    with pytest.raises(TargetFailed, match=str(root / "a/two")):
        next(reading)
    monkeypatch.undo()
    for number in range(100):
        target.put(f"many/{number:03}", b"%d" % number)
    reading = target.read_many([*(f"many/{number:03}" for number in range(100)), "../a"], 9)
    assert [next(reading) for _ in range(3)] == [b"0", b"1", b"2"]
    reading.close()  # given up with files open ahead
    assert len(os.listdir("/proc/self/fd") if before else []) == len(before)
