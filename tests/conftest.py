"""Coverage of the processes that tests start, cheap and only where it counts; and no descriptors left open."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage
from hypothesis import settings

HERE = Path(__file__).parent

settings.register_profile("short", max_examples=40)
if "PAGEWARDEN_FULL" not in os.environ:  # a full run has hypothesis's own hundred
    settings.load_profile("short")

INHERITED = "COVERAGE_PROCESS_CONFIG"
"""How coverage tells the processes that are started what to measure."""

OF_SPAWNED = "COVERAGE_PROCESS_START"

UNMEASURED = frozenset({"badinput", "fault", "golden", "load", "odd", "property", "soak", "thirdparty"})
"""Folders whose tests repeat much and start many processes, where measuring takes longer than what is measured."""

OF_PROCESSES = (
    "core/processes",
    "core/check/test_isolate.py",
    "core/guard/test_embedded.py",
    "core/repair/test_isolate.py",
    "cli/test_command.py",
    "cli/test_main.py",
    "cli/verbs/test_wal.py",
)
"""Where what is tested runs in processes that are started. Elsewhere they run what these tests have measured already,
and to measure takes a process as long as it takes to start."""


def pytest_configure(config: pytest.Config) -> None:
    """Let spawned processes measure by their own, smaller configuration, where anything is measured.

    Not the workers that run the tests: they find the modules that nobody imported. And let Ctrl-C and the end of a
    terminal mean what they mean to a program in the foreground, wherever the tests were started from.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    starts_workers = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    if not starts_workers and os.environ.pop(INHERITED, None) is not None:
        os.environ[OF_SPAWNED] = str(HERE / "support/spawned.coveragerc")
        os.environ["COVERAGE_FILE"] = str(config.rootpath / ".coverage")


LEFT_OPEN = 64
"""How many descriptors a module may add: page readers, servers and connections to them may live on."""


@pytest.fixture(autouse=True, scope="module")
def nothing_left_open() -> Iterator[None]:
    """Let no module leave files open: whoever looks for holders of a database looks at each of them."""
    before = len(os.listdir("/dev/fd"))
    yield
    after = len(os.listdir("/dev/fd"))
    assert after <= before + LEFT_OPEN, f"{after} descriptors are open, and {before} were"


@pytest.fixture(autouse=True, scope="module")
def measured_where_it_counts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure nothing, here or in processes that are started, of tests which repeat what others have measured."""
    path = request.path.relative_to(HERE)
    measuring = Coverage.current() if path.parts[0] in UNMEASURED else None
    with pytest.MonkeyPatch.context() as patch:
        if not any(path.is_relative_to(each) for each in OF_PROCESSES):
            patch.delenv(OF_SPAWNED, raising=False)
        if measuring is not None:
            measuring.stop()
        yield
        if measuring is not None:
            measuring.start()
