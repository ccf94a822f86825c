"""Listing what a repository holds: the run behind `backups`. Reads each manifest once, and no object."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryNotFound
from pagewarden.repository.chain import Chains
from pagewarden.repository.marks import Marks, read_marks
from pagewarden.repository.moments import read_moments
from pagewarden.repository.results import Results, read_results
from pagewarden.values import BackupsReport, NamedPosition, RestorePoint, Verification

if TYPE_CHECKING:
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsRequest:
    """What to list."""

    repository: str  # URL
    name: str | None = None  # of one database; None: all
    deleted: bool = False  # also those that are deleted, and can be undeleted


def run_backups(request: BackupsRequest, runtime: Runtime) -> BackupsReport:
    """List the restore points of a repository, newest last, and the manifests that cannot be used.

    Raises RepositoryNotFound where there is no repository, or nothing of that name in it.
    """
    repository = runtime.repository(request.repository)
    results = read_results(runtime.state, repository.url)
    points: list[RestorePoint] = []
    problems: list[str] = []
    named: list[NamedPosition] = []
    stored = 0
    for name in choose_names(repository, request.name, stored=False):
        marks = read_marks(repository.store, name)  # before the manifests: what is purged meanwhile is gone then
        manifests: list[Manifest] = []
        for entry in repository.entries(name):
            if entry.manifest is None:
                problems.append(entry.problem)
            else:
                manifests.append(entry.manifest)
        moments = read_moments(repository.store, name)
        named += (
            NamedPosition(database=name, position=each.position, text=each.text, time=each.time)
            for each in moments.moments
        )
        problems += (*marks.problems, *moments.problems)
        stored += sum(each.bytes_stored for each in manifests)
        points += _listed(manifests, marks, results, deleted=request.deleted)
    return BackupsReport(
        repository=request.repository,
        backups=tuple(points),
        problems=tuple(problems),
        marks=tuple(named),
        bytes_stored=stored,
        warnings=(results.warning,) if results.warning else (),
    )


def choose_names(repository: Repository, name: str | None, *, stored: bool) -> tuple[str, ...]:
    """Return the names of all databases, or the one that was asked for. Raises RepositoryNotFound without it."""
    names = repository.names(stored=stored)
    if name is None:
        return names
    if name not in names:
        raise RepositoryNotFound(
            f"{repository.url} holds nothing of {name}",
            hint=shlex.join(["pagewarden", "backups", "--repo", repository.url]),
        )
    return (name,)


def _listed(manifests: Sequence[Manifest], marks: Marks, results: Results, *, deleted: bool) -> Iterator[RestorePoint]:
    """Yield the restore points that are listed. In order of commit, so that what one continues is known before it."""
    chains = Chains(manifests)
    verified = results.verifications(manifests, chains)
    grown: dict[str, tuple[int, int]] = {}  # by key: objects and bytes of the chain up to there
    for manifest in manifests:
        below = chains.below(manifest)
        objects, size = (0, 0) if below is None else grown.get(below.key, (0, 0))
        grown[manifest.key] = objects + 1, size + manifest.bytes
        deletion = marks.deletions.get(manifest.sequence)
        if deletion is not None and not (deleted and deletion.time is not None and not deletion.end):
            continue
        gap = chains.gap(manifest)
        size_restored = manifest.pages * manifest.page_size
        yield manifest.listed(
            ratio=round(size_restored / manifest.bytes, 3),
            chain=objects + 1,
            chain_bytes=size + manifest.bytes,
            verification=_broken(manifest, gap) if gap else verified[manifest.key],
            pin=marks.pins.get(manifest.sequence),
            deleted=None if deletion is None else deletion.time,
        )


def _broken(manifest: Manifest, gap: str) -> Verification:
    """Return what is known, without any verification, of a restore point whose chain has a gap."""
    return Verification(state="missing", data=False, time=manifest.verified_at, why=gap)
