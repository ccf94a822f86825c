"""`pagewarden status [DB…]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_file, any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.status import StatusRequest


@click.command("status", short_help="When databases were checked and backed up; what is overdue.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@click.option(
    "--repo", shell_complete=any_folder, metavar="URL", help="Look here for their backups; without DB, for all in it."
)
@click.option("--check-every", metavar="T", help="A check is overdue after this time, such as 7d.")
@click.option("--backup-every", metavar="T", help="A backup is overdue after this time, such as 24h.")
@click.option("--verify-every", metavar="T", help="A verification is overdue after this time, such as 30d.")
@common
@pass_session
def command(
    session: Session,
    databases: tuple[str, ...],
    repo: str | None,
    check_every: str | None,
    backup_every: str | None,
    verify_every: str | None,
) -> int:
    """Tell of each database its last check, its newest backup and how old that is, and what verify found of it.

    Without DB, of every configured database, or of all that the repository of --repo holds.

    Exit code 0: nothing is overdue and nothing is known to be damaged. 1: something is. 3: something could not be
    looked at.
    """
    request = _request(session, databases, repo, check_every, backup_every, verify_every)
    with session.runtime() as runtime:
        from pagewarden.status import run_status

        report = run_status(request, runtime)
    session.show(report)
    return report.exit_code


def _request(
    session: Session,
    databases: tuple[str, ...],
    repo: str | None,
    check_every: str | None,
    backup_every: str | None,
    verify_every: str | None,
) -> StatusRequest:
    from pagewarden.status import StatusRequest, Watched
    from pagewarden.times import parse_duration

    for given in (check_every, backup_every, verify_every):
        if given is not None:
            parse_duration(given)
    configuration = session.configuration
    url = None if repo is None else configuration.repository(repo).url
    chosen = databases or tuple(configuration.databases)
    if not chosen and url is None:
        raise ConfigurationInvalid(
            "no database was named", hint="name one, such as app.db, or a repository: --repo URL; or configure some"
        )
    watched = tuple(
        Watched(
            path=settings.path,
            name=settings.name,
            repository=url or settings.repository,
            check_every=check_every or settings.check_every,
            backup_every=backup_every or (settings.backup_every if url or settings.repository else None),
            verify_every=verify_every or settings.verify_every,
        )
        for settings in map(configuration.database, chosen)
        if databases or url is None or settings.repository == url
    )
    defaults = configuration.defaults
    return StatusRequest(
        databases=watched,
        repository=None if databases else url,
        backup_every=backup_every or defaults.backup_every,
        verify_every=verify_every or defaults.verify_every,
    )
