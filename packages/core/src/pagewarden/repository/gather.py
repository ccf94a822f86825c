"""Making few batches of many, again and again, while a database is followed.

A guard calls `gather` every few seconds, with a `History` that it keeps: what is new is listed and read, and nothing
else, however long the history is. `levels` says what becomes one, `compaction` does it, under the turn of a prune.

1. Under the turn the keys of all manifests that are about to go are listed again. Where anything is there that is not
   known, or missing, another process was at them: the history is read anew, and nothing is done this time.
2. What is pinned or marked as deleted stays a restore point. Whoever pins looks afterwards whether what he pinned was
   gathered, as this looks for pins once its manifest stands: one of the two sees the other.
3. A prune waits for whoever gathers, which takes moments; who gathers goes where a prune is under way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING

from pagewarden.errors import DeletionRefused
from pagewarden.repository import keys, levels
from pagewarden.repository.catalogue import Entry, arranged, read_documents, read_entries, without_gathered

if TYPE_CHECKING:
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.repository.shorten import Shortener
    from pagewarden.repository.store import Store
    from pagewarden.repository.turn import Turn
    from pagewarden.runtime import Runtime

_BLOCK = 100  # numbers of manifests that are looked for with one listing
_RUNS = 8  # batches that are made of others in one go, before somebody else has the turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was done."""

    made: int = 0  # batches
    of: int = 0  # so many others
    bytes_stored: int = 0
    bytes_freed: int = 0
    why_not: str = ""  # why nothing can be gathered, a clause; empty where it can


