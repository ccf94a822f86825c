"""Which numbers a backup gets: after those of all backups before it, however little of them is left.

What cannot be read, or that no manifest names, may be of a backup all the same, and its number is not given again. But
no backup skips numbers by the thousand million: what stands that far away is somebody else's, and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryDamaged
from pagewarden.repository import keys
from pagewarden.repository.store import Store

if TYPE_CHECKING:
    from pagewarden.repository.catalogue import Entry

FAR = 10**9
"""From how far on a number that proves nothing is not believed: a backup each second for thirty years."""


def next_sequence(entries: Sequence[Entry], url: str, marked: Iterable[int] = ()) -> int:
    """Return the number of the next manifest of a database, of which `entries` are all.

    `marked` are the numbers of which a pin or a mark says anything: it would be said of another restore point.
    Raises RepositoryDamaged where a manifest has the last number.
    """
    last = max((entry for entry in entries if entry.manifest is not None), key=_sequence, default=None)
    broken = (entry.sequence for entry in entries if entry.manifest is None)
    number = _after(0 if last is None else last.sequence, (*broken, *marked))
    if number > keys.LAST:
        key = entries[-1].key if last is None else last.key
        raise RepositoryDamaged(
            f"{key} in {url} has the last number that there is, so nothing can be committed after it",
            hint="no backup counts that far: find out who put it there; under another name backups go on: --name NAME",
        )
    return number


def is_overtaken(store: Store, name: str, sequence: int) -> bool:
    """Return whether a manifest of `name` after number `sequence`, which is to be given, stands already."""
    found = map(keys.parse_manifest_key, store.keys(keys.manifests_prefix(name)))
    return any(parts is not None and 0 < parts.sequence - sequence <= FAR for parts in found)


def next_txid(store: Store, name: str, timeline: str, newest: int) -> int | None:
    """Return the txid after `newest`, that of the newest manifest of a timeline of `name`; None where none is left.

    A broken or lost manifest still has its txid: its object says which.
    """
    found = (keys.parse_object_key(key) for key in store.keys(keys.objects_prefix(name)))
    txid = _after(newest, (parts.txid for parts in found if parts is not None and parts.timeline == timeline))
    return txid if txid <= keys.LAST else None


def _after(known: int, others: Iterable[int]) -> int:
    """Return the number after `known` and after each of `others` that is not far beyond those below it."""
    highest = known
    for number in sorted(others):
        if number - highest <= FAR:
            highest = max(highest, number)
    return highest + 1


def _sequence(entry: Entry) -> int:
    return entry.sequence
