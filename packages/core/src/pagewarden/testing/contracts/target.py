"""The contract of targets."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.contracts import BulkTarget, ClearingTarget, ObjectInfo, RemoteTarget, Target
from pagewarden.errors import PagewardenError
from pagewarden.testing.contracts.samples import SECONDS, in_time


class TargetContract:
    """What a repository relies on in a target: that is all that stands between a backup and its loss."""

    @pytest.fixture
    def target(self) -> Target:
        """Return a target that holds nothing."""
        raise NotImplementedError("a subclass returns an empty target here")

    def test_it_meets_the_protocol(self, target: Target) -> None:
        """It has every method, and says its URL."""
        assert isinstance(target, Target)
        assert isinstance(target.url, str) and target.url

    def test_an_empty_target_lists_nothing(self, target: Target) -> None:
        """Nothing was stored, nothing is listed, and what it needs for itself it does not show."""
        assert in_time(target.url, lambda: list(target.list(""))) == []

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "byte", "megabyte"])
    def test_what_was_put_is_what_comes_back(self, target: Target, data: bytes) -> None:
        """Whole, by range, and as a local file if it keeps one."""
        in_time(target.url, lambda: target.put("a/b/object-1.bin", data))
        assert target.get("a/b/object-1.bin") == data
        assert target.read("a/b/object-1.bin", 0, len(data) + 10) == data
        assert isinstance(target.get("a/b/object-1.bin"), bytes)
        path = target.open("a/b/object-1.bin")
        assert path is None or path.read_bytes() == data
        assert [(each.key, each.bytes) for each in target.list("")] == [("a/b/object-1.bin", len(data))]

    def test_ranges(self, target: Target) -> None:
        """A range is exact, is shorter at the end, and is empty behind it."""
        data = random.Random(1).randbytes(5000)
        target.put("object", data)
        for offset, length in ((0, 1), (0, 5000), (17, 100), (4990, 100), (4999, 1), (5000, 10), (9000, 10), (3, 0)):
            assert target.read("object", offset, length) == data[offset : offset + length]

    def test_put_never_replaces(self, target: Target, tmp_path: Path) -> None:
        """A second put or adopt of a key raises FileExistsError, and the first object is unchanged."""
        target.put("key", b"first")
        with pytest.raises(FileExistsError):
            target.put("key", b"second, and longer")
        spooled = tmp_path / "spooled"
        spooled.write_bytes(b"third")
        with pytest.raises(FileExistsError):
            target.adopt("key", spooled)
        assert spooled.exists() and spooled.read_bytes() == b"third"
        assert target.get("key") == b"first"

    def test_adopt_takes_a_local_file(self, target: Target, tmp_path: Path) -> None:
        """The file is stored under the key, and is gone from its path: from the staging folder or from anywhere."""
        data = random.Random(2).randbytes(3 << 20)
        folders = [tmp_path, target.staging() or tmp_path]
        for number, folder in enumerate(folders):
            spooled = folder / f"spooled-{number}"
            spooled.write_bytes(data)
            target.adopt(f"adopted/{number}", spooled)
            assert not spooled.exists()
            assert target.get(f"adopted/{number}") == data

    def test_staging_is_not_listed(self, target: Target) -> None:
        """A file that is being written in the staging folder is no object."""
        folder = target.staging()
        if folder is None:
            return
        assert folder.is_dir()
        (folder / "half-written").write_bytes(b"half")
        assert list(target.list("")) == []
        (folder / "half-written").unlink()

    def test_what_is_missing_is_said_so(self, target: Target) -> None:
        """Reading what is not there raises FileNotFoundError, a key's own prefix included."""
        target.put("a/b", b"data")
        for key in ("missing", "a", "a/b/c"):
            with pytest.raises(FileNotFoundError):
                target.get(key)
            with pytest.raises(FileNotFoundError):
                target.read(key, 0, 1)

    def test_what_cannot_be_stored_leaves_nothing(self, target: Target, tmp_path: Path) -> None:
        """Adopting a file that is not there raises OSError or PagewardenError; the key stays free."""
        with pytest.raises((OSError, PagewardenError)):
            target.adopt("half", tmp_path / "missing")
        assert list(target.list("")) == []
        target.put("half", b"whole")
        assert target.get("half") == b"whole"

    def test_delete_is_idempotent(self, target: Target) -> None:
        """What was deleted is gone and can be put again; deleting what is not there is no error."""
        target.put("a/key", b"data")
        target.put("a/other", b"stays")
        for _ in range(2):
            target.delete("a/key")
        with pytest.raises(FileNotFoundError):
            target.get("a/key")
        assert [each.key for each in target.list("")] == ["a/other"]
        target.put("a/key", b"again")
        assert target.get("a/key") == b"again"

    def test_a_listing_has_the_prefix_and_the_order_of_keys(self, target: Target) -> None:
        """All objects whose key starts with the prefix, whether or not it ends at a slash, in the order of the keys."""
        keys = ["a/1", "a/10", "a/2", "a-1", "ab/1", "b/a/c", "b/a.b", "b/a", "z"]
        storable = [key for key in keys if key != "b/a"]  # a key is never the folder of another one
        for key in storable:
            target.put(key, key.encode())
        for prefix in ("", "a", "a/", "a/1", "b/a", "zz"):
            listed = list(target.list(prefix))
            assert all(isinstance(each, ObjectInfo) for each in listed)
            assert [each.key for each in listed] == sorted(key for key in storable if key.startswith(prefix))
            assert [each.bytes for each in listed] == [len(each.key) for each in listed]
            assert all(each.modified is None or each.modified.tzinfo is not None for each in listed)

    def test_many_at_once_are_what_each_is_alone(self, target: Target) -> None:
        """Where it lists keys alone and reads many at once (`BulkTarget`): the same, in order, None for what is not."""
        if not isinstance(target, BulkTarget):
            return
        stored = {"a/1": b"one", "a/2": b"", "a-1": bytes(range(200)), "b/a/c": b"x" * 70_000}
        for key, data in stored.items():
            target.put(key, data)
        for prefix in ("", "a", "a/", "b/a", "zz"):
            assert list(target.keys(prefix)) == [each.key for each in target.list(prefix)]
        asked = ("a/1", "b/a/c", "a/2", "missing", "a/1", "a", "a/1/b", "a-1", "c/missing", "b/a/c")
        for length in (100_000, 100, 1):
            wanted = [stored[key][:length] if key in stored else None for key in asked]
            assert list(target.read_many(asked, length)) == wanted
        assert list(target.read_many((), 100)) == []
        with pytest.raises(ValueError):
            list(target.read_many(("a/1", "../a"), 100))

    def test_many_go_at_once(self, target: Target) -> None:
        """Where it removes many at once (`ClearingTarget`): all of them go and nothing else, and none need be there."""
        if not isinstance(target, ClearingTarget):
            return
        stored = ("a/1", "a/2", "a-1", "b/a/c", "b/a/d")
        for key in stored:
            target.put(key, key.encode())
        target.delete_many(("a/1", "missing", "b/a/c", "a/1", "b/a/d", "c/missing"))
        assert [each.key for each in target.list("")] == ["a-1", "a/2"]
        target.delete_many(())
        with pytest.raises(ValueError):
            target.delete_many(("../a",))
        target.put("b/a/c", b"again")
        assert target.get("b/a/c") == b"again"

    def test_what_is_behind_a_network_tells_sizes_and_can_be_probed(self, target: Target) -> None:
        """A size is exact, or FileNotFoundError; a probe passes, and changes and leaves nothing."""
        if not isinstance(target, RemoteTarget):
            return
        for size in (0, 1, 70_000):
            target.put(f"sized/{size}", bytes(size))
            assert target.size(f"sized/{size}") == size
        with pytest.raises(FileNotFoundError):
            target.size("sized/missing")
        with pytest.raises(ValueError):
            target.size("../sized")
        before = [(each.key, each.bytes) for each in target.list("")]
        for _ in range(2):
            target.probe("sized/1", bytes(1))
        assert [(each.key, each.bytes) for each in target.list("")] == before
        assert target.get("sized/1") == bytes(1)

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../../b", "../a", "a b", "ä", "a\\b", "a\nb", "a\0b"],
    )
    def test_a_key_that_is_none_is_refused(self, target: Target, key: str, tmp_path: Path) -> None:
        """ValueError, before anything happens: no key leads out of the target."""
        spooled = tmp_path / "spooled"
        spooled.write_bytes(b"data")
        calls: list[Callable[[], object]] = [
            lambda: target.put(key, b"data"),
            lambda: target.adopt(key, spooled),
            lambda: target.get(key),
            lambda: target.read(key, 0, 1),
            lambda: target.open(key),
            lambda: target.delete(key),
        ]
        for call in calls:
            with pytest.raises(ValueError):
                call()
        assert spooled.exists()
        assert list(target.list("")) == []

    def test_of_many_puts_at_once_one_wins(self, target: Target) -> None:
        """Sixteen threads put one key: one succeeds, fifteen get FileExistsError, and its data is what is there."""
        outcomes: list[str] = []
        start = threading.Barrier(16)

        def put(number: int) -> None:
            start.wait()
            try:
                target.put("contested", b"%d" % number * 1000)
                outcomes.append(str(number))
            except FileExistsError:
                outcomes.append("lost")
            except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
                outcomes.append(repr(error))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        winners = [outcome for outcome in outcomes if outcome != "lost"]
        assert (len(outcomes), len(winners)) == (16, 1), winners
        assert target.get("contested") == winners[0].encode() * 1000

    def test_a_listing_never_shows_a_half_written_object(self, target: Target) -> None:
        """While objects are put, every one that is listed has its whole size and content."""
        size, stop, seen = 1 << 20, threading.Event(), []

        def look() -> None:
            while not stop.is_set():
                for each in target.list("large/"):
                    data = target.get(each.key)
                    seen.append(each.bytes == len(data) == size and len(set(data)) == 1)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number in range(10):
                target.put(f"large/{number}", bytes([number]) * size)
        finally:
            stop.set()
            thread.join(SECONDS)
        assert all(seen)
        assert [each.bytes for each in target.list("large/")] == [size] * 10
