"""Proving a repository, and listing what it holds: the runs behind `verify` and `backups`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.errors import ReaderCrashed, RepositoryDamaged, RepositoryNotFound, TargetFailed
from pagewarden.values import BackupsReport, Verdict, VerifiedPoint, VerifyReport

if TYPE_CHECKING:
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.runtime import Runtime

_VERDICTS = {
    "ok": Verdict.SOUND,
    "damaged": Verdict.DAMAGED,
    "missing": Verdict.DAMAGED,
    "unknown": Verdict.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to prove."""

    repository: str  # URL
    name: str | None = None  # of one database; None: all
    read_data: bool = False  # decompress every page, too


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsRequest:
    """What to list."""

    repository: str  # URL
    name: str | None = None  # of one database; None: all


def run_backups(request: BackupsRequest, runtime: Runtime) -> BackupsReport:
    """List the restore points of a repository, newest last, and the manifests that cannot be used.

    Raises RepositoryNotFound where there is no repository, or nothing of that name in it.
    """
    repository = runtime.repository(request.repository)
    _choose(repository, request.name, stored=False)
    points, problems = repository.restore_points(request.name)
    return BackupsReport(repository=request.repository, backups=points, problems=problems)


def run_verify(request: VerifyRequest, runtime: Runtime) -> VerifyReport:
    """Prove the manifests and objects of a repository and, with `read_data`, every page in it. Changes nothing.

    Objects are read by the page reader, from the disk where the system lets its cache be dropped. Damage is in the
    report, one point each, and hides nothing else. Raises RepositoryNotFound where there is no repository, or nothing
    of that name in it, and RepositoryDamaged where its marker is not what it must be.
    """
    begun = runtime.monotonic()
    repository = runtime.repository(request.repository)
    run = _Run(repository, request, runtime)
    for name in _choose(repository, request.name, stored=True):
        run.database(name)
    seconds = runtime.monotonic() - begun
    verdict = Verdict.worst(_VERDICTS[point.state] for point in run.points)
    runtime.emit("verify.finished", seconds=seconds, repository=request.repository, verdict=verdict.value)
    return VerifyReport(
        repository=request.repository,
        verdict=verdict,
        read_data=request.read_data,
        bytes_read=run.bytes_read,
        seconds=seconds,
        points=tuple(run.points),
        leftovers=repository.leftovers(),
    )


def _choose(repository: Repository, name: str | None, *, stored: bool) -> tuple[str, ...]:
    names = repository.names(stored=stored)
    if name is None:
        return names
    if name not in names:
        raise RepositoryNotFound(
            f"{repository.url} holds nothing of {name}",
            hint=shlex.join(["pagewarden", "backups", "--repo", repository.url]),
        )
    return (name,)


def _stray(path: str) -> str:
    """Return what a person can do about an object without a manifest, which nothing here ever removes."""
    return (
        "no manifest names this object, so it is no restore point: its manifest is gone, or it strayed; "
        f"zstd -d -o COPY {shlex.quote(path)} makes the database that it holds: look at it, then delete the object"
    )


class _Run:
    """One verification under way."""

    def __init__(self, repository: Repository, request: VerifyRequest, runtime: Runtime) -> None:
        self.repository = repository
        self.request = request
        self.runtime = runtime
        self.points: list[VerifiedPoint] = []
        self.bytes_read = 0

    def database(self, name: str) -> None:
        """Prove everything of one database."""
        entries, strays = self.repository.look(name)
        named: set[str] = set()
        for entry in entries:
            if entry.manifest is None:
                self._add(name, entry.key, "damaged", entry.problem)
            elif entry.manifest.key in named:
                self._add(name, entry.key, "damaged", f"{entry.manifest.key} is named by another manifest, too")
            else:
                named.add(entry.manifest.key)
                self._object(entry.manifest)
        # A broken manifest is told of already, and any object may be its own.
        if all(entry.manifest is not None for entry in entries):
            for key in strays:
                self._add(name, key, "missing", _stray(f"{self.repository.url}/{key}"))

    def _object(self, manifest: Manifest) -> None:
        """Prove one object against its manifest."""
        point = manifest.restore_point
        step = f"verifying {point.database} {point.position}"
        state, why = "ok", ""
        try:
            path = self.repository.store.local(point.key)
            if path is None:
                state, why = "missing", "the object is gone"
            else:
                self.bytes_read += path.stat().st_size
                info = self.runtime.reader.verify_pageset(
                    str(path),
                    read_data=self.request.read_data,
                    drop_cache=True,
                    progress=lambda done, total: self.runtime.progress(step, done, total),
                )
                why = manifest.contradiction(info)
                state = "damaged" if why else "ok"
        except RepositoryDamaged as error:
            state, why = "damaged", error.message
        except (ReaderCrashed, TargetFailed) as error:
            state, why = "unknown", error.message
        data = self.request.read_data and state == "ok"
        self.points.append(
            VerifiedPoint(
                database=point.database, position=point.position, key=point.key, state=state, why=why, data=data
            )
        )

    def _add(self, name: str, key: str, state: str, why: str) -> None:
        self.points.append(VerifiedPoint(database=name, position=None, key=key, state=state, why=why))
