"""`pagewarden sync DB…`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_file, common, guard_or_backup, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.config import DatabaseSettings
    from pagewarden.values import SyncReport
    from pagewarden_cli.blocks import Block
    from pagewarden_cli.render import Manner


@click.command("sync", short_help="Return when all that was committed is in the repository.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@guard_or_backup
@common
@pass_session
def command(
    session: Session, databases: tuple[str, ...], repo: str | None, name: str | None, max_time: float | None
) -> int:
    """Return when all that was committed before is durable in the repository.

    The guard of the database does it (`pagewarden run`); where nothing guards it, a backup is made.
    """
    chosen = session.databases(databases, name=name)
    given = session.optional_repository(repo)
    with session.runtime() as runtime:
        from pagewarden.guard.asking import SyncRequest, run_sync

        def run(settings: DatabaseSettings) -> SyncReport:
            request = SyncRequest(
                database=settings.path,
                repository=settings.repository if given is None else given.url,
                name=settings.name if name is None else name,
                compression=settings.compression,
                check=settings.check,
                max_time=max_time,
            )
            return run_sync(request, runtime)

        outcomes = session.each(chosen, run)

    def rendered(manner: Manner) -> tuple[Block, ...]:
        from pagewarden_cli.guarding import show_sync

        reports = [outcome.report for outcome in outcomes if outcome.report is not None]
        return tuple(block for report in reports for block in show_sync(report, manner))

    if len(outcomes) == 1 and outcomes[0].report is not None:
        session.show(outcomes[0].report, lambda: rendered(session.manner()))
        return 0
    return session.show_several(outcomes, lambda _: 0, rendered)
