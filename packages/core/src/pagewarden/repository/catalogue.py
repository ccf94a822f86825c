"""The manifests of one database as they are found: of each restore point one that counts.

A restore point may be stored anew, as a smaller chain or a snapshot of its own: then a manifest of a higher generation
names the new object. The highest one that can be used counts; the others go when it is proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from pagewarden.errors import RepositoryDamaged, TargetFailed
from pagewarden.repository import keys
from pagewarden.repository.manifest import Manifest, decode_manifest
from pagewarden.repository.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One manifest as it was found; of one that was stored anew, the highest generation that can be used."""

    key: str
    manifest: Manifest | None  # None where it cannot be used
    problem: str = ""  # why not, one sentence
    others: tuple[Entry, ...] = ()  # its other generations: superseded, or broken

    @property
    def sequence(self) -> int:
        """The number that its key gives it; 0 where that is none of a manifest."""
        parsed = keys.parse_manifest_key(self.key)
        return 0 if parsed is None else parsed.sequence

    @property
    def object_keys(self) -> frozenset[str]:
        """The keys of the objects that its generations name, superseded ones included."""
        return frozenset(each.manifest.key for each in (self, *self.others) if each.manifest is not None)


def read_entries(store: Store, name: str) -> Iterator[Entry]:
    """Yield every manifest of `name`, usable or not, in order of commit. See `Repository.entries`."""
    for sequence, group in groupby(store.keys(keys.manifests_prefix(name)), _sequence):
        if sequence is None:
            yield from (_read(store, key) for key in group)
        elif (entry := _newest_generation(store, name, sequence, list(group))) is not None:
            yield entry


def _newest_generation(store: Store, name: str, sequence: int, generations: list[str]) -> Entry | None:
    """Return the entry of one manifest, of which `generations` are the keys; None where it went away meanwhile."""
    found = [_read(store, key) for key in generations]
    if not any(entry.manifest for entry in found):
        # It may have been stored anew since they were listed, or pruned.
        listed = store.keys(f"{keys.manifests_prefix(name)}{sequence:016}.")
        if listed != generations:
            found = [_read(store, key) for key in listed]
    if not found:
        return None
    found.sort(key=_generation, reverse=True)
    usable = [entry for entry in found if entry.manifest is not None]
    used = usable[0] if usable else found[0]
    if any(_same(used) != _same(entry) for entry in usable):
        names = " and ".join(entry.key for entry in usable)
        return Entry(key=used.key, manifest=None, problem=f"{names} are of one manifest and contradict each other")
    return replace(used, others=tuple(entry for entry in found if entry is not used)) if len(found) > 1 else used


def _read(store: Store, key: str) -> Entry:
    """Read one manifest; whatever is wrong with it must not hide the others."""
    parsed = keys.parse_manifest_key(key)
    if parsed is None:
        return Entry(key=key, manifest=None, problem=f"{key} is not where a manifest stands")
    try:
        data = store.document(key)
        manifest = None if data is None else decode_manifest(data, key)
    except (RepositoryDamaged, TargetFailed) as error:
        return Entry(key=key, manifest=None, problem=error.message)
    if manifest is None:
        return Entry(key=key, manifest=None, problem=f"{key} went away while it was looked at")
    parts = keys.parse_object_key(manifest.key)
    here = None if parts is None else (parts.name, parts.timeline, parts.txid)
    said = (manifest.database, manifest.position.timeline, manifest.position.txid)
    if here != said or (parsed.name, parsed.sequence) != (manifest.database, manifest.sequence):
        return Entry(key=key, manifest=None, problem=f"{key} holds the manifest of another place")
    return Entry(key=key, manifest=manifest)


def _sequence(key: str) -> int | None:
    """Return the number of the manifest under `key`, None where none may stand."""
    parsed = keys.parse_manifest_key(key)
    return None if parsed is None else parsed.sequence


def _generation(entry: Entry) -> int:
    parsed = keys.parse_manifest_key(entry.key)
    return -1 if parsed is None else parsed.generation


def _same(entry: Entry) -> object:
    """Return what all generations of one manifest say alike: what the restore point is, not how it is stored."""
    manifest = entry.manifest
    assert manifest is not None
    return manifest.position, manifest.page_size, manifest.pages, manifest.database_sum
