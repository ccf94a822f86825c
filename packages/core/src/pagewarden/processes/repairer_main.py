"""A process for one repairer of a plugin, or for a job of a repair's own: it may raise, hang or die without harm.

1. The first message says which plugin and repairer, or which job, and how much memory there may be.
2. The second is the task. A repairer is given a `Bench` over the private copy, whose case asks the run for everything.
   The copy is nobody else's, so this process opens both the file and connections to it, in turns.
3. What is counted and how far it is are told meanwhile; then how it ended, once all that was cut out is durable.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pagewarden.contracts import FileFacts, PageImage, PastImage, Pattern, Repairer, RepairHistory, RepairStep
from pagewarden.contracts.repairing import RepairPolicy
from pagewarden.errors import OutOfSpace, PagewardenError
from pagewarden.processes.channel import Channel
from pagewarden.processes.checker_main import RemoteImage, Run, bound_memory, described
from pagewarden.processes.inside import find_brought, serve_alone
from pagewarden.repair.answers import FILE_AT_ONCE, FINDINGS_AT_ONCE, FLAWS_AT_ONCE
from pagewarden.repair.inferred import Inference
from pagewarden.structure import Flaw, Tree, WalSurvey
from pagewarden.values import Finding, Position

T = TypeVar("T")

_NOTHING = 1 << 20  # bytes that count as no space left: a -shm alone grows by 32 KiB


class RemotePast(RemoteImage):
    """A `PastImage` of the run's."""

    def __init__(self, run: Run, image: str, facts: Mapping[str, Any]) -> None:
        super().__init__(run, image, facts)
        self.name = image
        self.position = msgspec.convert(facts["position"], Position)


class RemoteHistory:
    """A `RepairHistory` of the run's, whose files are fetched into the folder `scratch`."""

    def __init__(self, run: Run, facts: Mapping[str, Any], scratch: Path) -> None:
        self._run = run
        self._scratch = scratch
        self.why: str = facts["why"]
        self.certain: bool = facts["certain"]
        self.newest: PastImage = RemotePast(run, "newest", facts["newest"])
        present = facts["present"]
        self.present: PastImage | None = None if present is None else RemotePast(run, "present", present)

    @cached_property
    def older(self) -> Sequence[PastImage]:
        """Older restore points, newest first."""
        facts = self._run.ask("older")
        return tuple(RemotePast(self._run, f"older {number}", each) for number, each in enumerate(facts))

    def fetch(self, image: PastImage, to: Path) -> None:
        """Write a restore point to a new file. Raises ValueError for one that is not in the bench's scratch folder."""
        if not isinstance(image, RemotePast) or to.parent.resolve() != self._scratch.resolve():
            raise ValueError(f"{to} is not in {self._scratch}, or that is no image of this history")
        self._run.ask("fetch", image=image.name, name=to.name)