class History:
    """What is known of the manifests of one followed database. For one thread at a time."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._known = False  # whether all were read once
        self._held: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
        self.why_not = ""  # why nothing can be gathered here any more, a clause

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All manifests, in order of sequence."""
        return tuple(self._entries[sequence] for sequence in sorted(self._entries))

    def refresh(self, store: Store, name: str) -> None:
        """Read what is new since the last time; all of it the first time."""
        if not self._known:
            self.take(read_entries(store, name))
            self._known = True
            return
        last = max(self._entries, default=0)
        new: list[str] = []
        block = (last + 1) // _BLOCK
        while True:
            found = [key for key in _listed(store, name, block, _BLOCK) if _sequence(key) > last]
            new += found
            block += 1
            # Numbers are given one after the other, so behind an empty block there is nothing.
            if not found and block * _BLOCK > last + 1:
                break
        if new:
            added = without_gathered(arranged(store, name, read_documents(store, new)))
            self._entries.update((entry.sequence, entry) for entry in added if not entry.gone)

    def take(self, entries: Iterable[Entry]) -> None:
        """Know these, and no others."""
        self._entries = {entry.sequence: entry for entry in entries}

    def forget(self) -> None:
        """Read all of it the next time: another process was at it."""
        self._known = False

    def look_again(self, store: Store, name: str) -> None:
        """See which restore points are pinned or marked as deleted."""
        pinned = (keys.parse_pin_key(key) for key in store.keys(keys.pins_prefix(name)))
        deleted = (keys.parse_deleted_key(key) for key in store.keys(keys.deleted_prefix(name)))
        self._held = (
            frozenset(parts.sequence for parts in pinned if parts is not None),
            frozenset(parts[0].sequence for parts in deleted if parts is not None),
        )

    @property
    def undone(self) -> bool:
        """Whether something is left of what was superseded: whoever removed it was cut off."""
        return any(other.manifest is not None for entry in self._entries.values() for other in entry.others)

    def runs(self, many: int, most: int) -> list[tuple[Manifest, ...]]:
        """Return what is to become one, from the oldest on."""
        manifests = [entry.manifest for entry in self.entries if entry.manifest is not None]
        pinned, deleted = self._held
        return list(levels.runs(manifests, alone=deleted, last=pinned, many=many, most=most))

    def stands(self, store: Store, name: str, links: Sequence[Manifest]) -> bool:
        """Return whether the manifests of `links`, and others between them, are those that are known."""
        first, last = links[0].sequence, links[-1].sequence
        size = 10 ** len(str(last - first))
        found = {
            key
            for block in range(first // size, last // size + 1)
            for key in _listed(store, name, block, size)
            if first <= _sequence(key) <= last
        }
        within = (entry for sequence, entry in self._entries.items() if first <= sequence <= last)
        return found == {each.key for entry in within for each in (entry, *entry.others)}


def gather(
    repository: Repository,
    runtime: Runtime,
    database: str,
    history: History,
    *,
    many: int = levels.MANY,
    most: int = levels.MOST,
) -> Gathered:
    """Make one batch of `many`, wherever so many are waiting; nothing that can be restored is lost by it.

    `history` is what the calls before knew: one for each database, the same each time. Raises RepositoryBusy
    where a prune is under way or a restore point was pinned meanwhile, RepositoryDamaged where a batch is not whole,
    OutOfSpace, TargetFailed, VerificationFailed. Whatever it raises, the next call may go on.
    """
    from pagewarden.repository.shorten import Shortener
    from pagewarden.repository.turn import Turn

    store = repository.store
    if history.why_not:
        return Gathered(why_not=history.why_not)
    history.refresh(store, database)
    problem = next((entry.problem for entry in history.entries if entry.manifest is None), "")
    if problem:
        history.forget()
        return Gathered(why_not=f"a manifest cannot be read, and nobody knows what it needs: {problem}")
    if not history.undone and not history.runs(many, most):
        return Gathered()
    with Turn(store, database, token_hex(8), runtime.clock(), runtime.sleep, gathering=True) as turn:
        if not _may_remove(store, turn):
            history.why_not = "nothing may be removed there"
            return Gathered(why_not=history.why_not)
        if history.undone:
            history.take(read_entries(store, database))  # somebody may have been at it since
        compactor = Shortener(repository, runtime, turn, database, history.entries)
        try:
            made, of = _gather(store, compactor, database, history, many, most)
        except BaseException:
            history.forget()  # what is there now is seen by whoever looks
            raise
        finally:
            compactor.release()
    return Gathered(
        made=made,
        of=of,
        bytes_stored=compactor.bytes_stored,
        bytes_freed=compactor.bytes_freed,
        why_not=history.why_not,
    )


def _gather(
    store: Store, compactor: Shortener, database: str, history: History, many: int, most: int
) -> tuple[int, int]:
    """Gather; return how many batches were made, and of how many."""
    if history.undone:
        _, problems = compactor.finish_earlier()
        history.take(compactor.entries)
        history.why_not = next(iter(problems), "")
    history.look_again(store, database)
    made = of = 0
    # One turn stores one object for each position: what is made of these is for the next turn.
    for links in history.runs(many, most)[:_RUNS] if not history.why_not else ():
        if not history.stands(store, database, links):
            history.forget()
            break
        inner = frozenset(link.sequence for link in links[:-1])
        compactor.gather(links, partial(_unpinned, store, database, inner))
        history.take(compactor.entries)
        made, of = made + 1, of + len(links)
    return made, of


def _may_remove(store: Store, turn: Turn) -> bool:
    """Return whether anything can be removed, before anything is stored."""
    key = keys.claim_key(token_hex(8))  # of no intent: the next run would remove it
    turn.check()
    store.put(key, b"")
    with suppress(DeletionRefused):
        store.delete(key)
        return True
    return False


def _unpinned(store: Store, name: str, sequences: Collection[int]) -> bool:
    """Return whether none of the restore points is pinned."""
    pins = (keys.parse_pin_key(key) for key in store.keys(keys.pins_prefix(name)))
    return not any(parts is not None and parts.sequence in sequences for parts in pins)


def _listed(store: Store, name: str, block: int, size: int) -> list[str]:
    """Return the keys of the manifests whose numbers, divided by `size`, a power of ten, are `block`."""
    digits = len(str(size)) - 1
    return store.keys(f"{keys.manifests_prefix(name)}{block:0{16 - digits}}")


def _sequence(key: str) -> int:
    parsed = keys.parse_manifest_key(key)
    return 0 if parsed is None else parsed.sequence
