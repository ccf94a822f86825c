"""What verifications of a repository found, kept in the state directory: of each object when and how it was proved.

One file for each repository, `verification/<digest of its URL>.json`, in an envelope of its own SHA-256. It is memory
and not proof: `verify` never skips what it is asked to prove because of it. What was found counts for an object only as
long as its manifest names the same key, bytes and SHA-256. A file that is damaged, or of another version, is put aside
under a name that says so, and a new one begins.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pagewarden import durable
from pagewarden.lineage import file_name, readable
from pagewarden.repository.manifest import CommitsFacts, Manifest
from pagewarden.values import Verification

if TYPE_CHECKING:
    from pagewarden.repository.chain import Chains

FORMAT = 1

LARGEST = 256 << 20
"""Bytes of a file that is read; a million objects take about as much."""


class Depth(StrEnum):
    """How much of an object was proved: its stored bytes, or each page in it and the database sum, too."""

    STORED = "stored"
    DATA = "data"


_RANKS = {"ok": 0, "unknown": 1, "missing": 2, "damaged": 3}


class Found(msgspec.Struct, frozen=True, array_like=True):
    """What was found of one object. An array in the file, because there may be very many."""

    bytes: int
    sha256: str  # 64 hexadecimal digits, of the object as its manifest has it
    state: str  # "ok", "damaged", "missing" or "unknown"
    depth: str  # a Depth
    time: datetime
    why: str = ""
    alone: bool = True  # whether what is wrong is wrong with its bytes; else it shows beside what it continues

    def __post_init__(self) -> None:
        if self.state not in _RANKS or self.depth not in tuple(Depth) or self.time.utcoffset() != timedelta(0):
            raise ValueError(f"an object that is {self.state}, by its {self.depth}, at {self.time}")

    def is_of(self, named: Manifest | CommitsFacts) -> bool:
        """Return whether it was found of the very bytes that a manifest names."""
        return self.bytes == named.bytes and self.sha256 == named.sha256

    def outlives(self, depth: str) -> bool:
        """Return whether it counts still where the same bytes were found whole, by `depth`, which may not show it."""
        return self.state == "damaged" and not self.alone and depth != Depth.DATA


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    repository: str
    objects: dict[str, Found]
    cursors: dict[str, int]


class _Version(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What is remembered of one repository."""

    objects: Mapping[str, Found] = field(default_factory=dict)  # by key
    cursors: Mapping[str, int] = field(default_factory=dict)  # by depth and database: the number that was last read
    warning: str = ""  # what a person should know: that the file was damaged, and where it is kept

    def of(self, named: Manifest | CommitsFacts) -> Found | None:
        """Return what was last found of an object that is named; None where it was never proved as it is now."""
        found = self.objects.get(named.key)
        return found if found is not None and found.is_of(named) else None

    def verification(self, links: Sequence[Manifest]) -> Verification | None:
        """Return what is known of a restore point by the objects of its whole chain, from the lowest up.

        None before all were proved, but damage of any of them is known at once.
        """
        known: Verification | None = None
        for number, link in enumerate(links):
            known = self._with(known, number == 0, link)
        return known

    def verifications(self, manifests: Iterable[Manifest], chains: Chains) -> dict[str, Verification | None]:
        """Return `verification` of restore points by the keys of their objects, at one look for each.

        `manifests` are all that count, in order of commit: what one continues stands before it.
        """
        if not self.objects:
            return dict.fromkeys((manifest.key for manifest in manifests), None)
        known: dict[str, Verification | None] = {}
        for manifest in manifests:
            below = chains.below(manifest)
            known[manifest.key] = self._with(None if below is None else known.get(below.key), below is None, manifest)
        return known

    def _with(self, below: Verification | None, lowest: bool, manifest: Manifest) -> Verification | None:
        """Return what is known of a chain with one more link, `lowest` if it is the first one."""
        found = self.of(manifest)
        if below is not None and below.state != "ok":
            worse = found is not None and _RANKS[found.state] > _RANKS[below.state]
            return _verification(found) if found is not None and worse else below
        if found is None or found.state != "ok":
            return None if found is None else _verification(found)
        if lowest:
            return _verification(found) if manifest.kind == "snapshot" else None
        if below is None:
            return None
        data = below.data and found.depth == Depth.DATA
        return Verification(state="ok", data=data, time=min(below.time, found.time))

    def cursor(self, name: str, depth: Depth) -> int:
        """Return the number of the manifest whose object a run that went round in parts read last; 0 before any."""
        return self.cursors.get(f"{depth.value} {name}", 0)


