"""Judging the objects of one database: some at a time through the page reader, each read once.

With data, batches follow the chains, so that the page reader's running map proves the database sum of each restore
point. Where a batch does not begin where the map is, the map is brought there from the page sums that the objects below
record, which costs their tables and not their pages; a target that keeps no local files is spared that.

A page set of commits goes right before the page set of its manifest, while the map is at the position where both begin:
so the database sum of every commit in it is proved, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pagewarden.errors import PagewardenError, ReaderCrashed, RepositoryDamaged
from pagewarden.repository.chain import Chains, batches, unfit
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.proof import Link, Proved

if TYPE_CHECKING:
    from pagewarden.processes.client import PageProgress
    from pagewarden.repository.format import PageSetInfo
    from pagewarden.repository.store import Store
    from pagewarden.runtime import Runtime

_OBJECTS = 64  # most objects of a batch: as many files are open at once
_BYTES = 256 << 20  # of a batch; fetched at once from a target that keeps no local files
_HASTY = 16 << 20  # bytes of a batch where the time is limited


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found of one object."""

    state: str  # "ok", "damaged", "missing" or "unknown"
    why: str = ""
    summed: bool = False  # whether the database sum of its restore point was proved
    alone: bool = True  # whether what is wrong is wrong with its stored bytes; else it shows beside what it continues


