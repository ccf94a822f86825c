"""What becomes of a run that ends early."""

from __future__ import annotations

import signal

import click
import pytest

from pagewarden.errors import DatabaseBusy
from pagewarden_cli.exits import Failure, Stopped, failure_of


def test_an_error_of_ours_is_shown_as_it_is() -> None:
    """Message, hint and exit code are the error's own."""
    failure = failure_of(DatabaseBusy("process 7 has it open", hint="stop it"))
    assert failure == Failure(slug="database-busy", message="process 7 has it open", hint="stop it", exit_code=13)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGHUP), 129)],
)
def test_a_signal_makes_the_exit_code_a_shell_would(error: BaseException, code: int) -> None:
    """128 and its number."""
    assert failure_of(error) == Failure(slug="interrupted", message="interrupted", hint="", exit_code=code)


def test_wrong_usage_hints_at_the_verbs_help() -> None:
    """And reads like our own errors: lower-case, no full stop."""
    context = click.Context(
        click.Command("check"), info_name="check", parent=click.Context(click.Group(), info_name="p")
    )
    failure = failure_of(click.UsageError("Missing argument 'DB'.", ctx=context))
    assert (failure.message, failure.hint, failure.exit_code) == ("missing argument 'DB'", "p check --help", 2)
    assert failure_of(click.ClickException("Odd")).hint == "pagewarden --help"


@pytest.mark.parametrize(
    ("error", "what"), [(ValueError("two\nlines"), "ValueError: two lines"), (ValueError(), "ValueError")]
)
def test_anything_else_is_an_error_of_our_own_in_one_line(error: Exception, what: str) -> None:
    """Exit code 70, and the way to see more."""
    failure = failure_of(error)
    assert failure.message == f"an error of our own: {what}"
    assert (failure.exit_code, failure.hint) == (70, "--debug shows more")
