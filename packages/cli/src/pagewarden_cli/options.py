"""Options that every verb takes, and the types of arguments that several share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def any_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion to the shell: a file."""
    return [CompletionItem(incomplete, type="file")]


def any_folder(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion to the shell: a folder."""
    return [CompletionItem(incomplete, type="dir")]


def not_empty(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse a path that is empty text, as an unset variable of a script gives: it would mean the current folder.

    And one with a NUL in it.
    """
    if not value:
        name = param.opts[-1] if isinstance(param, click.Option) else param.human_readable_name
        raise ConfigurationInvalid(f"{name} is empty", hint="name a file, such as app.db")
    if "\0" in value:
        raise ConfigurationInvalid(f"{value!r} is no path", hint="name a file, such as app.db")
    return value


def read_time(session: Session, text: str) -> str:
    """Return a time of the command line as RFC 3339 in UTC, and say how it was understood where it does not say."""
    from datetime import UTC, datetime

    from pagewarden.times import format_moment, parse_moment

    moment = parse_moment(text, now=datetime.now(UTC), local=True)
    if moment.note:
        session.note(moment.note)
    return format_moment(moment.time)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Store a common option's value in the session."""
    session = ctx.find_object(Session)
    if session is not None and value is not None:
        setattr(session, _ATTRIBUTES.get(param.name or "", param.name or ""), value)


_ATTRIBUTES = {"quiet": "given_quiet", "verbose": "given_verbose", "color": "given_color", "log": "given_log"}


def common(function: F) -> F:
    """Add the options that may stand before or after the verb."""
    for option in reversed(
        (
            _kept("--json", is_flag=True, help="Print one JSON document on stdout, and nothing else there."),
            _kept("--quiet", "-q", is_flag=True, help="Say only what is wrong."),
            _kept("--verbose", "-v", is_flag=True, help="Cut nothing, and tell of each step."),
            _kept("--color/--no-color", help="Paint the terminal or not; NO_COLOR is respected."),
            _kept("--config", shell_complete=any_file, metavar="FILE", help="The configuration to read."),
            _kept(
                "--log",
                shell_complete=any_file,
                metavar="FILE",
                help="Append each event as a line of JSON; - is stderr.",
            ),
            _kept("--debug", is_flag=True, help="Show where an error came from."),
        )
    ):
        function = option(function)
    return function


def one_point(function: F) -> F:
    """Add the options that name one restore point of a repository."""
    for option in reversed(
        (
            click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository."),
            click.option(
                "--db",
                metavar="NAME",
                help="The database, by its name in the repository; needed where it holds several.",
            ),
            click.option("--at", metavar="TIME", help="The last restore point at or before TIME: RFC 3339, or -15m."),
            click.option("--txid", type=click.IntRange(min=1), metavar="N", help="The restore point numbered N."),
        )
    ):
        function = option(function)
    return function


def guard_or_backup(function: F) -> F:
    """Add the options of what a guard does, and a backup where there is none."""
    for option in reversed(
        (
            click.option(
                "--repo", shell_complete=any_folder, metavar="URL", help="Back up to here where nothing guards it."
            ),
            click.option(
                "--name", metavar="NAME", help="The database's name in the repository; its file name otherwise."
            ),
            click.option(
                "--max-time",
                type=click.FloatRange(min=0),
                metavar="S",
                help="Wait for a guard for S seconds at most.",
            ),
        )
    ):
        function = option(function)
    return function


def _kept(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, default=None, expose_value=False, callback=_keep, **settings)


pass_session = click.make_pass_decorator(Session)
