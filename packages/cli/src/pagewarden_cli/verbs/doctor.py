"""`pagewarden doctor [DB]`."""

from __future__ import annotations

import click

from pagewarden_cli.options import any_file, common, pass_session
from pagewarden_cli.session import Session


@click.command("doctor", short_help="Look at the machine and a database's surroundings.")
@click.argument("database", required=False, metavar="[DB]", shell_complete=any_file)
@common
@pass_session
def command(session: Session, database: str | None) -> int:
    """Look at the machine: SQLite's version and its known bugs, file system, locks, plugins; and around DB.

    Exit code 0: no problems. 1: there are some.
    """
    path = None if database is None else session.configuration.database(database).path
    with session.runtime() as runtime:
        from pagewarden.doctor import DoctorRequest, run_doctor

        report = run_doctor(DoctorRequest(database=path), runtime)
    session.show(report)
    return report.exit_code
