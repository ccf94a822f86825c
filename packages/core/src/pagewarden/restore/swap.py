"""The exchange: one file leaves a database's path, another takes it, and a cut at any step can be mended (H25, H30).

The path never goes missing and never shows anything but the old or the new content:

1. `entry.json` says what is about to happen, durably.
2. What stands at the path is hard-linked into the quarantine, with its -wal and -journal where they are needed.
3. Where it needs them, a copy that is whole by itself takes the path first: the bridge. Playing the same log onto it
   again changes nothing, so from here on the companions can go without anything being lost.
4. -wal, -shm and -journal are removed.
5. The new file is renamed over the path.
6. `entry.json` says that it is done.

The rename is what counts: `recover` takes a cut exchange back before it, and finishes it after it. Where files come
back that need their companions, the bridge that was kept with them takes the path in step 5, and they follow it one by
one. Files are linked, renamed and removed by name; none of them is opened here (H1).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import DatabaseBusy, RestoreRefused
from pagewarden.holders import COMPANIONS, find_holders, is_ours
from pagewarden.restore.hold import Hold, Standing
from pagewarden.restore.quarantine import Bridge, Entry, Inode, Kept, Phase, Quarantine, State

PREVIOUS = "previous"
RESTORED = "restored"

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def exchange(
    quarantine: Quarantine, entry: Entry, incoming: Path | None, hold: Hold, *, phase: Phase, force: bool
) -> tuple[Entry, tuple[str, ...]]:
    """Let the file `incoming` take the held path; return the entry as it is then, and what a person should know.

    `incoming` is on the path's file system; None leaves nothing there. `phase` is `swapping` for a restore or repair,
    `undoing` for taking one back. Raises, with the path as it was: DatabaseBusy where somebody opened or made a file
    there meanwhile (with `force` it is a warning), RestoreRefused, OutOfSpace, TargetFailed.
    """
    path = quarantine.path
    planned = _plan(quarantine, entry, incoming, hold, phase)
    try:
        quarantine.record(planned)
        _put_aside(quarantine, planned, hold)
        if not force:
            _refuse_latecomers(path)  # before the bridge: then the very file is still there
        if incoming is not None:
            _stand_alone(path, hold)
        if not force:
            _refuse_latecomers(path)
        _take_place(path, _first(quarantine, planned, incoming), hold)
    except BaseException as error:
        if _taken(quarantine, planned):
            give_up(error, f"{path} was replaced, but that could not be made durable", None)
        else:
            give_up(error, f"cannot replace {path}", partial(go_back, quarantine, planned))
        raise
    # Who opened the old file between the last look and the rename holds what nobody will read again.
    late = () if force else _others(quarantine.folder_of(planned) / planned.displaced_name)
    try:
        return _finish(quarantine, planned), tuple(f"{holder}, the old file: restart it" for holder in late)
    except OSError as error:
        raise durable.failure(error, f"{path} was replaced, but not all of it was recorded") from error


def _refuse_latecomers(path: Path) -> None:
    """Raise DatabaseBusy where somebody opened the database since it was held."""
    if latecomers := _others(path):
        raise DatabaseBusy(f"cannot replace {path}: {'; '.join(latecomers)} now", hint="end it, then try again")


def recover(quarantine: Quarantine) -> tuple[Entry, ...]:
    """Mend every exchange that was cut: finish it where the new file stands at the path, else take it back.

    Needs the quarantine's lock, which proves that nobody is at work on them. Returns the entries as they were found.
    Can itself be cut and done again. Raises TargetFailed, RestoreRefused.
    """
    try:
        pending = tuple(entry for entry in quarantine.entries() if entry.pending)
        for entry in pending:
            if _taken(quarantine, entry):
                _finish(quarantine, entry)
            else:
                go_back(quarantine, entry)
        quarantine.sweep()
        return pending
    except OSError as error:
        raise durable.failure(error, f"cannot mend what a cut restore or repair of {quarantine.path} left") from error


def recover_intents(path: Path) -> tuple[Entry, ...]:
    """Mend what a cut restore, repair or undo of the real path `path` left; return what was pending, mostly nothing.

    Raises DatabaseBusy while one is under way, RestoreRefused, TargetFailed.
    """
    quarantine = Quarantine(path=path)
    if not quarantine.folder.is_dir():
        return ()
    with quarantine.lock():
        return recover(quarantine)


def pending_intents(path: Path) -> tuple[Entry, ...]:
    """Return what of the real path `path` is under way or was cut: restores, repairs, undos. Changes nothing."""
    return tuple(entry for entry in Quarantine(path=path).entries() if entry.pending)


def go_back(quarantine: Quarantine, entry: Entry) -> None:
    """Make of a cut entry what was before it: the path as it was, nothing of the exchange left. Raises OSError."""
    path, folder = quarantine.path, quarantine.folder_of(entry)
    if entry.phase is Phase.WRITING:
        quarantine.remove_temporaries()
        quarantine.remove(entry)
        return
    aside = [file for file in folder.iterdir() if file.name.partition(".")[0] == entry.displaced_name]
    if _inode(path) == entry.displaced:
        _put_back_companions(path, folder, entry.displaced_name)
        dispensable = aside
    elif entry.phase is Phase.SWAPPING and _untouched(quarantine, entry):
        _cross(path, folder, entry.displaced_name)
        dispensable = aside
    else:
        # The whole copy stands at the path by now: the same content, so what was put aside is the only original. It may
        # not stay linked there, too: a database with two names is refused everywhere (H4).
        dispensable = [file for file in aside if _inode(file) == _inode(path)]
    for file in dispensable:
        file.unlink(missing_ok=True)
    quarantine.remove_temporaries()
    if entry.phase is Phase.UNDOING:
        quarantine.record(replace(entry, phase=Phase.DONE, restored=Kept.NOTHING))
    elif len(aside) > len(dispensable):
        quarantine.record(replace(entry, phase=Phase.ABANDONED))
    else:
        quarantine.remove(entry)


def state_of(path: Path) -> State:
    """Return size and time of the last write of a file: SQLite changes the latter with everything that it writes."""
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def give_up(error: BaseException, what: str, take_back: Callable[[], None] | None) -> None:
    """After `error`, which stopped `what`: do `take_back`, and raise what the caller shall meet, if not `error`."""
    try:
        if take_back is not None:
            take_back()
    except OSError as second:
        left = "and what was begun is still there: the next restore, repair or undo of it takes it back"
        raise durable.failure(second, f"{what}, {left}") from error
    if isinstance(error, OSError):
        raise durable.failure(error, what) from error


def _plan(quarantine: Quarantine, entry: Entry, incoming: Path | None, hold: Hold, phase: Phase) -> Entry:
    kept = {Standing.NOTHING: Kept.NOTHING, Standing.RAW: Kept.RAW}.get(hold.standing, Kept.FILE)
    undoing = phase is Phase.UNDOING
    bridge = None if hold.standing is not Standing.RAW else hold.settled
    whole = hold.settled if hold.standing is Standing.SETTLED else quarantine.path
    if undoing:
        bridge = quarantine.folder_of(entry) / PREVIOUS if entry.previous is Kept.RAW else None
    return replace(
        entry,
        phase=phase,
        incoming=None if incoming is None else _inode(incoming),
        incoming_state=entry.incoming_state if undoing or incoming is None else state_of(incoming),
        incoming_name="" if incoming is None else incoming.name,
        displaced=_inode(quarantine.path),
        displaced_name=quarantine.free_name(entry, RESTORED if undoing else PREVIOUS),
        previous=entry.previous if undoing else kept,
        previous_file=entry.previous_file if undoing else _bridge(whole),
        restored=kept if undoing else Kept.NOTHING,
        bridge=_bridge(bridge),
    )


def _bridge(file: Path | None) -> Bridge | None:
    inode = None if file is None else _inode(file)
    return None if file is None or inode is None else Bridge(inode=inode, state=state_of(file))


def _first(quarantine: Quarantine, entry: Entry, incoming: Path | None) -> Path | None:
    """Return what is renamed over the path in step 5: when undoing the bridge, where there is one."""
    if entry.phase is Phase.UNDOING and entry.bridge is not None:
        return quarantine.folder_of(entry) / PREVIOUS
    return incoming


def _untouched(quarantine: Quarantine, entry: Entry) -> bool:
    """Whether the bridge stands at the path, and nobody has written to it or has it open."""
    path, bridge = quarantine.path, entry.bridge
    if bridge is None or _inode(path) != bridge.inode or state_of(path) != bridge.state:
        return False
    return not _others(path)


def _cross(path: Path, folder: Path, name: str) -> None:
    """Let the files that are kept as they were take the place of the bridge; it shows the same at each step."""
    _put_back_companions(path, folder, name)
    (folder / f"{name}.raw").replace(path)
    durable.sync_directory(path.parent)


def _put_aside(quarantine: Quarantine, entry: Entry, hold: Hold) -> None:
    """Step 2."""
    path, folder, name = quarantine.path, quarantine.folder_of(entry), entry.displaced_name
    if hold.standing is Standing.ALONE:
        _link(path, folder / name)
        if hold.dropped:
            _link(Path(f"{path}-wal"), folder / f"{name}.dropped")
    else:
        for suffix in ("", "-wal", "-journal"):  # a left-over log without its database is kept, too
            if os.path.lexists(f"{path}{suffix}"):
                _link(Path(f"{path}{suffix}"), folder / f"{name}.raw{suffix}")
    if hold.settled is not None:
        _link(hold.settled, folder / name)
    durable.sync_directory(folder)


def _stand_alone(path: Path, hold: Hold) -> None:
    """Steps 3 and 4."""
    if hold.settled is not None:
        hold.settled.replace(path)
        durable.sync_directory(path.parent)
    _remove_companions(path)


def _take_place(path: Path, incoming: Path | None, hold: Hold) -> None:
    """Step 5; or the other way round: SQLite removes a log that it finds beside no database."""
    if incoming is None:
        path.unlink(missing_ok=True)
        _remove_companions(path)
        return
    if hold.standing is Standing.NOTHING:
        try:
            os.link(incoming, path)  # fails where a rename would replace a file that has just been made
        except FileExistsError as error:
            raise DatabaseBusy(f"a file has appeared at {path}", hint="see what made it, then try again") from error
        incoming.unlink()
    else:
        incoming.replace(path)
    durable.sync_directory(path.parent)


def _finish(quarantine: Quarantine, entry: Entry) -> Entry:
    """Step 6, and what a cut exchange still needs before it. Raises OSError."""
    path, folder = quarantine.path, quarantine.folder_of(entry)
    if entry.incoming is None:
        if not os.path.lexists(path):
            _remove_companions(path)
    elif entry.phase is Phase.UNDOING and entry.previous is Kept.RAW:
        if _inode(path) == entry.incoming:
            # For a moment the path shows it without its log: SQLite could not read it with the log either.
            _put_back_companions(path, folder, PREVIOUS)
        elif _untouched(quarantine, entry):
            _cross(path, folder, PREVIOUS)
    quarantine.remove_temporaries()
    durable.sync_directory(path.parent)
    done = Phase.UNDONE if entry.phase is Phase.UNDOING else Phase.DONE
    return quarantine.record(replace(entry, phase=done))


def _taken(quarantine: Quarantine, entry: Entry) -> bool:
    """Return whether the exchange of a pending entry has come past its rename."""
    standing = _inode(quarantine.path)
    if entry.phase is Phase.WRITING or standing == entry.displaced:
        return False
    if entry.incoming is None or standing == entry.incoming:
        return True
    if entry.bridge is not None and standing == entry.bridge.inode:
        return entry.phase is Phase.UNDOING
    folder = quarantine.folder_of(entry) if entry.phase is Phase.UNDOING else quarantine.path.parent
    return not (folder / entry.incoming_name).exists()


def _others(path: Path) -> tuple[str, ...]:
    holders = find_holders(str(path)).holders
    return tuple(str(holder) for holder in holders if not is_ours(holder.pid))


def _put_back_companions(path: Path, folder: Path, name: str) -> None:
    for suffix in ("-wal", "-journal"):
        aside, companion = folder / f"{name}.raw{suffix}", Path(f"{path}{suffix}")
        if aside.exists() and not _filled(companion):
            aside.replace(companion)
    durable.sync_directory(path.parent)


def _filled(path: Path) -> bool:
    try:
        return path.lstat().st_size > 0
    except FileNotFoundError:
        return False


def _remove_companions(path: Path) -> None:
    for suffix in COMPANIONS[1:]:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    durable.sync_directory(path.parent)


def _link(source: Path, destination: Path) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise RestoreRefused(
            f"cannot keep {source}: no hard link to it can be made ({(error.strerror or '').lower()})",
            hint="restore to a new path, then let the application use that one",
        ) from error


def _inode(path: Path) -> Inode | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
