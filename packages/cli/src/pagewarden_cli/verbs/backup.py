"""`pagewarden backup DB… --repo URL`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_file, any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.config import DatabaseSettings
    from pagewarden.values import BackupReport


@click.command("backup", short_help="Back databases up while they are used.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository; made where there is none.")
@click.option("--full", is_flag=True, help="Copy every page, not only what changed since the newest backup.")
@click.option("--compression", type=click.IntRange(1, 22), metavar="LEVEL", help="zstd's level, 1 to 22.")
@click.option(
    "--check", type=click.Choice(["none", "quick", "standard", "deep"]), help="How to judge the database first."
)
@click.option("--name", metavar="NAME", help="The database's name in the repository; its file name otherwise.")
@common
@pass_session
def command(
    session: Session,
    databases: tuple[str, ...],
    repo: str | None,
    full: bool,
    compression: int | None,
    check: str | None,
    name: str | None,
) -> int:
    """Take hot backups of what changed, none of which counts until it was read back and verified.

    DB is a path or a name of the configuration; without one, every configured database is backed up.

    Exit code 0: done. 1: done, but the database was found damaged, and the backup is marked so.
    """
    chosen = session.databases(databases, name=name)
    given = session.optional_repository(repo)
    repositories = {
        settings.path: given.url if given is not None else settings.repository or session.repository(None).url
        for settings in chosen
    }
    with session.runtime() as runtime:
        runtime.warm(copies=True)
        from pagewarden.backup import BackupRequest, run_backup

        def run(settings: DatabaseSettings) -> BackupReport:
            request = BackupRequest(
                database=settings.path,
                repository=repositories[settings.path],
                name=settings.name if name is None else name,
                full=full,
                compression=settings.compression if compression is None else compression,
                check=settings.check if check is None else check,
            )
            return run_backup(request, runtime)

        outcomes = session.each(chosen, run)
    return session.show_each(outcomes, lambda report: report.exit_code)
