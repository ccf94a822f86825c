"""What a restore is going to do, as a value that prints itself; and what no restore may be asked to do."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import OutOfSpace, RestoreRefused
from pagewarden.holders import COMPANIONS, Holders, find_holders
from pagewarden.restore.quarantine import FOLDER
from pagewarden.restore.speed import Speed
from pagewarden.restore.swap import pending_intents
from pagewarden.times import format_moment

if TYPE_CHECKING:
    from pagewarden.repository import Chain
    from pagewarden.values import Position, RestorePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """One restore point that is to take one path."""

    chain: Chain
    path: Path  # real path
    speed: Speed
    replaces: bool  # whether something stands there
    holders: Holders
    force: bool
    read_back: bool
    before: Position | None = None  # the moment right before it that could be restored
    after: Position | None = None  # the one right after it

    @property
    def point(self) -> RestorePoint:
        """The restore point, or the commit between two of them."""
        return self.chain.restore_point

    @property
    def seconds(self) -> float:
        """How long it will take, as far as is known."""
        return self.speed.seconds(self.chain.bytes + self.point.bytes)

    @property
    def undo(self) -> str:
        """The command that takes the restore back."""
        return f"pagewarden undo {shlex.quote(str(self.path))}"

    @property
    def steps(self) -> tuple[str, ...]:
        """What will be done, one sentence each."""
        point, path, segments = self.point, self.path, len(self.chain.links) - 1
        objects = "a snapshot" + (f" and {segments:,} segment{'s' * (segments > 1)}" if segments else "")
        inner = self.chain.inner
        if inner is not None:
            first, last = self.chain.point.position.txid + 1, inner.batch.position.txid
            objects += f", and of the commits {first:,} to {last:,} those up to {point.position.txid:,}"
        steps = [
            f"bring back {point.database} as of txid {point.position.txid}, {format_moment(point.position.time)}"
            f"{_neighbours(self.before, self.after)}",
            f"read {objects}, {self.chain.bytes:,} bytes; about {self.seconds:,.1f} s, {self.speed}",
            f"write {point.pages:,} pages of {point.database} at {point.position} to a new file in {path.parent}",
            "compare every page with its page sum before it is written, and make the file durable",
        ]
        if self.read_back:
            steps.append("read it back from the disk and compare every page again")
        if self.holders.holders:
            refuse = "go on although" if self.force else "refuse, because"
            steps.append(f"{refuse} {'; '.join(map(str, self.holders.holders))}")
        if self.replaces:
            steps += [
                f"lock {path}, and bring its -wal or -journal into it",
                f"keep it in {path.parent / FOLDER / path.name}",
                "remove its -wal, -shm and -journal, and rename the new file over it",
            ]
        else:
            steps.append(f"give the new file the name {path}, if there is still nothing")
        return tuple(steps)

    def __str__(self) -> str:
        return "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, start=1))


def _neighbours(before: Position | None, after: Position | None) -> str:
    """Return which moments stand beside one, as the end of a sentence; nothing where there are none."""
    beside = [
        f"right {word} it txid {at.txid}, {format_moment(at.time)}"
        for word, at in (("before", before), ("after", after))
        if at is not None
    ]
    return f"; {' and '.join(beside)}" if beside else ""


def make_plan(
    chain: Chain,
    to: str,
    *,
    force: bool,
    read_back: bool,
    speed: Speed,
    before: Position | None = None,
    after: Position | None = None,
) -> RestorePlan:
    """Return the plan to restore what `chain` makes to the path `to`, a link's target if it is one. Changes nothing.

    `before` and `after` are the moments beside it, to be told. Raises RestoreRefused where that cannot or must not be,
    OutOfSpace where the new file would not fit.
    """
    path = Path(os.path.realpath(to))
    check_place(path)
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    needed = chain.restore_point.bytes
    if free < needed:
        raise OutOfSpace(
            f"{path.parent} has {free:,} bytes free, and the restored file needs {needed:,}",
            hint="free space there, or restore to another file system",
        )
    return RestorePlan(
        chain=chain,
        path=path,
        speed=speed,
        replaces=os.path.lexists(path),
        holders=find_holders(str(path)),
        force=force,
        read_back=read_back,
        before=before,
        after=after,
    )


def check_place(path: Path) -> None:
    """Raise RestoreRefused unless a file may be put at the real path `path`."""
    folder = path.parent
    if not folder.is_dir():
        raise RestoreRefused(f"there is no directory {folder}", hint=f"mkdir -p {shlex.quote(str(folder))}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RestoreRefused(f"this user may not write to {folder}", hint=f"ls -ld {shlex.quote(str(folder))}")
    for suffix in COMPANIONS[1:]:
        if path.name.endswith(suffix) and Path(str(path).removesuffix(suffix)).exists():
            raise RestoreRefused(f"{path} belongs to the database beside it", hint="choose another name")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RestoreRefused(f"{path} cannot be restored to: {reason}", hint="choose another name") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise RestoreRefused(f"{path} is {kind}", hint="name the file that the database is to be")
    if found.st_nlink > 1 and not pending_intents(path):
        raise RestoreRefused(
            f"{path} has {found.st_nlink - 1} more names (hard links), which would keep the old file",
            hint=f"find {shlex.quote(str(folder))} -samefile {shlex.quote(str(path))}",
        )
