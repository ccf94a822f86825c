"""Checkers whose behaviour a test chooses, in a runtime of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pagewarden.contracts import Checker, CheckOutcome, Notice, Notifier, Subject
from pagewarden.events import Event
from pagewarden.hookspecs import hookimpl
from pagewarden.plugins import load_plugins
from pagewarden.processes.reader import PageReader
from pagewarden.runtime import Runtime
from pagewarden.values import Finding, Level, Severity

Behaviour = Callable[[Subject], object]


class Chosen:
    """A checker that does what it is told."""

    def __init__(self, behaviour: Behaviour, name: str = "check-chosen", level: Level = Level.QUICK) -> None:
        """`behaviour` is its `check`."""
        self.name = name
        self.level = level
        self._behaviour = behaviour

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """Do it."""
        return self._behaviour(subject)  # type: ignore[return-value]


class Telling:
    """A notifier that remembers."""

    name = "notify-test"

    def __init__(self) -> None:
        """Nothing was told yet."""
        self.notices: list[Notice] = []

    def notify(self, notice: Notice) -> None:
        """Remember."""
        self.notices.append(notice)


class Plugins:
    """A plugin with chosen checkers, a notifier and an observer; makes a runtime with it and nothing else."""

    def __init__(self, state: Path, reader: PageReader) -> None:
        """`state` is the runtime's."""
        self._state = state
        self._reader = reader
        self.checkers: list[Checker] = []
        self.notifier = Telling()
        self.events: list[Event] = []

    @hookimpl
    def pagewarden_checkers(self) -> Iterable[Checker]:
        """The chosen ones."""
        return self.checkers

    @hookimpl
    def pagewarden_notifiers(self) -> Iterable[Notifier]:
        """The one that remembers."""
        return [self.notifier]

    @hookimpl
    def pagewarden_on_event(self, event: Event) -> None:
        """Remember it."""
        self.events.append(event)

    def runtime(self, *behaviours: Behaviour, level: Level = Level.QUICK) -> Runtime:
        """Return a runtime with a checker for each behaviour: check-chosen, check-chosen-2, …"""
        for number, behaviour in enumerate(behaviours, 1):
            name = "check-chosen" if number == 1 else f"check-chosen-{number}"
            self.checkers.append(Chosen(behaviour, name, level))
        made = Runtime(state=self._state)
        made._reader = self._reader
        made._extensions = load_plugins(only=[], extra=[self])
        return made


def damage(message: str = "page 2 is all zeros", pgno: int | None = None) -> Finding:
    """Return a finding of damage."""
    return Finding(kind="zeroed-page", severity=Severity.DAMAGE, message=message, pgno=pgno)
