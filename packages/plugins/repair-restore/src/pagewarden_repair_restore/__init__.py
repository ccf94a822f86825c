"""Repairer: a restore point, and what the damaged file has that is newer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Repairer


@hookimpl
def pagewarden_repairers() -> Iterable[Repairer]:
    """Register the repairer."""
    from pagewarden_repair_restore.repairer import RestoreRepairer

    return [RestoreRepairer()]
