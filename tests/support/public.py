"""Programs that run as a user without powers, in a folder that such a user can reach."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)"
"""Statement of such a program, after its imports: what root may import nobody may not."""


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that everybody may look into; pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def printed(program: str, *arguments: object) -> str:
    """Run a Python program, and return what it printed."""
    run = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout
