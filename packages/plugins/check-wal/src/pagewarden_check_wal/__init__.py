"""Checker: the write-ahead log beside a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pagewarden.hookspecs import hookimpl

if TYPE_CHECKING:
    from pagewarden.contracts import Checker


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register the checker."""
    from pagewarden_check_wal.checker import WalChecker

    return [WalChecker()]
