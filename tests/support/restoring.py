"""Databases made of stored page sets by the page reader, without the verb's plan and swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pagewarden.processes.reader import PageReader
from pagewarden.repository import Chain, PageSetInfo, Repository


def bring_back(
    reader: PageReader,
    paths: Sequence[str | Path],
    to: Path,
    *,
    read_back: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[PageSetInfo]:
    """Make a database in the new file `to` of a chain's files, from the newest down; return what those are."""
    assembly = reader.begin_assembly(to, read_back=read_back)
    try:
        infos = reader.assemble(assembly, paths, progress)
        reader.finish_assembly(assembly, progress)
    except BaseException:
        reader.abandon_assembly(assembly)
        raise
    return infos


def bring_back_chain(reader: PageReader, repository: Repository, chain: Chain, to: Path) -> bytes:
    """Return the database that a chain makes, proved against its manifests as the verb does it."""
    to.unlink(missing_ok=True)
    infos = bring_back(reader, [repository.object_path(key) for key in reversed(chain.keys)], to)
    repository.confirm(chain.links, infos[::-1])
    return to.read_bytes()
