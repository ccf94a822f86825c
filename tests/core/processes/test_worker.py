"""The worker process: crashes, nonsense, callbacks, interruptions, forks. All of it with real processes."""

from __future__ import annotations

import errno
import gc
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from pagewarden.errors import (
    ConfigurationInvalid,
    PagewardenError,
    PluginUnusable,
    RepositoryNotFound,
    WorkerCrashed,
)
from pagewarden.events import Event
from pagewarden.processes import worker as worker_module
from pagewarden.processes import worker_main
from pagewarden.processes.worker import Worker
from pagewarden.runtime import PluginChoice
from pagewarden.values import BackupsReport, PluginsReport

ROOT = Path(__file__).parents[3]
UNRULY = PluginChoice(extra=("tests.support.unruly",))


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker with the unruly plugin."""
    made = Worker(plugins=UNRULY, threads=1)
    yield made
    made.close()


def plugins(worker: Worker) -> PluginsReport:
    """Do the cheapest run."""
    return worker.call("plugins", {}, PluginsReport)


def backups(worker: Worker, url: str) -> BackupsReport:
    """Open a repository."""
    return worker.call("backups", {"repository": url}, BackupsReport)


def pid_of(worker: Worker) -> int:
    """Return the process id of the worker process."""
    return worker._children[0].pid


def is_running(pid: int) -> bool:
    """Return whether a process exists that is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_the_process_stays_warm(worker: Worker) -> None:
    """Two calls are answered by one process, which knows the plugins that were chosen."""
    assert "tests.support.unruly" in [plugin.name for plugin in plugins(worker).plugins]
    first = pid_of(worker)
    assert plugins(worker) == plugins(worker)
    assert pid_of(worker) == first


def test_an_error_is_the_same_on_this_side(worker: Worker, tmp_path: Path) -> None:
    """Class, message, hint and exit code come over; the process lives on."""
    url = str(tmp_path / "nothing")
    with pytest.raises(RepositoryNotFound, match="there is no repository") as caught:
        backups(worker, url)
    assert url in caught.value.message
    assert caught.value.hint
    first = pid_of(worker)
    plugins(worker)
    assert pid_of(worker) == first


def test_a_plugin_that_is_missing_is_named_at_the_first_run() -> None:
    """And again at the second: nothing is half loaded."""
    worker = Worker(plugins=PluginChoice(only=("no-such",)), threads=1)
    for _ in range(2):
        with pytest.raises(PluginUnusable, match="no-such"):
            plugins(worker)
    worker.close()


def test_an_error_of_our_own_tells_where_it_came_from(worker: Worker) -> None:
    """The far side's traceback is a note of the exception, and the process lives on."""
    with pytest.raises(PagewardenError, match="an error of our own: KeyError") as caught:
        worker.call("no-such-verb", {}, PluginsReport)
    assert type(caught.value) is PagewardenError
    assert "find_run" in "".join(caught.value.__notes__)
    plugins(worker)


@pytest.mark.parametrize(("scheme", "how"), [("kill", "SIGKILL"), ("abort", "SIGABRT")])
def test_a_crash_is_a_named_error_and_the_next_call_starts_anew(worker: Worker, scheme: str, how: str) -> None:
    """What the process said last is in the notes; nobody is left behind."""
    plugins(worker)
    first = pid_of(worker)
    with pytest.raises(WorkerCrashed, match=f"was killed by {how} during backups") as caught:
        backups(worker, f"{scheme}://x")
    if scheme == "abort":
        assert "these are my last words" in caught.value.__notes__[0]
    assert not is_running(first)
    plugins(worker)
    assert pid_of(worker) != first


def test_a_process_that_died_between_two_calls_is_a_crash_of_the_second(worker: Worker) -> None:
    """The call says so, and the one after it works."""
    plugins(worker)
    first = pid_of(worker)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not is_running(first))
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        plugins(worker)
    plugins(worker)