class Judge:
    """Reads objects of one database. A context manager, because the page reader keeps a map for it."""

    def __init__(self, store: Store, runtime: Runtime, *, data: bool, name: str) -> None:
        """`data` decodes the pages; otherwise it is the stored bytes that are proved."""
        self.bytes_read = 0
        self._store = store
        self._runtime = runtime
        self._data = data
        self._step = f"verifying {name}"
        self._proof: int | None = None
        self._at: str | None = None  # the key of the object that the map was brought to, None where it is nowhere
        self._lost: set[str] = (
            set()
        )  # keys of objects that the map cannot be brought to: they, or one below, are broken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._proof is not None:
            self._runtime.reader.end_proof(self._proof)

    def judge(
        self, manifests: Sequence[Manifest], chains: Chains, time_is_up: Callable[[], bool] | None = None
    ) -> Iterator[tuple[Manifest, tuple[Judged, ...]]]:
        """Yield what was found of the objects of each manifest, as `object_keys` has them, until the time is up."""
        total, done = sum(each.bytes_stored for each in manifests), 0
        for batch in batches(manifests, count=_OBJECTS, size=_BYTES if time_is_up is None else _HASTY):
            if time_is_up is not None and time_is_up():
                return
            yield from zip(batch, self._batch(batch, chains, done, total), strict=True)
            done += sum(each.bytes_stored for each in batch)
            self._runtime.progress(self._step, done, total)

    def again(self, one: Judged) -> bool:
        """Return whether an object is to be judged again, the manifests being others now; forget what was lost."""
        self._lost.clear()
        return one.state == "missing" or (self._data and one.state == "ok" and not one.summed)

    def _batch(self, batch: Sequence[Manifest], chains: Chains, done: int, total: int) -> list[tuple[Judged, ...]]:
        """Judge a batch; where its reading kills the page reader, each half by itself."""
        try:
            paths = self._store.locals(key for each in batch for key in each.object_keys)
        except PagewardenError as error:
            if len(batch) == 1:
                return [_unknown(batch[0], error)]
            return self._halves(batch, chains, done, total)
        try:
            self.bytes_read += sum(map(_size, paths.values()))
            proved = self._prove(batch, paths, chains, lambda some, _: self._tell(done + some, total))
        except ReaderCrashed as error:
            self._proof, self._at = None, None
            if len(batch) == 1:
                return [_unknown(batch[0], error)]
            return self._halves(batch, chains, done, total)
        finally:
            for each in batch:
                for key in each.object_keys:
                    self._store.release(key)
        there = {key: one for key, one in proved.items() if not self._went(key, one)}
        return [_judged(each, chains, there) for each in batch]

    def _went(self, key: str, one: Proved) -> bool:
        """Return whether an object could not be read because it went away meanwhile: stored anew, or purged."""
        unread = one.error is not None and not isinstance(one.error, RepositoryDamaged)
        return unread and not self._store.exists(key)

    def _halves(self, batch: Sequence[Manifest], chains: Chains, done: int, total: int) -> list[tuple[Judged, ...]]:
        middle = len(batch) // 2
        first = self._batch(batch[:middle], chains, done, total)
        return first + self._batch(batch[middle:], chains, done, total)

    def _tell(self, done: int, total: int) -> None:
        self._runtime.progress(self._step, min(done, total), total)

    def _prove(
        self, batch: Sequence[Manifest], paths: Mapping[str, Path], chains: Chains, progress: PageProgress
    ) -> dict[str, Proved]:
        """Let the page reader prove the objects that are there, the map being where it must be at each."""
        found: dict[str, Proved] = {}
        keys: list[str] = []
        links: list[Link] = []
        for manifest in batch:
            below = chains.below(manifest)
            chained = manifest.key in paths and self._data and self._reachable(manifest, below)
            if chained and below is not None and below.key != self._at:
                found.update(self._send(keys, links, progress))
                keys, links = [], []
                chained = self._bring(chains.of(below).links)
            commits = manifest.object_keys[-1]
            if commits != manifest.key and commits in paths:
                parent = chains.parent(manifest)
                begins = self._data and parent is not None and parent.key == self._at
                keys.append(commits)
                links.append(Link(path=str(paths[commits]), chained=begins, data=self._data, commits=True))
            if manifest.key not in paths:
                continue
            if not chained:
                self._lost.add(manifest.key)
            keys.append(manifest.key)
            links.append(Link(path=str(paths[manifest.key]), chained=chained, data=self._data))
            self._at = manifest.key if chained else self._at
        found.update(self._send(keys, links, progress))
        return found

    def _reachable(self, manifest: Manifest, below: Manifest | None) -> bool:
        """Return whether the map can be brought to what `manifest` continues, as far as is known."""
        if below is None:
            return manifest.kind == "snapshot"
        if below.key in self._lost:
            return False
        return below.key == self._at or self._kept(below.key) is not None

    def _kept(self, key: str) -> Path | None:
        """Return the local file of an object, None where there is none or it cannot be had: that was told of it."""
        try:
            return self._store.kept(key)
        except PagewardenError:
            return None

    def _bring(self, links: Sequence[Manifest]) -> bool:
        """Bring the map to the end of a chain from what its objects record; return whether that could be done."""
        for start in range(0, len(links), _OBJECTS):
            some = links[start : start + _OBJECTS]
            wanted = []
            for each in some:
                path = self._kept(each.key)
                if path is None:
                    self._at = None
                    return False
                wanted.append(Link(path=str(path), chained=True, read=False))
            self._send([each.key for each in some], wanted, None)
        return self._at == links[-1].key

    def _send(self, keys: Sequence[str], links: Sequence[Link], progress: PageProgress | None) -> dict[str, Proved]:
        if not links:
            return {}
        if self._proof is None:
            self._proof = self._runtime.reader.begin_proof()
        found = self._runtime.reader.prove_links(self._proof, links, drop_cache=True, progress=progress)
        for key, link, one in zip(keys, links, found, strict=True):
            if link.chained and not link.commits:
                self._at = key if one.summed else None
                if not one.summed:
                    self._lost.add(key)
        return dict(zip(keys, found, strict=True))


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 where it went away meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unknown(manifest: Manifest, error: PagewardenError) -> tuple[Judged, ...]:
    return tuple(Judged(state="unknown", why=error.message) for _ in manifest.object_keys)


def _judged(manifest: Manifest, chains: Chains, proved: Mapping[str, Proved]) -> tuple[Judged, ...]:
    """Return what was found of the objects of a manifest; what is not in `proved` is not there."""
    below, commits = chains.below(manifest), manifest.object_keys[-1]
    found = [_one(proved.get(manifest.key), manifest.contradiction, below)]
    if commits != manifest.key:
        found.append(_one(proved.get(commits), manifest.commits_contradiction, chains.parent(manifest)))
    return tuple(found)


def _one(proved: Proved | None, contradiction: Callable[[PageSetInfo], str], below: Manifest | None) -> Judged:
    """Return what was found of one object; None stands for one that is not there."""
    if proved is None:
        return Judged(state="missing", why="the object is gone")
    if proved.error is not None:
        state = "damaged" if isinstance(proved.error, RepositoryDamaged) else "unknown"
        return Judged(state=state, why=proved.error.message, alone=proved.info is None)
    assert proved.info is not None
    why = contradiction(proved.info) or ("" if below is None else unfit(below, proved.info))
    return Judged(state="damaged", why=why) if why else Judged(state="ok", summed=proved.summed)
