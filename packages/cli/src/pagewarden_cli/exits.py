"""What becomes of a run that ends early: one sentence, a hint, and an exit code of docs/errors.md."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from pagewarden.errors import ConfigurationInvalid, PagewardenError

INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE


class Stopped(KeyboardInterrupt):
    """A signal other than SIGINT asked the command to end; it cleans up as after SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as the command line shows it; field by field what --json prints under "error"."""

    slug: str
    message: str
    hint: str
    exit_code: int


def failure_of(error: BaseException) -> Failure:
    """Return how `error` is shown: ours as they are, click's as wrong usage, anything else as an error of our own."""
    import click  # late, because this module is imported before anything that takes long

    match error:
        case PagewardenError():
            return Failure(slug=error.slug, message=error.message, hint=error.hint, exit_code=error.exit_code)
        case click.ClickException():
            context = error.ctx if isinstance(error, click.UsageError) else None
            return _wrong_usage(error.format_message(), "pagewarden" if context is None else context.command_path)
        case KeyboardInterrupt():
            code = 128 + error.number if isinstance(error, Stopped) else INTERRUPTED
            return Failure(slug="interrupted", message="interrupted", hint="", exit_code=code)
        case _:
            detail = " ".join(str(error).split())
            what = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
            return Failure(
                slug=PagewardenError.slug,
                message=f"an error of our own: {what}",
                hint="--debug shows more",
                exit_code=PagewardenError.exit_code,
            )


def _wrong_usage(message: str, verb: str) -> Failure:
    message = message.rstrip(".")
    return Failure(
        slug=ConfigurationInvalid.slug,
        message=message[:1].lower() + message[1:],
        hint=f"{verb} --help",
        exit_code=ConfigurationInvalid.exit_code,
    )
