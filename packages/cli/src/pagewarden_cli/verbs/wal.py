"""`pagewarden wal status|enable|checkpoint|tune DB`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pagewarden_cli.options import any_file, common, not_empty, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagewarden_cli.blocks import Block
    from pagewarden_cli.render import Manner

_database = click.argument("database", metavar="DB", callback=not_empty, shell_complete=any_file)


@click.group("wal", short_help="The write-ahead log: how it stands, on and off, checkpoints, settings.")
def command() -> None:
    """Manage the write-ahead log of a database: look at it, switch to it, checkpoint it, tune what writes to it."""


@command.command("status", short_help="How the log stands, and who holds it back.")
@_database
@common
@pass_session
def status(session: Session, database: str) -> int:
    """Show journal mode, log, readers, locks, advice and known bugs; nothing is changed.

    Exit code 0. 1: the log has passed its bound. 3: what stands in it cannot be told.
    """
    settings = session.configuration.database(database)
    with session.runtime() as runtime:
        from pagewarden.wal.status import WalStatusRequest, run_wal_status

        report = run_wal_status(WalStatusRequest(database=settings.path, settings=settings.wal), runtime)
    _show(session, report, "show_status")
    return report.exit_code


@command.command("enable", short_help="Switch to WAL mode, or back.")
@_database
@click.option("--off", is_flag=True, help="Switch back to a rollback journal.")
@click.option("--force", is_flag=True, help="Go past reasons against it that are only warnings.")
@click.option(
    "--max-time", type=click.FloatRange(min=0), default=5.0, metavar="S", help="Wait for others for S seconds; 5."
)
@common
@pass_session
def enable(session: Session, database: str, off: bool, force: bool, max_time: float) -> int:
    """Switch a database to WAL mode, or tell the honest reasons not to; the mode is read back from the file."""
    path = session.configuration.database(database).path
    with session.runtime() as runtime:
        from pagewarden.wal.enable import WalEnableRequest, run_wal_enable

        report = run_wal_enable(WalEnableRequest(database=path, off=off, force=force, max_time=max_time), runtime)
    _show(session, report, "show_enable")
    return report.exit_code


@command.command("checkpoint", short_help="Bring the log into the database file.")
@_database
@click.option(
    "--mode",
    type=click.Choice(["passive", "full", "restart", "truncate"]),
    default="passive",
    help="How much: what is possible at once (the default), all, all so that the log restarts, or is made empty.",
)
@click.option(
    "--max-time", type=click.FloatRange(min=0), default=10.0, metavar="S", help="Wait for readers for S seconds; 10."
)
@common
@pass_session
def checkpoint(session: Session, database: str, mode: Any, max_time: float) -> int:
    """Bring the log into the database file, as far as readers let it be, racing no other checkpoint.

    Exit code 0: the mode did all that it is for. 3: somebody was in the way; what could be copied was.
    """
    settings = session.configuration.database(database)
    with session.runtime() as runtime:
        from pagewarden.wal.run import WalCheckpointRequest, run_wal_checkpoint

        request = WalCheckpointRequest(database=settings.path, mode=mode, max_time=max_time, settings=settings.wal)
        report = run_wal_checkpoint(request, runtime)
    _show(session, report, "show_checkpoint")
    return report.exit_code


@command.command("tune", short_help="Print the PRAGMA lines for the application.")
@_database
@click.option("--preset", type=click.Choice(["safe", "balanced", "fast"]), help="What to begin with; balanced.")
@click.option("--synchronous", type=click.Choice(["off", "normal", "full", "extra"]), help="When to sync.")
@click.option(
    "--autocheckpoint", type=click.IntRange(min=0), metavar="PAGES", help="When a commit checkpoints; 0: never."
)
@click.option("--journal-size-limit", type=click.IntRange(min=0), metavar="BYTES", help="What the -wal is cut to.")
@click.option(
    "--busy-timeout", type=click.IntRange(min=0), metavar="MS", help="How long a connection waits for a lock."
)
@click.option("--guarded/--no-guarded", default=None, help="Leave checkpoints to `pagewarden run`, or not.")
@common
@pass_session
def tune(session: Session, /, database: str, **given: Any) -> int:
    """Print the PRAGMA lines for the application, each tried on a scratch database, and what they can lose.

    Only the journal mode is kept in the file. The rest belongs to each connection, and nobody but the application can
    set it: put the lines where it opens its connections.
    """
    settings = session.configuration.database(database)
    wanted = replace(settings.wal, **{key: value for key, value in given.items() if value is not None})
    with session.runtime() as runtime:
        from pagewarden.wal.tune import WalTuneRequest, run_wal_tune

        report = run_wal_tune(WalTuneRequest(database=settings.path, settings=wanted), runtime)
    _show(session, report, "show_tune")
    return report.exit_code


def _show(session: Session, report: Any, painter: str) -> None:
    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli import waltext

        paint: Callable[[Any, Manner], list[Block]] = getattr(waltext, painter)
        return tuple(paint(report, session.manner()))

    session.show(report, rendered)
