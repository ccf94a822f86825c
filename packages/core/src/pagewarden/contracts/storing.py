"""What a target is: the storage under a repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One stored object."""

    key: str
    bytes: int
    modified: datetime | None = None


@runtime_checkable
class Target(Protocol):
    """Storage under a repository. Keys are `/`-separated, of `[A-Za-z0-9._=-]` parts, never `.` or `..`.

    Several threads may call its methods at once.
    """

    url: str

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, durable and whole before it is listed. Raise FileExistsError if `key` exists, unchanged."""

    def adopt(self, key: str, path: Path) -> None:
        """Store the local file `path` as `put` does, and remove `path`. A path in `staging` costs no copy."""

    def get(self, key: str) -> bytes:
        """Return a small object whole. Raise FileNotFoundError if there is none."""

    def open(self, key: str) -> Path | None:
        """Return the object as a local file where the target keeps one, else None."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range, shorter only at the object's end. Raise FileNotFoundError."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield complete objects whose key starts with `prefix`, in order of their keys; never a half-written one."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def staging(self) -> Path | None:
        """Return a local folder from which `adopt` is a rename, or None: core then spools elsewhere."""


@runtime_checkable
class BulkTarget(Target, Protocol):
    """A target that can do many small things at less than the cost of each; a repository uses that where it is there.

    A repository of many restore points has as many small documents, which one command reads all.
    """

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of what `list` yields, in the same order."""

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield what `read(key, 0, length)` returns for each key, in their order; None where there is no object.

        Where one cannot be read, raise in its place: the caller asks anew for those after it.
        """


@runtime_checkable
class ClearingTarget(Target, Protocol):
    """A target that removes many objects at less than the cost of each.

    While a database is followed, hundreds of small objects go every few seconds.
    """

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, in any order; those that are not there are no error. When this returns they are gone."""


@runtime_checkable
class RemoteTarget(Target, Protocol):
    """A target behind a network, of which a repository must ask more: `open` returns None for all its objects."""

    def size(self, key: str) -> int:
        """Return the bytes of an object. Raise FileNotFoundError if there is none."""

    def probe(self, key: str, data: bytes) -> None:
        """Prove that `put` does not replace the object `key`, whose bytes are `data`, and leave it as it is.

        Called before a process writes anything else. Raise SharedWritingRefused where the storage replaced it.
        """


@runtime_checkable
class TargetFactory(Protocol):
    """Opens targets of some URL schemes."""

    name: str
    schemes: tuple[str, ...]  # "file"; the empty scheme is a plain path

    def open(self, url: str, *, create: bool) -> Target:
        """Return the target at `url`. Raise FileNotFoundError if it is missing and `create` is false."""
