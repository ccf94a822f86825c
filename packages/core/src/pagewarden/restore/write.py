"""Writing a restore point to a new file: its objects are fetched, and go through the page reader newest first.

A prune may take an object away meanwhile, because a new generation of its manifest names another one. Then the chain is
looked up again, and what it has that was not taken yet is taken: pages that stand in the file are the last versions
already, whichever object they came from. The database sum at the end proves that of all of them.

A commit between two restore points is made of the first one, and of what the page set of commits of the second one
holds up to that commit: the page reader makes a segment of that, which is taken as the newest link.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryDamaged, RepositoryNotFound, TargetFailed
from pagewarden.repository.chain import Inner, batches, unfit
from pagewarden.repository.locate import commits_damaged, locate
from pagewarden.restore.quarantine import extracted_beside

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import Chain, Manifest, PageSetInfo, Repository
    from pagewarden.values import RestorePoint

_AT_ONCE = 128
"""Objects that the page reader opens at once."""

_BYTES_AT_ONCE = 256 << 20
"""Bytes of those, but for one: a target that keeps no local files has them fetched, and the copies need room."""


class _Gone(Exception):
    """An object is not there."""


def write_chain(
    chain: Chain,
    to: Path,
    *,
    repository: Repository,
    reader: PageReader,
    read_back: bool,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write what `chain` makes to the new file `to`, durably, every page of it proved.

    Returns how many bytes of objects were read. Raises RepositoryNotFound where the point went away meanwhile,
    RepositoryDamaged, VerificationFailed, OutOfSpace, TargetFailed; then `to` is removed, unless the page reader died.
    """
    point = chain.restore_point
    assembly = reader.begin_assembly(to, read_back=read_back, size=(point.page_size, point.pages))
    infos: dict[str, PageSetInfo] = {}
    commits: dict[str, PageSetInfo] = {}  # what leads from a link to the commit, by the key of the page set of commits
    try:
        while True:
            try:
                if chain.inner is not None and chain.inner.commits.key not in commits:
                    info = _take_commit(chain.inner, to, assembly, repository, reader)
                    commits[chain.inner.commits.key] = info
                for link, info in _assembled(chain, infos, assembly, repository, reader, progress):
                    _belongs(repository, link, info)
                    infos[link.key] = info
                break
            except _Gone as gone:
                chain = _again(repository, reader, chain, str(gone))
        repository.confirm(chain.links, [infos[key] for key in chain.keys])
        if chain.inner is not None:
            key = chain.inner.commits.key
            if why := unfit(chain.point, commits[key]):
                raise commits_damaged(repository, chain.inner.batch, f"{key} {why}")
        reader.finish_assembly(assembly, progress)
    except BaseException:
        reader.abandon_assembly(assembly)
        raise
    return sum(info.bytes for info in infos.values()) + (0 if chain.inner is None else chain.inner.commits.bytes)


def _take_commit(inner: Inner, to: Path, assembly: int, repository: Repository, reader: PageReader) -> PageSetInfo:
    """Let the page reader take what leads from the restore point of a chain to the commit after it."""
    path = repository.store.local(inner.commits.key)
    if path is None:
        raise _Gone(f"{inner.commits.key} is missing from {repository.url}")
    extracted = extracted_beside(to)
    try:
        extracted.unlink(missing_ok=True)
        made = _extract(inner, path, extracted, reader)
        reader.assemble(assembly, [extracted])
    except (RepositoryDamaged, RepositoryNotFound) as error:
        raise commits_damaged(repository, inner.batch, error.message) from error
    except TargetFailed as error:
        if error.fields.get("errno") == errno.ENOENT:
            raise _Gone(error.message) from error
        raise
    finally:
        extracted.unlink(missing_ok=True)
        repository.store.release(inner.commits.key)
    return made


def _extract(inner: Inner, path: Path, to: Path, reader: PageReader) -> PageSetInfo:
    """Make the segment that leads to a commit, of the page set of commits at `path`."""
    commit = inner.commit
    made = reader.extract_commit(path, commit.txid, to)  # which proves all of the file by its SHA-256
    if why := inner.batch.commits_contradiction(reader.commits_info(path)):
        raise RepositoryDamaged(f"{inner.commits.key} {why}")
    if (made.position, made.header.pages, made.database_sum) != (inner.position, commit.pages, commit.database_sum):
        raise RepositoryDamaged(f"{inner.commits.key} does not hold txid {commit.txid} as it was found there before")
    return made


def _assembled(
    chain: Chain,
    done: dict[str, PageSetInfo],
    assembly: int,
    repository: Repository,
    reader: PageReader,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[Manifest, PageSetInfo]]:
    """Let the page reader take the objects of a chain, without those that are done; yield what they are."""
    links = [link for link in reversed(chain.links) if link.key not in done]
    for some in batches(links, count=_AT_ONCE, size=_BYTES_AT_ONCE):
        paths = repository.store.locals(link.key for link in some)
        if lost := [link.key for link in some if link.key not in paths]:
            raise _Gone(f"{lost[0]} is missing from {repository.url}")
        try:
            infos = reader.assemble(assembly, [paths[link.key] for link in some], progress)
        except TargetFailed as error:
            if error.fields.get("errno") == errno.ENOENT:
                raise _Gone(error.message) from error
            raise
        for link, info in zip(some, infos, strict=True):
            repository.store.release(link.key)
            yield link, info


def _belongs(repository: Repository, link: Manifest, info: PageSetInfo) -> None:
    """Refuse a page set that is not the one of its manifest."""
    if why := link.contradiction(info):
        hint = shlex.join(["pagewarden", "verify", "--repo", repository.url, "--read-data"])
        raise RepositoryDamaged(f"{link.key} in {repository.url} {why}", hint=hint)


def _again(repository: Repository, reader: PageReader, chain: Chain, gone: str) -> Chain:
    """Return what makes the same as `chain` now. Raises RepositoryDamaged where it is the same: an object is lost.

    A restore point may have become a commit between two others meanwhile, and such a commit be of another batch.
    """
    wanted = chain.restore_point
    try:
        now = repository.chain(wanted)
    except RepositoryNotFound as error:
        now = _located(repository, reader, wanted, error)
    if (now.keys, now.inner) == (chain.keys, chain.inner):
        raise RepositoryDamaged(gone, hint=repository.command("verify"))
    return now


def _located(repository: Repository, reader: PageReader, wanted: RestorePoint, gone: RepositoryNotFound) -> Chain:
    """Return what makes a commit that has no manifest of its own, as it is found now. Raises `gone` without any."""
    at = wanted.position
    try:
        chain = locate(repository, reader, wanted.database, txid=at.txid, timeline=at.timeline).chain
    except RepositoryNotFound:
        raise gone from None
    found = chain.restore_point
    if (found.position, found.pages, found.database_sum) != (at, wanted.pages, wanted.database_sum):
        raise gone
    return chain
