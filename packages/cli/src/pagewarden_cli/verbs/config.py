"""`pagewarden config check` and `pagewarden config example`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.blocks import Block, line
from pagewarden_cli.human import number
from pagewarden_cli.options import common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.config import Configuration
    from pagewarden.plugins import Extensions


@click.group("config", short_help="Validate a configuration, or print an example.")
def command() -> None:
    """Validate a configuration, or print a commented one."""


@command.command("check")
@common
@pass_session
def check(session: Session) -> int:
    """Validate the file of --config, $PAGEWARDEN_CONFIG or the default place, and load the plugins that it names."""
    from pagewarden.config import as_plain

    configuration = session.configuration
    with session.runtime() as runtime:
        _check_plugins(configuration, runtime.extensions)
    session.show(as_plain(configuration), rendered=lambda: () if session.quiet else _summary(configuration))
    return 0


def _check_plugins(configuration: Configuration, extensions: Extensions) -> None:
    """Refuse checkers and kinds of URL that no plugin brings."""
    known = [checker.name for checker in extensions.checkers]
    named = [("defaults", configuration.defaults.checkers)]
    named += [(f"databases.{name}", section.checkers or ()) for name, section in configuration.databases.items()]
    for table, checkers in named:
        for checker in checkers:
            if checker not in known:
                raise ConfigurationInvalid(
                    f"{configuration.source}: {table}.checkers: no plugin brings the checker {checker}",
                    hint=f"known here: {', '.join(known)}",
                )


def _summary(configuration: Configuration) -> tuple[Block, ...]:
    if configuration.source is None:
        return (line("there is no configuration file; the defaults hold"),)
    databases = number(len(configuration.databases), "database")
    stores = len(configuration.repositories)
    repositories = f"{number(stores)} {'repository' if stores == 1 else 'repositories'}"
    return (line(f"{configuration.source} is valid: {databases}, {repositories}"),)


@command.command("example")
@common
@pass_session
def example(session: Session) -> int:
    """Print a commented file with every key."""
    from pagewarden.config_file import example_config

    text = example_config()
    if session.json:
        session.print_json({"example": text})
    elif sys.stdout is not None:
        sys.stdout.write(text)
    return 0
