"""One plugin of each kind. Hooks register objects; the objects do the work when core calls them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from pagewarden.contracts import Checker, Notifier, Repairer, TargetFactory
from pagewarden.events import Event
from pagewarden.hookspecs import hookimpl
from pagewarden_example.checker import EmptyTables
from pagewarden_example.notifier import LineNotifier
from pagewarden_example.repairer import RowSweeper
from pagewarden_example.target import FlatFactory


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register the checker."""
    return [EmptyTables()]


@hookimpl
def pagewarden_repairers() -> Iterable[Repairer]:
    """Register the repairer."""
    return [RowSweeper()]


@hookimpl
def pagewarden_targets() -> Iterable[TargetFactory]:
    """Register the target."""
    return [FlatFactory()]


@hookimpl
def pagewarden_notifiers() -> Iterable[Notifier]:
    """Register the notifier."""
    return [LineNotifier()]


@hookimpl
def pagewarden_on_event(event: Event) -> None:
    """Write each event as a line of JSON into the file that PAGEWARDEN_EXAMPLE_EVENTS names."""
    path = os.environ.get("PAGEWARDEN_EXAMPLE_EVENTS")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"name": event.name, "database": event.database, **event.fields}) + "\n")
