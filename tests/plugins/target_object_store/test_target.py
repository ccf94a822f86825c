"""What an object store does beyond the contract, on real servers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pagewarden.errors import DeletionRefused, SharedWritingRefused, TargetFailed, VerificationFailed
from pagewarden_target_object_store import ObjectStoreFactory
from pagewarden_target_object_store import target as module
from pagewarden_target_object_store.target import PART, ObjectStoreTarget
from tests.support import stores
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.program import ROOT, run

pytestmark = pytest.mark.xdist_group("stores")

SMALL = 1 << 16


def opened(url: str) -> ObjectStoreTarget:
    """Return the target at `url`."""
    target = ObjectStoreFactory().open(url, create=True)
    assert isinstance(target, ObjectStoreTarget)
    return target


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in parts of 64 KiB, so that tests of what goes wrong need not send megabytes."""
    monkeypatch.setattr(module, "PART", SMALL)


def big_file(path: Path, size: int = 2 * SMALL + 12345) -> bytes:
    """Make a file, of three small parts; return its content."""
    data = random.Random(7).randbytes(size)
    path.write_bytes(data)
    return data


def test_a_large_file_is_uploaded_in_parts_and_never_replaces(url: str, tmp_path: Path) -> None:
    """It comes back whole, by any range, and a second one under its key is refused and kept."""
    target = opened(url)
    data = big_file(tmp_path / "big", PART + 12345)
    target.adopt("a/big", tmp_path / "big")
    assert target.size("a/big") == len(data)
    assert target.read("a/big", PART - 5, 10) == data[PART - 5 : PART + 5]
    assert target.get("a/big") == data
    assert not (tmp_path / "big").exists()
    (tmp_path / "other").write_bytes(bytes(PART + 1))
    with pytest.raises(FileExistsError):
        target.adopt("a/big", tmp_path / "other")
    assert (tmp_path / "other").exists()
    assert target.get("a/big") == data


def test_a_store_that_replaces_is_found_out(careless_url: str, rclone: tuple[str, Path]) -> None:
    """H38: the probe raises a named error, and changes and leaves nothing; the owner's word makes it pass."""
    target = opened(careless_url)
    target.put("pagewarden.json", b"marker")
    with pytest.raises(SharedWritingRefused, match="ignores conditional puts") as caught:
        target.probe("pagewarden.json", b"marker")
    assert "only_writer=yes" in caught.value.hint
    assert [(each.key, each.bytes) for each in target.list("")] == [("pagewarden.json", 6)]
    opened(f"{careless_url}&only_writer=yes").probe("pagewarden.json", b"marker")


def test_a_store_that_says_that_it_knows_no_conditions_is_refused(faulty_url: str, proxy: FaultyProxy) -> None:
    """501 to If-None-Match means the same (H38)."""
    proxy.faults.append(Fault(where="^PUT", way="status", status=501, code="NotImplemented", text="A header"))
    with pytest.raises(SharedWritingRefused):
        opened(faulty_url.replace("retries=2", "retries=0")).put("key", b"data")


def test_a_probe_changes_nothing_and_needs_no_deletion(faulty_url: str, proxy: FaultyProxy) -> None:
    """H38: it is one put that is refused."""
    target = opened(faulty_url)
    target.put("pagewarden.json", b"marker")
    before = list(target.list(""))
    proxy.requests.clear()
    target.probe("pagewarden.json", b"marker")
    assert [request.split()[0] for request in proxy.requests] == ["PUT"]
    assert list(target.list("")) == before


def test_a_bucket_that_is_missing_is_named(moto: str) -> None:
    """It is neither an object that is missing nor an empty repository."""
    target = opened(f"s3://no-such-bucket/p?endpoint={moto}&retries=1")
    for call in (lambda: target.put("a", b""), lambda: target.get("a"), lambda: list(target.list(""))):
        with pytest.raises(TargetFailed, match="there is no bucket no-such-bucket") as caught:
            call()
        assert caught.value.hint == "make the bucket no-such-bucket first"


def test_a_host_that_is_not_there_is_named() -> None:
    """Nobody listens at the port."""
    target = opened("s3://bucket/p?endpoint=http://127.0.0.1:9&retries=1")
    with pytest.raises(TargetFailed, match="no connection could be made, after 1 more attempts") as caught:
        target.get("a")
    assert "http://127.0.0.1:9" in caught.value.hint


def test_a_request_that_hangs_is_given_up(faulty_url: str, proxy: FaultyProxy) -> None:
    """A store that does not answer in time is asked again, and then it is an error."""
    target = opened(f"{faulty_url}&timeout=0.3".replace("retries=2", "retries=1"))
    proxy.faults.append(Fault(where="^GET", way="slow", seconds=1.0))
    begun = time.monotonic()
    with pytest.raises(TargetFailed, match="there was no answer in time"):
        target.get("a")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("way", ["cut", "lost", "half-sent", "half-answered", "status", "late-status"])
