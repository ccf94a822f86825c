"""Checker: rows whose foreign key names a row that is not there, through SQLite's foreign_key_check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Checker


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register the checker."""
    from pagewarden_check_foreign_keys.checker import ForeignKeyChecker

    return [ForeignKeyChecker()]
