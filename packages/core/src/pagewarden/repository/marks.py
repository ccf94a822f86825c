"""What people and policies say of restore points: pins, and marks that one is deleted. Documents beside the manifests.

1. A pin keeps its restore point whatever the policy; to unpin is to remove it.
2. A mark deletes its restore point softly: it is not listed any more, and everything of it stays.
3. Beside a mark its end may stand, which is put only if absent: "kept" where `undelete` was first, "purged" where a
   `prune` was, after the grace period. So whichever comes first decides, on any target, and the other one sees it.
4. What cannot be read never makes a restore point go: a broken mark counts for nothing, and nobody knows what a broken
   end says, so its restore point is neither listed nor purged.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from typing import TypeVar

from pagewarden.errors import ConfigurationInvalid, PagewardenError, RepositoryDamaged
from pagewarden.lineage import readable
from pagewarden.repository import keys
from pagewarden.repository.keys import MarkKey
from pagewarden.repository.manifest import FORMAT, decode_document, encode_document
from pagewarden.repository.store import Store

LONGEST_NOTE = 1000
"""Characters of a pin's note and of the reason of a deletion."""

KEPT = "kept"
PURGED = "purged"
UNCLEAR = "unclear"

Token = Callable[[int], str]
D = TypeVar("D", bound="_Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What all three say. Raises ValueError for nonsense."""

    format: int = FORMAT
    database: str  # name in the repository
    sequence: int  # of the restore point's manifest
    time: datetime  # when it was put, UTC

    def __post_init__(self) -> None:
        if self.sequence < 1 or self.time.utcoffset() != timedelta(0):
            raise ValueError(f"number {self.sequence} at {self.time}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin(_Document):
    """A restore point that is kept whatever the policy."""

    note: str
    by: str  # host name


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark(_Document):
    """A restore point that is deleted, softly."""

    why: str
    by: str  # host name


@dataclass(frozen=True, slots=True, kw_only=True)
class End(_Document):
    """How the deletion ended."""

    outcome: str  # "kept" or "purged"

    def __post_init__(self) -> None:
        _Document.__post_init__(self)
        if self.outcome not in (KEPT, PURGED):
            raise ValueError(f"the outcome {self.outcome!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One restore point that is deleted, and not undeleted since."""

    sequence: int
    time: datetime | None  # of its newest open mark, from which its grace period counts; None where none is open
    why: str = ""
    end: str = ""  # "purged" where its purge began, "unclear" where that cannot be read; empty while it can be undone


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What stands in a repository about the restore points of one database."""

    deletions: dict[int, Deletion] = field(default_factory=dict)  # by sequence
    pins: dict[int, str] = field(default_factory=dict)  # notes by sequence
    problems: tuple[str, ...] = ()  # what cannot be read, one sentence each

    def hidden(self, sequence: int) -> bool:
        """Return whether the restore point is not listed: it is deleted, or being purged."""
        return sequence in self.deletions

    def gone(self, sequence: int) -> bool:
        """Return whether it cannot be restored even by name: its purge began."""
        deletion = self.deletions.get(sequence)
        return deletion is not None and deletion.end == PURGED


def read_marks(store: Store, name: str) -> Marks:
    """Return what is said of the restore points of `name`; what is broken is among the problems."""
    problems: list[str] = []
    deletions = _read_deletions(store, name, problems)
    pins: dict[int, str] = {}
    for parts, pin in _read_all(store, store.keys(keys.pins_prefix(name)), keys.parse_pin_key, "pin", Pin, problems):
        # A pin is believed even where it cannot be read: that keeps more, never less.
        pins[parts.sequence] = pin.note if pin is not None else pins.get(parts.sequence, "")
    return Marks(deletions=deletions, pins=pins, problems=tuple(problems))


def marked_numbers(store: Store, name: str) -> tuple[int, ...]:
    """Return the numbers of the restore points of `name` of which anything is said, whether they are there or not."""
    found = map(keys.parse_pin_key, store.keys(keys.pins_prefix(name)))
    deleted = map(keys.parse_deleted_key, store.keys(keys.deleted_prefix(name)))
    pinned = {parts.sequence for parts in found if parts is not None}
    return tuple(sorted(pinned | {each[0].sequence for each in deleted if each is not None}))


def pin(store: Store, name: str, sequence: int, *, note: str, now: datetime, token: Token = token_hex) -> None:
    """Keep a restore point whatever the policy. Raises ConfigurationInvalid for a note that is too long."""
    document = Pin(database=name, sequence=sequence, time=now, note=_bounded(note), by=_here())
    store.put(keys.pin_key(_new(name, sequence, token)), encode_document("pin", document))


def unpin(store: Store, name: str, sequence: int) -> int:
    """Remove all pins of a restore point, broken ones included; return how many there were."""
    found = [key for key in store.keys(keys.pins_prefix(name)) if _sequence(keys.parse_pin_key(key)) == sequence]
    for key in found:
        store.delete(key)
    return len(found)


def delete(store: Store, name: str, sequence: int, *, why: str, now: datetime, token: Token = token_hex) -> None:
    """Mark a restore point as deleted."""
    document = Mark(database=name, sequence=sequence, time=now, why=why[:LONGEST_NOTE], by=_here())
    store.put(keys.deleted_key(_new(name, sequence, token)), encode_document("deleted", document))


def decide(store: Store, name: str, sequence: int, outcome: str, *, now: datetime) -> str:
    """End all open deletions of a restore point as `outcome`; return how they ended, which another may have decided.

    "" where it is not deleted at all (any more). Purged anywhere is purged; what cannot be read is unclear.
    """
    ends: list[str] = []
    found = [parts for key in store.keys(keys.deleted_prefix(name)) if (parts := _mark_of(key, sequence)) is not None]
    for parts in found:
        ends.append(_decide(store, parts, outcome, now))
    return next((end for end in (UNCLEAR, PURGED, KEPT) if end in ends), "")


def forget(store: Store, name: str, sequence: int) -> None:
    """Remove the marks of a restore point of which nothing else is left, then their ends."""
    found = store.keys(keys.deleted_prefix(name))
    for kind in ("json", "end"):
        for key in found:
            parsed = keys.parse_deleted_key(key)
            if parsed is not None and (parsed[0].sequence, parsed[1]) == (sequence, kind):
                store.delete(key)


def settled(store: Store, name: str) -> tuple[str, ...]:
    """Return the keys of marks that ended as kept, each before its end, and of ends whose mark is gone, to remove."""
    marks: dict[MarkKey, set[str]] = {}
    for key in store.keys(keys.deleted_prefix(name)):
        parsed = keys.parse_deleted_key(key)
        if parsed is not None:
            marks.setdefault(parsed[0], set()).add(parsed[1])
    found: list[str] = []
    for parts, kinds in marks.items():
        if "end" in kinds and (end := _end(store, parts)) is not None and end.outcome == KEPT:
            found += [keys.deleted_key(parts), keys.deleted_end_key(parts)]
    return tuple(found)


def _decide(store: Store, parts: MarkKey, outcome: str, now: datetime) -> str:
    """End one mark; return how it ended, "" where it went away meanwhile."""
    document = End(database=parts.name, sequence=parts.sequence, time=now, outcome=outcome)
    key = keys.deleted_end_key(parts)
    if not store.put(key, encode_document("end", document)):
        end = _end(store, parts)
        return UNCLEAR if end is None else end.outcome
    if not store.exists(keys.deleted_key(parts)):
        # It had ended before, and both were removed: a mark goes before its end does. This end is of nothing.
        store.delete(key)
        return ""
    return outcome


def _end(store: Store, parts: MarkKey) -> End | None:
    """Return the end of a mark, None where it cannot be read or is not there."""
    key = keys.deleted_end_key(parts)
    data = store.document(key)
    if data is None:
        return None
    try:
        end = decode_document("end", data, End, key)
    except RepositoryDamaged:
        return None  # "unclear", which whoever asked tells
    return end if (end.database, end.sequence) == (parts.name, parts.sequence) else None


def _read_deletions(store: Store, name: str, problems: list[str]) -> dict[int, Deletion]:
    found = store.keys(keys.deleted_prefix(name))
    # In this order: an end goes after its mark does, so an end that is not seen leaves its mark open, or there is none.
    ends = {
        parts: UNCLEAR if end is None else end.outcome
        for parts, end in _read_all(store, found, lambda key: _parse_deleted(key, "end"), "end", End, problems)
    }
    deletions: dict[int, Deletion] = {}
    for parts, outcome in ends.items():
        if outcome != KEPT:
            deletions[parts.sequence] = Deletion(sequence=parts.sequence, time=None, end=outcome)
    for parts, mark in _read_all(store, found, lambda key: _parse_deleted(key, "json"), "deleted", Mark, problems):
        if mark is None or ends.get(parts) == KEPT:
            continue
        known = deletions.get(parts.sequence)
        end = "" if known is None else known.end
        if known is None or known.time is None or known.time < mark.time:
            deletions[parts.sequence] = Deletion(sequence=parts.sequence, time=mark.time, why=mark.why, end=end)
    return deletions


def _read_all(
    store: Store,
    found: list[str],
    parse: Callable[[str], MarkKey | None],
    what: str,
    kind: type[D],
    problems: list[str],
) -> list[tuple[MarkKey, D | None]]:
    """Return the documents of one kind among the keys `found`; None for one that is broken."""
    wanted = [(key, parts) for key in found if (parts := parse(key)) is not None]
    result: list[tuple[MarkKey, D | None]] = []
    for (key, parts), data in zip(wanted, store.documents([key for key, _ in wanted]), strict=True):
        if data is None:
            continue  # it went away meanwhile
        try:
            if isinstance(data, PagewardenError):
                raise data
            document = decode_document(what, data, kind, key)
            if (document.database, document.sequence) != (parts.name, parts.sequence):
                raise RepositoryDamaged(f"{key} holds the {what} of another place")
            result.append((parts, document))
        except PagewardenError as error:
            problems.append(error.message)
            result.append((parts, None))
    return result


def _parse_deleted(key: str, kind: str) -> MarkKey | None:
    parsed = keys.parse_deleted_key(key)
    return parsed[0] if parsed is not None and parsed[1] == kind else None


def _mark_of(key: str, sequence: int) -> MarkKey | None:
    parts = _parse_deleted(key, "json")
    return parts if _sequence(parts) == sequence else None


def _sequence(parts: MarkKey | None) -> int | None:
    return None if parts is None else parts.sequence


def _new(name: str, sequence: int, token: Token) -> MarkKey:
    return MarkKey(name=name, sequence=sequence, nonce=token(8))


def _bounded(note: str) -> str:
    if len(note) > LONGEST_NOTE:
        raise ConfigurationInvalid(
            f"a note of {len(note):,} characters is too long", hint=f"write at most {LONGEST_NOTE:,}"
        )
    return readable(note)


def _here() -> str:
    return readable(socket.gethostname())
