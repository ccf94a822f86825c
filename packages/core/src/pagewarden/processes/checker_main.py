"""A process for one checker of a plugin, which may raise, hang or die in it without harm to the run.

1. The first message names the plugin and the checker, and how much memory there may be. Only that plugin is loaded.
2. The second is the task. The checker is given a `Subject` that asks the run for everything: pages, sums, walks, the
   baseline. Only SQLite connections are opened here, on the path that the run names: this process holds connections, so
   it opens no file of the database itself (H1).
3. Findings are sent as they are reported; then how it ended; then the process ends.
"""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import msgspec

from pagewarden.check.answers import SUMS_AT_ONCE
from pagewarden.check.outcome import Collected, ContractBroken
from pagewarden.contracts import Baseline, FileFacts, LiveImage, PageImage
from pagewarden.errors import PagewardenError, from_wire, to_wire
from pagewarden.processes.channel import Channel, Value
from pagewarden.processes.inside import find_brought, serve_alone
from pagewarden.structure import StructureStep, Tree, WalSurvey
from pagewarden.values import Finding, Level, Position


class Run:
    """The run, as this process sees it: one question at a time, from any thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def tell(self, **message: Value) -> None:
        """Send what needs no answer."""
        with self._lock:
            self._channel.send(message)

    def ask(self, what: str, **arguments: Value) -> Any:
        """Return the answer to a question. Raises PagewardenError or ValueError, as the run says."""
        with self._lock:
            self._channel.send({"ask": what, "arguments": arguments})
            answer: Any = self._channel.receive()
        if "refused" in answer:
            raise ValueError(answer["refused"])
        if "error" in answer:
            error = from_wire(answer["error"])
            error.fields.update(answer["fields"])
            raise error
        return answer["value"]


class RemoteImage:
    """Pages that the run reads: a `LiveImage`, or an image of a baseline's."""

    def __init__(self, run: Run, image: str, facts: Mapping[str, Any]) -> None:
        """`image` is what the run calls it."""
        self._run = run
        self._image = image
        self.page_size: int = facts["page_size"]
        self.pages: int = facts["pages"]

    def sums(self, first: int, count: int) -> bytes:
        """Return page sums."""
        return self._scan("sums", first, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page."""
        return bytes(self._run.ask("page", image=self._image, pgno=pgno))

    def reread(self, pgno: int) -> bytes:
        """Return the bytes of one page again."""
        return bytes(self._run.ask("reread", pgno=pgno))

    def reserved_sums(self, first: int, count: int) -> bytes:
        """Return which pages' own checksums hold."""
        return self._scan("reserved_sums", first, count)

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Walk all b-trees."""
        walk = self._run.ask("begin_walk", trees=msgspec.to_builtins(trees), resume=resume)
        try:
            while (step := self._run.ask("walk_on", walk=walk)) is not None:
                yield msgspec.convert(step, StructureStep)
        finally:
            self._run.ask("end_walk", walk=walk)

    def wal(self) -> WalSurvey | None:
        """Return what stands in the -wal."""
        return msgspec.convert(self._run.ask("wal"), WalSurvey | None)

    def _scan(self, what: str, first: int, count: int) -> bytes:
        steps = range(first, first + count, SUMS_AT_ONCE) or range(first, first + 1)
        return b"".join(
            self._run.ask(what, image=self._image, first=start, count=min(SUMS_AT_ONCE, first + count - start))
            for start in steps
        )


class RemoteBaseline(RemoteImage):
    """A `Baseline` of the run's."""

    def __init__(self, run: Run, facts: Mapping[str, Any]) -> None:
        super().__init__(run, "baseline", facts)
        self.current: bool = facts["current"]
        self.position: Position | None = msgspec.convert(facts["position"], Position | None)

    @cached_property
    def older(self) -> Sequence[PageImage]:
        """Still older images, newest first."""
        facts = self._run.ask("older")
        return tuple(RemoteImage(self._run, f"older {number}", each) for number, each in enumerate(facts))


class RemoteSubject:
    """A `Subject` whose everything is the run's."""

    def __init__(self, run: Run, task: Mapping[str, Any]) -> None:
        self._run = run
        self._connections: list[sqlite3.Connection] = []
        self.path: str = task["path"]
        self.level = Level(task["level"])
        self.assertions: Sequence[str] = tuple(task["assertions"])

    @cached_property
    def _attached(self) -> tuple[RemoteImage, FileFacts]:
        answer = self._run.ask("image")
        return RemoteImage(self._run, "live", answer), msgspec.convert(answer["facts"], FileFacts)

    @property
    def image(self) -> LiveImage:
        """The pages of the commit."""
        return self._attached[0]

    @property
    def facts(self) -> FileFacts:
        """What the files say."""
        return self._attached[1]

    @cached_property
    def baseline(self) -> Baseline | None:
        """What to compare with."""
        answer = self._run.ask("baseline")
        return None if answer is None else RemoteBaseline(self._run, answer)

    @cached_property
    def resume(self) -> str:
        """Where the last run's time was over."""
        return str(self._run.ask("resume"))

    def reached(self, place: str) -> None:
        """Note how far the checker is."""
        self._run.tell(reached=place)

    def progress(self, done: int, total: int) -> None:
        """Tell how far the checker is. It need not raise at the deadline: the process ends then."""
        self._run.tell(progress=[done, total])

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Return a new connection, which is this process's own."""
        from pagewarden.live.connection import open_copy, open_readonly

        door = self._run.ask("door", copy=copy)
        connection = open_copy(door["path"]) if door["writable"] else open_readonly(door["path"])
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close the connections."""
        while self._connections:
            self._connections.pop().close()


def serve(channel: Channel) -> None:
    """Do the one task."""
    setup: Any = channel.receive()
    bound_memory(setup["memory"])
    run = Run(channel)
    try:
        checker = find_brought(setup["home"], "checker", setup["checker"], lambda plugin: plugin.checkers)
        task: Any = channel.receive()
        subject = RemoteSubject(run, task)
        collected = Collected(findings=_Sent(run))
        try:
            collected.add(checker.check(subject))
        finally:
            subject.close()
        run.tell(ended={"verdict": collected.verdict, "why": collected.why})
    except BaseException as error:  # noqa: BLE001 - the rim of the process: whatever failed is told to the run
        with suppress(BrokenPipeError):
            run.tell(failed=described(error))


class _Sent(list[Finding]):
    """Findings that are sent as they are added."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def append(self, finding: Finding) -> None:
        """Send one."""
        super().append(finding)
        self._run.tell(finding=msgspec.to_builtins(finding))


def described(error: BaseException) -> dict[str, Value]:
    """Return an error as plain values: one of ours whole, any other as text."""
    if isinstance(error, PagewardenError):
        return {"ours": {key: str(value) for key, value in to_wire(error).items()}}
    text = " ".join(str(error).split())[:4096]
    if isinstance(error, ContractBroken):
        return {"contract": text}
    return {"text": f"{type(error).__name__}: {text}" if text else type(error).__name__}


def bound_memory(size: int) -> None:
    """Let what this process allocates fail at `size` bytes; let the system end this process before any other."""
    with suppress(ValueError, OSError):  # the system knows no such bound, or has a lower one
        resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def main() -> None:
    """Be the process of one checker."""
    serve_alone(serve)


if __name__ == "__main__":
    main()
