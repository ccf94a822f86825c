"""What dead runs left: found by their intents, and removed without taking an object from a manifest.

Runs are backups, prunes, and the sessions of those who follow a database.

Nothing locks. Whoever cleans claims the intent first and then looks for its manifest; whoever commits puts the manifest
first and then looks whether its intent still stands unclaimed (`outcome`). From the moment that the manifest stands
others build on it, so it is only taken back where the object is gone, by the committer or by the cleaner that removed
it. So a wrong guess about who is dead costs a backup, never a manifest whose object is gone.

Where this user may not remove anything, an intent is ended by what is put beside it: `.done` if its backup was
committed, `.refused` if something of it stays. Backups pass both over; whoever may remove them does (`clean`, `ended`).

A prune that makes page sets anew does likewise; all its objects have the nonce of its one intent. It takes its manifest
back only where the one before it still stands, and it removes that one only while its own intent stands.

A session of a guard commits again and again with one intent, which another session claims before it begins. So what was
committed after that is found out: whoever claimed removes what no manifest names, and the manifest of what it removed;
whose intent is claimed waits until that has ended, and counts what it committed last where its objects are there still.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from pagewarden.errors import DeletionRefused, RepositoryDamaged
from pagewarden.repository import keys
from pagewarden.repository.catalogue import read_entries
from pagewarden.repository.intent import Pending, Pruning, Runner, Session
from pagewarden.repository.manifest import Manifest, decode_document, decode_manifest
from pagewarden.repository.store import Store

Run = Pending | Pruning | Session


def pending_backups(store: Store) -> Iterator[tuple[str, Run | None]]:
    """Yield nonce and intent of each run that has begun and not ended; None for one that cannot be read."""
    yield from _begun(store, _listed(store))


def unfinished(store: Store) -> frozenset[str]:
    """Return the nonces that an object without a manifest may have: of runs under way, and of what could not go."""
    listed = _listed(store)
    return frozenset(listed["json"] - listed["done"])


def undecided(store: Store) -> frozenset[str]:
    """Return the nonces of runs that may still take back a manifest which was seen before this was called.

    A session whose intent stands unclaimed does not: whoever claims it later will see the manifest, too, and leaves
    its objects. See `unfinished` for the others.
    """
    listed = _listed(store)
    begun = listed["json"] - listed["done"]
    unclaimed = (_read(store, nonce) for nonce in sorted(begun - listed["claimed"] - listed["refused"]))
    sessions = {each[0] for each in unclaimed if each is not None and isinstance(each[1], Session)}
    # In this order: a claim that is put after it was not seen here is put after the manifest was.
    return frozenset(begun - {nonce for nonce in sessions if not store.exists(keys.claim_key(nonce))})


def sessions(store: Store, database: str) -> tuple[tuple[str, Session], ...]:
    """Return nonce and intent of each session of a database that has not ended."""
    return tuple(
        (nonce, each)
        for nonce, each in pending_backups(store)
        if isinstance(each, Session) and each.database == database
    )


def leftovers(store: Store, now: datetime) -> tuple[str, ...]:
    """Return the keys of what dead backups and prunes left, and of intents that cannot be read."""
    found = []
    here = Runner.current()
    for nonce, pending in pending_backups(store):
        if pending is None:
            found.append(keys.pending_key(nonce))
        elif pending.is_dead(here, now):
            found.append(keys.pending_key(nonce))
            found += _objects_of(store, nonce, pending) or ()
    for nonce in sorted(_listed(store)["refused"]):
        if (each := _read(store, nonce)) is not None and each[1] is not None:
            found += _objects_of(store, nonce, each[1]) or ()
    return tuple(found)


def clean(store: Store, now: datetime, *, ended: bool = False) -> tuple[str, ...]:
    """Remove what dead backups and prunes left; return the keys of their objects. Unreadable intents stay.

    With `ended`, also what those left that were not permitted to remove it. What this user may not remove stays.
    """
    removed: list[str] = []
    here = Runner.current()
    listed = _listed(store)
    found = [(nonce, each) for nonce, each in _begun(store, listed) if each is not None and each.is_dead(here, now)]
    if ended:
        refused = (_read(store, nonce) for nonce in sorted(listed["refused"]))
        found += [(each[0], each[1]) for each in refused if each is not None and each[1] is not None]
    for nonce, pending in found:
        # False where another cleaner was cut off here, or is at it: what follows may be done twice.
        store.put(keys.claim_key(nonce), b"")
        with suppress(DeletionRefused):  # noted in the repository
            if isinstance(pending, Pending):
                removed += remove(store, nonce, pending)
            elif isinstance(pending, Pruning):
                removed += remove_pruning(store, nonce, pending)
            else:
                removed += remove_session(store, nonce, pending)
    if ended:
        for nonce in sorted(listed["done"]):
            store.delete(keys.pending_key(nonce))
    left = _listed(store) if found or ended else listed
    with suppress(DeletionRefused):  # they harm nobody
        for nonce in sorted((left["claimed"] | left["done"] | left["refused"]) - left["json"]):
            _forget(store, nonce, left)
    return tuple(removed)


def rivals(store: Store, mine: Pending) -> tuple[Pending, ...]:
    """Return the other backups of the same database that other processes of this machine certainly run now."""
    return tuple(
        pending
        for _, pending in pending_backups(store)
        if isinstance(pending, Pending)
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


def outcome(store: Store, nonce: str, *object_keys: str) -> bool | None:
    """Return whether what the run `nonce` put a manifest of is committed; None while a cleaner is deciding that.

    `object_keys` are of all its objects. In this order: a cleaner removes an object before the intent, and the intent
    before its claim.
    """
    if stands(store, nonce):
        return True
    ended = not store.exists(keys.pending_key(nonce))
    if not all(store.exists(key) for key in object_keys):
        return False
    return True if ended else None


def committed(store: Store, pending: Pending) -> bool | None:
    """Return whether the backup's manifest stands and counts; None where a broken one may be it.

    One that stands beside a later generation of another position was second: the other one's was stored anew, which
    freed its key.
    """
    try:
        mine = _own_manifest(store, pending)
        if mine is None:
            return False
        listed = store.keys(keys.generations_prefix(pending.database, pending.sequence))
        later = (_manifest(store, key) for key in listed if key != _own_key(pending))
        return all(other is None or other.position == mine.position for other in later)
    except RepositoryDamaged:
        return None


def remove(store: Store, nonce: str, pending: Pending) -> tuple[str, ...]:
    """Remove staging file, object and intent of a backup, in this order; return the object's key if it may be gone.

    A committed backup keeps its object, and so does one of which nobody can tell: that one keeps its intent, too.
    Raises DeletionRefused, which is then noted in the repository, where something of it cannot go.
    """
    store.unstage(nonce)
    found = _uncommitted(store, pending)
    if found is None:
        return ()
    try:
        if found:
            _take_back(store, pending)
            store.delete(pending.key)
            _take_back(store, pending)  # it may have been put since: it has no object any more
    except DeletionRefused:
        store.put(keys.refused_key(nonce), b"")
        raise
    end(store, nonce)
    return found


def abandon(store: Store, nonce: str, pending: Pending) -> bool:
    """Remove what this process stored for the backup `nonce`; return False, and leave all of it, if it may count.

    A manifest whose object is gone does not count. Raises DeletionRefused, which is then noted in the repository.
    """
    store.unstage(nonce)
    done = committed(store, pending)
    if done is None or (done and store.exists(pending.key)):
        return False
    try:
        _take_back(store, pending)
        store.delete(pending.key)
    except DeletionRefused:
        store.put(keys.refused_key(nonce), b"")
        raise
    end(store, nonce)
    return True


def _take_back(store: Store, pending: Pending) -> None:
    """Remove the manifest of a backup that is not committed, if it stands; no other one's."""
    with suppress(RepositoryDamaged):  # a broken one is nobody's to remove
        if _own_manifest(store, pending) is not None:
            store.delete(_own_key(pending))


