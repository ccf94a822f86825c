"""Checker: every b-tree of one commit, the freelist and the pointer map, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Checker


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register the checker."""
    from pagewarden_check_structure.checker import StructureChecker

    return [StructureChecker()]
