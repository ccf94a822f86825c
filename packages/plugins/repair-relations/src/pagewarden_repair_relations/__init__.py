"""Repairer: rows whose foreign key names a row that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Repairer


@hookimpl
def pagewarden_repairers() -> Iterable[Repairer]:
    """Register the repairer."""
    from pagewarden_repair_relations.repairer import RelationsRepairer

    return [RelationsRepairer()]
