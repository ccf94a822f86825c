"""Calls of the page reader about stored page sets: proving them, reading them, making a database of a chain of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagewarden.processes.channel import ProtocolError, Value
from pagewarden.processes.client import PageProgress, ReaderClient
from pagewarden.processes.shapes import as_bytes, as_list_of_bytes, as_nothing

if TYPE_CHECKING:
    from pagewarden.repository.format import PageSetHeader, PageSetInfo

PAGES_AT_ONCE = 8 << 20
"""Bytes of pages in one message."""

SUMS_AT_ONCE = 4 << 20
"""Page sums in one message."""

_LARGEST_PAGE = 65536

Name = str | os.PathLike[str]


class StoredCalls(ReaderClient):
    """What the page reader can be asked about closed page sets. Every method may raise ReaderCrashed.

    A *chain* is the local files of a restore point's page sets, from the newest down to the snapshot.
    """

    def verify_pageset(
        self,
        path: str | os.PathLike[str],
        *,
        read_data: bool,
        drop_cache: bool = False,
        progress: PageProgress | None = None,
    ) -> PageSetInfo:
        """Prove a stored page set. Raises RepositoryDamaged or TargetFailed."""
        return self._info("verify_pageset", progress, path=os.fspath(path), read_data=read_data, drop_cache=drop_cache)

    def begin_assembly(self, to_path: Name, *, read_back: bool = False, size: tuple[int, int] | None = None) -> int:
        """Begin a database in the new file `to_path`; see `repository.assemble`. Raises OutOfSpace or TargetFailed.

        `read_back` lets `finish_assembly` compare every page again, from the disk where the system allows. `size` is
        what the database must have, bytes of a page and pages: a page set that says another is refused at once.
        """
        assembly = self._number()
        self._call(
            "begin_assembly",
            as_nothing,
            assembly=assembly,
            to_path=os.fspath(to_path),
            read_back=read_back,
            size=None if size is None else list(size),
        )
        self._handles.add(assembly)
        return assembly

    def assemble(self, assembly: int, paths: Sequence[Name], progress: PageProgress | None = None) -> list[PageSetInfo]:
        """Take what is not taken yet from page sets, from the newest down; return what they are.

        Where one is not there, nothing has changed. Raises RepositoryDamaged, OutOfSpace or TargetFailed.
        """
        self._known(assembly)
        names = [os.fspath(path) for path in paths]
        return self._call("assemble", _infos(len(names)), progress, assembly=assembly, paths=names)

    def finish_assembly(self, assembly: int, progress: PageProgress | None = None) -> None:
        """Prove that the database is whole, and make its contents durable.

        Nothing is left there if it fails. Raises RepositoryDamaged, VerificationFailed, OutOfSpace or TargetFailed.
        """
        self._known(assembly)
        self._handles.discard(assembly)
        self._call("finish_assembly", as_nothing, progress, assembly=assembly)

    def abandon_assembly(self, assembly: int) -> None:
        """Remove what was written. One that was lost with a reader is its owner's to remove."""
        self._end(assembly, "abandon_assembly", assembly=assembly)

    def pageset_info(self, path: Name) -> PageSetInfo:
        """Return what a page set is, its structure proved. Raises RepositoryDamaged or TargetFailed."""
        return self._info("pageset_info", None, path=os.fspath(path))

    def fold(
        self,
        paths: Sequence[Name],
        to_path: Name,
        header: PageSetHeader,
        level: int,
        progress: PageProgress | None = None,
    ) -> list[PageSetInfo]:
        """Make one page set of several, from the lowest up, in the new file `to_path`; see `repository.fold`.

        Returns what they are, and what it is, last. Nothing is left there if it fails. Raises RepositoryDamaged,
        OutOfSpace or TargetFailed.
        """
        from pagewarden.processes.wire import header_to_wire

        names = [os.fspath(path) for path in paths]
        return self._call(
            "fold",
            _infos(len(names) + 1),
            progress,
            paths=names,
            to_path=os.fspath(to_path),
            header=header_to_wire(header),
            level=level,
        )

    def chain_infos(self, chain: Sequence[Name]) -> list[PageSetInfo]:
        """Return what the page sets of a chain are, in their order.

        Their structure is proved, and that their page sums make the database sum. Raises RepositoryDamaged or
        TargetFailed.
        """
        return self._call("chain_infos", _infos(len(chain)), chain=[os.fspath(path) for path in chain])

    def chain_pages(self, chain: Sequence[Name], pgnos: Sequence[int]) -> list[bytes]:
        """Return the last versions of pages, each proved by its sum."""
        return self._pages("chain_pages", pgnos, chain=[os.fspath(path) for path in chain])

    def chain_sums(self, chain: Sequence[Name], first: int, count: int) -> bytes:
        """Return the recorded page sums of the last versions of pages `first` … `first+count-1`."""
        names = [os.fspath(path) for path in chain]
        steps = range(first, first + count, SUMS_AT_ONCE)
        return b"".join(
            self._call("chain_sums", as_bytes, chain=names, first=start, count=min(SUMS_AT_ONCE, first + count - start))
            for start in steps
        )

    def _info(self, call: str, progress: PageProgress | None, **arguments: Value) -> PageSetInfo:
        from pagewarden.processes.wire import info_from_wire

        return self._call(call, info_from_wire, progress, **arguments)

    def _pages(self, call: str, pgnos: Sequence[int], **arguments: Value) -> list[bytes]:
        pages: list[bytes] = []
        step = PAGES_AT_ONCE // _LARGEST_PAGE
        while len(pages) < len(pgnos):
            wanted = list(pgnos[len(pages) : len(pages) + step])
            some = self._call(call, lambda answer: as_list_of_bytes(answer, len(wanted)), pgnos=wanted, **arguments)  # noqa: B023
            pages += some
            step = max(1, PAGES_AT_ONCE // len(some[0]))
        return pages


def _infos(count: int) -> Any:
    """Return what makes page-set descriptions of an answer, which must hold `count` of them."""

    def shape(value: Any) -> list[PageSetInfo]:
        from pagewarden.processes.wire import infos_from_wire

        infos = infos_from_wire(as_bytes(value))
        if len(infos) != count:
            raise ProtocolError(f"a reply is no list of {count} page sets")
        return infos

    return shape
