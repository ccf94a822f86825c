"""The ledger: the lasting list of suspect pages and what became of each, the history of checks, and where to resume.

A SQLite database of our own, `ledger.db` in the state directory, for all databases of its user. It is a help and never
the judge: where it is damaged or cannot be written to, a check says so and is what it would have been without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.ledger.report import LedgerRequest, run_ledger

__all__ = ["LedgerRequest", "run_ledger"]


def __getattr__(name: str) -> object:
    if name in __all__:  # a check needs neither
        return getattr(import_module(f"{__name__}.report"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
