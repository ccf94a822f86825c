"""`pagewarden undo PATH`."""

from __future__ import annotations

import click

from pagewarden_cli.options import any_file, common, not_empty, pass_session
from pagewarden_cli.session import Session


@click.command("undo", short_help="Take the last restore or repair of a file back.")
@click.argument("path", callback=not_empty, shell_complete=any_file)
@click.option("--force", is_flag=True, help="Do it although another process has the file open.")
@common
@pass_session
def command(session: Session, path: str, force: bool) -> int:
    """Take the last restore or repair of PATH back; what stands there now is kept."""
    with session.runtime() as runtime:
        from pagewarden.restore import UndoRequest, run_undo

        report = run_undo(UndoRequest(path=path, force=force), runtime)
    session.show(report)
    return 0
