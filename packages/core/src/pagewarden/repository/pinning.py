"""The verbs `pin`, `unpin` and `undelete`: what a person decides about single restore points."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.errors import ConfigurationInvalid, RepositoryDamaged, RepositoryNotFound
from pagewarden.repository import marks
from pagewarden.repository.marks import KEPT, PURGED, read_marks
from pagewarden.times import parse_moment
from pagewarden.values import PinReport, UndeleteReport

if TYPE_CHECKING:
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRequest:
    """Which restore point to keep whatever the policy; the newest where neither `at` nor `txid` is given."""

    repository: str  # URL
    name: str | None = None  # of the database in the repository; None where it holds one
    at: str | None = None  # the last restore point at or before it: RFC 3339, or "-15m"
    txid: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpinRequest:
    """Which restore point to leave to the policy again."""

    repository: str  # URL
    name: str | None = None  # of the database in the repository; None where it holds one
    at: str | None = None  # the last restore point at or before it: RFC 3339, or "-15m"
    txid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeleteRequest:
    """Which restore points to have back; all that can be had back where `txid` is None."""

    repository: str  # URL
    name: str | None = None  # of the database in the repository; None where it holds one
    txid: int | None = None


def run_pin(request: PinRequest, runtime: Runtime) -> PinReport:
    """Keep a restore point whatever the policy, until it is unpinned.

    Raises RepositoryNotFound where there is none such, or it is deleted; ConfigurationInvalid for a note that is too
    long; TargetFailed.
    """
    repository = runtime.repository(request.repository)
    manifest = _find(repository, request, runtime)
    name, number = manifest.database, manifest.sequence
    if read_marks(repository.store, name).hidden(number):
        raise _deleted(repository, manifest)
    now = runtime.clock()
    marks.pin(repository.store, name, number, note=request.note, now=now)
    # A prune looks for pins after it has marked, as this looks for marks after pinning: one of the two sees the other.
    if read_marks(repository.store, name).hidden(number):
        outcome = marks.decide(repository.store, name, number, KEPT, now=now)
        if outcome not in (KEPT, ""):
            marks.unpin(repository.store, name, number)
            raise _deleted(repository, manifest)
    # So it is with whoever gathers batches: what became a commit of another one is no restore point any more.
    if (batch := _batch_of(repository, name, manifest.position.txid)) is not None:
        marks.unpin(repository.store, name, number)
        raise _within(batch, repository, manifest.position.txid)
    try:
        repository.chain(manifest.restore_point)
    except RepositoryNotFound:  # all of a purge came between
        marks.unpin(repository.store, name, number)
        raise
    return PinReport(
        repository=request.repository, database=name, position=manifest.position, pinned=True, note=request.note
    )


def run_unpin(request: UnpinRequest, runtime: Runtime) -> PinReport:
    """Leave a restore point to the policy again.

    Raises RepositoryNotFound where there is none such, or it is not pinned; DeletionRefused, TargetFailed.
    """
    repository = runtime.repository(request.repository)
    manifest = _find(repository, request, runtime)
    if not marks.unpin(repository.store, manifest.database, manifest.sequence):
        raise RepositoryNotFound(
            f"{manifest.database} at {manifest.position} in {repository.url} is not pinned",
            hint=shlex.join(["pagewarden", "backups", "--repo", repository.url]),
        )
    return PinReport(
        repository=request.repository, database=manifest.database, position=manifest.position, pinned=False
    )


def run_undelete(request: UndeleteRequest, runtime: Runtime) -> UndeleteReport:
    """Let restore points be listed again that a prune marked as deleted, and did not begin to purge.

    Raises RepositoryNotFound where there is none such, or its purge has begun; RepositoryDamaged where nobody can tell;
    TargetFailed.
    """
    repository = runtime.repository(request.repository)
    name = repository.only_name() if request.name is None else request.name
    said = read_marks(repository.store, name)
    found = [
        entry.manifest
        for entry in repository.entries(name)
        if entry.manifest is not None
        and said.hidden(entry.sequence)
        and (said.deletions[entry.sequence].end == "" if request.txid is None else True)
        and request.txid in (None, entry.manifest.position.txid)
    ]
    if not found:
        which = "" if request.txid is None else f" at txid {request.txid}"
        raise RepositoryNotFound(
            f"{repository.url} holds no deleted restore point of {name}{which}",
            hint=shlex.join(["pagewarden", "backups", "--repo", repository.url, "--db", name, "--deleted"]),
        )
    # Where several timelines have the txid, the one that was committed last is meant, as everywhere.
    back = found if request.txid is None else found[-1:]
    for manifest in back:
        _undelete(repository, manifest, runtime)
    pin = ["pagewarden", "pin", "--repo", repository.url, "--db", name, "--txid", str(back[-1].position.txid)]
    return UndeleteReport(
        repository=request.repository,
        database=name,
        positions=tuple(manifest.position for manifest in back),
        warnings=(f"the next prune marks again what no rule keeps and is not pinned: {shlex.join(pin)}",),
    )


def _undelete(repository: Repository, manifest: Manifest, runtime: Runtime) -> None:
    outcome = marks.decide(repository.store, manifest.database, manifest.sequence, KEPT, now=runtime.clock())
    if outcome == PURGED or (outcome == "" and read_marks(repository.store, manifest.database).gone(manifest.sequence)):
        raise RepositoryNotFound(
            f"the purge of {manifest.database} at {manifest.position} in {repository.url} has begun",
            hint=shlex.join(["pagewarden", "backups", "--repo", repository.url, "--db", manifest.database]),
        )
    if outcome not in (KEPT, ""):
        raise RepositoryDamaged(
            f"whether {manifest.database} at {manifest.position} in {repository.url} is purged cannot be read",
            hint=shlex.join(["pagewarden", "restore", "--repo", repository.url, "--db", manifest.database])
            + f" --txid {manifest.position.txid} --to PATH",
        )


def _find(repository: Repository, request: PinRequest | UnpinRequest, runtime: Runtime) -> Manifest:
    """Return the manifest of the restore point that is meant."""
    if request.at is not None and request.txid is not None:
        raise ConfigurationInvalid("a time and a txid exclude each other", hint="pagewarden backups lists both")
    at = None if request.at is None else parse_moment(request.at, now=runtime.clock(), local=False).time
    try:
        point = repository.resolve(request.name, at=at, txid=request.txid)
        return repository.chain(point).point
    except RepositoryNotFound as error:
        batch = None if request.txid is None else _batch_of(repository, request.name, request.txid)
        if batch is None or request.txid is None:
            raise
        raise _within(batch, repository, request.txid) from error


def _batch_of(repository: Repository, name: str | None, txid: int) -> Manifest | None:
    """Return the batch of followed commits in which a txid is that is no restore point itself; None without one."""
    points = repository.view(name, deleted=True).points
    if any(each.position.txid == txid for each in points):
        return None
    batches = (each for each in reversed(points) if each.followed)
    return next((each for each in batches if 0 < each.position.txid - txid < each.span), None)


def _within(batch: Manifest, repository: Repository, txid: int) -> RepositoryNotFound:
    pin = ["pagewarden", "pin", "--repo", repository.url, "--db", batch.database, "--txid", str(batch.position.txid)]
    return RepositoryNotFound(
        f"txid {txid} of {batch.database} in {repository.url} is a commit of the batch that ends with txid "
        f"{batch.position.txid}: a pin is of a batch, and keeps all commits that it has",
        hint=shlex.join(pin),
    )


def _deleted(repository: Repository, manifest: Manifest) -> RepositoryNotFound:
    return RepositoryNotFound(
        f"{manifest.database} at {manifest.position} in {repository.url} is deleted",
        hint=shlex.join(["pagewarden", "undelete", "--repo", repository.url, "--db", manifest.database])
        + f" --txid {manifest.position.txid}",
    )
