"""Whether a database stands where a restore point found it: what proves that no commit was made since.

| the database | what proves it |
|---|---|
| WAL mode, frames in its log | the same salts, as many frames, the same running checksum |
| the file alone is the commit | the same inode, size and time of the last write |
| rollback journal, for a check or a backup | the same file, with the same change counter and schema cookie |

Every write through SQLite moves the time of the last write, and rot moves nothing. The system's clock for it ticks, so
a file that was written to in the last tick may be written to again without a trace: of such a file nothing is noted.

What compared a whole file, or followed it to its end, may know of a later moment than the manifest does at which the
file stood at a position. It leaves a *note* of that in the state directory.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pagewarden import durable, lineage
from pagewarden.repository.manifest import FileState

if TYPE_CHECKING:
    from pagewarden.processes.reader import Attachment
    from pagewarden.repository import SourceFacts
    from pagewarden.values import Position

TICK_NS = 20_000_000
"""Nanoseconds after a write in which another one may leave the same time: twice the tick of the slowest kernel."""

_COARSE_TICK_NS = 2_100_000_000  # of file systems that keep whole seconds, or even ones
_SECOND_NS = 1_000_000_000
_LARGEST = 4096  # bytes of a note


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """That the file stood at a position when its state was this."""

    place: str  # see `lineage.place_of`
    timeline: str
    txid: int
    database_sum: str  # 16 hexadecimal digits
    state: FileState


def state_of(attachment: Attachment) -> FileState | None:
    """Return the state of the file of a commit that is all in it; None where the log holds a part, or it is too new."""
    state = file_state_of(attachment)
    return state if not attachment.uses_wal and settled(state, attachment.looked_ns) else None


def file_state_of(attachment: Attachment) -> FileState:
    """Return the state of the database file of an attached commit."""
    return FileState(inode=attachment.inode, size=attachment.file_size, mtime_ns=attachment.mtime_ns)


def settled(state: FileState, now_ns: int) -> bool:
    """Return whether a write after `now_ns`, a reading of the system's clock, would leave another time."""
    tick = _COARSE_TICK_NS if state.mtime_ns % _SECOND_NS == 0 else TICK_NS
    return now_ns - state.mtime_ns >= tick


def seconds_to_settle(path: str) -> float:
    """Return seconds until a write to the file at `path` leaves another time than the last; 0 where they are many."""
    state = look(path)
    age = TICK_NS if state is None else time.time_ns() - state.mtime_ns
    return (TICK_NS - age) / 1e9 if 0 <= age < TICK_NS else 0.0


def look(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of the file at `path` now, None where there is none. Nothing is opened."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return FileState(inode=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns)


def here(facts: SourceFacts, path: str) -> bool:
    """Return whether a restore point was taken of the file at the real path `path`, on this machine."""
    return facts.path == lineage.readable(path) and facts.host == socket.gethostname()


def counters_moved(facts: SourceFacts, header: bytes) -> bool:
    """Return whether a header tells, in both places, of commits with a rollback journal since: time can be set back."""
    if facts.journal_mode == "wal" or len(header) < 100:
        return False
    return header[24:28] == header[92:96] != facts.change_counter.to_bytes(4, "big")


def no_commit_since(
    facts: SourceFacts, path: str, attachment: Attachment, note: Note | None = None, *, counters: bool = True
) -> bool:
    """Return whether the files prove that no commit was made since a restore point.

    `note` is what is known of that very position from another moment. With a rollback journal every commit moves the
    change counter (file format, section 1.3.7). It proves nothing of another file, nor of one that was put back by hand
    and went another way from there: enough to call a difference damage, and too little to put a page back. Without
    `counters` it does not count.
    """
    if not here(facts, path):
        return False
    known = [each for each in (facts.file_state, None if note is None else note.state) if each]
    if not attachment.uses_wal and file_state_of(attachment) in known:
        return not counters_moved(facts, attachment.header)
    if attachment.mode == "wal":
        same = (facts.wal_salts, facts.wal_frames) == (attachment.salts.hex(), attachment.wal_frames)
        # Older manifests have no checksum. After a loss of power other frames may stand where those stood.
        same = same and (facts.wal_checksum or attachment.wal_checksum) == attachment.wal_checksum
        return facts.journal_mode == "wal" and attachment.wal_frames > 0 and same
    header = attachment.database_header
    if (
        not counters
        or facts.journal_mode == "wal"
        or header is None
        or header.change_counter != header.version_valid_for
    ):
        return False
    if known and attachment.inode not in {each.inode for each in known}:
        return False
    return (facts.change_counter, facts.schema_cookie) == (header.change_counter, header.schema_cookie)


def note_path(state: Path, place: str, path: str) -> Path:
    """Return where the note of the database at the real path `path` stands, which is kept at `place`."""
    return state / "guards" / f"{lineage.file_name(place, path)}.parted.json"


def leave_note(state: Path, path: str, note: Note) -> None:
    """Leave a note, durably. Raises OSError."""
    file = note_path(state, note.place, path)
    durable.make_directories(file.parent)
    durable.sweep(file.parent.glob(f".{file.name}.*"))
    durable.write(file, msgspec.json.encode(note))


def read_note(state: Path, path: str, place: str, position: Position, database_sum: str) -> Note | None:
    """Return the note that is of a restore point; None where there is none, or it cannot be read: it proves nothing."""
    try:
        data = note_path(state, place, path).read_bytes()[: _LARGEST + 1]
        note = msgspec.json.decode(data, type=Note)
    except (OSError, msgspec.DecodeError):
        return None
    said = (note.place, note.timeline, note.txid, note.database_sum)
    return note if said == (place, position.timeline, position.txid, database_sum) else None
