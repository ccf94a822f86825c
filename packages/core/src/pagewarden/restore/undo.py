"""The `undo` verb: take the last restore or repair of a path back. What stands there now is kept, too.

`undo` changes nothing but the path, never without an exclusive lock unless forced, and can be cut like a restore.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pagewarden import lineage
from pagewarden.errors import RestoreRefused
from pagewarden.regular import odd_kind
from pagewarden.restore.hold import Copy, filled_companions, take_hold
from pagewarden.restore.quarantine import Entry, Kept, Phase, Quarantine
from pagewarden.restore.run import copy_file
from pagewarden.restore.swap import PREVIOUS, exchange, give_up, recover, state_of
from pagewarden.values import UndoReport

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

_FILE_OF = {Kept.NOTHING: None, Kept.FILE: PREVIOUS, Kept.RAW: f"{PREVIOUS}.raw"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRequest:
    """Which path to give its earlier file back."""

    path: str
    force: bool = False  # go on although other processes have the file open


def run_undo(request: UndoRequest, runtime: Runtime) -> UndoReport:
    """Take the newest restore or repair of a path back that was not taken back yet; again, the one before it.

    Raises RestoreRefused where there is none, DatabaseBusy where a process has the file open, OutOfSpace, TargetFailed.
    Whatever it raises, the path is as it was.
    """
    began = runtime.monotonic()
    runtime.load_plugins()
    path = Path(os.path.realpath(request.path))
    entry, kept, warnings = take_back(path, copy=partial(copy_file, runtime), force=request.force)
    try:
        lineage.write_lineage(runtime.state, str(path), entry.lineage_before)
    except OSError as error:
        forgot = f"the next backup of {path} goes on as if the restore still stood, because {error}"
        warnings = (*warnings, forgot)
    report = UndoReport(
        path=str(path),
        restored="nothing" if entry.previous is Kept.NOTHING else "previous file",
        kept="" if kept is None else str(kept),
        seconds=runtime.monotonic() - began,
        warnings=warnings,
    )
    runtime.emit("undo.finished", report.path, seconds=report.seconds, restored=report.restored)
    return report


def take_back(path: Path, *, copy: Copy, force: bool) -> tuple[Entry, Path | None, tuple[str, ...]]:
    """Take the newest restore or repair of the real path `path` back.

    Returns its entry, the file that keeps what stood there (None: nothing did), and what a person should know.
    """
    if not Quarantine(path=path).folder.is_dir():
        raise _nothing(path)
    with Quarantine(path=path).lock() as quarantine:
        recover(quarantine)
        done = [entry for entry in quarantine.entries() if entry.phase is Phase.DONE]
        if not done:
            raise _nothing(path)
        entry, folder = done[-1], quarantine.folder_of(done[-1])
        name = _FILE_OF[entry.previous]
        previous = None if name is None else folder / name
        changed = () if previous is None else _recognized(previous, entry, folder, path)
        written = _written_since(path, entry)  # before the hold, which brings a log into the file
        try:
            hold = take_hold(
                path,
                settled=quarantine.settled,
                copy=copy,
                force=force,
                doing=f"take the {entry.verb} back of",
                also=tuple(str(file) for file in (folder / PREVIOUS, folder / f"{PREVIOUS}.raw") if file.exists()),
            )
        except BaseException as error:
            give_up(error, f"cannot take the {entry.verb} of {path} back", quarantine.remove_temporaries)
            raise
        with hold, _bridged(entry, folder):
            entry, late = exchange(quarantine, entry, previous, hold, phase=Phase.UNDOING, force=force)
        candidates = (folder / entry.displaced_name, folder / f"{entry.displaced_name}.raw")
        kept = next((file for file in candidates if file.exists()), None)
        since = f"{path} was written to since the {entry.verb}; it is kept, with what was written, as {kept}"
        warnings = (since,) if written and kept is not None else ()
        return entry, kept, (*changed, *warnings, *hold.warnings, *late)


def _recognized(previous: Path, entry: Entry, folder: Path, path: Path) -> tuple[str, ...]:
    """Return what a person should know of the file that is to take the path again.

    Raises RestoreRefused unless it is the file that was put aside, by its inode or by its size and time. That may have
    been written to: by a program that had it open when it left the path.
    """
    needed = [previous]
    if entry.previous is Kept.RAW:
        needed += [folder / PREVIOUS, *(Path(f"{previous}{suffix}") for suffix in ("-wal", "-journal"))]
    for file in needed:
        if kind := odd_kind(file):
            raise _another(f"{file} is {kind}, not the file that was put aside", folder)
    if not previous.exists():
        raise _another(f"{previous}, the previous file, is gone", folder)
    known = {previous: entry.previous_file}
    if (folder / PREVIOUS).exists() and entry.previous is Kept.RAW:
        known[folder / PREVIOUS] = entry.bridge
    changed = []
    for file, put_aside in known.items():
        if put_aside is None or state_of(file) == put_aside.state:  # a copy that kept its time, of a moved folder, too
            continue
        # Not the device: the system may number the same disk otherwise each time that it starts.
        if file.lstat().st_ino != put_aside.inode[1]:
            raise RestoreRefused(
                f"{file} is another file than the one that was put aside",
                hint="to look at it: "
                + shlex.join(["pagewarden", "quarantine", "export", str(path), str(entry.number), "--only", "original"])
                + " --to FOLDER",
            )
        changed.append(f"{file} was written to since it was put aside")
    return tuple(changed)


def _another(what: str, folder: Path) -> RestoreRefused:
    return RestoreRefused(what, hint=f"ls -l {shlex.quote(str(folder))}")


@contextmanager
def _bridged(entry: Entry, folder: Path) -> Iterator[None]:
    """Keep everybody out of what stands at the path for a moment, before its log is beside it."""
    if entry.previous is not Kept.RAW or not (folder / PREVIOUS).exists():
        yield
        return
    from pagewarden.processes.lock import FileLock

    with FileLock(str(folder / PREVIOUS)):
        yield


def _written_since(path: Path, entry: Entry) -> bool:
    """Whether the restored file is not as the restore left it, by `stat` alone (H1).

    Every commit writes to the file or leaves a log; so may a transaction that was rolled back. What an entry does not
    tell, because it is of an earlier version, is not claimed.
    """
    if entry.incoming_state is msgspec.UNSET or not path.exists():
        return False
    return state_of(path) != entry.incoming_state or bool(filled_companions(path))


def _nothing(path: Path) -> RestoreRefused:
    hint = f"pagewarden restore --repo URL --to {shlex.quote(str(path))} brings another version back"
    return RestoreRefused(f"no restore or repair of {path} is there to be taken back", hint=hint)
