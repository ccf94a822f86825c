"""`verify --read-data` beside the zstd program on the same objects, two of its processes at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

CLI = (sys.executable, "-P", "-m", "pagewarden_cli")
BAR = 1.2


def verify(repository: Path) -> float:
    """Prove every page of a repository; return `seconds` as --json gives it."""
    words = ["verify", "--repo", str(repository), "--read-data", "--json"]
    done = subprocess.run([*CLI, *words], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["seconds"])


def decompress(repository: Path) -> float:
    """Decompress the same objects with the zstd program, two of its processes at a time; return wall-clock seconds.

    Each takes sixteen, because the program's start is no decompression.
    """
    objects = "\0".join(map(str, sorted(repository.rglob("*.pageset.zst"))))
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-0", "-n", "16", "-P", "2", "zstd", "-d", "-q", "-c"],
        input=objects.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began
