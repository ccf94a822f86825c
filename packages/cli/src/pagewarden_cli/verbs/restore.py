"""`pagewarden restore --repo URL --to PATH`."""

from __future__ import annotations

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_file, any_folder, common, not_empty, pass_session, read_time
from pagewarden_cli.session import Session


@click.command("restore", short_help="Bring a database back.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option(
    "--db", metavar="NAME", help="The database, by its name in the repository; needed where it holds several."
)
@click.option(
    "--to",
    shell_complete=any_file,
    metavar="PATH",
    required=True,
    callback=not_empty,
    help="Where to put it; a file there can be had back.",
)
@click.option(
    "--at", metavar="TIME", help="The last commit that was seen at or before TIME: RFC 3339, or -15m; or as --mark."
)
@click.option("--txid", type=click.IntRange(min=1), metavar="N", help="The commit, or backup, numbered N.")
@click.option("--mark", metavar="TEXT", help="The moment that was named TEXT.")
@click.option("--read-back", is_flag=True, help="Compare every page again, read from the disk, before it is used.")
@click.option("--dry-run", is_flag=True, help="Show the plan and touch nothing.")
@click.option("--force", is_flag=True, help="Restore although another process has the file open.")
@common
@pass_session
def command(
    session: Session,
    repo: str | None,
    db: str | None,
    to: str,
    at: str | None,
    txid: int | None,
    mark: str | None,
    read_back: bool,
    dry_run: bool,
    force: bool,
) -> int:
    """Bring a database back; the file at PATH is not touched until the new one is verified and durable.

    Without --at, --txid and --mark the newest restore point is used. The plan, which --dry-run shows and --json has,
    tells the moments right before and after the one that was found. `pagewarden undo PATH` takes a restore back.
    """
    if sum(each is not None for each in (at, txid, mark)) > 1:
        raise ConfigurationInvalid(
            "--at, --txid and --mark exclude each other", hint="pagewarden backups lists times and numbers"
        )
    repository = session.repository(repo)
    with session.runtime() as runtime:
        runtime.warm(copies=True)
        from pagewarden.restore import RestoreRequest, run_restore

        request = RestoreRequest(
            repository=repository.url,
            to=to,
            name=db or repository.db,
            at=None if at is None else _time_or_name(session, at),
            txid=txid,
            mark=mark,
            read_back=read_back,
            dry_run=dry_run,
            force=force,
        )
        report = run_restore(request, runtime)
    session.show(report)
    return 0


def _time_or_name(session: Session, text: str) -> str:
    """Return a time as it is understood; what is none may be the name of a moment."""
    try:
        return read_time(session, text)
    except ConfigurationInvalid:
        return text  # the repository knows, and whoever finds no such moment says that it is no time either
