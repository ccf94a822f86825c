"""`pagewarden completion bash|zsh|fish`."""

from __future__ import annotations

import sys

import click

from pagewarden_cli.options import common, pass_session
from pagewarden_cli.session import Session


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@click.pass_context
@pass_session
def command(session: Session, ctx: click.Context, shell: str) -> int:
    """Print the script that completes verbs and options in SHELL.

    For bash, add `eval "$(pagewarden completion bash)"` to ~/.bashrc; for zsh, the same with zsh to ~/.zshrc; for
    fish, run `pagewarden completion fish > ~/.config/fish/completions/pagewarden.fish`.
    """
    from click.shell_completion import get_completion_class

    from pagewarden_cli.command import COMPLETE_VARIABLE, PROGRAM

    kind = get_completion_class(shell)
    assert kind is not None, shell
    script = kind(ctx.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source()
    if session.json:
        session.print_json({"shell": shell, "script": script})
    elif sys.stdout is not None:
        sys.stdout.write(script + "\n")
    return 0
