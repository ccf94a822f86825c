"""Checker: SQLite's own integrity_check, on a private copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Checker


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register the checker."""
    from pagewarden_check_pragma.checker import PragmaChecker

    return [PragmaChecker()]
