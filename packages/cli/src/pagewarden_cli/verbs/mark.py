"""`pagewarden mark DB TEXT`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_file, common, guard_or_backup, not_empty, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("mark", short_help="Name the present moment, to go back to it by that name.")
@click.argument("database", metavar="DB", callback=not_empty, shell_complete=any_file)
@click.argument("text", metavar="TEXT")
@guard_or_backup
@common
@pass_session
def command(
    session: Session, database: str, text: str, repo: str | None, name: str | None, max_time: float | None
) -> int:
    """Give the present moment of a database a name, durably, once all that was committed before is in the repository.

    `pagewarden restore --mark TEXT` goes back to it. Compaction and thinning keep it.
    """
    settings = session.configuration.database(database)
    given = session.optional_repository(repo)
    with session.runtime() as runtime:
        from pagewarden.guard.asking import MarkRequest, run_mark

        report = run_mark(
            MarkRequest(
                database=settings.path,
                repository=settings.repository if given is None else given.url,
                name=settings.name if name is None else name,
                compression=settings.compression,
                check=settings.check,
                max_time=max_time,
                text=text,
            ),
            runtime,
        )

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.guarding import show_mark

        return tuple(show_mark(report, session.manner()))

    session.show(report, rendered)
    return 0
