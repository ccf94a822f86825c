"""The `injure` verb: damage on purpose, for drills and tests, and only to a file that its owner marked as a copy.

Changes nothing but the one file that is named and marked, or the -wal beside it.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import ConfigurationInvalid, DatabaseNotFound, RestoreRefused
from pagewarden.holders import find_holders
from pagewarden.values import InjuryReport

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

MARKER = ".pagewarden-copy"
"""What is appended to a file's path to name the empty file that marks it as a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjureRequest:
    """What to injure, and how."""

    path: str
    kind: str  # a name of pagewarden.testing.injuries.INJURIES
    seed: int
    older: str | None = None  # an older image of the database, which a lost write needs and some others use


def run_injure(request: InjureRequest, runtime: Runtime) -> InjuryReport:
    """Injure a marked, closed copy and say what was done; the same seed does the same to the same file.

    Raises ConfigurationInvalid for an unknown kind, DatabaseNotFound, RestoreRefused for a file that is not marked, is
    hard-linked or offers nothing to injure, DatabaseBusy where a process has it open, NotADatabase.
    """
    from pagewarden.testing.injuries import INJURIES

    injury = INJURIES.get(request.kind)
    if injury is None:
        raise ConfigurationInvalid(
            f'there is no injury "{request.kind}"', hint=f"choose one of {', '.join(sorted(INJURIES))}"
        )
    path = Path(os.path.realpath(request.path))
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file() raises for a name that is too long
        raise DatabaseNotFound(f"there is no file {path}", hint=f"look what is there: ls -ld {shlex.quote(str(path))}*")
    _require_marked(path)
    runtime.load_plugins()
    _require_own(path)
    if os.path.lexists(wal := f"{path}-wal"):
        _require_own(Path(wal))
    find_holders(str(path)).refuse("injure", forcible=False)
    older = None if request.older is None else Path(request.older)
    report = injury.apply(path, request.seed, older=older)
    runtime.emit("injure.finished", str(path), kind=report.kind, seed=report.seed, pgno=report.pgno)
    return report


def _require_own(path: Path) -> None:
    """Refuse what another name leads to: the original, where somebody linked instead of copying."""
    if path.is_symlink() or path.stat().st_nlink > 1:
        what = "is a symbolic link" if path.is_symlink() else "has another name (a hard link)"
        raise RestoreRefused(
            f"{path} {what}: what is done to it happens to the file of that name, too",
            hint="copy the file and injure the copy",
        )


def _require_marked(path: Path) -> None:
    """Refuse unless the mark is what marks: nobody makes an empty file of that name by accident, but anything else."""
    marker = Path(f"{path}{MARKER}")
    quoted = shlex.quote(str(marker))
    try:
        found = marker.lstat()
    except FileNotFoundError as error:
        raise RestoreRefused(
            f"{path} is not marked as a copy, and an injury cannot be taken back",
            hint=f"if it is one: touch -- {quoted}",
        ) from error
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        what = "not empty" if stat.S_ISREG(found.st_mode) else "no regular file"
        raise RestoreRefused(
            f"{path} is not marked as a copy: {marker} is {what}, and only an empty file is the mark",
            hint=f"look what it is: ls -l -- {quoted}",
        )
