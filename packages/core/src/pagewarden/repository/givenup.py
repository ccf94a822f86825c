"""Backups that this process gave up after their commit, or that could not remove what they stored.

Their intents stand for a process that may live for ever: other processes would give way to it, and retention would wait
for it. So it ends them itself as soon as it can, as whoever cleans does: the intent is claimed first.
"""

from __future__ import annotations

from contextlib import suppress

from pagewarden.errors import DeletionRefused, PagewardenError
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Pending
from pagewarden.repository.store import Store

_LEFT: dict[tuple[str, str], Pending] = {}  # by URL and nonce
_CLAIMED: set[tuple[str, str]] = set()  # those of them whose claim is this process's


def note(store: Store, nonce: str, pending: Pending) -> None:
    """Note a backup that was given up, and whose intent may stand."""
    _LEFT[store.url, nonce] = pending


def end(store: Store) -> None:
    """End what was noted of a repository, as far as that can be done now; what others claimed is left to them."""
    for place, pending in tuple(_LEFT.items()):
        if place[0] == store.url:
            with suppress(PagewardenError):  # then the next time
                _end(store, place, pending)


def _end(store: Store, place: tuple[str, str], pending: Pending) -> None:
    nonce = place[1]
    if store.exists(keys.pending_key(nonce)):
        if place not in _CLAIMED and not store.put(keys.claim_key(nonce), b""):
            return
        _CLAIMED.add(place)
        with suppress(DeletionRefused):  # noted in the repository, where everybody sees that it is over
            tidy.remove(store, nonce, pending)
            if nonce in tidy.unfinished(store):
                return  # a manifest cannot be read now
    _CLAIMED.discard(place)
    _LEFT.pop(place, None)
