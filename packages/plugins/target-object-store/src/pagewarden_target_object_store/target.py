"""Objects of a repository as objects of a store.

1. `put` is one conditional request (If-None-Match, or what the provider calls it). Each carries a random number as
   metadata: where an answer is lost and the request is sent again, the number of what stands there tells one's own
   first attempt from another writer's object.
2. `adopt` does the same with a small file. A large one is uploaded in parts, under a key that has a random number
   of its backup in it, so that nobody else writes it, once it is seen to be absent; it appears when its last request
   is answered. Then what was stored is read again and compared with the file, and only then is the file removed.
3. Requests that are harmless to repeat are repeated by obstore. Those of which it cannot know are repeated here.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from pagewarden import durable
from pagewarden.contracts import ObjectInfo
from pagewarden.errors import PagewardenError, TargetFailed, VerificationFailed
from pagewarden.parallel import in_order, patiently
from pagewarden_target_object_store.failures import (
    failure,
    has_no_bucket,
    ignores_conditions,
    no_conditions,
    raise_failure,
    status,
    was_cut_off,
)

if TYPE_CHECKING:
    from pagewarden_target_object_store.address import Address
    from pagewarden_target_object_store.connect import Store

PART = 8 << 20
"""Bytes that are sent or fetched in one request; of a very large file more."""

WIDTH = 4
"""Requests of one large object that are under way at once."""

_READERS = 32  # small objects that are fetched at once
_PARTS = 9000  # of one upload; S3 and Azure allow at least 10,000
_TURNS = 4  # how often a put that the store called conflicting is sent again where nothing stands under the key
_GRACE = 10.0  # seconds in which an upload that was interrupted takes back its parts
_ATTEMPT = "attempt"  # the metadata that tells one put from all others
_KEY = re.compile(r"(?!\.\.?(?:/|$))[A-Za-z0-9._=-]+(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._=-]+)*")

R = TypeVar("R")


class _Stopped(Exception):
    """An upload was told to end: nobody waits for it any more."""


class ObjectStoreTarget:
    """The objects below one prefix of a bucket or container.

    Raises FileExistsError and FileNotFoundError as the contract says, else TargetFailed, DeletionRefused, OutOfSpace,
    SharedWritingRefused, and VerificationFailed where what was stored is not what was sent. Many threads may use it.
    """

    def __init__(
        self, store: Store, address: Address, url: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """`store` is connected to `address`; `sleep` waits between two attempts."""
        self.url = url
        self._store = store
        self._address = address
        self._sleep = sleep

    def put(self, key: str, data: bytes) -> None:
        """Store `data` in one request. Raises FileExistsError if `key` exists."""
        self._create(self._known(key), data)

    def adopt(self, key: str, path: Path) -> None:
        """Store the file `path`, prove that what is stored is the same, and remove the file."""
        self._known(key)
        size = path.stat().st_size
        if size <= PART:
            self._create(key, path.read_bytes())
        else:
            self._upload(key, path, size)
        self._prove(key, path, size)
        durable.remove(path)

    def get(self, key: str) -> bytes:
        """Return an object. Raises FileNotFoundError."""
        self._known(key)
        return self._ask(f"read {key}", lambda: bytes(obstore.get(self._store, key).bytes()))

    def open(self, key: str) -> Path | None:
        """Return None: no object is a local file."""
        self._known(key)
        return None

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range of an object. Raises FileNotFoundError."""
        self._known(key)
        what = f"read {key}"
        if length > 0:
            try:
                return self._patiently(lambda: bytes(obstore.get_range(self._store, key, start=offset, length=length)))
            except FileNotFoundError as error:
                raise self._missing(error, what) from None
            except BaseError as error:
                if "non-partial" in str(error):  # the store knows no ranges
                    return self._ask(what, lambda: self._from_beginning(key, offset, length))
                if status(error) != 416:
                    raise_failure(error, self._cannot(what), self._address)
        size = self.size(key)
        if length > 0 and offset < size:
            raise TargetFailed(self._cannot(what) + f": it has {size:,} bytes, and refuses those from {offset:,} on")
        return b""

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield the first `length` bytes of each object, None where there is none; many are fetched at once."""

        def read(key: str) -> bytes | None:
            try:
                return self.read(key, 0, length)
            except FileNotFoundError:
                return None

        return in_order(read, keys, _READERS)

    def size(self, key: str) -> int:
        """Return the bytes of an object. Raises FileNotFoundError."""
        self._known(key)
        return self._ask(f"look at {key}", lambda: int(obstore.head(self._store, key)["size"]))

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in order."""
        return (info.key for info in self.list(prefix))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, in order of their keys."""
        folder = prefix.rpartition("/")[0]  # the store is asked for whole folders
        if folder and _KEY.fullmatch(folder) is None:
            return
        found = self._ask("list objects", lambda: obstore.list(self._store, folder or None, chunk_size=1000).collect())
        for each in sorted(found, key=lambda each: each["path"]):  # not every store lists in order
            if each["path"].startswith(prefix):
                yield ObjectInfo(key=each["path"], bytes=each["size"], modified=each["last_modified"])

    def delete(self, key: str) -> None:
        """Remove an object. Raises DeletionRefused where that is not permitted."""
        self._known(key)
        try:
            self._patiently(lambda: obstore.delete(self._store, key))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise_failure(error, self._cannot(f"remove {key}"), self._address, deleting=True)

    def staging(self) -> Path | None:
        """Return None: files are uploaded from wherever they are."""

    def probe(self, key: str, data: bytes) -> None:
        """Put `key` again, with the bytes that it has, and see that the store refuses. Raises SharedWritingRefused."""
        if self._address.only_writer:
            return
        for _ in range(2):  # the first may have found nothing there, if somebody removed it at this moment
            try:
                self._patiently(lambda: obstore.put(self._store, key, data, mode="create"))
            except AlreadyExistsError:
                return
            except (BaseError, FileNotFoundError) as error:
                raise self._refused(error, key) from None
        raise no_conditions(self._address)

    def _create(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, if that is free, in one request."""
        if self._address.only_writer:
            self._refuse_taken(key)
            self._ask(f"store {key}", lambda: obstore.put(self._store, key, data, use_multipart=False))
            return
        attempt = secrets.token_hex(8)
        for _ in range(_TURNS):
            try:
                self._patiently(
                    lambda: obstore.put(self._store, key, data, mode="create", attributes={_ATTEMPT: attempt})
                )
                return
            except AlreadyExistsError:
                there = self._attempt(key)
                if there == attempt:
                    return
                if there is not None:
                    raise FileExistsError(f"{key} exists") from None
            except (BaseError, FileNotFoundError) as error:
                raise self._refused(error, key) from None
        raise TargetFailed(
            self._cannot(f"store {key}") + ": it says that the key is taken, and that there is nothing under it",
            hint="try again",
        )

    def _upload(self, key: str, source: Path, size: int) -> None:
        """Store a large file under `key`, which nobody else writes, in parts."""
        self._refuse_taken(key)
        part = max(PART, -(-size // _PARTS))
        attempt = secrets.token_hex(8)
        stop, ended = threading.Event(), threading.Event()

        def parts() -> Iterator[bytes]:
            with source.open("rb") as file:
                while data := file.read(part):
                    if stop.is_set():
                        raise _Stopped
                    yield data

        def upload() -> None:
            ended.clear()
            try:
                # Where it fails, or `parts` does, obstore takes back what was sent.
                obstore.put(
                    self._store,
                    key,
                    parts(),
                    use_multipart=True,
                    chunk_size=part,
                    max_concurrency=WIDTH,
                    attributes={_ATTEMPT: attempt},
                )
            finally:
                ended.set()

        for turn in range(_TURNS):
            try:
                patiently(upload)
                return
            except (BaseError, FileNotFoundError) as error:
                if self._stands(key, attempt, size):  # only the answer to the last request was lost
                    return
                if not was_cut_off(error) or turn == _TURNS - 1:
                    raise_failure(error, self._cannot(f"store {key}"), self._address)
            except BaseException:
                stop.set()
                ended.wait(_GRACE)
                raise

    def _prove(self, key: str, path: Path, size: int) -> None:
        """Read what is stored under `key` and compare it with the file. Raises VerificationFailed."""
        with path.open("rb") as file:

            def same(offset: int) -> bool:
                return self.read(key, offset, PART) == os.pread(file.fileno(), PART, offset)

            if all(in_order(same, range(0, size + 1, PART), WIDTH)):  # the last one is short: nothing follows
                return
        error = VerificationFailed(
            f"{key} in the {self._address.place} did not read back as it was stored",
            hint="try again; if it stays so, ask who runs the store or what stands between",
        )
        try:
            self.delete(key)
        except PagewardenError as second:
            error.add_note(f"it could not be removed: {second}")
        raise error

    def _attempt(self, key: str) -> str | None:
        """Return which put made the object `key`, "" if nobody can tell, None where there is no such object."""
        try:
            found = self._ask(f"look at {key}", lambda: obstore.get(self._store, key, options={"head": True}))
        except FileNotFoundError:
            return None
        return str(found.attributes.get(_ATTEMPT, ""))

    def _stands(self, key: str, attempt: str, size: int) -> bool:
        """Return whether the object that `attempt` stored is there, whole; False where that cannot be seen."""
        try:
            return self._attempt(key) == attempt and self.size(key) == size
        except (PagewardenError, FileNotFoundError):  # why it could not be stored says more
            return False

    def _refuse_taken(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self.size(key)
            raise FileExistsError(f"{key} exists")

    def _from_beginning(self, key: str, offset: int, length: int) -> bytes:
        """Return a range by reading, and forgetting, all that stands before it."""
        found, place = bytearray(), 0
        for chunk in obstore.get(self._store, key).stream(min_chunk_size=1 << 20):
            data = memoryview(chunk)
            found += data[max(0, offset - place) : max(0, offset + length - place)]
            place += len(data)
            if place >= offset + length:
                break
        return bytes(found)

    def _ask(self, what: str, call: Callable[[], R]) -> R:
        """Return what `call` returns; what obstore raises becomes an error of ours, or FileNotFoundError."""
        try:
            return self._patiently(call)
        except FileNotFoundError as error:
            raise self._missing(error, what) from None
        except BaseError as error:
            raise_failure(error, self._cannot(what), self._address)

    def _patiently(self, call: Callable[[], R]) -> R:
        """Return what `call` returns. Ctrl-C ends the wait; a connection that was cut is tried again."""

        def persist() -> R:
            for attempt in range(self._address.retries):
                try:
                    return call()
                except BaseError as error:
                    if not was_cut_off(error):
                        raise
                self._sleep(min(0.1 * 2**attempt, 10.0))
            return call()

        if threading.current_thread() is not threading.main_thread():
            return persist()
        return patiently(persist)

    def _missing(self, error: FileNotFoundError, what: str) -> Exception:
        """Return what an answer 404 means: no object, or no bucket."""
        found = failure(error, self._cannot(what), self._address)
        return found if has_no_bucket(error) else FileNotFoundError(found.message)

    def _refused(self, error: Exception, key: str) -> PagewardenError:
        """Return what it means that a put of `key` failed."""
        if ignores_conditions(error):
            return no_conditions(self._address)
        return failure(error, self._cannot(f"store {key}"), self._address)

    def _cannot(self, what: str) -> str:
        return f"the {self._address.place} cannot {what}"

    def _known(self, key: str) -> str:
        """Return `key`. Raises ValueError for what is no key."""
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} is no key")
        return key
