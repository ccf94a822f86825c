"""Calls of the page reader about what changed: local page maps, and segments of what differs from one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pagewarden.processes.client import ReaderClient
from pagewarden.processes.shapes import as_nothing

if TYPE_CHECKING:
    from pathlib import Path

    from pagewarden.repository.format import PageSetHeader
    from pagewarden.repository.mapfacts import Changes, MapFacts


class IncrementCalls(ReaderClient):
    """What the page reader can be asked about changes. Every method may raise ReaderCrashed."""

    def map_problem(self, path: Path, facts: MapFacts) -> tuple[str, bool]:
        """Return why the page map at `path` cannot be used for the position of `facts`, "" if it can.

        With it: whether the map is damaged, rather than missing or of another position.
        """
        return self._call("map_problem", _problem, path=os.fspath(path), facts=facts.to_wire())

    def build_map(
        self,
        path: Path,
        facts: MapFacts,
        page_sets: Sequence[str | os.PathLike[str]],
        base: tuple[Path, MapFacts] | None = None,
    ) -> None:
        """Write a page map to the new file `path`, from what page sets record; see `repository.pagemap.build_map`.

        `base` is a map that the first of them continues. Raises RepositoryDamaged, OutOfSpace or TargetFailed.
        """
        self._call(
            "build_map",
            as_nothing,
            path=os.fspath(path),
            facts=facts.to_wire(),
            page_sets=[os.fspath(each) for each in page_sets],
            base=None if base is None else [os.fspath(base[0]), base[1].to_wire()],
        )

    def begin_segment(
        self, path: str | os.PathLike[str], header: PageSetHeader, level: int, base: Path, facts: MapFacts
    ) -> int:
        """Begin a segment of what differs from the page map `base`, in the new file `path`; see `SegmentWriter`.

        `copy`, `recopy_changed`, `seal` and `abandon` take it like a snapshot. Raises DatabaseUnsettled where the map
        went away meanwhile, OutOfSpace or TargetFailed.
        """
        from pagewarden.processes.wire import header_to_wire

        segment = self._number()
        self._call(
            "begin_segment",
            as_nothing,
            snapshot=segment,
            path=os.fspath(path),
            header=header_to_wire(header),
            level=level,
            base=os.fspath(base),
            facts=facts.to_wire(),
        )
        self._handles.add(segment)
        return segment

    def changes(self, segment: int, pages: int) -> Changes:
        """Return what a segment found to differ, of a database of `pages` pages."""
        self._known(segment)
        return self._call("changes", _changes, snapshot=segment, pages=pages)

    def segment_numbers(self, path: str | os.PathLike[str], place: int, count: int) -> list[int]:
        """Return the page numbers of entries `place` … `place+count-1` of a segment, from 0."""
        return self._call("segment_numbers", list, path=os.fspath(path), place=place, count=count)


def _problem(value: Any) -> tuple[str, bool]:
    why, damaged = value
    return str(why), bool(damaged)


def _changes(value: Mapping[str, Any]) -> Changes:
    from pagewarden.repository.mapfacts import Changes

    return Changes(**value)
