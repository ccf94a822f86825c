"""Where things stand in a repository: the keys of marker, manifests, objects and intents, both ways.

    pagewarden.json                                           the format's marker
    <name>/manifests/<sequence>.json                          one restore point; putting it is the commit
    <name>/manifests/<sequence>.<generation>.json             the same one, stored anew: the highest generation counts
    <name>/objects/<timeline>/<txid>-<nonce>.pageset.zst      one page set
    <name>/objects/<timeline>/<txid>-<nonce>.commits.zst      every commit that led there, each with its own pages
    <name>/marks/<txid>-<nonce>.json                          the name of a moment
    <name>/pins/<sequence>-<nonce>.json                       a restore point that is kept whatever the policy
    <name>/deleted/<sequence>-<nonce>.json                    one that is to go once its grace period is over
    <name>/deleted/<sequence>-<nonce>.end                     how that ended: it was kept, or it is purged
    pending/<nonce>.json                                      a backup, a prune or a session that has not ended
    pending/<nonce>.claimed                                   somebody is removing what that backup left
    pending/<nonce>.done                                      it was committed, and its intent may not be removed
    pending/<nonce>.refused                                   it was not, and what it stored may not be removed

Sequence and txid have 16 decimal digits and a generation, from 1, has 4, so that keys sort as the numbers do. A name is
the database's own, with every byte of its UTF-8 outside `[A-Za-z0-9._-]` written as `=XX`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pagewarden.errors import ConfigurationInvalid, RepositoryDamaged

MARKER = "pagewarden.json"
LAST = 10**16 - 1  # sequence and txid
LAST_GENERATION = 9999
PENDING = "pending/"

_PLAIN = re.compile(rb"[A-Za-z0-9._-]")
_ESCAPED = re.compile(r"(?:[A-Za-z0-9._-]|=[0-9A-F]{2})+")
_RESERVED = frozenset({"pending", MARKER})
_OTHERWISE = "pagewarden backup --name NAME gives it another"
_LONGEST = 200  # bytes of an escaped name; file systems allow 255
_MANIFEST = re.compile(r"([^/]+)/manifests/([0-9]{16})(?:\.([0-9]{4}))?\.json")
_MARK = re.compile(r"([^/]+)/(pins|deleted)/([0-9]{16})-([0-9a-f]{16})\.(json|end)")
_OBJECT = re.compile(r"([^/]+)/objects/([0-9a-f]{32})/([0-9]{16})-([0-9a-f]{16})\.(pageset|commits)\.zst")
_OBJECT_END = re.compile(r"[0-9a-f]{16}\.pageset\.zst")
_COMMITS_END = re.compile(r"[0-9a-f]{16}\.commits\.zst")
_MOMENT = re.compile(r"([^/]+)/marks/([0-9]{16})-([0-9a-f]{16})\.json")
_INTENT = re.compile(r"pending/([0-9a-f]{16})\.(json|claimed|done|refused)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKey:
    """What the key of an object says."""

    name: str
    timeline: str
    txid: int
    nonce: str
    commits: bool = False  # whether it is a page set of commits


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestKey:
    """What the key of a manifest says."""

    name: str
    sequence: int
    generation: int = 0  # how often it was stored anew


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkKey:
    """What the key of a pin, or of a mark that a restore point is deleted, says."""

    name: str
    sequence: int  # of the restore point's manifest
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentKey:
    """What the key of the name of a moment says."""

    name: str
    txid: int  # of the position that is named
    nonce: str


@lru_cache(maxsize=64)
def escape_name(name: str) -> str:
    """Return the database name `name` as the first part of its keys.

    Raises ConfigurationInvalid for a name that cannot be one: empty, no UTF-8, with a `/`, or too long.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationInvalid(
            f"{name!a} is not UTF-8 and cannot name a database in a repository", hint=_OTHERWISE
        ) from error
    escaped = "".join(chr(byte) if _PLAIN.match(bytes([byte])) else f"={byte:02X}" for byte in raw)
    if escaped in _RESERVED or escaped.startswith("."):
        escaped = f"={raw[0]:02X}{escaped[1:]}"
    if not raw or b"/" in raw or len(escaped) > _LONGEST:
        raise ConfigurationInvalid(
            f"{name!a} cannot name a database in a repository: it is empty, holds a slash or is too long",
            hint=_OTHERWISE,
        )
    return escaped


@lru_cache(maxsize=64)
def unescape_name(escaped: str) -> str | None:
    """Return the name that `escape_name` wrote so, None where it would have written no such thing."""
    if _ESCAPED.fullmatch(escaped) is None:
        return None
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), escaped.encode())
    try:
        name = raw.decode()
        return name if escape_name(name) == escaped else None
    except (UnicodeDecodeError, ConfigurationInvalid):
        return None


@lru_cache(maxsize=64)
def manifests_prefix(name: str) -> str:
    """Return what the keys of all manifests of `name` begin with."""
    return f"{escape_name(name)}/manifests/"


@lru_cache(maxsize=64)
def objects_prefix(name: str) -> str:
    """Return what the keys of all objects of `name` begin with."""
    return f"{escape_name(name)}/objects/"


def manifest_key(name: str, sequence: int, generation: int = 0) -> str:
    """Return the key of manifest number `sequence` of `name`, stored anew `generation` times: 0 to LAST_GENERATION.

    Raises RepositoryDamaged for numbers that no key can have: one that is found has led there.
    """
    if sequence > LAST or generation > LAST_GENERATION:
        raise RepositoryDamaged(
            f"manifest number {sequence} of {name}, generation {generation}, has no key: there are no numbers left"
        )
    again = f".{generation:04}" if generation else ""
    return f"{manifests_prefix(name)}{sequence:016}{again}.json"


