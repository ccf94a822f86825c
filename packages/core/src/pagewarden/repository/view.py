"""The restore points of one database as they were looked at once: which of them is meant, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryDamaged, RepositoryNotFound
from pagewarden.repository.catalogue import Entry, unread_after
from pagewarden.repository.chain import Chain, Chains
from pagewarden.repository.manifest import Manifest
from pagewarden.times import format_moment

if TYPE_CHECKING:
    from pagewarden.repository.repository import Repository


class View:
    """What stands of one database in a repository. See `Repository.view`."""

    def __init__(
        self,
        repository: Repository,
        name: str,
        entries: Sequence[Entry],
        strays: Sequence[str] = (),
        left_out: Callable[[int], bool] | None = None,
    ) -> None:
        """`strays` are objects that no manifest names; `left_out` tells by its sequence which point is not meant."""
        self.name = name
        self._repository = repository
        self._entries = entries
        self._strays = strays
        self.points = tuple(
            entry.manifest
            for entry in entries
            if entry.manifest is not None and not (left_out is not None and left_out(entry.sequence))
        )

    @cached_property
    def chains(self) -> Chains:
        """The chains of all its restore points."""
        return Chains(entry.manifest for entry in self._entries if entry.manifest is not None)

    def on(self, timeline: str | None) -> tuple[Manifest, ...]:
        """Return the points, of those on a `timeline` (its beginning) alone where one is given.

        Raises RepositoryNotFound where there is no point at all, RepositoryDamaged where none can be read.
        """
        url, name = self._repository.url, self.name
        if not self.points:
            if problem := next((entry.problem for entry in self._entries if entry.manifest is None), ""):
                raise RepositoryDamaged(
                    f"no manifest of {name} in {url} can be read: {problem}", hint=self._repository.command("verify")
                )
            raise RepositoryNotFound(
                f"{url} holds no restore point of {name}", hint=self._repository.command("backups")
            )
        if timeline is None:
            return self.points
        return tuple(point for point in self.points if point.position.timeline.startswith(timeline))

    def find(self, *, at: datetime | None = None, txid: int | None = None, timeline: str | None = None) -> Manifest:
        """Return the point that is meant: the newest, the last at or before `at`, or at `txid`.

        Raises as `Repository.resolve_chain` does.
        """
        found, asked = self.on(timeline), []
        if timeline is not None:
            asked.append(f"on timeline {timeline}")
        if txid is not None:
            found = tuple(point for point in found if point.position.txid == txid)
            asked.append(f"at txid {txid}")
        if at is not None:
            found = tuple(point for point in found if point.position.time <= at)
            asked.append(f"at or before {format_moment(at)}")
        if not found:
            first, last = self.points[0].position, self.points[-1].position
            raise RepositoryNotFound(
                f"{self._repository.url} holds no restore point of {self.name} {' '.join(asked)}: they reach from txid "
                f"{first.txid} at {format_moment(first.time)} to txid {last.txid} at {format_moment(last.time)}",
                hint=self._repository.command("backups", "--db", self.name),
            )
        if txid is None:
            self.refuse_unread_after(found[-1])
        return found[-1]

    def refuse_unread_after(self, found: Manifest) -> None:
        """Raise RepositoryDamaged where what was committed after `found` cannot be read: it may be what is meant."""
        if why := unread_after(self._entries, self._strays, found):
            at_txid = found.position.txid
            raise RepositoryDamaged(
                f"{self._repository.url} holds a backup of {self.name} after txid {at_txid} that cannot be read: {why}",
                hint=f"to go back to the one before it: --txid {at_txid}",
            )

    def chain(self, manifest: Manifest) -> Chain:
        """Return the chain of one of the points. Raises RepositoryDamaged where it has a gap."""
        chain = self.chains.of(manifest)
        if not chain.gap:
            return chain
        below = chain.links[0].sequence
        whole = [
            entry.manifest.position.txid
            for entry in self._entries
            if entry.manifest is not None and entry.sequence < below and not self.chains.gap(entry.manifest)
        ]
        raise RepositoryDamaged(
            f"{self._repository.url} cannot bring back {manifest.database} at {manifest.position}: {chain.gap}",
            hint=f"to go back to the last one before it: --txid {whole[-1]}"
            if whole
            else self._repository.command("verify"),
        )
