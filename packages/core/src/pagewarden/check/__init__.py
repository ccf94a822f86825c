"""Judging a database: which checkers run, on what, for how long, and what their answers make together."""

from pagewarden.check.run import NOT_RUN, CheckRequest, run_check

__all__ = ["NOT_RUN", "CheckRequest", "run_check"]
