"""Flips bits in a file, from a process that has no SQLite connection (H1).

`python -m tests.support.flipper FILE` flips the bit that each line of its standard input names, `offset bit`, and
answers `done` once that is durable.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.program import ROOT, unmeasured


class Flipper:
    """One file, and the process that flips bits in it. A context manager."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.flipper", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=unmeasured(),
        )

    def flip(self, offset: int, bit: int) -> None:
        """Flip one bit of the byte at `offset`; return once it is in the file."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{offset} {bit}\n".encode())
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"done\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


def main(path: str) -> None:
    """Flip until standard input closes."""
    file = os.open(path, os.O_RDWR)
    for line in sys.stdin:
        offset, bit = map(int, line.split())
        (byte,) = os.pread(file, 1, offset)
        os.pwrite(file, bytes([byte ^ 1 << bit]), offset)
        os.fsync(file)
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
