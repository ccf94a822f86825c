"""A target as a repository uses it: every failure one of the project's errors, absence and presence plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import BulkTarget, ClearingTarget, RemoteTarget, Target
from pagewarden.errors import PagewardenError, SharedWritingRefused
from pagewarden.repository.keys import MARKER
from pagewarden.repository.manifest import LARGEST
from pagewarden.repository.spool import Spool

STAGED = ("pageset", "commits", "joined")
"""What a run writes before it is stored: a page set, one of commits, and one that becomes that."""

_AT_ONCE = 8  # objects that are removed at once from a target behind a network


class Store:
    """The objects of one repository. Raises TargetFailed or OutOfSpace where the target fails."""

    def __init__(self, target: Target, url: str) -> None:
        """`url` is for messages."""
        self.url = url
        self._target = target
        self._bulk = target if isinstance(target, BulkTarget) else None
        self._spool = Spool(target)
        self._clearing = target if isinstance(target, ClearingTarget) else None
        self._remote = isinstance(target, RemoteTarget)
        self._proved = not self._remote  # whether a put is known not to replace anything (H38)
        self._marker: bytes | None = None  # as it was read

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, in order."""
        with self._errors("be listed"):
            if self._bulk is not None:
                return list(self._bulk.keys(prefix))
            return [info.key for info in self._target.list(prefix)]

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of what is stored under each key that begins with `prefix`."""
        with self._errors("be listed"):
            return {info.key: info.bytes for info in self._target.list(prefix)}

    def is_empty(self) -> bool:
        """Return whether nothing at all is stored."""
        with self._errors("be listed"):
            return next(iter(self._target.list("")), None) is None

    def document(self, key: str) -> bytes | None:
        """Return a document, cut off just beyond the largest one that is accepted; None where there is none."""
        with self._errors(f"give {key}"):
            try:
                data = self._target.read(key, 0, LARGEST + 1)
            except FileNotFoundError:
                return None
            if key == MARKER:
                self._marker = data
            return data

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
            self._prove()
            try:
                self._target.put(key, data)
            except FileExistsError:
                return False
            return True

    def establish(self, data: bytes) -> None:
        """Store the marker `data`, which makes the target a repository; it may be there, the same, already."""
        with self._errors(f"store {MARKER}"):
            try:
                self._target.put(MARKER, data)
            except FileExistsError:
                return
            self._marker = data
            try:
                self._prove()
            except SharedWritingRefused as error:
                try:
                    self._target.delete(MARKER)  # nothing was here
                except PagewardenError as second:
                    error.add_note(f"{MARKER} stays there: {second}")
                raise

    def adopt(self, key: str, path: Path) -> None:
        """Store the file `path`, which goes away."""
        with self._errors(f"store {key}"):
            self._prove()
            self._target.adopt(key, path)
        self._spool.give_back(path.name)

    def delete(self, key: str) -> None:
        """Remove `key`, which need not be there."""
        with self._errors(f"remove {key}"):
            self._target.delete(key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove `keys`, which need not be there, in any order."""
        if self._clearing is not None and keys:
            with self._errors("remove what it holds"):
                self._clearing.delete_many(keys)
        elif self._remote and len(keys) > 1:
            from pagewarden.parallel import in_order

            for _ in in_order(self.delete, keys, _AT_ONCE):
                pass
        else:
            for key in keys:
                self.delete(key)

    def local(self, key: str) -> Path | None:
        """Return an object as a local file, fetched where the target keeps none; None where there is no object."""
        return self.locals((key,)).get(key)

    def locals(self, keys: Iterable[str]) -> dict[str, Path]:
        """Return objects as local files by their keys, without those that are missing; several are fetched at once.

        Whoever is done with one says so with `release`. Raises OutOfSpace where the copies would not fit.
        """
        found, elsewhere = {}, []
        for key in keys:
            with self._errors(f"give {key}"), suppress(FileNotFoundError):
                path = self._target.open(key)
                if path is None:
                    elsewhere.append(key)
                else:
                    found[key] = path
        if elsewhere:
            with self._errors("give what it holds"):
                found.update(self._spool.bring(elsewhere))
        return found

    def kept(self, key: str) -> Path | None:
        """Return an object as a local file where the target keeps one; nothing is fetched."""
        with self._errors(f"give {key}"):
            try:
                return self._target.open(key)
            except FileNotFoundError:
                return None

    def release(self, key: str) -> None:
        """Remove the copy that `local` made of an object, if it made one."""
        self._spool.release(key)

    def forget(self) -> None:
        """Remove the copies of all objects."""
        self._spool.forget()

    def staging(self, nonce: str, what: str = "pageset") -> Path:
        """Return where the page set of the run `nonce` is written; `what` is one of STAGED."""
        with self._errors("be written to"):
            folder = self._target.staging()
            name = f"{nonce}.{what}.zst"
            return self._spool.reserve(name) if folder is None else folder / name

    def unstage(self, nonce: str) -> None:
        """Remove what the run `nonce` wrote to its staging files."""
        paths = [self.staging(nonce, what) for what in STAGED]
        with self._errors("be tidied"):
            for path in paths:
                path.unlink(missing_ok=True)
            paths[0].with_name(f"{paths[0].name}.ordered").unlink(missing_ok=True)  # see SnapshotWriter.seal
        for path in paths:
            self._spool.give_back(path.name)

    def _prove(self) -> None:
        """Raise SharedWritingRefused, before anything is written, where a put replaces what is there (H38)."""
        if not self._proved and isinstance(self._target, RemoteTarget):
            marker = self._marker or self._target.get(MARKER)
            self._target.probe(MARKER, marker)
        self._proved = True

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise durable.failure(error, f"{self.url} cannot {what}") from error
