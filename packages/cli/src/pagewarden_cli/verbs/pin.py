"""`pagewarden pin --repo URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import common, one_point, pass_session, read_time
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("pin", short_help="Keep a restore point whatever the policy.")
@one_point
@click.option("--note", metavar="TEXT", default="", help="Why: backups and prune show it.")
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None, at: str | None, txid: int | None, note: str) -> int:
    """Keep a restore point whatever the policy, until it is unpinned.

    Without --at and --txid, the newest one.
    """
    repository = session.repository(repo)
    with session.runtime() as runtime:
        from pagewarden.repository.pinning import PinRequest, run_pin

        request = PinRequest(
            repository=repository.url,
            name=db or repository.db,
            at=None if at is None else read_time(session, at),
            txid=txid,
            note=note,
        )
        report = run_pin(request, runtime)

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.retention import show_pin

        return tuple(show_pin(report, session.manner()))

    session.show(report, rendered)
    return 0
