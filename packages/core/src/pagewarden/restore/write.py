"""Writing a restore point to a new file: its objects are fetched, and go through the page reader newest first.

A prune may take an object away meanwhile, because a new generation of its manifest names another one. Then the chain is
looked up again, and what it has that was not taken yet is taken: pages that stand in the file are the last versions
already, whichever object they came from. The database sum at the end proves that of all of them.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryDamaged, TargetFailed

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import Chain, Manifest, PageSetInfo, Repository

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
    """Write the restore point of `chain` to the new file `to`, durably, every page of it proved.

    Returns how many bytes of objects were read. Raises RepositoryNotFound where the point went away meanwhile,
    RepositoryDamaged, VerificationFailed, OutOfSpace, TargetFailed; then `to` is removed, unless the page reader died.
    """
    point = chain.point
    assembly = reader.begin_assembly(to, read_back=read_back, size=(point.page_size, point.pages))
    infos: dict[str, PageSetInfo] = {}
    try:
        while True:
            try:
                for link, info in _assembled(chain, infos, assembly, repository, reader, progress):
                    _belongs(repository, link, info)
                    infos[link.key] = info
                break
            except _Gone as gone:
                chain = _again(repository, chain, str(gone))
        repository.confirm(chain.links, [infos[key] for key in chain.keys])
        reader.finish_assembly(assembly, progress)
    except BaseException:
        reader.abandon_assembly(assembly)
        raise
    return sum(info.bytes for info in infos.values())


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
    for some in _batches(links):
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


def _batches(links: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """Yield `links` in their order, some at once."""
    batch: list[Manifest] = []
    size = 0
    for link in links:
        if batch and (len(batch) == _AT_ONCE or size + link.bytes > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(link)
        size += link.bytes
    if batch:
        yield batch


def _belongs(repository: Repository, link: Manifest, info: PageSetInfo) -> None:
    """Refuse a page set that is not the one of its manifest."""
    if why := link.contradiction(info):
        hint = shlex.join(["pagewarden", "verify", "--repo", repository.url, "--read-data"])
        raise RepositoryDamaged(f"{link.key} in {repository.url} {why}", hint=hint)


def _again(repository: Repository, chain: Chain, gone: str) -> Chain:
    """Return the chain as it is stored now. Raises RepositoryDamaged where it is the same: an object is lost."""
    now = repository.chain(chain.point.restore_point)
    if now.keys == chain.keys:
        raise RepositoryDamaged(gone, hint=shlex.join(["pagewarden", "verify", "--repo", repository.url]))
    return now