def test_a_put_survives_what_passes(faulty_url: str, proxy: FaultyProxy, way: str) -> None:
    """One that was stored though its answer was lost is one's own, not another writer's."""
    target = opened(faulty_url)
    proxy.faults.append(Fault(where="^PUT", way=way, times=1))  # type: ignore[arg-type]
    target.put("key", b"data")
    assert proxy.faults[0].seen == 1
    assert target.get("key") == b"data"
    with pytest.raises(FileExistsError):
        target.put("key", b"data")


@pytest.mark.parametrize("way", ["cut", "half-answered", "status", "slow"])
def test_reading_survives_what_passes(faulty_url: str, proxy: FaultyProxy, way: str) -> None:
    """A range is whole or an error, never shorter than it should be."""
    target = opened(faulty_url)
    target.put("key", bytes(range(256)) * 500)
    proxy.faults.append(Fault(where="^GET", way=way, times=1, seconds=0.1))  # type: ignore[arg-type]
    assert target.read("key", 100, 100_000) == (bytes(range(256)) * 500)[100:100_100]
    proxy.faults[0].seen = 0
    assert target.get("key") == bytes(range(256)) * 500
    proxy.faults[0].seen = 0
    assert [each.key for each in target.list("")] == ["key"]
    assert proxy.faults[0].seen == 1


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("where", "way"),
    [
        (where, way)
        for where in ("uploads", "partNumber=1", "partNumber=3", "^POST .*uploadId")
        for way in ("cut", "lost", "status", *(("half-sent",) if where == "partNumber=1" else ()))
    ],
)
def test_an_upload_survives_what_passes(
    faulty_url: str, proxy: FaultyProxy, tmp_path: Path, where: str, way: str, moto: str, bucket: str
) -> None:
    """At whichever of its requests: the object is whole, and no parts stay behind."""
    target = opened(faulty_url)
    data = big_file(tmp_path / "big")
    proxy.faults.append(Fault(where=where, way=way, times=1))  # type: ignore[arg-type]
    target.adopt("big", tmp_path / "big")
    assert proxy.faults[0].seen == 1
    assert target.get("big") == data
    assert not (tmp_path / "big").exists()
    # An upload whose number never arrived cannot be taken back by anybody but a rule of the bucket's.
    assert stores.uploads(moto, bucket) == ((where, way) == ("uploads", "lost"))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("where", [r"partNumber=2", r"^POST .*uploadId"])
