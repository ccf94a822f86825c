"""The chain of a restore point: the page sets that make it together, from a snapshot up. Values only, no I/O.

A snapshot stands alone. A segment holds the pages changed since its parent, so its chain is the parent's and itself.
Along a chain positions fall, and so do the numbers of the manifests: it cannot go round, whoever wrote the manifests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pagewarden.repository.format import PageSetInfo, grown
from pagewarden.repository.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What makes one restore point."""

    links: tuple[Manifest, ...]  # from the lowest that was found, a snapshot where there is no gap, up to the point's
    gap: str = ""  # what is missing below the lowest: a clause that names it

    @property
    def point(self) -> Manifest:
        """The manifest of the restore point itself."""
        return self.links[-1]

    @property
    def bytes(self) -> int:
        """Bytes of all its objects."""
        return sum(link.bytes for link in self.links)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its objects, from the lowest up."""
        return tuple(link.key for link in self.links)


class Chains:
    """The chains of the restore points of one database."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        """`manifests` are those that count: of each restore point one."""
        self._at: dict[tuple[str, int], list[Manifest]] = {}
        for manifest in manifests:
            self._at.setdefault(_place(manifest), []).append(manifest)
        self._below: dict[int, Manifest | None] = {}  # by sequence
        self._gaps: dict[int, str] = {}  # by sequence

    def below(self, manifest: Manifest) -> Manifest | None:
        """Return the manifest that a segment is relative to; None for a snapshot, and where there is none."""
        if manifest.sequence in self._below:
            return self._below[manifest.sequence]
        parent, below = manifest.parent, None
        if manifest.kind == "segment" and parent is not None:
            for each in self._at.get((parent.timeline, parent.txid), ()):
                below = each if _fits(manifest, each) else below
        self._below[manifest.sequence] = below
        return below

    def of(self, manifest: Manifest) -> Chain:
        """Return the chain of the restore point of `manifest`."""
        links = [manifest]
        while (below := self.below(links[-1])) is not None:
            links.append(below)
        return Chain(links=tuple(reversed(links)), gap=_gap(links[-1]))

    def gap(self, manifest: Manifest) -> str:
        """Return the `gap` of the chain of `manifest`. Those of all restore points together take one look at each."""
        above: list[Manifest] = []
        at: Manifest | None = manifest
        while at is not None and at.sequence not in self._gaps:
            above.append(at)
            at = self.below(at)
        gap = _gap(above[-1]) if at is None else self._gaps[at.sequence]
        self._gaps.update((each.sequence, gap) for each in above)
        return gap


def contradictions(links: Sequence[Manifest], infos: Sequence[PageSetInfo]) -> str:
    """Return why `infos`, of the objects of a chain from the lowest up, do not make its point; empty if they do.

    Each must be the page set of its manifest, and begin with the database sum that the one below ends with. A segment
    must hold every page that came to the database since the one below (H21).
    """
    for number, (link, info) in enumerate(zip(links, infos, strict=True)):
        if why := link.contradiction(info):
            return f"{link.key} {why}"
        if number:
            if why := unfit(links[number - 1], info):
                return f"{link.key} {why}"
        elif info.header.txid_from:
            return f"{link.key} is no snapshot, and nothing is below it"
    return ""


def unfit(below: Manifest, info: PageSetInfo) -> str:
    """Return why the segment `info` does not continue `below`: a clause, empty if it does."""
    said = int(below.database_sum, 16)
    if info.database_sum_from != said:
        return (
            f"does not continue {below.key}: it begins with the database sum {info.database_sum_from:016x}, and that "
            f"one ends with {below.database_sum}"
        )
    came = grown(below.page_size, below.pages, info.header.pages)
    if info.held < came:
        return f"holds {info.held} pages, and the database grew by {came}"
    return ""


def _place(manifest: Manifest) -> tuple[str, int]:
    return manifest.position.timeline, manifest.position.txid


def _fits(manifest: Manifest, below: Manifest) -> bool:
    """Return whether `below`, found at its parent's position, can be what the segment of `manifest` is relative to."""
    return (
        below.sequence < manifest.sequence
        and below.database == manifest.database
        and below.page_size == manifest.page_size
        and below.position == manifest.parent
    )


def _gap(lowest: Manifest) -> str:
    """Return what is missing below the lowest link of a chain."""
    if lowest.kind != "segment":
        return ""
    return f"the segment at {lowest.position} continues {lowest.parent}, of which no manifest can be read"