def _uncommitted(store: Store, pending: Pending) -> tuple[str, ...] | None:
    """Return the key of the object of a backup that is not committed, or nothing; None where nobody can tell."""
    done = committed(store, pending)
    if done is not False:
        return () if done else None
    mine = _own_key(pending)
    for entry in read_entries(store, pending.database):
        for each in (entry, *entry.others):
            if each.key == mine:
                continue
            if each.manifest is None:
                return None
            if pending.key in each.manifest.object_keys:
                return ()  # it belongs to another backup, whatever this intent says
    return (pending.key,)


def _own_key(pending: Pending) -> str:
    return keys.manifest_key(pending.database, pending.sequence)


def _own_manifest(store: Store, pending: Pending) -> Manifest | None:
    """Return the manifest that the backup put, None where none is there, or another one's. Raises RepositoryDamaged."""
    mine = _manifest(store, _own_key(pending))
    return None if mine is None or mine.key != pending.key else mine


def _manifest(store: Store, key: str) -> Manifest | None:
    """Return the manifest under `key`, None where there is none. Raises RepositoryDamaged."""
    data = store.document(key)
    return None if data is None else decode_manifest(data, key)


def end(store: Store, nonce: str, *, claimed: bool = True) -> None:
    """Remove the intent of a run of which nothing is left to do; where that may not be, put what says so.

    `claimed` is False where nobody is known to have claimed it.
    """
    try:
        store.delete(keys.pending_key(nonce))
        if claimed:
            store.delete(keys.claim_key(nonce))
    except DeletionRefused:
        store.put(keys.done_key(nonce), b"")


