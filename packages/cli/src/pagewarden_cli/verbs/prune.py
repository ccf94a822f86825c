"""`pagewarden prune --repo URL [--apply]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from pagewarden.config import RetentionSettings
    from pagewarden_cli.blocks import Block

_RULES = (
    ("last", "the newest N restore points"),
    ("minutely", "the last one of each minute, for N minutes that have one"),
    ("hourly", "the last one of each hour, for N hours"),
    ("daily", "the last one of each day, for N days"),
    ("weekly", "the last one of each week, for N weeks"),
    ("monthly", "the last one of each month, for N months"),
    ("yearly", "the last one of each year, for N years"),
)


def _rules(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the policy."""
    for name, what in reversed(_RULES):
        option = click.option(f"--keep-{name}", type=click.IntRange(min=0), metavar="N", help=f"Keep {what}.")
        function = option(function)
    return function


@click.command("prune", short_help="Apply the retention policy.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option("--db", metavar="NAME", help="Only this database, by its name in the repository.")
@click.option("--apply", is_flag=True, help="Do it; without it the plan is shown and nothing is changed.")
@_rules
@click.option("--keep-within", metavar="TIME", help="Keep all that are not older than TIME, such as 30d.")
@click.option("--keep-commits", metavar="TIME", help="Keep every commit that was followed for TIME, such as 7d.")
@click.option("--keep-min", type=click.IntRange(min=0), metavar="N", help="Leave at least N.")
@click.option("--grace", metavar="TIME", help="How long what goes can be undeleted, such as 7d.")
@common
@pass_session
def command(
    session: Session,
    repo: str | None,
    db: str | None,
    apply: bool,
    keep_last: int | None,
    keep_minutely: int | None,
    keep_hourly: int | None,
    keep_daily: int | None,
    keep_weekly: int | None,
    keep_monthly: int | None,
    keep_yearly: int | None,
    keep_within: str | None,
    keep_commits: str | None,
    keep_min: int | None,
    grace: str | None,
) -> int:
    """Apply the retention policy; never the last backup known to be sound, and nothing while a check says damaged.

    What goes is marked, and can be undeleted until its grace period is over; then it is purged. Without --apply, the
    plan is shown and nothing is changed. Rules given here stand in place of all rules of the configuration.
    """
    repository = session.repository(repo)
    rules = {
        "last": keep_last,
        "within": keep_within,
        "minutely": keep_minutely,
        "hourly": keep_hourly,
        "daily": keep_daily,
        "weekly": keep_weekly,
        "monthly": keep_monthly,
        "yearly": keep_yearly,
        "minimum": keep_min,
    }
    given = {name: value for name, value in rules.items() if value is not None}
    general, by_name = session.configuration.retention_in(repository.url)

    def settle(settings: RetentionSettings) -> RetentionSettings:
        """Return the policy with what was typed in place of what was configured."""
        from pagewarden.config import RetentionSettings

        if given:
            none = {name: getattr(RetentionSettings(), name) for name in rules}
            settings = replace(settings, **{**none, **given})
        settings = settings if keep_commits is None else replace(settings, commits=keep_commits)
        return settings if grace is None else replace(settings, grace=grace)

    with session.runtime() as runtime:
        if apply:
            runtime.warm(copies=True)
        from pagewarden.repository.prune import PruneRequest, run_prune

        request = PruneRequest(
            repository=repository.url,
            name=db or repository.db,
            apply=apply,
            retention=settle(general),
            by_name={name: settle(settings) for name, settings in by_name.items()},
        )
        report = run_prune(request, runtime)

    def rendered() -> tuple[Block, ...]:
        from pagewarden_cli.retention import show_prune

        return tuple(show_prune(report, session.manner()))

    session.show(report, rendered)
    return 0
