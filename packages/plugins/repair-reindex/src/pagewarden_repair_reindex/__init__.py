"""Repairer: indexes and full-text indexes built anew from their rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Repairer


@hookimpl
def pagewarden_repairers() -> Iterable[Repairer]:
    """Register the repairers: one that loses nothing, and one that moves rows which share a key."""
    from pagewarden_repair_reindex.repairer import DuplicatesRepairer, IndexRepairer

    return [IndexRepairer(), DuplicatesRepairer()]