def test_a_process_that_cannot_start_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its complaint is kept."""
    monkeypatch.setattr(worker_module, "MODULE", "pagewarden.no_such_module")
    worker = Worker(plugins=PluginChoice(), threads=1)
    with pytest.raises(WorkerCrashed, match="ended with status 1") as caught:
        plugins(worker)
    assert "No module named pagewarden.no_such_module" in caught.value.__notes__[0]


def message(value: object) -> bytes:
    """Return a message as the channel writes it, by another encoder."""
    payload = msgspec.msgpack.encode(value)
    return struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize(
    "babble",
    [
        b"\xff\xff\xff\xff",
        b"\x01\x00\x00\x00\xc1",
        message(None),
        message([]),
        message({"unknown": None}),
    ],
    ids=["length", "type", "nil", "list", "key"],
)
def test_nonsense_is_a_crash(babble: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a broken worker answers, the caller gets WorkerCrashed, and no process is left."""
    monkeypatch.setattr(worker_module, "MODULE", "tests.support.babbler")
    monkeypatch.setenv("BABBLE", babble.hex())
    worker = Worker(plugins=PluginChoice(), threads=1)
    with pytest.raises(WorkerCrashed, match="answered nonsense"):
        plugins(worker)
    assert worker._children == []


def test_what_a_plugin_prints_disturbs_nobody(worker: Worker) -> None:
    """A megabyte on stdout fills no pipe and gets into no answer; standard input is empty."""
    for _ in range(3):
        with pytest.raises(RepositoryNotFound):
            backups(worker, "flood://x")
    plugins(worker)


def test_threads_wait_for_each_other(worker: Worker) -> None:
    """Eight threads, one process, no mixed answers."""
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: plugins(worker), range(24)))
    assert all(report == reports[0] for report in reports)


def test_closing_ends_the_process_and_a_later_call_starts_none(worker: Worker) -> None:
    """Closing twice is closing once."""
    plugins(worker)
    first = pid_of(worker)
    worker.close()
    worker.close()
    assert not is_running(first)
    with pytest.raises(ConfigurationInvalid, match="closed"):
        plugins(worker)
    assert worker._children == []


def test_closing_ends_the_process_where_the_system_has_no_descriptors_of_processes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 5.3, and other systems: it is looked for again and again."""

    def missing(pid: int) -> int:
        raise OSError(errno.ENOSYS, "no such system call")

    monkeypatch.setattr(os, "pidfd_open", missing)
    plugins(worker)
    first = pid_of(worker)
    worker.close()
    assert not is_running(first)


def test_a_worker_that_is_garbage_ends() -> None:
    """Without `close`, the process ends with the object."""
    worker = Worker(plugins=PluginChoice(), threads=1)
    plugins(worker)
    first = pid_of(worker)
    del worker
    gc.collect()
    assert not is_running(first)


class Stop(Exception):
    """What a callback raises."""


def observed(on_event: Callable[[Event], None], path: Path) -> Worker:
    """Return a worker that tells of events, and a run that makes some: a verification that finds nothing."""
    return Worker(plugins=PluginChoice(), threads=1, on_event=on_event, on_progress=lambda *_: None)


def make_repository(path: Path) -> str:
    """Make an empty repository."""
    from pagewarden.runtime import Runtime

    with Runtime() as runtime:
        runtime.repository(str(path), create=True)
    return str(path)


def test_events_arrive_as_they_were(tmp_path: Path) -> None:
    """Name, time, seconds and fields."""
    from pagewarden.values import Verdict, VerifyReport

    url = make_repository(tmp_path / "backup")
    seen: list[Event] = []
    worker = observed(seen.append, tmp_path)
    report = worker.call("verify", {"repository": url}, VerifyReport)
    worker.close()
    assert report.verdict is Verdict.UNKNOWN
    (event,) = [event for event in seen if event.name == "verify.finished"]
    assert event.seconds is not None
    assert event.time.tzinfo is not None
    assert event.fields["verdict"] == "unknown"


def test_an_exception_in_a_callback_ends_the_run_and_is_raised(tmp_path: Path) -> None:
    """The process ends with it; the next call starts another."""
    from pagewarden.values import VerifyReport

    url = make_repository(tmp_path / "backup")

    def stop(event: Event) -> None:
        raise Stop

    worker = observed(stop, tmp_path)
    with pytest.raises(Stop):
        worker.call("verify", {"repository": url}, VerifyReport)
    assert worker._children == []
    plugins(worker)
    worker.close()


def test_a_callback_that_calls_back_is_told_so(tmp_path: Path) -> None:
    """It would wait for itself."""
    from pagewarden.values import VerifyReport

    url = make_repository(tmp_path / "backup")

    def call_back(event: Event) -> None:
        plugins(mine)

    mine = observed(call_back, tmp_path)
    with pytest.raises(RuntimeError, match="callback"):
        mine.call("verify", {"repository": url}, VerifyReport)
    mine.close()


def test_a_request_that_cannot_be_sent_leaves_the_worker_usable(worker: Worker) -> None:
    """Such as a number beyond 64 bits."""
    with pytest.raises((ConfigurationInvalid, ValueError)):
        worker.call("plugins", {"n": 1 << 70}, PluginsReport)
    plugins(worker)


def test_ctrl_c_interrupts_the_run_which_cleans_up(worker: Worker, tmp_path: Path) -> None:
    """KeyboardInterrupt in the caller; the far side is interrupted, too, and the next call works."""
    trace = tmp_path / "hang"

    def interrupt() -> None:
        wait_for(trace.exists)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    timer = threading.Thread(target=interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        backups(worker, f"hang://{trace}")
    timer.join()
    assert time.monotonic() - began < 30
    assert trace.with_suffix(".cleaned").exists()
    plugins(worker)


APPLICATION = """
    import sys, os
    from pagewarden.processes.worker import Worker
    from pagewarden.runtime import PluginChoice
    from pagewarden.values import BackupsReport, PluginsReport
    worker = Worker(plugins=PluginChoice(extra=("tests.support.unruly",)), threads=1)
    worker.call("plugins", {}, PluginsReport)
    print(worker._children[0].pid, flush=True)
