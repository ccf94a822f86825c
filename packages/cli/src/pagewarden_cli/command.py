"""The command with its verbs: finds the one that was typed, runs it, and turns whatever happens into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.exits import BROKEN_PIPE, failure_of
from pagewarden_cli.options import common
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader

PROGRAM = "pagewarden"
COMPLETE_VARIABLE = "_PAGEWARDEN_COMPLETE"
VERBS = (
    "check",
    "backup",
    "backups",
    "verify",
    "restore",
    "repair",
    "undo",
    "quarantine",
    "prune",
    "pin",
    "unpin",
    "undelete",
    "run",
    "sync",
    "mark",
    "wal",
    "status",
    "ledger",
    "plugins",
    "doctor",
    "injure",
    "config",
    "completion",
)


class Verbs(click.Group):
    """The verbs, in the order in which one meets them; a verb's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return all verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """Return the verb, if there is one of that name."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"pagewarden_cli.verbs.{cmd_name}").command
        return command


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import platform
    import sqlite3

    import pagewarden

    version, sqlite, python = pagewarden.__version__, sqlite3.sqlite_version, platform.python_version()
    session = ctx.find_object(Session)
    if session is not None and session.json:
        session.print_json({"version": version, "sqlite": sqlite, "python": python})
    else:
        click.echo(f"pagewarden {version} (SQLite {sqlite}, Python {python})")
    ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["--help", "-h"]})
@common
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show versions."
)
def cli() -> None:
    """Keep SQLite databases whole: check, back up, verify, restore, repair."""


def main(arguments: Sequence[str], reader: PageReader | None = None) -> int:
    """Run one invocation and return its exit code; whatever goes wrong is shown and never raised.

    `reader` is a page reader that was started ahead; it is closed by whoever started it.
    """
    session = Session(reader)
    # An error in the arguments may come before --json has been read.
    words = list(arguments)
    session.json = "--json" in words[: words.index("--") if "--" in words else len(words)]
    try:
        if COMPLETE_VARIABLE in os.environ:
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])
        code = _invoke(words, session)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _leave_broken_pipe()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last handler: every error gets its exit code
        return _fail(session, error)
    return code


def _invoke(arguments: list[str], session: Session) -> int:
    try:
        with cli.make_context(PROGRAM, arguments, obj=session) as context:
            result: Any = cli.invoke(context)
    except click.exceptions.Exit as left:  # --help and --version
        return left.exit_code
    except click.exceptions.NoArgsIsHelpError as lost:
        if session.json:
            raise click.UsageError("missing command", lost.ctx) from lost
        click.echo(lost.format_message())
        return ConfigurationInvalid.exit_code
    return int(result or 0)


def _fail(session: Session, error: BaseException) -> int:
    try:
        code = session.fail(failure_of(error), error)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # The error cannot be shown, because what is broken is the place to show it; its exit code still can.
        _discard_output()
        return failure_of(error).exit_code
    return code


def _leave_broken_pipe() -> int:
    """Whoever read stdout has gone, as `| head` does: end as quietly as SIGPIPE would."""
    _discard_output()
    return BROKEN_PIPE


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush has nothing to complain about."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
