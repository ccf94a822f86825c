"""One prune at a time: whoever has the turn may fold and purge in one database, and anybody sees that it is taken.

A prune puts its intent before it looks at anything, and then for others, as a backup does. A process of this machine is
seen to live or not; one of another machine is believed to live for as long as its backups are. An intent that could not
be removed stands for a process that may live for ever, so that process ends it when it prunes next.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from msgspec import UNSET

from pagewarden.errors import DeletionRefused, PagewardenError, RepositoryBusy
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Pruning, Runner
from pagewarden.repository.manifest import encode_document
from pagewarden.repository.rivals import Rank, first_of
from pagewarden.repository.store import Store
from pagewarden.times import format_moment

_MOMENTS = 30.0  # seconds that gathering may take

_LEFT: dict[tuple[str, str], Turn] = {}  # turns of this process that are over, and may stand yet, by URL and nonce


class Turn:
    """The turn to prune one database. A context manager: leaving it gives the turn back."""

    def __init__(
        self,
        store: Store,
        database: str,
        nonce: str,
        now: datetime,
        sleep: Callable[[float], None],
        *,
        gathering: bool = False,
    ) -> None:
        """`nonce` will be that of all objects that this prune stores; `gathering` says that it takes moments only."""
        self.nonce = nonce
        self.in_doubt = False  # whether an object may have been stored that no manifest names
        self._store = store
        self._sleep = sleep
        self._mine = Pruning(
            database=database, time=now, runner=Runner.current(), gathering=True if gathering else UNSET
        )

    def __enter__(self) -> Self:
        """Take the turn. Raises RepositoryBusy where another prune has it."""
        key = keys.pending_key(self.nonce)
        self._end_those_left()
        try:
            absent = self._store.put(key, encode_document("prune", self._mine))
        except BaseException:
            _LEFT[self._store.url, self.nonce] = self  # it may stand all the same
            raise
        if not absent:
            raise RepositoryBusy(f"another run has the number {self.nonce}", hint="try again")
        try:
            self._wait()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(error)

    def check(self) -> None:
        """Raise RepositoryBusy if another process took this one for dead, and takes its turn."""
        if not tidy.stands(self._store, self.nonce):
            raise RepositoryBusy(
                f"the prune of {self._mine.database} in {self._store.url} was taken for dead by another process",
                hint="try again",
            )

    def _wait(self) -> None:
        """Give way to who was first; wait until who came later has given way."""
        mine = self._mine.time, self.nonce
        first = first_of(self._others, mine, self._sleep, patience=self._patience)
        if first is not None:
            nonce, other = first
            raise RepositoryBusy(
                f"another prune of {self._mine.database} in {self._store.url} is under way: process "
                f"{other.runner.pid} of {other.runner.host} began it at {format_moment(other.time)}",
                hint=self._hint(nonce, other),
            )

    def _patience(self, other: tuple[str, Pruning]) -> float:
        """Return how long another one, which was first, is waited for, in seconds."""
        return _MOMENTS if other[1].gathering is True and self._mine.gathering is UNSET else 0.0

    def _others(self) -> list[tuple[Rank, tuple[str, Pruning]]]:
        """Return the other prunes of the database that may be under way."""
        here, now = self._mine.runner, self._mine.time
        return [
            ((other.time, nonce), (nonce, other))
            for nonce, other in tidy.pending_backups(self._store)
            if isinstance(other, Pruning)
            and nonce != self.nonce
            and (self._store.url, nonce) not in _LEFT
            and other.database == self._mine.database
            and not other.is_dead(here, now)
        ]

    def _hint(self, nonce: str, other: Pruning) -> str:
        if other.runner.is_dead(self._mine.runner) is False:
            return f"wait for it to end, or look at it: ps -p {other.runner.pid}"
        return f"wait for it to end; if it is no more: rm {shlex.quote(f'{self._store.url}/{keys.pending_key(nonce)}')}"

    def _leave(self, error: BaseException | None) -> None:
        """Give the turn back, and remove what was not committed."""
        _LEFT[self._store.url, self.nonce] = self
        try:
            self._end(self._store)
        except (PagewardenError, OSError) as second:
            if error is None:
                raise
            error.add_note(f"what it left could not be removed: {second}; the next backup or prune will")

    def _end(self, store: Store) -> None:
        if self.in_doubt:
            # Where a manifest cannot be read nothing of it goes, the intent neither.
            tidy.remove_pruning(store, self.nonce, self._mine)
            if store.exists(keys.pending_key(self.nonce)):
                return
        else:
            store.unstage(self.nonce)
            tidy.end(store, self.nonce)
        _LEFT.pop((store.url, self.nonce), None)

    def _end_those_left(self) -> None:
        """End what turns of this process that are over could not end themselves."""
        for (url, _), turn in tuple(_LEFT.items()):
            if url == self._store.url:
                with suppress(DeletionRefused):  # noted in the repository, where everybody sees that it is over
                    turn._end(self._store)
