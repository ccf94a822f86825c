"""The page reader's answers about what changed. See `processes.increments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagewarden.processes.stored_main import StoredAnswers

if TYPE_CHECKING:
    from pagewarden.processes.channel import Value
    from pagewarden.processes.image import RawImage
    from pagewarden.repository.container import PageSetWriter


class IncrementAnswers(StoredAnswers):
    """The calls, each a public method."""

    _snapshots: dict[int, PageSetWriter | RawImage]  # what is being copied, by its handle

    def map_problem(self, path: str, facts: Mapping[str, Any]) -> tuple[str, bool]:
        """Return why a page map cannot be used, and whether it is damaged."""
        from pagewarden.repository.mapfacts import MapFacts
        from pagewarden.repository.pagemap import MapUnusable, PageMap

        try:
            PageMap(path, MapFacts(**facts)).close()
        except MapUnusable as error:
            return str(error), error.damaged
        return "", False

    def build_map(
        self, path: str, facts: Mapping[str, Any], page_sets: Sequence[str], base: tuple[str, Mapping[str, Any]] | None
    ) -> None:
        """Write a page map, from what page sets record."""
        from contextlib import ExitStack

        from pagewarden import durable
        from pagewarden.repository.mapfacts import MapFacts
        from pagewarden.repository.pagemap import PageMap, build_map

        with ExitStack() as stack:
            below = None if base is None else stack.enter_context(PageMap(base[0], MapFacts(**base[1])))
            try:
                build_map(Path(path), MapFacts(**facts), map(self._page_set, page_sets), below)
            except OSError as error:
                raise durable.failure(error, f"cannot write {path}") from error

    def begin_segment(
        self, snapshot: int, path: str, header: Mapping[str, Any], level: int, base: str, facts: Mapping[str, Any]
    ) -> None:
        """Begin a segment."""
        from pagewarden.errors import DatabaseUnsettled
        from pagewarden.processes.wire import header_from_wire
        from pagewarden.repository.mapfacts import MapFacts
        from pagewarden.repository.pagemap import MapUnusable, PageMap
        from pagewarden.repository.segment import SegmentWriter

        try:
            known = PageMap(base, MapFacts(**facts))
        except MapUnusable as error:
            raise DatabaseUnsettled(str(error), hint="try again") from error
        self._snapshots[snapshot] = SegmentWriter(
            path, header_from_wire(header), known, level=level, threads=self._threads
        )

    def changes(self, snapshot: int, pages: int) -> Mapping[str, Value]:
        """Return what a segment found to differ."""
        from pagewarden.repository.segment import SegmentWriter

        writer = self._snapshots[snapshot]
        assert isinstance(writer, SegmentWriter)
        found = writer.changes(pages)
        return {"pages": found.pages, "too_many": found.too_many, "resized": found.resized}

    def segment_numbers(self, path: str, place: int, count: int) -> list[int]:
        """Return page numbers of a segment."""
        return list(self._page_set(path).numbers(place, count))
