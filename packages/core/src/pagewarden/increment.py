"""What an incremental backup is relative to: the newest restore point, and the local map of its page sums.

1. The newest restore point is the base, where the database continues it, it is not deleted, its chain can be read,
   and every object of the chain is there, as large as its manifest says, and not known to be damaged. Otherwise there
   is none, for a reason that is told.
2. The page map of the base is kept in the state directory. Where it is lost, damaged or of another position it is made
   again of what the repository records, page set by page set.
3. The map of the new position is made of the segment as it was read back, and takes the old one's place when the
   backup is committed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pagewarden import maps
from pagewarden.errors import OutOfSpace, PagewardenError, RepositoryDamaged, TargetFailed
from pagewarden.repository.keys import objects_prefix
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.times import format_moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import PageSetInfo, Repository
    from pagewarden.values import Position

_LOOKS = 5  # how often a chain that changes meanwhile is looked for again


class NoBase(Exception):
    """Why a backup must be a snapshot, one sentence; empty for the first one."""

    def __init__(self, why: str = "", *, wrong: bool = True) -> None:
        """`wrong`: something is not as it should be, which a person should know."""
        super().__init__(why)
        self.wrong = wrong


class Continues(Protocol):
    """What continues the newest restore point: a backup under way, or a guard that follows."""

    @property
    def database(self) -> str:
        """Name in the repository."""

    @property
    def timeline(self) -> str:
        """The timeline that it goes on with."""

    @property
    def parent(self) -> Position | None:
        """The position that it continues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The restore point that a segment is relative to."""

    manifest: Manifest
    links: tuple[Manifest, ...]  # its chain, from the snapshot up
    map: Path
    facts: MapFacts


@dataclass(slots=True, kw_only=True)
class LocalMap:
    """The page map of one database as one place has it, and what is to take its place."""

    path: Path
    reader: PageReader
    state: Path  # the state directory
    warnings: list[str] = field(default_factory=list)
    _next: Path | None = None

    def base(self, repository: Repository, intent: Continues) -> Base:
        """Return the base of the backup `intent`, its map proved. Raises NoBase."""
        links = find_chain(repository, intent, self.state)
        facts = _facts_of(links[-1])
        why, damaged = self.reader.map_problem(self.path, facts)
        if why and not damaged and self._bring_forward(repository, links, facts):
            why = ""
        if why:
            try:
                self._rebuild(repository, links, facts)
            except NoBase:
                again = find_chain(repository, intent, self.state)
                if again == links:
                    raise
                links = again  # what it needs was stored anew meanwhile
                self._rebuild(repository, links, facts)
        if damaged:
            self.warnings.append(f"{why}; it was made again of what the repository records")
        return Base(manifest=links[-1], links=links, map=self.path, facts=facts)

    def prepare(self, info: PageSetInfo, staging: Path, base: Base | None) -> None:
        """Make the map of the position that the proved page set at `staging` brings the database to.

        That it cannot be made costs the next backup the time to make it, and no more.
        """
        header = info.header
        facts = MapFacts(
            timeline=header.timeline,
            txid=header.txid,
            page_size=header.page_size,
            pages=header.pages,
            database_sum=info.database_sum,
        )
        try:
            self._next = maps.begin(self.path)
            self.reader.build_map(self._next, facts, [staging], None if base is None else (base.map, base.facts))
        except (OSError, PagewardenError) as error:
            self._failed(error)

    def keep(self) -> None:
        """Put the new map in the place of the old one: the backup was committed."""
        if self._next is not None:
            try:
                maps.keep(self._next, self.path)
            except OSError as error:
                self._failed(error)
            self._next = None

    def forget(self) -> None:
        """Remove the new map: the backup was not committed."""
        if self._next is not None:
            with suppress(OSError):  # what is left goes after a day
                self._next.unlink(missing_ok=True)
            self._next = None

    def _bring_forward(self, repository: Repository, links: tuple[Manifest, ...], facts: MapFacts) -> bool:
        """Make the map of the newest of `links` from one of an older one, as a guard that was killed leaves it.

        Return False where that cannot be: then it is made from the beginning.
        """
        for place in range(len(links) - 1, 0, -1):
            older = _facts_of(links[place - 1])
            if older.page_size != facts.page_size:
                return False
            if self.reader.map_problem(self.path, older)[0]:
                continue
            try:
                self._make(repository, links[place:], facts, (self.path, older))
            except (RepositoryDamaged, TargetFailed, OutOfSpace, OSError):
                return False
            return True
        return False

    def _rebuild(self, repository: Repository, links: tuple[Manifest, ...], facts: MapFacts) -> None:
        """Make the map of the newest of `links` from what their objects record. Raises NoBase."""
        try:
            self._make(repository, links, facts)
        except (RepositoryDamaged, TargetFailed, OutOfSpace, OSError) as error:
            raise NoBase(str(error)) from error

    def _make(
        self,
        repository: Repository,
        links: tuple[Manifest, ...],
        facts: MapFacts,
        base: tuple[Path, MapFacts] | None = None,
    ) -> None:
        """Make the map of `facts` from what the objects of `links` record, on top of `base`, and keep it."""
        try:
            paths = [repository.object_path(link.key) for link in links]
            infos = [self.reader.pageset_info(path) for path in paths]
            if base is None:
                repository.confirm(links, infos)
            elif why := next(filter(None, map(Manifest.contradiction, links, infos)), ""):
                raise RepositoryDamaged(f"in {repository.url}, one of the newest page sets {why}")
            self._next = maps.begin(self.path)
            self.reader.build_map(self._next, facts, paths, base)  # sums that do not add up are refused
            maps.keep(self._next, self.path)
            self._next = None
        except BaseException:
            self.forget()
            raise
        finally:
            for link in links:
                repository.store.release(link.key)

    def _failed(self, error: OSError | PagewardenError) -> None:
        self.forget()
        self.warnings.append(f"the page map could not be kept, and the next backup has to make it again: {error}")


def _facts_of(manifest: Manifest) -> MapFacts:
    return MapFacts(
        timeline=manifest.position.timeline,
        txid=manifest.position.txid,
        page_size=manifest.page_size,
        pages=manifest.pages,
        database_sum=int(manifest.database_sum, 16),
    )


def find_chain(repository: Repository, intent: Continues, state: Path) -> tuple[Manifest, ...]:
    """Return the chain of the newest restore point, from the snapshot up, if the backup `intent` continues it.

    `state` is the state directory, where verifications are remembered. A chain with something wrong is looked for
    again: a prune may just store it anew. Raises NoBase.
    """
    links, why = _look(repository, intent, state)
    for _ in range(_LOOKS):
        if not why:
            return links
        before = links
        links, why = _look(repository, intent, state)
        if links == before:
            break
    if why:
        raise NoBase(why)
    return links


def _look(repository: Repository, intent: Continues, state: Path) -> tuple[tuple[Manifest, ...], str]:
    """Return the chain of the newest restore point as it is now, and what is wrong with it: a clause, or empty.

    Raises NoBase where the backup does not continue it.
    """
    from pagewarden.repository import Chains
    from pagewarden.repository.catalogue import newest_entry
    from pagewarden.repository.marks import read_marks

    entries = tuple(repository.entries(intent.database))
    if not entries:
        raise NoBase(wrong=False)
    last = newest_entry(entries)
    if last is None:
        raise NoBase("no manifest can be read")
    newest = last.manifest
    if newest is None:
        raise NoBase(f"the newest backup cannot be read: {last.problem}")
    if newest.position != intent.parent or newest.position.timeline != intent.timeline:
        raise NoBase(f"the database does not continue the newest restore point, {newest.position}", wrong=False)
    if read_marks(repository.store, intent.database).hidden(newest.sequence):
        # It goes when its grace period ends, and nobody may be told that the database is kept by it.
        raise NoBase(f"the newest restore point, {newest.position}, is deleted", wrong=False)
    chain = Chains(entry.manifest for entry in entries if entry.manifest is not None).of(newest)
    return chain.links, chain.gap or _broken(repository, chain.links, state)


def _broken(repository: Repository, links: Sequence[Manifest], state: Path) -> str:
    """Return why the objects of a chain cannot be relied on, as far as is known without reading them; else empty."""
    from pagewarden.repository.results import read_results

    newest = links[-1]
    sizes = repository.store.sizes(f"{objects_prefix(newest.database)}{newest.position.timeline}/")
    known = read_results(state, repository.url)  # its own warning is for `verify` to tell, which mends it
    for link in links:
        size = sizes.get(link.key)
        if size is None:
            return f"{link.key} is missing from {repository.url}"
        if size != link.bytes:
            return f"{link.key} in {repository.url} has {size:,} bytes, and its manifest says {link.bytes:,}"
        found = known.of(link)
        if found is not None and found.state in ("damaged", "missing"):
            return f"{link.key} was found {found.state} at {format_moment(found.time)}: {found.why}"
    return ""
