"""`pagewarden verify --repo URL`."""

from __future__ import annotations

import click

from pagewarden.errors import ConfigurationInvalid
from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session


@click.command("verify", short_help="Prove what a repository holds.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option("--db", metavar="NAME", help="Only this database, by its name in the repository.")
@click.option(
    "--read-data/--no-read-data", default=None, help="Decompress everything and prove page sums and database sums."
)
@click.option(
    "--read-subset",
    metavar="N%",
    help="Do so with N % of the bytes of each database, or with N objects; the next run goes on from there.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Begin with no further object after S seconds; the next such run goes on from there.",
)
@common
@pass_session
def command(
    session: Session,
    repo: str | None,
    db: str | None,
    read_data: bool | None,
    read_subset: str | None,
    max_time: float | None,
) -> int:
    """Prove the chains and the checksums of a repository and, with --read-data, every page in it.

    Exit code 0: all is as it was stored, as far as it was read. 1: something is damaged or missing. 3: there was
    nothing to judge.
    """
    if read_data is not None and read_subset is not None:
        raise ConfigurationInvalid("--read-data and --read-subset exclude each other", hint="give one of them")
    repository = session.repository(repo)
    with session.runtime() as runtime:
        runtime.warm(copies=True)
        from pagewarden.repository.verify import VerifyRequest, run_verify

        request = VerifyRequest(
            repository=repository.url,
            name=db or repository.db,
            read_data=repository.read_data if read_data is None else read_data,
            read_subset=read_subset,
            max_time=max_time,
        )
        report = run_verify(request, runtime)
    session.show(report)
    return report.exit_code
