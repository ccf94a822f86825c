"""`pagewarden ledger DB`."""

from __future__ import annotations

import click

from pagewarden_cli.options import any_file, common, not_empty, pass_session
from pagewarden_cli.session import Session


@click.command("ledger", short_help="Suspect pages and what became of them.")
@click.argument("database", metavar="DB", callback=not_empty, shell_complete=any_file)
@common
@pass_session
def command(session: Session, database: str) -> int:
    """List suspect pages of DB and what became of them, and its checks, oldest first.

    DB is a path or a name of the configuration; it need not be there any more.

    Exit code 0: no suspect page is open. 1: one is.
    """
    path = session.configuration.database(database).path
    with session.runtime() as runtime:
        from pagewarden.ledger import LedgerRequest, run_ledger

        report = run_ledger(LedgerRequest(database=path), runtime)
    session.show(report)
    return report.exit_code