class RemoteCase:
    """A `RepairCase` whose everything is the run's."""

    def __init__(self, run: Run, scratch: Path) -> None:
        self._run = run
        self._scratch = scratch
        facts = run.ask("case")
        self.path: str = facts["path"]
        self.refused: str = facts["refused"]
        self.facts = msgspec.convert(facts["facts"], FileFacts)
        self.policy = msgspec.convert(facts["policy"], RepairPolicy)
        self._findings: int = facts["findings"]

    @cached_property
    def findings(self) -> Sequence[Finding]:
        """What the check saw."""
        return self._parts("findings", Finding, FINDINGS_AT_ONCE, self._findings)

    @cached_property
    def patterns(self) -> Sequence[Pattern]:
        """What the findings amount to."""
        return msgspec.convert(self._run.ask("patterns"), tuple[Pattern, ...])

    @cached_property
    def image(self) -> PageImage:
        """The pages."""
        return RemoteImage(self._run, "live", self._run.ask("image"))

    @cached_property
    def log(self) -> WalSurvey | None:
        """What stands in the -wal."""
        return msgspec.convert(self._run.ask("log"), WalSurvey | None)

    @cached_property
    def trees(self) -> Sequence[Tree]:
        """The b-trees of the schema."""
        return msgspec.convert(self._run.ask("trees"), tuple[Tree, ...])

    @cached_property
    def history(self) -> RepairHistory | None:
        """What a repository knows."""
        facts = self._run.ask("history")
        return None if facts is None else RemoteHistory(self._run, facts, self._scratch)

    @cached_property
    def _flaws(self) -> Sequence[Flaw]:
        return self._parts("flaws", Flaw, FLAWS_AT_ONCE, None)

    def flaws(self) -> Sequence[Flaw]:
        """Return what a walk over the whole structure sees."""
        return self._flaws

    def inferred(self) -> Inference:
        """Return what the pages say of header, freelist and pointer map."""
        return Inference.from_wire(self._run.ask("inferred"))

    def file(self, offset: int, length: int) -> bytes:
        """Return bytes of the bare database file."""
        parts = []
        while length > 0:
            wanted = min(length, FILE_AT_ONCE)
            parts.append(bytes(self._run.ask("file", offset=offset, length=wanted)))
            if len(parts[-1]) < wanted:
                break
            offset, length = offset + wanted, length - wanted
        return b"".join(parts)

    def _parts(self, what: str, kind: type[T], most: int, total: int | None) -> tuple[T, ...]:
        """Return all of a list that the run gives in parts."""
        items: list[T] = []
        while total is None or len(items) < total:
            part = self._run.ask(what, first=len(items), count=most)
            items += (msgspec.convert(each, kind) for each in part)
            if len(part) < most:
                break
        return tuple(items)


def serve(channel: Channel) -> None:
    """Do the one task."""
    setup: Any = channel.receive()
    bound_memory(setup["memory"])
    run = Run(channel)
    task: Any = channel.receive()
    try:
        if setup["home"]:
            repairer = find_brought(setup["home"], "repairer", setup["name"], lambda plugin: plugin.repairers)
            _repair(repairer, task, run)
            run.tell(ended=None)
        else:
            from pagewarden.repair.jobs import do_job

            run.tell(ended=do_job(setup["name"], task, lambda done, total: run.tell(progress=[done, total])))
    except BaseException as error:  # noqa: BLE001 - the rim of the process: whatever failed is told to the run
        with suppress(BrokenPipeError):
            run.tell(failed=described(_full(error, task["entry"]) or error))


def _full(error: BaseException, folder: str) -> OutOfSpace | None:
    """Return what `error` means where it comes of a full disk, which SQLite may call an I/O error; else None."""
    name = str(error.fields.get("sqlite", "") if isinstance(error, PagewardenError) else _name_of(error))
    if not name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return None
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if name.startswith("SQLITE_IOERR") and free > _NOTHING:
        return None
    return OutOfSpace(f"{folder} has {free:,} bytes free, which is too little: {error}")


def _name_of(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""


def _repair(repairer: Repairer, task: Mapping[str, Any], run: Run) -> None:
    from pagewarden.repair.bench import Bench
    from pagewarden.repair.cutouts import Cutouts

    scratch = Path(task["scratch"])
    steps = msgspec.json.decode(task["steps"], type=tuple[RepairStep, ...])
    with Bench(
        RemoteCase(run, scratch),
        database=Path(task["database"]),
        scratch=scratch,
        cutouts=Cutouts(Path(task["entry"])),
        repairer=repairer.name,
        on_note=lambda table, counts: run.tell(note={"table": table, "counts": counts}),
        on_progress=lambda done, total: run.tell(progress=[done, total]),
        on_replaced=lambda: run.tell(replaced=True),
    ) as bench:
        repairer.apply(bench, steps)


def main() -> None:
    """Be the process of one repairer."""
    serve_alone(serve)


if __name__ == "__main__":
    main()
