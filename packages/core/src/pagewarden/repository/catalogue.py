"""The manifests of one database as they are found: of each restore point one that counts.

A restore point may be stored anew, as a smaller chain or a snapshot of its own: then a manifest of a higher generation
names the new object. The highest one that can be used counts; the others go when it is proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.repository import keys
from pagewarden.repository.keys import ManifestKey
from pagewarden.repository.manifest import Manifest, decode_manifest
from pagewarden.repository.numbers import FAR
from pagewarden.repository.store import Store

_AT_ONCE = 500
"""Manifests that are in memory before they are decoded; each may have 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One manifest as it was found; of one that was stored anew, the highest generation that can be used."""

    key: str
    manifest: Manifest | None  # None where it cannot be used
    sequence: int = 0  # the number that its key gives it; 0 where that is none of a manifest
    problem: str = ""  # why not, one sentence
    others: tuple[Entry, ...] = ()  # its other generations: superseded, or broken

    @property
    def object_keys(self) -> frozenset[str]:
        """The keys of the objects that its generations name, superseded ones included."""
        return frozenset(each.manifest.key for each in (self, *self.others) if each.manifest is not None)


def read_entries(store: Store, name: str) -> Iterator[Entry]:
    """Yield every manifest of `name`, usable or not, in order of commit. See `Repository.entries`."""
    # Each document is asked for once, all in one go: there may be many thousands.
    for sequence, group in groupby(_read(store, store.keys(keys.manifests_prefix(name))), attrgetter("sequence")):
        found = list(group)
        if sequence == 0:
            yield from found
        elif len(found) == 1 and found[0].manifest is not None:
            yield found[0]
        elif (entry := _newest_generation(store, name, sequence, found)) is not None:
            yield entry


def _newest_generation(store: Store, name: str, sequence: int, found: list[Entry]) -> Entry | None:
    """Return the entry of one manifest, of which `found` are all generations; None where it went away meanwhile."""
    if not any(entry.manifest for entry in found):
        # It may have been stored anew since they were listed, or pruned.
        listed = store.keys(f"{keys.manifests_prefix(name)}{sequence:016}.")
        if listed != [entry.key for entry in found]:
            found = list(_read(store, listed))
    if not found:
        return None
    found.sort(key=_generation, reverse=True)
    usable = [entry for entry in found if entry.manifest is not None]
    if len(usable) > 1 and (second := _uncommitted(store, usable)) is not None:
        usable.remove(second)
        problem = f"{second.key} is of a backup that was second, and not committed"
        found[found.index(second)] = replace(second, manifest=None, problem=problem)
    used = usable[0] if usable else found[0]
    if any(_same(used) != _same(entry) for entry in usable):
        names = " and ".join(entry.key for entry in usable)
        problem = f"{names} are of one manifest and contradict each other"
        return Entry(key=used.key, manifest=None, sequence=sequence, problem=problem)
    return replace(used, others=tuple(entry for entry in found if entry is not used)) if len(found) > 1 else used


def _uncommitted(store: Store, usable: Sequence[Entry]) -> Entry | None:
    """Return the entry of a backup under way that came second: the key was free again; None where there is none.

    `usable` are several generations, from the highest down. Its maker, or whoever cleans, will remove it.
    """
    last = usable[-1]
    assert last.manifest is not None
    parts = keys.parse_object_key(last.manifest.key)
    second = _generation(last) == 0 and all(_same(last) != _same(each) for each in usable[:-1])
    return last if second and parts is not None and store.exists(keys.pending_key(parts.nonce)) else None


def _read(store: Store, listed: Sequence[str]) -> Iterator[Entry]:
    """Read manifests; whatever is wrong with one must not hide the others."""
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        # All of them, and then all are decoded: taken in turns both are slower.
        documents = list(store.documents(some))
        for key, data in zip(some, documents, strict=True):
            yield _entry(key, keys.parse_manifest_key(key), data)


def _entry(key: str, parsed: ManifestKey | None, data: bytes | PagewardenError | None) -> Entry:
    """Return what stands under a key among the manifests."""
    if parsed is None:
        return Entry(key=key, manifest=None, problem=f"{key} is not where a manifest stands")
    sequence = parsed.sequence
    if data is None:
        return Entry(key=key, sequence=sequence, manifest=None, problem=f"{key} went away while it was looked at")
    if isinstance(data, PagewardenError):
        return Entry(key=key, sequence=sequence, manifest=None, problem=data.message)
    try:
        manifest = decode_manifest(data, key)
    except RepositoryDamaged as error:
        return Entry(key=key, sequence=sequence, manifest=None, problem=error.message)
    at = manifest.position
    if (
        parsed.name != manifest.database
        or sequence != manifest.sequence
        or at.txid > keys.LAST
        or not keys.is_object_key(manifest.key, parsed.name, at.timeline, at.txid)
    ):
        return Entry(key=key, sequence=sequence, manifest=None, problem=f"{key} holds the manifest of another place")
    return Entry(key=key, sequence=sequence, manifest=manifest)


def _generation(entry: Entry) -> int:
    parsed = keys.parse_manifest_key(entry.key)
    return -1 if parsed is None else parsed.generation


def _same(entry: Entry) -> object:
    """Return what all generations of one manifest say alike: what the restore point is, not how it is stored."""
    manifest = entry.manifest
    assert manifest is not None
    return manifest.position, manifest.page_size, manifest.pages, manifest.database_sum


def newest_entry(entries: Sequence[Entry]) -> Entry | None:
    """Return the last of `entries`, usable or not, that can be of a backup; None without any."""
    usable = max((entry.sequence for entry in entries if entry.manifest is not None), default=0)
    mine = (entry for entry in reversed(entries) if entry.manifest is not None or 0 < entry.sequence <= usable + FAR)
    return next(mine, None)


def unread_after(entries: Sequence[Entry], strays: Sequence[str], found: Manifest) -> str:
    """Return why the backup that was made after `found`, one of `entries`, cannot be read; empty if it can, or is none.

    Then it may be the one that is asked for. `strays` are the keys of objects that no manifest names.
    """
    number = [entry.manifest.key if entry.manifest else "" for entry in entries].index(found.key)
    later = entries[number + 1 :]
    if later and later[0].problem and later[0].sequence - entries[number].sequence <= FAR:
        return later[0].problem
    if later and later[0].sequence == entries[number].sequence + 1:
        return ""
    lost = next((key for key in strays if _may_follow(key, entries, found)), None)
    return f"no manifest names {lost}" if lost else ""


def _may_follow(key: str, entries: Sequence[Entry], found: Manifest) -> bool:
    """Return whether the object `key`, which no manifest names, may be of the backup that was made after `found`."""
    parts = keys.parse_object_key(key)
    if parts is None:
        return False
    known = [entry.manifest.position for entry in entries if entry.manifest is not None]
    same = [each.txid for each in known if each.timeline == parts.timeline]
    if parts.timeline != found.position.timeline:
        return not same and len(known) == len(entries)  # else it may be of a manifest that is broken
    first = found.position.txid
    return parts.txid > first and not any(first < txid <= parts.txid for txid in same)
