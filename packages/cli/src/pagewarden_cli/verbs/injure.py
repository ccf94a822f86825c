"""`pagewarden injure DB --kind KIND --seed N`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from pagewarden_cli.options import any_file, common, not_empty, pass_session
from pagewarden_cli.session import Session

KINDS = (
    "flipped-bit, zeroed-page, zeroed-sector, zeroed-run, torn-page, swapped-pages, overwritten-page, lost-write, "
    "truncated-tail, header-garbage, schema-page, freelist-trunk, overflow-pointer, cell-pointer, "
    "interior-child-pointer, index-entry, shifted-bytes, mangled-newlines, damaged-wal-frame, foreign-wal"
)
"""The kinds of injuries, written out: to import them would slow down every start."""


def _kinds(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(kind) for kind in KINDS.split(", ") if kind.startswith(incomplete)]


@click.command("injure", short_help="Damage a copy on purpose.")
@click.argument("copy", metavar="DB", callback=not_empty, shell_complete=any_file)
@click.option("--kind", metavar="KIND", required=True, shell_complete=_kinds, help=f"{KINDS}.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="The same seed does the same damage.")
@click.option(
    "--older",
    shell_complete=any_file,
    metavar="FILE",
    help="An older version of the copy, which a lost write needs; a torn page and a foreign -wal use it.",
)
@common
@pass_session
def command(session: Session, copy: str, kind: str, seed: int, older: str | None) -> int:
    """Damage a copy on purpose; refuses a file that is not marked as one by an empty file DB.pagewarden-copy."""
    with session.runtime() as runtime:
        from pagewarden.injure import InjureRequest, run_injure

        report = run_injure(InjureRequest(path=copy, kind=kind, seed=seed, older=older), runtime)
    session.show(report)
    return 0
