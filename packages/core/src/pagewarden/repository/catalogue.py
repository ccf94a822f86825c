"""The manifests of one database as they are found: of each restore point one that counts.

A restore point may be stored anew, as a smaller chain or a snapshot of its own: then a manifest of a higher generation
names the new object. The highest one that can be used counts; the others go when it is proved. Where it holds what was
followed in batches before it, too, it says from which number on: the manifests of those count no more, and go with the
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from msgspec import UNSET

from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.repository import keys
from pagewarden.repository.keys import ManifestKey
from pagewarden.repository.manifest import Manifest, decode_manifest
from pagewarden.repository.numbers import FAR
from pagewarden.repository.store import Store

_TURNS = 5  # how often what stands there is listed again because some of it went away

_AT_ONCE = 500
"""Manifests that are in memory before they are decoded; each may have 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One manifest as it was found; of one that was stored anew, the highest generation that can be used."""

    key: str
    manifest: Manifest | None  # None where it cannot be used
    sequence: int = 0  # the number that its key gives it; 0 where that is none of a manifest
    problem: str = ""  # why not, one sentence
    gone: bool = False  # whether it went away while it was looked at
    others: tuple[Entry, ...] = ()  # its other generations, superseded or broken, and what is gathered in it

    @property
    def object_keys(self) -> frozenset[str]:
        """The keys of the objects that its generations name, superseded ones included."""
        each = (one.manifest for one in (self, *self.others))
        return frozenset(key for manifest in each if manifest is not None for key in manifest.object_keys)


def read_entries(store: Store, name: str) -> Iterator[Entry]:
    """Yield every manifest of `name`, usable or not, in order of commit. See `Repository.entries`."""
    prefix = keys.manifests_prefix(name)
    known: dict[str, Entry] = {}
    for _ in range(_TURNS):
        listed = store.keys(prefix)
        known = {key: known[key] for key in listed if key in known}
        # Each document is asked for once, all in one go: there may be many thousands.
        known.update((each.key, each) for each in read_documents(store, [key for key in listed if key not in known]))
        # Where some went away those that stand for them came meanwhile, and both must be of one listing.
        gone = [key for key, each in known.items() if each.gone]
        if not gone:
            break
        last = [known.pop(key) for key in gone]
    else:
        known.update((each.key, each) for each in last)
    yield from without_gathered(arranged(store, name, (known[key] for key in listed)))


def arranged(store: Store, name: str, found: Iterable[Entry]) -> Iterator[Entry]:
    """Yield of each manifest of `name` the generation that counts; `found` are all of them, in order of their keys."""
    for sequence, group in groupby(found, attrgetter("sequence")):
        all_of = list(group)
        if sequence == 0:
            yield from all_of
        elif len(all_of) == 1 and all_of[0].manifest is not None:
            yield all_of[0]
        elif (entry := _newest_generation(store, name, sequence, all_of)) is not None:
            yield entry


def without_gathered(found: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries, of one database and in order of sequence; what is gathered in one is among its `others`."""
    kept: list[Entry] = []
    into = -1  # place of the entry in which older ones may be gathered
    gathered: dict[int, list[Entry]] = {}  # by that place
    for entry in reversed(list(found)):
        if into >= 0 and _is_in(entry, kept[into]):
            gathered.setdefault(into, []).extend((replace(entry, others=()), *entry.others))
            continue
        if entry.manifest is not None and entry.manifest.gathered is not UNSET:
            into = len(kept)
        kept.append(entry)
    for place, others in gathered.items():
        kept[place] = replace(kept[place], others=(*kept[place].others, *others))
    yield from reversed(kept)


def _is_in(entry: Entry, into: Entry) -> bool:
    """Return whether an older entry is gathered in `into`: it is one of the commits that are stored there."""
    one, other = entry.manifest, into.manifest
    if one is None or other is None or other.gathered is UNSET or other.parent is None:
        return False
    return (
        other.gathered <= entry.sequence
        and one.position.timeline == other.position.timeline
        and other.parent.txid < one.position.txid < other.position.txid
    )


def _newest_generation(store: Store, name: str, sequence: int, found: list[Entry]) -> Entry | None:
    """Return the entry of one manifest, of which `found` are all generations; None where it went away meanwhile."""
    if not any(entry.manifest for entry in found):
        # It may have been stored anew since they were listed, or pruned.
        listed = store.keys(f"{keys.manifests_prefix(name)}{sequence:016}.")
        if listed != [entry.key for entry in found]:
            found = list(read_documents(store, listed))
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


def read_documents(store: Store, listed: Sequence[str]) -> Iterator[Entry]:
    """Read manifests by their keys; whatever is wrong with one must not hide the others."""
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
        problem = f"{key} went away while it was looked at"
        return Entry(key=key, sequence=sequence, manifest=None, problem=problem, gone=True)
    if isinstance(data, PagewardenError):
        return Entry(key=key, sequence=sequence, manifest=None, problem=data.message)
    try:
        manifest = decode_manifest(data, key)
    except RepositoryDamaged as error:
        return Entry(key=key, sequence=sequence, manifest=None, problem=error.message)
    at, commits = manifest.position, manifest.commits
    if (
        parsed.name != manifest.database
        or sequence != manifest.sequence
        or at.txid > keys.LAST
        or not keys.is_object_key(manifest.key, parsed.name, at.timeline, at.txid)
        or (commits and not keys.is_object_key(commits.key, parsed.name, at.timeline, at.txid, commits=True))
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
