"""`pagewarden backups --repo URL`."""

from __future__ import annotations

import click

from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session


@click.command("backups", short_help="List restore points.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option("--db", metavar="NAME", help="Only this database, by its name in the repository.")
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None) -> int:
    """List the restore points of a repository: sizes, ages, and what was known of the database."""
    repository = session.repository(repo)
    with session.runtime() as runtime:
        from pagewarden.repository.verify import BackupsRequest, run_backups

        report = run_backups(BackupsRequest(repository=repository.url, name=db or repository.db), runtime)
    session.show(report)
    return 0
