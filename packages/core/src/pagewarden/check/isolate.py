"""A checker of a plugin in a process of its own: what it asks for is answered here, and it may die of anything.

The process (`pagewarden.processes.checker_main`) loads that plugin alone. It opens SQLite connections and no file of
the database (H1); pages come from this side, through the page reader. What it sends may be hostile: every message is
bounded and held against its type, every finding against the contract.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

from pagewarden.check.answers import Answers, Shape, shaped
from pagewarden.check.outcome import CheckerFailed, ContractBroken
from pagewarden.check.subject import CheckSubject, ImageWanted
from pagewarden.check.watch import Watch, memory_bound
from pagewarden.contracts import Checker, CheckOutcome, Subject
from pagewarden.errors import from_wire
from pagewarden.processes.channel import ProtocolError, Value
from pagewarden.processes.spawn import Child, gist
from pagewarden.values import Finding, Verdict

MODULE = "pagewarden.processes.checker_main"

LARGEST_MESSAGE = 4 << 20
"""Bytes of a message from a checker's process."""

_MAX_PLACE = 64 << 10  # characters of what `reached` is told


class IsolatedChecker:
    """Looks like the checker; its `check` is a conversation with the process that the checker runs in.

    Where pages are wanted that are not attached, the question waits in the process until `check` is called again.
    """

    def __init__(self, checker: Checker, home: str) -> None:
        """`home` is the module, or "module:object", that the process gets the checker's plugin from."""
        self.name = checker.name
        self.level = checker.level
        self._home = home
        self._talk: _Talk | None = None

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield the findings that the process reports. Raises what it failed with, or how it died."""
        talk, self._talk = self._talk or _Talk(self.name, self._home, subject), None
        try:
            outcome = yield from talk.go_on(cast("CheckSubject", subject))
        except ImageWanted:
            self._talk = talk
            raise
        except BaseException:
            talk.kill()
            raise
        talk.end()
        return outcome

    def close(self) -> None:
        """End a process that waits for pages which it will not get."""
        if self._talk is not None:
            self._talk.kill()
            self._talk = None


class _Talk:
    """One process, and what was said so far."""

    def __init__(self, name: str, home: str, subject: Subject) -> None:
        self._name = name
        self._findings: list[Finding] = []
        self._question: _Question | None = None  # the one that waits for an answer
        self._answers = Answers()
        self._told: tuple[int, int] | None = None
        self._over = False
        self._child = Child(MODULE, limit=LARGEST_MESSAGE, lifeline=True)
        self._watch = Watch(self._child)
        setup: dict[str, Value] = {"home": home, "checker": name, "memory": memory_bound()}
        task: dict[str, Value] = {
            "path": subject.path,
            "level": str(subject.level),
            "assertions": list(subject.assertions),
        }
        self._send(setup)
        self._send(task)

    def go_on(self, subject: CheckSubject) -> Generator[Finding, None, CheckOutcome]:
        """Answer until the checker has ended; yield its findings, from the first."""
        subject.when_stopped(self._child.kill_group)
        yield from self._findings
        while True:
            message = self._question or self._receive(subject)
            if isinstance(message, _Question):
                self._question = message
                self._watch.heard()
                answer = self._answers.reply(message.what, message.arguments, subject)
                self._watch.heard()
                self._send(answer)
                self._question = None
            elif isinstance(message, _Ended):
                return CheckOutcome(verdict=message.verdict, why=message.why)
            elif isinstance(message, Finding):
                self._findings.append(message)
                yield message

    def end(self) -> None:
        """Let the process end, now that it has said everything."""
        self._over = True
        self._watch.end()
        self._child.stop()

    def kill(self) -> None:
        """End the process at once, unless it has ended."""
        self._watch.end()
        if not self._over:
            self._over = True
            self._child.kill_group()
            self._child.died()

    def _send(self, message: Value) -> None:
        try:
            self._child.channel.send(message)
        except BrokenPipeError:
            pass  # it has died: `_receive` says how

    def _receive(self, subject: CheckSubject) -> _Question | _Ended | Finding | None:
        """Return the next message that matters. Raises how the checker failed, and what `subject` raises."""
        self._watch.begin()
        try:
            message: Any = self._child.channel.receive()
        except EOFError as error:
            subject.guard()  # it was killed at the deadline
            raise self._died() from error
        except ProtocolError as error:
            raise ContractBroken(f"its process sent nonsense: {error}") from error
        finally:
            self._watch.pause()
        said = shaped(_Message, message)
        if said.failed is not None:
            self.end()
            raise _failure(said.failed)
        if said.ask:
            return _Question(what=said.ask, arguments=said.arguments)
        if said.progress is not None:
            if said.progress != self._told:
                self._told = said.progress
                self._watch.heard()
            subject.progress(*said.progress)
            return None
        self._watch.heard()
        if said.reached is not None:
            if len(said.reached) > _MAX_PLACE:
                raise ContractBroken(f"it reached a place of {len(said.reached)} characters")
            subject.reached(said.reached)
        return said.ended or said.finding

    def _died(self) -> CheckerFailed:
        hung = self._watch.hung
        self._over = True
        how, words = self._child.died()
        if hung:
            return CheckerFailed(f"hung: it {hung}, and its process was killed")
        why = gist(words)
        return CheckerFailed(f"died: its process {how}{f': {why}' if why else ''}")


class _Failed(Shape, frozen=True):
    text: str = ""  # what was raised
    contract: str = ""  # how the contract was broken
    ours: dict[str, str] | None = None  # one of our errors, as `to_wire` has it


class _Ended(Shape, frozen=True):
    verdict: Verdict | None
    why: str


class _Message(Shape, frozen=True):
    ask: str = ""
    arguments: Any = None
    progress: tuple[int, int] | None = None
    reached: str | None = None
    finding: Finding | None = None
    ended: _Ended | None = None
    failed: _Failed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What the process asks for."""

    what: str
    arguments: object


def _failure(failed: _Failed) -> Exception:
    """Return what the process's checker failed with."""
    if failed.contract:
        return ContractBroken(failed.contract)
    if failed.ours is not None:
        return from_wire(dict(failed.ours))
    return CheckerFailed(f"failed: {failed.text}")
