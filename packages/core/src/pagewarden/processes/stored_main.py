"""The page reader's answers about stored page sets, which may be hostile. See `processes.stored`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pagewarden.processes.channel import Channel

if TYPE_CHECKING:
    from pagewarden.repository.assemble import Assembly
    from pagewarden.repository.layers import Layers
    from pagewarden.repository.pageset import PageSetFile

Opened = TypeVar("Opened", bound="PageSetFile")

_TOLD_EVERY = 0.05  # seconds between two messages of progress
_OPEN_PAGE_SETS = 4
_OPEN_CHAINS = 8


class StoredAnswers:
    """The calls, each a public method, and the state behind them."""

    def __init__(self, channel: Channel, threads: int) -> None:
        """`threads` work on pages at once."""
        self._channel = channel
        self._threads = threads
        self._page_sets: dict[tuple[str, int, int], PageSetFile] = {}
        self._chains: dict[tuple[str, ...], Layers] = {}
        self._assemblies: dict[int, tuple[Assembly, int]] = {}  # with the descriptor of the file that is written
        self._told = 0.0

    def verify_pageset(self, path: str, read_data: bool, drop_cache: bool) -> Mapping[str, Any]:
        """Prove a stored page set."""
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.pageset import verify_pageset

        return info_to_wire(
            verify_pageset(path, threads=self._threads, read_data=read_data, drop_cache=drop_cache, progress=self._tell)
        )

    def begin_assembly(self, assembly: int, to_path: str, read_back: bool, size: Sequence[int] | None) -> None:
        """Begin a database in a new file."""
        from pagewarden import durable
        from pagewarden.repository.assemble import Assembly

        try:
            descriptor = durable.create(Path(to_path), readable=True)
        except OSError as error:
            raise durable.failure(error, f"cannot write {to_path}") from error
        said = None if size is None else (size[0], size[1])
        made = Assembly(to_path, descriptor, threads=self._threads, read_back=read_back, size=said)
        self._assemblies[assembly] = (made, descriptor)

    def assemble(self, assembly: int, paths: Sequence[str]) -> bytes:
        """Take what is not taken yet from page sets."""
        from pagewarden.processes.wire import infos_to_wire

        made, _ = self._assemblies[assembly]
        return infos_to_wire(made.add(paths, self._tell))

    def finish_assembly(self, assembly: int) -> None:
        """Prove the database; remove it if that fails."""
        made, descriptor = self._assemblies.pop(assembly)
        try:
            made.finish(self._tell)
        except BaseException:
            made.path.unlink(missing_ok=True)
            raise
        finally:
            made.close()
            os.close(descriptor)

    def abandon_assembly(self, assembly: int) -> None:
        """Remove what was written."""
        made, descriptor = self._assemblies.pop(assembly)
        made.close()
        os.close(descriptor)
        made.path.unlink(missing_ok=True)

    def fold(self, paths: Sequence[str], to_path: str, header: Mapping[str, Any], level: int) -> bytes:
        """Make one page set of several."""
        from pagewarden.processes.wire import header_from_wire, infos_to_wire
        from pagewarden.repository.fold import fold

        infos = fold(paths, to_path, header_from_wire(header), level=level, threads=self._threads, progress=self._tell)
        return infos_to_wire(infos)

    def pageset_info(self, path: str) -> Mapping[str, Any]:
        """Return what a page set is, its structure proved."""
        from pagewarden.processes.wire import info_to_wire

        return info_to_wire(self._page_set(path).info)

    def chain_infos(self, chain: Sequence[str]) -> bytes:
        """Return what the page sets of a chain are."""
        from pagewarden.processes.wire import infos_to_wire

        return infos_to_wire(self._layers(chain).infos)

    def chain_pages(self, chain: Sequence[str], pgnos: list[int]) -> list[bytes]:
        """Return pages of what a chain makes."""
        layers = self._layers(chain)
        return [layers.page(pgno) for pgno in pgnos]

    def chain_sums(self, chain: Sequence[str], first: int, count: int) -> bytes:
        """Return page sums of what a chain makes."""
        return self._layers(chain).sums(first, count)

    def _layers(self, chain: Sequence[str]) -> Layers:
        """Return what a chain makes; a few are kept, because opening one reads the page numbers of all segments."""
        from pagewarden.repository.layers import Layers

        key = tuple(chain)
        layers = self._chains.pop(key, None) or Layers(key, self._page_set)
        self._chains[key] = layers  # the newest stands last
        while len(self._chains) > _OPEN_CHAINS:
            self._chains.pop(next(iter(self._chains)))
        return layers

    def _page_set(self, path: str) -> PageSetFile:
        """Return an open snapshot or segment."""
        from pagewarden.repository.pageset import PageSetFile

        return self._opened(path, PageSetFile)

    def _opened(self, path: str, opener: type[Opened]) -> Opened:
        """Return an open page set; a few stay open, because opening one proves its whole structure."""
        from pagewarden import durable

        try:
            found = Path(path).stat()
        except OSError as error:
            raise durable.failure(error, f"cannot read {path}") from error
        key = (path, found.st_ino, found.st_mtime_ns)
        kept = self._page_sets.pop(key, None)
        file = kept if isinstance(kept, opener) else opener(path)
        self._page_sets[key] = file  # the newest stands last
        while len(self._page_sets) > _OPEN_PAGE_SETS:
            self._page_sets.pop(next(iter(self._page_sets))).close()
        return file

    def _tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._told >= _TOLD_EVERY:
            self._told = now
            self._channel.send({"progress": [done, total]})
