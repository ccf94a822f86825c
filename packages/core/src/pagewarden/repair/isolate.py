"""A repairer, or a job of the repair's own, in a process of its own: it may raise, hang or die of anything.

What it asks for is answered here, and every message is held against its shape. It gets the private copy and the folders
of its quarantine entry; whatever becomes of it, the copy is thrown away or judged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pagewarden.check.answers import Shape, shaped
from pagewarden.check.outcome import ContractBroken
from pagewarden.check.watch import Watch, memory_bound
from pagewarden.contracts import RepairCase, Repairer, RepairStep
from pagewarden.errors import OutOfSpace, PagewardenError, from_wire
from pagewarden.processes.channel import ProtocolError, Value
from pagewarden.processes.spawn import Child, gist
from pagewarden.repair.answers import CaseAnswers
from pagewarden.repair.bench import COUNTS, Bench

MODULE = "pagewarden.processes.repairer_main"

LARGEST_MESSAGE = 16 << 20
"""Bytes of a message from a repairer's process."""

SILENT_SECONDS = 3600.0
"""How long a repairer may tell nothing new: one statement may rebuild an index of many gigabytes."""


class RepairerFailed(Exception):
    """A repairer failed; the message is the clause that says how. Its cause is the error of ours, if it was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a repairer works, and whom it tells."""

    database: Path  # the private copy
    scratch: Path  # an empty folder of the same file system
    entry: Path  # folder of the quarantine entry
    on_note: Callable[[str, Mapping[str, int]], None]
    on_progress: Callable[[int, int], None]
    on_replaced: Callable[[], None]
    remaining: Callable[[], float | None]  # seconds that are left, None without a bound


def apply(repairer: Repairer, home: str | None, steps: Sequence[RepairStep], case: RepairCase, place: Place) -> None:
    """Let `repairer` execute `steps` on the copy of which `case` tells. `home` is where a process finds its plugin.

    One without a home, because an application made it, works in this process. Raises RepairerFailed, OutOfSpace.
    """
    if home is None:
        _apply_here(repairer, steps, case, place)
        return
    task: dict[str, Value] = {
        "database": str(place.database),
        "scratch": str(place.scratch),
        "entry": str(place.entry),
        "steps": msgspec.json.encode(tuple(steps)),
    }
    _Talk(repairer.name, home, task, place, CaseAnswers(case, place.scratch)).go_on()


def do(job: str, task: Mapping[str, Value], place: Place) -> Any:
    """Do a job of `repair.jobs` in a process of its own, and return its answer.

    Raises what the job raises of ours; RepairerFailed where its process died or was stopped.
    """
    return _Talk(job, "", task, place, None).go_on()


def _apply_here(repairer: Repairer, steps: Sequence[RepairStep], case: RepairCase, place: Place) -> None:
    from pagewarden.repair.cutouts import Cutouts

    try:
        with Bench(
            case,
            database=place.database,
            scratch=place.scratch,
            cutouts=Cutouts(place.entry),
            repairer=repairer.name,
            on_note=place.on_note,
            on_progress=place.on_progress,
            on_replaced=place.on_replaced,
        ) as bench:
            repairer.apply(bench, steps)
    except OutOfSpace:
        raise
    except Exception as error:
        raise RepairerFailed(_clause(error)) from error


def _clause(error: Exception) -> str:
    text = " ".join(str(error).split())[:4096]
    if isinstance(error, PagewardenError):
        return f"failed: {text}"
    return f"failed: {type(error).__name__}" + (f": {text}" if text else "")


class _Failed(Shape, frozen=True):
    text: str = ""
    contract: str = ""
    ours: dict[str, str] | None = None


class _Note(Shape, frozen=True):
    table: str
    counts: dict[str, int]


class _Message(Shape, frozen=True):
    ask: str = ""
    arguments: Any = None
    progress: tuple[int, int] | None = None
    note: _Note | None = None
    replaced: bool = False
    ended: Any = msgspec.UNSET
    failed: _Failed | None = None


class _Talk:
    """One process, and what is said with it."""

    def __init__(
        self, name: str, home: str, task: Mapping[str, Value], place: Place, answers: CaseAnswers | None
    ) -> None:
        self._home = home
        self._place = place
        self._answers = answers
        self._told: tuple[int, int] | None = None
        self._late = False
        self._child = Child(MODULE, limit=LARGEST_MESSAGE, lifeline=True)
        self._watch = Watch(self._child, silent=SILENT_SECONDS)
        self._send({"home": home, "name": name, "memory": memory_bound()})
        self._send(task)

    def go_on(self) -> Any:
        """Answer until the process has ended; return what it said last. Raises as `apply` and `do` say."""
        seconds = self._place.remaining()
        alarm = None if seconds is None else threading.Timer(seconds, self._end_late)
        if alarm is not None:
            alarm.daemon = True
            alarm.start()
        over = False
        try:
            while True:
                message = self._receive()
                if message.ended is not msgspec.UNSET or message.failed is not None:
                    over = True
                    self._child.stop()
                    if message.failed is not None:
                        raise self._failure(message.failed)
                    return message.ended
                self._take(message)
        except ContractBroken as error:
            raise RepairerFailed(f"broke its contract: {error}") from error
        except EOFError as error:
            over = True
            raise self._died() from error
        finally:
            if alarm is not None:
                alarm.cancel()
            self._watch.end()
            if not over:
                self._child.kill_group()
                self._child.died()

    def _take(self, message: _Message) -> None:
        if message.ask:
            if self._answers is None:
                raise ContractBroken(f"its process asked for {message.ask!r}, which there is not")
            self._watch.heard()
            answer = self._answers.reply(message.ask, message.arguments)
            self._watch.heard()
            self._send(answer)
        elif message.progress is not None:
            if message.progress != self._told:
                self._told = message.progress
                self._watch.heard()
            self._place.on_progress(*message.progress)
        elif message.note is not None:
            if unknown := set(message.note.counts) - set(COUNTS):
                raise ContractBroken(f"it counted {min(unknown)!r}, which there is not")
            self._watch.heard()
            self._place.on_note(message.note.table, message.note.counts)
        elif message.replaced:
            self._place.on_replaced()

    def _send(self, message: Value) -> None:
        try:
            self._child.channel.send(message)
        except BrokenPipeError:
            pass  # it has died: `_receive` says how
        except ProtocolError as error:
            self._child.channel.send({"refused": str(error)})

    def _receive(self) -> _Message:
        self._watch.begin()
        try:
            message: Any = self._child.channel.receive()
        except ProtocolError as error:
            raise ContractBroken(f"its process sent nonsense: {error}") from error
        finally:
            self._watch.pause()
        return shaped(_Message, message)

    def _failure(self, failed: _Failed) -> Exception:
        """Return what the process failed with."""
        if failed.ours is not None:
            error = from_wire(dict(failed.ours))
            if not self._home or isinstance(error, OutOfSpace):
                return error
            failure = RepairerFailed(f"failed: {error.message}")
            failure.__cause__ = error
            return failure
        return RepairerFailed(f"failed: {failed.contract or failed.text}")

    def _died(self) -> RepairerFailed:
        hung = self._watch.hung
        how, words = self._child.died()
        if self._late:
            return RepairerFailed("was stopped when the time was over")
        if hung:
            return RepairerFailed(f"hung: it {hung}, and its process was killed")
        why = gist(words)
        return RepairerFailed(f"died: its process {how}{f': {why}' if why else ''}")

    def _end_late(self) -> None:
        self._late = True
        self._child.kill_group()
