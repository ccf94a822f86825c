"""`pagewarden check DB…`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden_cli.options import any_file, any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.config import DatabaseSettings
    from pagewarden.values import CheckReport


@click.command("check", short_help="Judge databases; never writes to them.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@click.option("--level", type=click.Choice(["quick", "standard", "deep"]), help="How much the check may cost.")
@click.option("--only", multiple=True, metavar="CHECKER", help="Run only this checker; may be repeated.")
@click.option("--max-time", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Stop after S seconds.")
@click.option(
    "--repo", shell_complete=any_folder, metavar="URL", help="Compare with the newest page map in this repository."
)
@click.option(
    "--baseline",
    shell_complete=any_file,
    metavar="FILE",
    help="Compare with this snapshot, declared current: differences are damage.",
)
@click.option("--name", metavar="NAME", help="The database's name in the repository; its file name otherwise.")
@common
@pass_session
def command(
    session: Session,
    databases: tuple[str, ...],
    level: str | None,
    only: tuple[str, ...],
    max_time: float | None,
    repo: str | None,
    baseline: str | None,
    name: str | None,
) -> int:
    """Judge databases, changing no byte of them, of their -wal or of their -journal.

    DB is a path or a name of the configuration; without one, every configured database is judged.

    Exit code 0: sound. 1: damage or violations were found. 3: could not be judged.
    """
    chosen = session.databases(databases, name=name)
    repository = session.optional_repository(repo)
    with session.runtime() as runtime:
        runtime.warm()
        from pagewarden.check import CheckRequest, run_check
        from pagewarden.values import Level, Verdict

        def run(settings: DatabaseSettings) -> CheckReport:
            request = CheckRequest(
                database=settings.path,
                level=settings.level if level is None else Level(level),
                only=only or settings.checkers,
                max_time=settings.max_time if max_time is None else max_time,
                repository=_compared(settings) if repository is None else repository.url,
                baseline=baseline,
                name=settings.name if name is None else name,
                assertions=settings.assertions,
            )
            report = run_check(request, runtime)
            for warning in report.warnings:
                session.warn(warning)
            return report

        outcomes = session.each(chosen, run)
    worst = Verdict.worst(outcome.report.verdict if outcome.report else Verdict.UNKNOWN for outcome in outcomes)
    return session.show_each(outcomes, lambda report: report.exit_code, verdict=worst)


def _compared(settings: DatabaseSettings) -> str | None:
    """Return the repository to compare with where --repo was not given."""
    return settings.repository if settings.compare else None
