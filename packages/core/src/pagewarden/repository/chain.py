"""The chain of a restore point: the page sets that make it together, from a snapshot up. Values only, no I/O.

A snapshot stands alone. A segment holds the pages changed since its parent, so its chain is the parent's and itself.
Along a chain positions fall, and so do the numbers of the manifests: it cannot go round, whoever wrote the manifests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pagewarden.repository.format import Commit, PageSetInfo, grown
from pagewarden.repository.manifest import CommitsFacts, Manifest
from pagewarden.values import Position, RestorePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A commit between two restore points: in the page set of commits of the second one."""

    batch: Manifest  # of the second one; the first one is its parent
    commits: CommitsFacts  # of that manifest
    commit: Commit

    @property
    def position(self) -> Position:
        """The position of the commit."""
        timeline = self.batch.position.timeline
        return Position(timeline=timeline, txid=self.commit.txid, time=self.commit.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What makes one restore point, or a commit after it that has none of its own."""

    links: tuple[Manifest, ...]  # from the lowest that was found, a snapshot where there is no gap, up to the point's
    gap: str = ""  # what is missing below the lowest: a clause that names it
    inner: Inner | None = None  # what is wanted, if not the point itself: a commit of the batch that continues it

    @property
    def point(self) -> Manifest:
        """The manifest of the restore point itself."""
        return self.links[-1]

    @property
    def restore_point(self) -> RestorePoint:
        """What is to be restored: the point, or the commit after it."""
        if self.inner is None:
            return self.point.restore_point
        batch, commits, commit = self.inner.batch, self.inner.commits, self.inner.commit
        return RestorePoint(
            database=batch.database,
            position=self.inner.position,
            kind="commit",
            pages=commit.pages,
            page_size=batch.page_size,
            bytes=commit.pages * batch.page_size,
            bytes_stored=commits.bytes,
            database_sum=f"{commit.database_sum:016x}",
            source=batch.source,
            verified_at=batch.verified_at,
            key=commits.key,
        )

    @property
    def bytes(self) -> int:
        """Bytes of all its objects."""
        return sum(link.bytes for link in self.links) + (0 if self.inner is None else self.inner.commits.bytes)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its page sets, from the lowest up; that of the commits is not among them."""
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
        if manifest.sequence not in self._below:
            self._below[manifest.sequence] = self.parent(manifest) if manifest.kind == "segment" else None
        return self._below[manifest.sequence]

    def parent(self, manifest: Manifest) -> Manifest | None:
        """Return the manifest at the position that `manifest` continues, of whatever kind it is; None without one."""
        at, found = manifest.parent, None
        for each in () if at is None else self._at.get((at.timeline, at.txid), ()):
            found = each if _fits(manifest, each) else found
        return found

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


def batches(manifests: Iterable[Manifest], *, count: int, size: int) -> Iterator[list[Manifest]]:
    """Cut into batches of at most `count` objects and `size` bytes, in their order; one larger object is a batch."""
    batch: list[Manifest] = []
    held = 0
    for manifest in manifests:
        if batch and (len(batch) == count or held + manifest.bytes > size):
            yield batch
            batch, held = [], 0
        batch.append(manifest)
        held += manifest.bytes
    if batch:
        yield batch


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