"""


def application(more: str = "", before: str = "") -> subprocess.Popen[str]:
    """Start an application that does `before`, embeds a worker and prints the worker's pid."""
    program = "\n".join(map(textwrap.dedent, (before, APPLICATION, more)))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_an_application_that_ends_without_closing_leaves_nobody() -> None:
    """The worker ends with it, and nothing is said on stderr."""
    with application() as app:
        out, err = app.communicate(timeout=60)
    assert (app.returncode, err) == (0, "")
    assert not is_running(int(out))


@pytest.mark.parametrize("disposition", ["default_int_handler", "SIG_IGN"])
def test_an_application_that_is_killed_in_a_run_leaves_nobody(tmp_path: Path, disposition: str) -> None:
    """The run is interrupted, cleans up, and its process ends, even of one in a shell's background."""
    trace = tmp_path / "hang"
    before = f"import signal; signal.signal(signal.SIGINT, signal.{disposition})"
    with application(f"worker.call('backups', {{'repository': 'hang://{trace}'}}, BackupsReport)", before) as app:
        wait_for(lambda: trace.exists() and trace.read_text() != "")
        pid = int(trace.read_text())
        assert is_running(pid)
        app.kill()
        app.wait()
        wait_for(lambda: not is_running(pid))
    assert trace.with_suffix(".cleaned").exists()


def test_after_a_fork_each_process_has_a_worker_of_its_own() -> None:
    """The child's call starts another, the child's end leaves the parent's alone."""
    program = """
    child = os.fork()
    if child == 0:
        before = worker._children[0].pid
        worker.call("plugins", {}, PluginsReport)
        assert worker._children[0].pid != before
        worker.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    before = worker._children[0].pid
    worker.call("plugins", {}, PluginsReport)
    assert worker._children[0].pid == before
    worker.close()
    """
    with application(program) as app:
        _, err = app.communicate(timeout=60)
    assert (app.returncode, err) == (0, "")


@pytest.mark.parametrize("verb", sorted(worker_main.RUNS))
def test_every_run_of_the_table_exists(verb: str) -> None:
    """Module, request and function can be imported, and the request can be read from plain values."""
    module_name, request_name, run_name = worker_main.RUNS[verb]
    module = __import__(module_name, fromlist=[request_name])
    assert callable(getattr(module, run_name))
    with pytest.raises(msgspec.ValidationError, match="Expected `object`"):
        msgspec.convert(1, getattr(module, request_name))
