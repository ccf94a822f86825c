"""Build the C units with every warning as an error and run their tests under ASan and UBSan.

    python native/tools/sanitize.py [gcc] [clang]

Without names every compiler of the two that is installed is used; at least one must be. Needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[1]
UNITS = sorted((NATIVE / "c").glob("*.c"))
TESTS = NATIVE.parent / "tests" / "native" / "c"
COMPILERS = ("gcc", "clang")

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g")
# Reads go through the tests' own pread, which fails on demand.
RENAMED = ("-DPW_PREAD=pw_test_pread",)


def run(*command: str | Path) -> None:
    """Run a command; on failure show it with its output and raise SystemExit."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_stack_use_after_return=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise SystemExit(f"{words}\n{done.stdout}{done.stderr}\nfailed with {done.returncode}")


def test_all(compiler: str, folder: Path) -> int:
    """Compile every unit as it is shipped and sanitized, then build and run every test; return how many there were."""

    def compile_unit(unit: Path) -> Path:
        run(compiler, *WARNINGS, "-O3", "-c", unit, "-o", folder / f"{unit.stem}.plain.o")
        built = folder / f"{unit.stem}.o"
        run(compiler, *WARNINGS, *SANITIZERS, *RENAMED, "-c", unit, "-o", built)
        return built

    def test(source: Path) -> None:
        program = folder / source.stem
        run(compiler, *WARNINGS, *SANITIZERS, source, TESTS / "check.c", *units, "-o", program)
        started = time.perf_counter()
        run(program)
        print(f"{compiler:6} {source.stem:14} ok  {time.perf_counter() - started:6.2f} s", flush=True)

    sources = sorted(TESTS.glob("test_*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        units = list(pool.map(compile_unit, UNITS))
        list(pool.map(test, sources))
    return len(sources)


def main(names: list[str]) -> None:
    """Test with the compilers named, or with all that are installed."""
    compilers = names or [compiler for compiler in COMPILERS if shutil.which(compiler)]
    if not compilers:
        raise SystemExit(f"no C compiler found: install one of {', '.join(COMPILERS)}")
    for compiler in compilers:
        with tempfile.TemporaryDirectory() as folder:
            if not test_all(compiler, Path(folder)):
                raise SystemExit(f"no tests found in {TESTS}")


if __name__ == "__main__":
    main(sys.argv[1:])
