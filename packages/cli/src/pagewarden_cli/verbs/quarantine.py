"""`pagewarden quarantine list|show|export DB`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pagewarden_cli.options import any_file, any_folder, common, not_empty, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block
    from pagewarden_cli.render import Manner

_database = click.argument("database", metavar="DB", callback=not_empty, shell_complete=any_file)
_number = click.argument("number", metavar="[N]", required=False, type=click.IntRange(min=1))
_table = click.option("--table", "tables", multiple=True, metavar="T", help="Only rows of this table; may be repeated.")


@click.group("quarantine", short_help="What restores and repairs put aside, and how to get it out.")
def command() -> None:
    """List what restores and repairs put aside, show it, and get it out; nothing of it is ever removed here."""


@command.command("list", short_help="What is kept of databases.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@common
@pass_session
def list_(session: Session, databases: tuple[str, ...]) -> int:
    """List every restore and repair, and what is kept of each, oldest first.

    DB may be a folder: then of all databases in it. Without one, of every configured database. It need not be there
    any more.
    """
    from pagewarden.repair.kept import KeptRequest, run_kept

    paths = tuple(settings.path for settings in session.databases(databases, name=None))
    _show(session, run_kept(KeptRequest(databases=paths)), "show_kept")
    return 0


@command.command("show", short_help="One restore or repair, and what was cut out.")
@_database
@_number
@_table
@click.option("--rows", type=click.IntRange(min=0), default=10, metavar="N", help="Show N rows of each table; 10.")
@common
@pass_session
def show(session: Session, database: str, number: int | None, tables: tuple[str, ...], rows: int) -> int:
    """Show the restore or repair numbered N, or the newest: its files, and the pages and rows that were cut out."""
    from pagewarden.repair.shown import ShowRequest, run_show

    path = session.configuration.database(database).path
    _show(session, run_show(ShowRequest(database=path, number=number, tables=tables, rows=rows)), "show_entry")
    return 0


@command.command("export", short_help="Get out what was cut out.")
@_database
@_number
@click.option(
    "--to",
    metavar="FOLDER",
    required=True,
    callback=not_empty,
    shell_complete=any_folder,
    help="The folder to make, and to write into.",
)
@click.option("--format", "as_", type=click.Choice(["sql", "csv"]), default="sql", help="How rows are written; sql.")
@_table
@click.option(
    "--only",
    "parts",
    multiple=True,
    type=click.Choice(["rows", "pages", "files", "original"]),
    help="Only these; may be repeated. Without it all but the original, which is as large as the database.",
)
@common
@pass_session
def export(
    session: Session,
    database: str,
    number: int | None,
    to: str,
    as_: Any,
    tables: tuple[str, ...],
    parts: tuple[Any, ...],
) -> int:
    """Write what the restore or repair numbered N, or the newest, put aside into a new folder.

    Rows as SQL that puts them back, or as CSV; pages and files as files. The quarantine keeps what it has.
    """
    from pagewarden.repair.export import ExportRequest, run_export

    path = session.configuration.database(database).path
    request = ExportRequest(database=path, to=to, number=number, parts=parts, tables=tables, format=as_)
    _show(session, run_export(request), "show_export")
    return 0


def _show(session: Session, report: object, painter: str) -> None:
    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli import keeping

        paint: Callable[[Any, Manner], list[Block]] = getattr(keeping, painter)
        return tuple(paint(report, session.manner()))

    session.show(report, rendered)
