"""What dead backups left: found by their intents, removed without ever taking an object from a manifest.

Nothing locks. Whoever cleans claims the intent first and then looks for its manifest; whoever commits puts the manifest
first and then looks whether its intent still stands unclaimed (`stands`), and takes its manifest back if it does not.
So a wrong guess about who is dead costs a backup, never a manifest whose object is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pagewarden.errors import RepositoryDamaged
from pagewarden.repository import keys
from pagewarden.repository.intent import Pending, Runner
from pagewarden.repository.manifest import decode_document, decode_manifest
from pagewarden.repository.store import Store


def pending_backups(store: Store) -> Iterator[tuple[str, Pending | None]]:
    """Yield nonce and intent of every backup that has begun and not ended; None for an intent that cannot be read."""
    for key in store.keys(keys.PENDING):
        parsed = keys.parse_pending_key(key)
        data = store.document(key) if parsed is not None and parsed[1] == "json" else None
        if parsed is not None and data is not None:  # None: it ended meanwhile
            yield parsed[0], _decode(data, key, parsed[0])


def leftovers(store: Store, now: datetime) -> tuple[str, ...]:
    """Return the keys of what dead backups left, and of intents that cannot be read."""
    found = []
    here = Runner.current()
    for nonce, pending in pending_backups(store):
        if pending is None:
            found.append(keys.pending_key(nonce))
        elif pending.is_dead(here, now):
            found.append(keys.pending_key(nonce))
            if committed(store, pending) is False and store.exists(pending.key):
                found.append(pending.key)
    return tuple(found)


def clean(store: Store, now: datetime) -> tuple[str, ...]:
    """Remove what dead backups left; return the keys of their objects. Unreadable intents stay, and are leftovers."""
    removed = []
    here = Runner.current()
    for nonce, pending in list(pending_backups(store)):
        if pending is not None and pending.is_dead(here, now):
            # False where another cleaner was cut off here, or is at it: what follows may be done twice.
            store.put(keys.claim_key(nonce), b"")
            remove(store, nonce, pending, retract=False)
            removed.append(pending.key)
    left = set(store.keys(keys.PENDING))
    for key in left:
        parsed = keys.parse_pending_key(key)
        if parsed is not None and parsed[1] == "claimed" and keys.pending_key(parsed[0]) not in left:
            store.delete(key)
    return tuple(removed)


def rivals(store: Store, mine: Pending) -> tuple[Pending, ...]:
    """Return the other backups of the same database that other processes of this machine certainly run now."""
    return tuple(
        pending
        for _, pending in pending_backups(store)
        if pending is not None
        and pending.database == mine.database
        and pending.runner != mine.runner
        and pending.runner.is_dead(mine.runner) is False
    )


def stands(store: Store, nonce: str) -> bool:
    """Return whether the intent of the backup `nonce` stands, and nobody has claimed it.

    In this order: an intent goes before its claim does, so an intent seen after no claim was seen means that there was
    no claim when that was looked at.
    """
    return not store.exists(keys.claim_key(nonce)) and store.exists(keys.pending_key(nonce))


def committed(store: Store, pending: Pending) -> bool | None:
    """Return whether the backup's manifest stands; None where a broken one may be it."""
    key = keys.manifest_key(pending.database, pending.sequence)
    data = store.document(key)
    if data is None:
        return False
    try:
        return decode_manifest(data, key).key == pending.key
    except RepositoryDamaged:
        return None


def remove(store: Store, nonce: str, pending: Pending, *, retract: bool) -> None:
    """Remove staging file, object and intent of a backup, in this order; with `retract` its manifest before the object.

    A committed backup keeps its object, and so does one whose manifest is broken: that one keeps its intent, too.
    """
    store.unstage(nonce)
    done = committed(store, pending)
    if done is None:
        return
    if done and retract:
        store.delete(keys.manifest_key(pending.database, pending.sequence))
    if retract or not done:
        store.delete(pending.key)
    store.delete(keys.pending_key(nonce))
    store.delete(keys.claim_key(nonce))


def _decode(data: bytes, key: str, nonce: str) -> Pending | None:
    try:
        pending = decode_document("intent", data, Pending, key)
        parts = keys.parse_object_key(pending.key)
    except RepositoryDamaged:
        return None  # reported as a leftover that cannot be read
    mine = parts is not None and (parts.nonce, parts.name) == (nonce, pending.database)
    return pending if mine else None
