"""Fuzz every native parser, guided by coverage, under ASan and UBSan (libFuzzer; needs clang).

    python native/tools/fuzz.py [--seconds N] [--compiler NAME] [TARGET ...]

Each file native/fuzz/<target>.c is a target. What was learnt stays in .fuzz/corpus, what crashed, hung or took too much
memory in .fuzz/crashes; both are no part of the repository. Inputs in .fuzz/crashes are tried first. With --seconds 0
the seeds are only replayed, which any compiler can do: --compiler gcc.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seeds import SEEDS

NATIVE = Path(__file__).resolve().parents[1]
UNITS = sorted((NATIVE / "c").glob("*.c"))
TARGETS = sorted((NATIVE / "fuzz").glob("*.c"))
COMMON = NATIVE / "fuzz" / "common"
KEPT = NATIVE.parent / ".fuzz"

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g")
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
RENAMED = ("-DPW_PREAD=pw_fuzz_pread",)
INPUT = 5  # seconds that one input may take
MEMORY = 1024  # MiB that a target may take, most of it the sanitizers'
LONGEST = 65536  # bytes of one input


def run(*command: str | Path) -> None:
    """Run a command of the build; on failure show it with its output and raise SystemExit."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}\nfailed with {done.returncode}")


def build(compiler: str, targets: list[Path], folder: Path, *, guided: bool) -> dict[str, Path]:
    """Compile all units once, and each target; return the programs by name."""
    coverage = ("-fsanitize=fuzzer-no-link",) if guided else ()
    main = "-fsanitize=fuzzer" if guided else COMMON / "replay.c"

    def compile_unit(unit: Path) -> Path:
        built = folder / f"{unit.stem}.o"
        run(compiler, *WARNINGS, *SANITIZERS, *coverage, *RENAMED, "-c", unit, "-o", built)
        return built

    def link(target: Path) -> tuple[str, Path]:
        program = folder / f"fuzz-{target.stem}"
        run(
            compiler, *WARNINGS, *SANITIZERS, *coverage, f"-I{NATIVE / 'fuzz'}", f"-I{COMMON}", main, target, *objects,
            "-ldl", "-o", program,
        )  # fmt: skip
        return target.stem, program

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_unit, [*UNITS, COMMON / "memory.c"]))
        return dict(pool.map(link, targets))


def plant(target: Path, corpus: Path) -> None:
    """Write the seeds that a target asks for into its corpus."""
    asked = re.search(r"\bseeds: (\w+)", target.read_text("utf-8"))
    if asked is None or asked[1] not in SEEDS:
        raise SystemExit(f"{target}: no line says which seeds it takes: {', '.join(SEEDS)}")
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[asked[1]]():
        (corpus / f"seed-{hashlib.sha1(seed, usedforsecurity=False).hexdigest()[:16]}").write_bytes(seed)


def fuzz(name: str, program: Path, corpus: Path, seconds: int) -> tuple[bool, str]:
    """Run one target; return whether it was clean, and what it said."""
    crashes = KEPT / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    known = sorted(str(path) for path in crashes.glob(f"{name}-*"))
    bounds = (f"-timeout={INPUT}", f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={crashes}/{name}-")
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "allocator_may_return_null=0"}
    commands = [[str(program), *bounds, *known]] if known else []
    guided = ["-print_final_stats=1", f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-reload=0"]
    commands.append([str(program), *bounds, *guided, str(corpus)])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
        if done.returncode:
            return False, f"{' '.join(command)}\n{said(done.stderr)}"
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    return True, f"{executed[1] if executed else '0'} inputs, {covered[-1] if covered else '0'} edges"


def said(errors: str) -> str:
    """Return what a program said of its end, without its progress before that."""
    return "\n".join(line for line in errors.splitlines() if not re.match(r"#\d+\t|INFO: |stat::", line))[:6000]


def replay(program: Path, corpus: Path) -> tuple[bool, str]:
    """Give each seed to a target once."""
    names = sorted(str(path) for path in corpus.iterdir())
    done = subprocess.run([str(program), *names], capture_output=True, text=True, errors="replace", check=False)
    return done.returncode == 0, said(done.stderr) if done.returncode else f"{len(names)} seeds"


def main(arguments: list[str]) -> None:
    """Fuzz the targets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="for each target (0: replay the seeds)")
    parser.add_argument("--compiler", default="clang")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(target.stem for target in TARGETS))
    chosen = parser.parse_args(arguments)
    targets = [target for target in TARGETS if not chosen.targets or target.stem in chosen.targets]
    if not targets or len(targets) < len(set(chosen.targets)):
        raise SystemExit(f"no such target; there are {', '.join(target.stem for target in TARGETS)}")
    if shutil.which(chosen.compiler) is None:
        raise SystemExit(f"{chosen.compiler} is missing: apt-get install clang (it brings libFuzzer)")
    failed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        programs = build(chosen.compiler, targets, Path(folder), guided=chosen.seconds > 0)

        def work(target: Path) -> tuple[str, bool, str, float]:
            corpus = KEPT / "corpus" / target.stem if chosen.seconds else Path(folder) / target.stem
            plant(target, corpus)
            started = time.perf_counter()
            program = programs[target.stem]
            clean, words = (
                fuzz(target.stem, program, corpus, chosen.seconds) if chosen.seconds else replay(program, corpus)
            )
            return target.stem, clean, words, time.perf_counter() - started

        for name, clean, words, seconds in pool.map(work, targets):
            print(f"{name:12} {'clean ' if clean else 'FAILED'} {seconds:6.1f} s  {words}", flush=True)
            if not clean:
                failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; the inputs are in {KEPT / 'crashes'}")


if __name__ == "__main__":
    main(sys.argv[1:])
