"""Objects of a target without local files, fetched while somebody reads them."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.contracts import ObjectInfo
from pagewarden.errors import OutOfSpace, TargetFailed
from pagewarden.repository import spool
from pagewarden.repository.spool import Spool
from pagewarden.repository.store import Store
from tests.core.repository.sets import MemoryTarget

RANGE = 4096


@dataclass
class Remote(MemoryTarget):
    """A target behind a network; counts what is asked, and how much at once."""

    asked: list[tuple[str, int, int]] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # what it claims
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Count."""
        with self.lock:
            self.asked.append((key, offset, length))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            return super().read(key, offset, length)
        finally:
            with self.lock:
                self.at_once -= 1

    def size(self, key: str) -> int:
        """Claim."""
        return self.sizes.get(key, len(self.get(key)))

    def probe(self, key: str, data: bytes) -> None:
        """Be honest."""


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ranges of 4 KiB, and a folder for temporary files of the test's own."""
    monkeypatch.setattr(spool, "RANGE", RANGE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


SIZES = [0, 1, RANGE - 1, RANGE, RANGE + 1, 2 * RANGE, 5 * RANGE + 17]


def test_objects_of_any_size_come_whole(tmp_path: Path) -> None:
    """Small ones with one request each, larger ones in ranges; a missing one is left out."""
    target = Remote()
    rng = random.Random(1)
    for size in SIZES:
        target.objects[f"some/{size}.zst"] = rng.randbytes(size)
    wanted = [*target.objects, "some/missing"]
    mine = Spool(target)
    found = mine.bring(wanted)
    assert {key: path.read_bytes() for key, path in found.items()} == target.objects
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in found.values())
    assert max(length for _, _, length in target.asked) == RANGE
    assert target.most <= 8
    assert len(target.asked) == len(wanted) + 1 + 1 + 5


def test_what_is_here_is_not_fetched_again_until_it_was_released() -> None:
    """And what was released is gone from the disk."""
    target = Remote(objects={"a/b": b"data", "c": b"other"})
    store = Store(target, "memory:")
    path = store.local("a/b")
    assert path is not None
    assert store.locals(["a/b", "c", "a/b"])["a/b"] == path
    assert [key for key, *_ in target.asked] == ["a/b", "c"]
    store.release("a/b")
    store.release("a/b")
    assert not path.exists()
    again = store.local("a/b")
    assert again is not None and again.read_bytes() == b"data"
    assert store.local("nothing") is None


def test_the_folder_goes_with_the_last_copy_and_with_the_store(tmp_path: Path) -> None:
    """Nothing stays in the folder for temporary files, and it comes again when it is needed."""
    store = Store(Remote(objects={"key": b"data", "other": b""}), "memory:")
    assert len(store.locals(["key", "other"])) == 2
    store.release("key")
    assert len(os.listdir(tmp_path)) == 1
    store.release("other")
    assert os.listdir(tmp_path) == []
    store.staging("nonce").write_bytes(b"page set")
    store.unstage("nonce")
    assert os.listdir(tmp_path) == []
    assert store.locals(["key", "other"])
    store.forget()
    assert os.listdir(tmp_path) == []
    assert store.local("key") is not None
    assert len(os.listdir(tmp_path)) == 1
    del store
    until = time.monotonic() + 5.0  # a thread that has just fetched for it may hold it for a moment
    while os.listdir(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert os.listdir(tmp_path) == []


def test_what_does_not_fit_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    """An object may claim any size."""
    target = Remote(objects={"huge": bytes(RANGE + 1)}, sizes={"huge": 1 << 60})
    with pytest.raises(OutOfSpace, match="bytes free, and a copy of huge needs") as caught:
        Store(target, "memory:").local("huge")
    assert "TMPDIR" in caught.value.hint
    assert len(target.asked) == 1
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == []


def test_an_object_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    """Half of an object is none."""
    target = Remote(objects={"short": bytes(RANGE + 1)}, sizes={"short": 3 * RANGE})
    with pytest.raises(TargetFailed, match="of them could be read"):
        Store(target, "memory:").local("short")
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == []


def test_a_target_that_tells_no_sizes_is_listed() -> None:
    """The contract of targets has no size; a listing has."""
    target = MemoryTarget(objects={"key": bytes(3 * RANGE), "key.2": b""})
    mine = Spool(target)
    assert [path.stat().st_size for path in mine.bring(["key", "key.2"]).values()] == [3 * RANGE, 0]


@pytest.mark.parametrize("step", ["create", "allocate", "write_at"])
@pytest.mark.parametrize("size", [10, 3 * RANGE])
def test_a_disk_that_fails_is_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, size: int
) -> None:
    """It says that it is this machine's disk, not the target; what was half fetched is removed."""
    if step == "allocate" and size < RANGE:
        size = 2 * RANGE  # smaller ones are not allocated ahead

    def fail(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    mine = Spool(Remote(objects={"key": bytes(size)}))
    monkeypatch.setattr(durable, step, fail)
    with pytest.raises(OutOfSpace, match=f"cannot keep a copy of key in {tmp_path}"):
        mine.bring(["key"])
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == []


def test_a_later_range_may_fail_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large object whose beginning fitted."""
    written = durable.write_at

    def fail(descriptor: int, data: bytes, offset: int) -> None:
        if offset:
            raise OSError(errno.EIO, "Input/output error")
        written(descriptor, data, offset)

    monkeypatch.setattr(durable, "write_at", fail)
    mine = Spool(Remote(objects={"key": bytes(3 * RANGE)}))
    with pytest.raises(TargetFailed, match="cannot keep a copy of key"):
        mine.bring(["key"])
    assert [file for _, _, files in os.walk(tmp_path) for file in files] == []


def test_an_object_that_goes_away_meanwhile_is_missing() -> None:
    """After its first range was read, where only a listing tells sizes."""

    class Going(MemoryTarget):
        """Lists nothing of it any more."""

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            """Yield another one."""
            yield ObjectInfo(key="key.2", bytes=1)

    assert Store(Going(objects={"key": bytes(2 * RANGE)}), "memory:").locals(["key"]) == {}
