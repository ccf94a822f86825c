"""`pagewarden unpin --repo URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_folder, common, pass_session, read_time
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("unpin", short_help="Leave a restore point to the policy again.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option(
    "--db", metavar="NAME", help="The database, by its name in the repository; needed where it holds several."
)
@click.option("--at", metavar="TIME", help="The last restore point at or before TIME: RFC 3339, or -15m.")
@click.option("--txid", type=click.IntRange(min=1), metavar="N", help="The restore point numbered N.")
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None, at: str | None, txid: int | None) -> int:
    """Leave a pinned restore point to the policy again; all its pins are removed.

    Without --at and --txid, the newest one.
    """
    repository = session.repository(repo)
    with session.runtime() as runtime:
        from pagewarden.repository.pinning import UnpinRequest, run_unpin

        request = UnpinRequest(
            repository=repository.url,
            name=db or repository.db,
            at=None if at is None else read_time(session, at),
            txid=txid,
        )
        report = run_unpin(request, runtime)

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.retention import show_pin

        return tuple(show_pin(report, session.manner()))

    session.show(report, rendered)
    return 0