def remove_pruning(store: Store, nonce: str, pruning: Pruning) -> tuple[str, ...]:
    """Remove staging file, objects and intent of a prune; return the keys of the objects.

    What a manifest names stays. Where one cannot be read nobody knows what it names, and everything stays.
    """
    return _remove_unnamed(store, nonce, pruning)


def remove_session(store: Store, nonce: str, session: Session) -> tuple[str, ...]:
    """Remove staging file, objects and intent of a session, once it is claimed or over; return the objects' keys.

    What a manifest names stays. Where one cannot be read nobody knows what it names, and everything stays.
    """
    return _remove_unnamed(store, nonce, session)


def _remove_unnamed(store: Store, nonce: str, run: Pruning | Session) -> tuple[str, ...]:
    store.unstage(nonce)
    found = _objects_of(store, nonce, run)
    if found is None:
        return ()
    try:
        for key in found:
            store.delete(key)
        if found and isinstance(run, Session):  # a manifest may have been put since: it has no object any more
            gone = frozenset(found)
            for entry in read_entries(store, run.database):
                for each in (entry, *entry.others):
                    if each.manifest is not None and not gone.isdisjoint(each.manifest.object_keys):
                        store.delete(each.key)
    except DeletionRefused:
        store.put(keys.refused_key(nonce), b"")
        raise
    end(store, nonce)
    return found


def _objects_of(store: Store, nonce: str, pending: Run) -> tuple[str, ...] | None:
    """Return the keys of the objects of a run that no manifest names; None where a broken manifest may name them."""
    if isinstance(pending, Pending):
        found = _uncommitted(store, pending)
        return None if found is None else tuple(key for key in found if store.exists(key))
    # In this order: an object is stored before its manifest is put.
    parsed = {key: keys.parse_object_key(key) for key in store.keys(keys.objects_prefix(pending.database))}
    entries = tuple(read_entries(store, pending.database))
    if any(each.manifest is None for entry in entries for each in (entry, *entry.others)):
        return None
    named = {key for entry in entries for key in entry.object_keys}
    return tuple(key for key, parts in parsed.items() if parts and parts.nonce == nonce and key not in named)


def _listed(store: Store) -> dict[str, set[str]]:
    """Return the nonces that stand below `pending/`, by what stands there of each."""
    found: dict[str, set[str]] = {"json": set(), "claimed": set(), "done": set(), "refused": set()}
    for key in store.keys(keys.PENDING):
        if (parsed := keys.parse_pending_key(key)) is not None:
            found[parsed[1]].add(parsed[0])
    return found


def _forget(store: Store, nonce: str, listed: dict[str, set[str]]) -> None:
    """Remove what stands beside an intent that is gone."""
    for what, key in (("claimed", keys.claim_key), ("done", keys.done_key), ("refused", keys.refused_key)):
        if nonce in listed[what]:
            store.delete(key(nonce))


def _begun(store: Store, listed: dict[str, set[str]]) -> Iterator[tuple[str, Run | None]]:
    for nonce in sorted(listed["json"] - listed["done"] - listed["refused"]):
        if (found := _read(store, nonce)) is not None:
            yield found


def _read(store: Store, nonce: str) -> tuple[str, Run | None] | None:
    """Return nonce and intent, None where it ended meanwhile."""
    key = keys.pending_key(nonce)
    data = store.document(key)
    return None if data is None else (nonce, _decode(data, key, nonce))


def _decode(data: bytes, key: str, nonce: str) -> Run | None:
    try:
        if data.startswith(b'{"prune":'):
            return decode_document("prune", data, Pruning, key)
        if data.startswith(b'{"session":'):
            return decode_document("session", data, Session, key)
        pending = decode_document("intent", data, Pending, key)
        parts = keys.parse_object_key(pending.key)
    except RepositoryDamaged:
        return None  # reported as a leftover that cannot be read
    mine = parts is not None and (parts.nonce, parts.name) == (nonce, pending.database)
    return pending if mine else None
