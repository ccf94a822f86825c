"""`pagewarden undelete --repo URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("undelete", short_help="Bring a pruned restore point back.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option(
    "--db", metavar="NAME", help="The database, by its name in the repository; needed where it holds several."
)
@click.option("--txid", type=click.IntRange(min=1), metavar="N", help="The restore point numbered N.")
@click.option("--all", "everything", is_flag=True, help="All that can be had back.")
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None, txid: int | None, everything: bool) -> int:
    """Bring back a restore point that prune marked as deleted, until its grace period is over.

    `pagewarden backups --deleted` lists them. The next prune marks it again unless it is pinned.
    """
    if everything == (txid is not None):
        raise ConfigurationInvalid("say which restore point: --txid N, or --all", hint="pagewarden backups --deleted")
    repository = session.repository(repo)
    with session.runtime() as runtime:
        from pagewarden.repository.pinning import UndeleteRequest, run_undelete

        request = UndeleteRequest(repository=repository.url, name=db or repository.db, txid=txid)
        report = run_undelete(request, runtime)

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.retention import show_undelete

        return tuple(show_undelete(report, session.manner()))

    session.show(report, rendered)
    return 0
