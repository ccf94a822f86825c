"""`pagewarden plugins`."""

from __future__ import annotations

import click

from pagewarden_cli.options import common, pass_session
from pagewarden_cli.session import Session


@click.command("plugins", short_help="List what is installed.")
@common
@pass_session
def command(session: Session) -> int:
    """List the installed plugins: name, version, what they bring, and what is wrong with them.

    Exit code 0: all could be loaded. 1: there are faults.
    """
    with session.runtime() as runtime:
        report = runtime.extensions.report()
    session.show(report)
    return report.exit_code