def read_results(state: Path, url: str) -> Results:
    """Return what is remembered of the repository at `url`; nothing, and a warning, where that cannot be used."""
    path = _file(state, url)
    try:
        stored = _decode(path.read_bytes() if path.stat().st_size <= LARGEST else b"", url)
    except FileNotFoundError:
        return Results()
    except OSError as error:
        return Results(warning=f"what verifications found cannot be read: {path}: {error.strerror}")
    except _Unusable as error:
        return Results(warning=f"what verifications found is forgotten, because {path} {error}")
    return Results(objects=stored.objects, cursors=stored.cursors)


def keep_results(
    state: Path,
    url: str,
    found: Mapping[str, Found],
    *,
    cursors: Mapping[str, int],
    looked_at: Iterable[str],
    alive: frozenset[str],
) -> str:
    """Add what was found, by key, durably; return what a person should know, such as that the file was damaged.

    `looked_at` are what the keys of all objects of the databases that were looked at begin with, `alive` those that
    manifests still name: what is remembered of others of these databases is forgotten. That an object could not be read
    takes nothing back that was found wrong with it, nor that its bytes are whole where its sums were wrong. Others may
    do the same at the same time. Raises OSError.
    """
    path = _file(state, url)
    durable.make_directories(path.parent)
    with _alone(path.parent):
        known = read_results(state, url)
        warning = known.warning
        if warning and path.exists():
            aside = path.with_name(f"{path.name}.unusable")
            path.replace(aside)
            warning = f"{warning}; it is kept as {aside}"
        prefixes = tuple(looked_at)
        objects = {key: each for key, each in known.objects.items() if key in alive or not key.startswith(prefixes)}
        for key, each in found.items():
            if key in alive:
                objects[key] = _latest(objects.get(key), each)
        stored = _Stored(
            format=FORMAT,
            repository=readable(url),
            objects=objects,
            cursors={**known.cursors, **cursors},
        )
        durable.write(path, _encode(stored))
    return warning


def _latest(known: Found | None, found: Found) -> Found:
    """Return what is to be remembered of one object after `found`."""
    same = known is not None and (known.bytes, known.sha256) == (found.bytes, found.sha256)
    if not same or known is None:
        return found
    unread = found.state == "unknown" and known.state in ("damaged", "missing")
    return known if unread or (found.state == "ok" and known.outlives(found.depth)) else found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process change what is in `folder` meanwhile. Raises OSError."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the descriptor, so also with its process
        yield
    finally:
        os.close(lock)


def _verification(found: Found) -> Verification:
    return Verification(state=found.state, data=found.depth == Depth.DATA, time=found.time, why=found.why)


class _Unusable(Exception):
    """Why a file of results cannot be used, a clause."""


def _encode(stored: _Stored) -> bytes:
    inner = msgspec.json.encode(stored)
    return b'{"verification":%s,"sha256":"%s"}\n' % (inner, hashlib.sha256(inner).hexdigest().encode())


def _decode(data: bytes, url: str) -> _Stored:
    head, tail = len(b'{"verification":'), len(b',"sha256":""}\n') + 64
    inner = data[head:-tail]
    if data != b'{"verification":%s,"sha256":"%s"}\n' % (inner, hashlib.sha256(inner).hexdigest().encode()):
        raise _Unusable("is damaged: it does not match its own SHA-256")
    try:
        version = msgspec.json.decode(inner, type=_Version).format
        if version != FORMAT:
            raise _Unusable(f"is of format {version}, and this version reads format {FORMAT}")
        stored = msgspec.json.decode(inner, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Unusable(f"cannot be understood: {error}") from error
    if stored.repository != readable(url):
        raise _Unusable(f"is of another repository, {stored.repository}")
    return stored


def _file(state: Path, url: str) -> Path:
    return state / "verification" / f"{file_name(url)}.json"
