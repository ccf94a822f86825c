"""`pagewarden backups --repo URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("backups", short_help="List restore points.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option("--db", metavar="NAME", help="Only this database, by its name in the repository.")
@click.option("--all", "everything", is_flag=True, help="Give each restore point its row, however many there are.")
@click.option("--deleted", is_flag=True, help="List those, too, that are deleted and can be undeleted.")
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None, everything: bool, deleted: bool) -> int:
    """List the restore points of a repository as a time line, newest last.

    Sizes, ages, what was known of the database, what verify found since, and pins.
    """
    repository = session.repository(repo)
    with session.runtime() as runtime:
        from pagewarden.repository.backups import BackupsRequest, run_backups

        request = BackupsRequest(repository=repository.url, name=db or repository.db, deleted=deleted)
        report = run_backups(request, runtime)

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.timeline import show_backups

        return tuple(show_backups(report, session.manner(), everything=everything))

    session.show(report, rendered)
    return 0
