"""`pagewarden check DB…`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_file, any_folder, common, pass_session
from pagewarden_cli.session import Outcome, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagewarden.check import CheckRequest
    from pagewarden.config import DatabaseSettings
    from pagewarden.runtime import Runtime
    from pagewarden.values import CheckReport
    from pagewarden_cli.blocks import Block
    from pagewarden_cli.render import Manner


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
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Check N databases side by side; one for each core.",
)
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
    jobs: int | None,
) -> int:
    """Judge databases, changing no byte of them, of their -wal or of their -journal.

    DB is a path, a name of the configuration, a folder with databases in or below it, or a pattern in quotes, such as
    'data/**/*.db'; without one, every configured database is judged.

    Exit code 0: sound. 1: damage or violations were found. 3: could not be judged.
    """
    from time import monotonic

    from pagewarden_cli.choice import choose

    began = monotonic()
    repository = session.optional_repository(repo)
    with session.runtime() as runtime:
        runtime.warm()
        choice = choose(session, databases, name=name, read_header=runtime.reader.file_header)
        if choice.several and baseline is not None:
            raise ConfigurationInvalid("--baseline is for one database", hint="check each with its own baseline")

        from pagewarden.check import CheckRequest, run_check
        from pagewarden.values import Level, Verdict

        def request(settings: DatabaseSettings) -> CheckRequest:
            return CheckRequest(
                database=settings.path,
                level=settings.level if level is None else Level(level),
                only=only or settings.checkers,
                max_time=settings.max_time if max_time is None else max_time,
                repository=_compared(settings) if repository is None else repository.url,
                baseline=baseline,
                name=settings.name if name is None else name,
                assertions=settings.assertions,
            )

        settings = [entry for entry in choice.entries if not isinstance(entry, Outcome)]
        side_by_side = 1
        if len(settings) > 1:
            from pagewarden_cli.crew import usual_jobs

            wanted = jobs or session.configuration.defaults.jobs or usual_jobs([each.path for each in settings])
            side_by_side = min(len(settings), wanted)
        if side_by_side > 1:
            judged = _judge_together(session, runtime, [request(each) for each in settings], side_by_side)
        else:
            several = choice.several
            judged = session.each(settings, lambda each: run_check(request(each), runtime), several=several)
    for outcome in judged:
        for warning in outcome.report.warnings if outcome.report else ():
            session.warn(warning)
    each = iter(judged)
    outcomes = [entry if isinstance(entry, Outcome) else next(each) for entry in choice.entries]
    if not choice.several:
        return session.show_each(outcomes, lambda report: report.exit_code)
    worst = Verdict.worst(outcome.report.verdict if outcome.report else Verdict.UNKNOWN for outcome in outcomes)
    return session.show_several(
        outcomes,
        lambda report: report.exit_code,
        lambda manner: _summarize(outcomes, manner, choice.looked_at, monotonic() - began),
        verdict=worst,
        **({} if choice.looked_at is None else {"looked_at": choice.looked_at}),
    )


def _judge_together(
    session: Session, runtime: Runtime, requests: Sequence[CheckRequest], jobs: int
) -> list[Outcome[CheckReport]]:
    """Judge databases side by side, each in a process."""
    import msgspec

    from pagewarden_cli.crew import Crew

    crew = Crew(
        jobs,
        plugins=session.configuration.plugins,
        threads=session.configuration.defaults.threads,
        progress=runtime.progress,
        observe=session.observe if session.observes else None,
    )
    outcomes = crew.check([msgspec.to_builtins(request) for request in requests])
    for outcome in outcomes:
        if outcome.error is not None:
            session.trace(outcome.error)
    return outcomes


def _summarize(
    outcomes: Sequence[Outcome[CheckReport]], manner: Manner, looked_at: int | None, took: float
) -> tuple[Block, ...]:
    from pagewarden_cli.summary import summarize

    return summarize(outcomes, manner, looked_at=looked_at, took=took)


def _compared(settings: DatabaseSettings) -> str | None:
    """Return the repository to compare with where --repo was not given."""
    return settings.repository if settings.compare else None
