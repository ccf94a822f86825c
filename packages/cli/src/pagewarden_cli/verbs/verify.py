"""`pagewarden verify --repo URL`."""

from __future__ import annotations

import click

from pagewarden_cli.options import any_folder, common, pass_session
from pagewarden_cli.session import Session


@click.command("verify", short_help="Prove what a repository holds.")
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository.")
@click.option("--db", metavar="NAME", help="Only this database, by its name in the repository.")
@click.option(
    "--read-data/--no-read-data", default=None, help="Decompress everything and prove page sums and database sums."
)
@common
@pass_session
def command(session: Session, repo: str | None, db: str | None, read_data: bool | None) -> int:
    """Prove the chain and the checksums of a repository and, with --read-data, every page in it.

    Exit code 0: all is as it was stored. 1: something is damaged or missing. 3: there was nothing to judge.
    """
    repository = session.repository(repo)
    with session.runtime() as runtime:
        runtime.warm(copies=True)
        from pagewarden.repository.verify import VerifyRequest, run_verify

        request = VerifyRequest(
            repository=repository.url,
            name=db or repository.db,
            read_data=repository.read_data if read_data is None else read_data,
        )
        report = run_verify(request, runtime)
    session.show(report)
    return report.exit_code