def generations_prefix(name: str, sequence: int) -> str:
    """Return what the keys of all generations of manifest number `sequence` of `name` begin with."""
    return f"{manifests_prefix(name)}{sequence:016}."


def parse_manifest_key(key: str) -> ManifestKey | None:
    """Return what the key says, None for a key that is none of a manifest."""
    match = _MANIFEST.fullmatch(key)
    name = unescape_name(match[1]) if match else None
    if match is None or name is None or match[3] == "0000":
        return None
    return ManifestKey(name=name, sequence=int(match[2]), generation=int(match[3] or 0))


def pins_prefix(name: str) -> str:
    """Return what the keys of all pins of `name` begin with."""
    return f"{escape_name(name)}/pins/"


def pin_key(parts: MarkKey) -> str:
    """Return the key of a pin."""
    return f"{pins_prefix(parts.name)}{parts.sequence:016}-{parts.nonce}.json"


def parse_pin_key(key: str) -> MarkKey | None:
    """Return what the key says, None for a key that is none of a pin."""
    found = _parse_mark(key, "pins")
    return found[0] if found is not None and found[1] == "json" else None


def deleted_prefix(name: str) -> str:
    """Return what the keys of all marks of deleted restore points of `name`, and of their ends, begin with."""
    return f"{escape_name(name)}/deleted/"


def deleted_key(parts: MarkKey) -> str:
    """Return the key of the mark that a restore point is deleted."""
    return f"{deleted_prefix(parts.name)}{parts.sequence:016}-{parts.nonce}.json"


def deleted_end_key(parts: MarkKey) -> str:
    """Return the key of what decides how the mark `parts` ended: whoever puts it first, does."""
    return f"{deleted_prefix(parts.name)}{parts.sequence:016}-{parts.nonce}.end"


def parse_deleted_key(key: str) -> tuple[MarkKey, str] | None:
    """Return which mark the key is of and what it is ("json" or "end"), None for a key that is none of a mark."""
    return _parse_mark(key, "deleted")


def _parse_mark(key: str, folder: str) -> tuple[MarkKey, str] | None:
    match = _MARK.fullmatch(key)
    name = unescape_name(match[1]) if match else None
    if match is None or name is None or match[2] != folder:
        return None
    return MarkKey(name=name, sequence=int(match[3]), nonce=match[4]), match[5]


def object_key(parts: ObjectKey) -> str:
    """Return the key of an object. Raises RepositoryDamaged for a txid beyond LAST."""
    if parts.txid > LAST:
        raise RepositoryDamaged(f"txid {parts.txid} of {parts.name} has no key: there are no numbers left")
    kind = "commits" if parts.commits else "pageset"
    return f"{objects_prefix(parts.name)}{parts.timeline}/{parts.txid:016}-{parts.nonce}.{kind}.zst"


def parse_object_key(key: str) -> ObjectKey | None:
    """Return what the key says, None for a key that is none of an object."""
    match = _OBJECT.fullmatch(key)
    name = unescape_name(match[1]) if match else None
    if match is None or name is None:
        return None
    return ObjectKey(name=name, timeline=match[2], txid=int(match[3]), nonce=match[4], commits=match[5] == "commits")


def is_object_key(key: str, name: str, timeline: str, txid: int, *, commits: bool = False) -> bool:
    """Return whether the key is one of an object of that place: cheaper than to parse it. `name` must be one.

    With `commits`, whether it is one of a page set of commits.
    """
    begin = f"{objects_prefix(name)}{timeline}/{txid:016}-"
    return key.startswith(begin) and (_COMMITS_END if commits else _OBJECT_END).fullmatch(key, len(begin)) is not None


def moments_prefix(name: str) -> str:
    """Return what the keys of the names of all moments of `name` begin with."""
    return f"{escape_name(name)}/marks/"


def moment_key(parts: MomentKey) -> str:
    """Return the key of the name of a moment. Raises RepositoryDamaged for a txid beyond LAST."""
    if parts.txid > LAST:
        raise RepositoryDamaged(f"txid {parts.txid} of {parts.name} has no key: there are no numbers left")
    return f"{moments_prefix(parts.name)}{parts.txid:016}-{parts.nonce}.json"


def parse_moment_key(key: str) -> MomentKey | None:
    """Return what the key says, None for a key that is none of a moment's name."""
    match = _MOMENT.fullmatch(key)
    name = unescape_name(match[1]) if match else None
    if match is None or name is None:
        return None
    return MomentKey(name=name, txid=int(match[2]), nonce=match[3])


def pending_key(nonce: str) -> str:
    """Return the key of the intent of the backup, prune or session `nonce`."""
    return f"{PENDING}{nonce}.json"


def claim_key(nonce: str) -> str:
    """Return the key that says that the backup `nonce` is being cleaned away and must not commit any more."""
    return f"{PENDING}{nonce}.claimed"


def done_key(nonce: str) -> str:
    """Return the key that says that the backup `nonce` has ended, where its intent may not be removed."""
    return f"{PENDING}{nonce}.done"


def refused_key(nonce: str) -> str:
    """Return the key that says that what the backup `nonce` stored may not be removed."""
    return f"{PENDING}{nonce}.refused"


def parse_pending_key(key: str) -> tuple[str, str] | None:
    """Return nonce and what it is ("json", "claimed", "done", "refused"), None for a key that is none of an intent."""
    match = _INTENT.fullmatch(key)
    return (match[1], match[2]) if match else None
