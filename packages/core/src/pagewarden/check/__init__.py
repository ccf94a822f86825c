"""Judging a database: which checkers run, on what, for how long, and what their answers make together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.check.run import NOT_RUN, CheckRequest, run_check

__all__ = ["NOT_RUN", "CheckRequest", "run_check"]


def __getattr__(name: str) -> object:
    if name in __all__:  # the process of one checker, or of one repairer, needs none
        return getattr(import_module(f"{__name__}.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
