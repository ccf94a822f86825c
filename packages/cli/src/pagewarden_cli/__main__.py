"""`python -m pagewarden_cli` is the `pagewarden` command."""

from __future__ import annotations

from pagewarden_cli.main import run

if __name__ == "__main__":
    run()
