"""`pagewarden repair DB [--repo URL] [--apply]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_file, any_folder, common, not_empty, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden_cli.blocks import Block


@click.command("repair", short_help="Show how a database can be repaired, or repair it.")
@click.argument("database", metavar="DB", callback=not_empty, shell_complete=any_file)
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository that holds its backups.")
@click.option("--db", metavar="NAME", help="Its name in the repository; its file name otherwise.")
@click.option("--apply", is_flag=True, help="Do it; without it the plan is shown and nothing is changed.")
@click.option(
    "--output",
    shell_complete=any_file,
    metavar="PATH",
    help="With --apply: put the repaired copy there, and leave the database as it is.",
)
@click.option(
    "--only-lossless/--with-loss",
    default=None,
    help="Leave out every step that loses a row, or takes one out of the database; or not.",
)
@click.option(
    "--orphans",
    type=click.Choice(["leave", "quarantine", "set-null", "cascade"]),
    help="What becomes of a row whose parent cannot be had: it stays, it is taken out, its key becomes NULL, "
    "or it is taken out with all rows that name it.",
)
@click.option(
    "--replay-stranded/--no-replay-stranded",
    default=None,
    help="Replay transactions behind a bad frame of the log that are provably intact, or not.",
)
@click.option(
    "--assume-current", is_flag=True, help="Declare that nothing was committed since the newest restore point."
)
@click.option("--max-time", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Give up after S seconds.")
@common
@pass_session
def command(
    session: Session,
    database: str,
    repo: str | None,
    db: str | None,
    apply: bool,
    output: str | None,
    only_lossless: bool | None,
    orphans: str | None,
    replay_stranded: bool | None,
    assume_current: bool,
    max_time: float | None,
) -> int:
    """Repair a database on a copy, by a plan that is shown first; no row that could be read before is lost.

    Without --apply, diagnosis and plan are shown with what each step loses, and nothing is changed. With it, the plan
    is executed on a copy, the copy is judged by a deep check and compared, and takes the database's place. The original
    is kept; `pagewarden undo DB` brings it back. Who has the database open is named, and has to let go first.

    Exit code 0: sound, or repaired. 1: damage is there. 3: it could not be judged.
    """
    from pathlib import Path

    from pagewarden.contracts import Orphans, RepairPolicy

    if output is not None and not apply:
        raise ConfigurationInvalid("--output is for --apply", hint="add --apply, or leave --output out")
    if output is not None and (not output or "\0" in output):
        raise ConfigurationInvalid(f"{output!r} is no path", hint="name a file, such as repaired.db")
    settings = session.configuration.database(database)
    repository = session.optional_repository(repo)
    chosen = settings.repair
    with session.runtime() as runtime:
        runtime.warm(copies=apply)
        from pagewarden.repair.request import RepairRequest
        from pagewarden.repair.run import run_repair

        report = run_repair(
            RepairRequest(
                database=settings.path,
                repository=settings.repository if repository is None else repository.url,
                name=db or settings.name or (None if repository is None else repository.db),
                apply=apply,
                output=None if output is None else str(Path(output).absolute()),
                only_lossless=chosen.only_lossless if only_lossless is None else only_lossless,
                policy=RepairPolicy(
                    orphans=Orphans(orphans or chosen.orphans),
                    replay_stranded=chosen.replay_stranded if replay_stranded is None else replay_stranded,
                    assume_current=assume_current,
                ),
                max_time=max_time,
            ),
            runtime,
        )

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.repairing import show_repair

        return tuple(show_repair(report, session.manner()))

    session.show(report, rendered)
    return report.exit_code
