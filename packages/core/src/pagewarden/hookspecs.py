"""The whole extension story: four hooks that register objects, and one that observes.

Hooks register and never work: they return objects that meet a protocol of `pagewarden.contracts`. They are called
once, when `load_plugins` builds a manager. A hook takes no arguments that a plugin must use; pluggy lets an
implementation leave out any of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from pagewarden.contracts import Checker, Notifier, Repairer, TargetFactory
from pagewarden.events import Event

PROJECT = "pagewarden"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def pagewarden_checkers() -> Iterable[Checker]:  # type: ignore[empty-body]
    """Return the checkers that the plugin brings. `check` runs those whose level the run includes."""


@hookspec
def pagewarden_repairers() -> Iterable[Repairer]:  # type: ignore[empty-body]
    """Return the repairers that the plugin brings. The repair planner orders them by expected loss."""


@hookspec
def pagewarden_targets() -> Iterable[TargetFactory]:  # type: ignore[empty-body]
    """Return factories for storage, each with the URL schemes that it opens."""


@hookspec
def pagewarden_notifiers() -> Iterable[Notifier]:  # type: ignore[empty-body]
    """Return notifiers. Each is told of damage, of runs that could not judge, and of backups that failed."""


@hookspec
def pagewarden_on_event(event: Event) -> None:
    """Observe one event of a run: it began, a step ended with its timing, a finding was made, it ended.

    An observer cannot change a run: what it returns is ignored, and what it raises becomes a fault of the plugin.
    """
