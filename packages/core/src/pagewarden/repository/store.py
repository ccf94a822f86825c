"""A target as a repository uses it: every failure one of the project's errors, absence and presence plain values."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import BulkTarget, Target
from pagewarden.errors import PagewardenError
from pagewarden.repository.manifest import LARGEST

_CHUNK = 4 << 20  # bytes fetched at once from a target that keeps no local files


class Store:
    """The objects of one repository. Raises TargetFailed or OutOfSpace where the target fails."""

    def __init__(self, target: Target, url: str) -> None:
        """`url` is for messages."""
        self.url = url
        self._target = target
        self._bulk = target if isinstance(target, BulkTarget) else None
        self._spool: Path | None = None

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, in order."""
        with self._errors("be listed"):
            if self._bulk is not None:
                return list(self._bulk.keys(prefix))
            return [info.key for info in self._target.list(prefix)]

    def is_empty(self) -> bool:
        """Return whether nothing at all is stored."""
        with self._errors("be listed"):
            return next(iter(self._target.list("")), None) is None

    def document(self, key: str) -> bytes | None:
        """Return a document, cut off just beyond the largest one that is accepted; None where there is none."""
        with self._errors(f"give {key}"):
            try:
                return self._target.read(key, 0, LARGEST + 1)
            except FileNotFoundError:
                return None

    def documents(self, keys: Sequence[str]) -> Iterator[bytes | PagewardenError | None]:
        """Yield what `document` returns for each key, in their order; the error itself where it raises one."""
        done = 0
        while self._bulk is not None and done < len(keys):
            try:
                for data in self._bulk.read_many(keys[done:], LARGEST + 1):
                    yield data
                    done += 1
            except OSError as error:
                yield durable.failure(error, f"{self.url} cannot give {keys[done]}")
                done += 1
            except PagewardenError as error:
                yield error
                done += 1
        for key in keys[done:]:
            try:
                yield self.document(key)
            except PagewardenError as error:
                yield error

    def exists(self, key: str) -> bool:
        """Return whether `key` is there."""
        with self._errors(f"give {key}"):
            try:
                self._target.read(key, 0, 1)
            except FileNotFoundError:
                return False
            return True

    def put(self, key: str, data: bytes) -> bool:
        """Store a document, durably; return False, and change nothing, if `key` is there."""
        with self._errors(f"store {key}"):
            try:
                self._target.put(key, data)
            except FileExistsError:
                return False
            return True

    def adopt(self, key: str, path: Path) -> None:
        """Store the file `path`, which goes away."""
        with self._errors(f"store {key}"):
            self._target.adopt(key, path)

    def delete(self, key: str) -> None:
        """Remove `key`, which need not be there."""
        with self._errors(f"remove {key}"):
            self._target.delete(key)

    def local(self, key: str) -> Path | None:
        """Return an object as a local file, fetched where the target keeps none; None where there is no object."""
        with self._errors(f"give {key}"):
            try:
                path = self._target.open(key)
                return self._fetch(key) if path is None else path
            except FileNotFoundError:
                return None

    def staging(self, nonce: str) -> Path:
        """Return where the page set of the backup `nonce` is written."""
        with self._errors("be written to"):
            folder = self._target.staging()
        return (folder or self._spool_folder()) / f"{nonce}.pageset.zst"

    def unstage(self, nonce: str) -> None:
        """Remove what the backup `nonce` wrote to its staging file."""
        path = self.staging(nonce)
        with self._errors("be tidied"):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.ordered").unlink(missing_ok=True)  # see SnapshotWriter.seal

    def _fetch(self, key: str) -> Path:
        path = self._spool_folder() / key.replace("/", "+")
        offset = 0
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, durable.FILE_MODE), "wb") as file:
            while data := self._target.read(key, offset, _CHUNK):
                file.write(data)
                offset += len(data)
        return path

    def _spool_folder(self) -> Path:
        if self._spool is None:
            self._spool = Path(tempfile.mkdtemp(prefix="pagewarden-"))
            weakref.finalize(self, shutil.rmtree, self._spool, ignore_errors=True)
        return self._spool

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise durable.failure(error, f"{self.url} cannot {what}") from error