def test_an_upload_that_fails_leaves_nothing(
    faulty_url: str, proxy: FaultyProxy, tmp_path: Path, where: str, moto: str, bucket: str
) -> None:
    """Neither an object nor parts; the file stays, and the next attempt stores it."""
    target = opened(faulty_url)
    data = big_file(tmp_path / "big")
    proxy.faults.append(Fault(where=where, way="status", status=503, code="SlowDown", text="Reduce your rate."))
    with pytest.raises(TargetFailed, match="503 SlowDown: Reduce your rate, after 2 more attempts"):
        target.adopt("big", tmp_path / "big")
    proxy.faults.clear()
    assert list(target.list("")) == []
    assert stores.uploads(moto, bucket) == 0
    assert (tmp_path / "big").read_bytes() == data
    target.adopt("big", tmp_path / "big")
    assert target.get("big") == data


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [1000, SMALL + 1])
def test_what_reads_back_otherwise_is_not_kept(faulty_url: str, proxy: FaultyProxy, tmp_path: Path, size: int) -> None:
    """A bit that changed on the way to the store is seen before anybody counts on the object."""
    target = opened(faulty_url)
    data = big_file(tmp_path / "file", size)
    proxy.faults.append(Fault(where=r"^PUT", way="flipped", times=1))
    with pytest.raises(VerificationFailed, match="did not read back as it was stored"):
        target.adopt("key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert list(target.list("")) == []


def test_an_interrupted_upload_is_taken_back(
    faulty_url: str, proxy: FaultyProxy, tmp_path: Path, moto: str, bucket: str
) -> None:
    """Ctrl-C ends the wait at once, and the parts go."""
    big_file(tmp_path / "big", 12 * SMALL)
    proxy.faults.append(Fault(where="partNumber=[3-9]", way="slow", seconds=0.5))
    program = (
        "import sys; from pathlib import Path; from pagewarden_target_object_store import ObjectStoreFactory\n"
        "import pagewarden_target_object_store.target as t\n"
        "t.PART = 1 << 16\n"
        "target = ObjectStoreFactory().open(sys.argv[1], create=True)\n"
        "print('begun', flush=True)\n"
        "target.adopt('big', Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, faulty_url, str(tmp_path / "big")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    process.stdout.readline()
    while not any("partNumber=4" in request for request in proxy.requests):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    assert stores.uploads(moto, bucket) == 0
    assert list(opened(faulty_url).list("")) == []


def test_no_message_holds_a_secret(faulty_url: str, proxy: FaultyProxy) -> None:
    """A store may repeat the request that it refuses, key and signature included."""
    signature = "7f3c1b9a5d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
    text = f"The request signature {signature} of {stores.SECRET} does not match"
    proxy.faults.append(Fault(where=".", way="status", status=403, code="SignatureDoesNotMatch", text=text))
    target = opened(faulty_url)
    for call in (lambda: target.put("a", b""), lambda: target.get("a"), lambda: list(target.list(""))):
        with pytest.raises(TargetFailed, match="SignatureDoesNotMatch") as caught:
            call()
        shown = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
        assert not any(secret in shown for secret in (signature, stores.SECRET, stores.KEY))
        assert caught.value.__suppress_context__  # not in a traceback either


def test_a_region_is_asked_for(faulty_url: str, proxy: FaultyProxy) -> None:
    """S3 answers 301 where the bucket is elsewhere."""
    proxy.faults.append(Fault(where=".", way="status", status=301, code="PermanentRedirect"))
    with pytest.raises(TargetFailed) as caught:
        opened(faulty_url).get("a")
    assert caught.value.hint == "add ?region=NAME to the URL"


def test_many_threads_read_one_object(url: str) -> None:
    """Nothing of one call is another one's."""
    target = opened(url)
    data = random.Random(3).randbytes(100_000)
    target.put("key", data)
    wrong: list[int] = []

    def read(number: int) -> None:
        if target.read("key", number * 10_000, 10_000) != data[number * 10_000 : (number + 1) * 10_000]:
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nothing_is_imported_before_a_store_is_opened() -> None:
    """Every verb loads all plugins; only one that opens such a URL pays for it."""
    done = run(
        """
        import sys
        from pagewarden.plugins import load_plugins
        extensions = load_plugins()
        assert "s3" in [scheme for factory in extensions.targets for scheme in factory.schemes]
        heavy = {"obstore", "boto3", "asyncio", "botocore", "pagewarden_target_object_store.target"}
        print(sorted(heavy & set(sys.modules)))
        """,
        measured=False,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_what_no_store_should_answer_is_a_named_error(faulty_url: str, proxy: FaultyProxy) -> None:
    """A range that is there and is refused; a key that is taken by nothing; a probe that is not permitted."""
    target = opened(faulty_url)
    target.put("key", b"data")
    proxy.faults[:] = [Fault(where="^GET", way="status", status=416, code="InvalidRange")]
    with pytest.raises(TargetFailed, match="it has 4 bytes, and refuses those from 1 on"):
        target.read("key", 1, 2)
    proxy.faults[:] = [Fault(where="^PUT", way="status", status=409, code="ConditionalRequestConflict")]
    with pytest.raises(TargetFailed, match="that the key is taken, and that there is nothing under it"):
        target.put("other", b"data")
    proxy.faults[:] = [Fault(where="^PUT", way="status", status=403, code="AccessDenied")]
    with pytest.raises(TargetFailed, match="AccessDenied"):
        target.probe("key", b"data")
    proxy.faults[:] = [Fault(where="^DELETE", way="status", status=404, code="NoSuchKey")]
    target.delete("missing")
    assert list(target.list("no key/")) == []


@pytest.mark.parametrize("status", [403, 409])
def test_a_removal_that_is_refused_is_told_from_others(faulty_url: str, proxy: FaultyProxy, status: int) -> None:
    """By a permission, or by a policy of the store that protects the object."""
    target = opened(faulty_url)
    target.put("key", b"data")
    proxy.faults.append(Fault(where="^DELETE", way="status", status=status, code="Refused"))
    with pytest.raises(DeletionRefused, match=f"cannot remove key: it answered {status} Refused"):
        target.delete("key")
    assert target.get("key") == b"data"


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_was_stored_whatever_is_answered_is_stored(
    faulty_url: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    """What stands under the key tells; where it cannot be seen, the first error stands."""
    target = opened(faulty_url)
    data = big_file(tmp_path / "big")
    proxy.faults.append(Fault(where="^POST .*uploadId", way="late-status", status=403, code="AccessDenied"))
    target.adopt("big", tmp_path / "big")
    assert target.get("big") == data
    big_file(tmp_path / "big")
    proxy.faults.append(Fault(where="^HEAD .*other", way="status", status=403, code="", after=1))
    with pytest.raises(TargetFailed, match="cannot store other: it answered 40"):
        target.adopt("other", tmp_path / "big")


def test_what_reads_back_otherwise_and_cannot_go_is_said_so(
    faulty_url: str, proxy: FaultyProxy, tmp_path: Path
) -> None:
    """The error is still that it did not read back."""
    target = opened(faulty_url)
    (tmp_path / "file").write_bytes(b"data")
    proxy.faults.append(Fault(where="^PUT", way="flipped"))
    proxy.faults.append(Fault(where="^DELETE", way="status", status=403, code="AccessDenied"))
    with pytest.raises(VerificationFailed) as caught:
        target.adopt("key", tmp_path / "file")
    assert "it could not be removed: the bucket" in caught.value.__notes__[0]
