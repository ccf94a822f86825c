"""The page reader's life: start, crash, threads, forks, Ctrl-C, the parent's end; and that it holds no SQLite."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from pagewarden.errors import PagewardenError, ReaderCrashed
from pagewarden.pages import backend
from pagewarden.processes import client
from pagewarden.processes.reader import PageReader
from tests.support.databases import build, file_sums
from tests.support.program import succeed

ROOT = Path(__file__).parents[3]


def alive(pid: int) -> bool:
    """Return whether a process runs, a zombie not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Return whether a process ends within some seconds."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_it_is_started_once_and_stays_warm() -> None:
    """No process before the first need, one for all calls, none after the end, another one at a later call."""
    reader = PageReader()
    seen = [reader.pid]
    reader.start()
    seen.append(reader.pid)
    assert reader.ping() == backend().name
    seen.append(reader.pid)
    reader.close()
    seen.append(reader.pid)
    reader.ping()
    seen.append(reader.pid)
    reader.close()
    before, first, warm, closed, again = seen
    assert before is closed is None
    assert first is not None and first == warm and gone(first)
    assert again not in (None, first)


def test_it_never_holds_a_sqlite_library(tmp_path: Path) -> None:
    """No call imports sqlite3: what is loaded into the process shows it (H1, H2)."""
    path = build(tmp_path / "a.db", mode="wal")
    program = """
    import os, sys, threading
    from datetime import UTC, datetime
    from pagewarden.processes import reader_main
    from pagewarden.processes.channel import Channel
    from pagewarden.processes.wire import header_to_wire
    from pagewarden.repository.format import PageSetHeader

    path, folder = sys.argv[1:]
    now = datetime.now(UTC)
    header = PageSetHeader(page_size=4096, pages=0, pages_per_frame=64, timeline="0" * 32, txid=1, time=now)
    reader = reader_main.Reader(Channel(-1, os.open(os.devnull, os.O_WRONLY)), 2)
    calls = [
        ("ping", {}),
        ("glance", dict(database=path)),
        ("attach", dict(handle=1, database=path)),
        ("sums", dict(handle=1, first=1, count=3)),
        ("pages", dict(handle=1, pgnos=[1, 2])),
        ("begin_snapshot", dict(snapshot=2, path=folder + "/a", header=header_to_wire(header), level=1)),
        ("begin_image", dict(snapshot=3, path=folder + "/b", page_size=4096)),
    ]
    for call, arguments in calls:
        answer = reader_main.answer(reader, call, arguments)
        assert "error" not in answer, (call, answer)
        if call == "attach":
            pages = answer["value"]["pages"]
    rest = [
        ("copy", dict(snapshot=2, handle=1, first=1, count=pages)),
        ("copy", dict(snapshot=3, handle=1, first=1, count=pages)),
        ("recopy_changed", dict(snapshot=2, handle=1, first=1, count=pages, later=True)),
        ("detach", dict(handle=1, check=True)),
        ("seal", dict(snapshot=2, pages=pages, time="")),
        ("seal_image", dict(snapshot=3, pages=pages)),
        ("verify_pageset", dict(path=folder + "/a", read_data=True, drop_cache=True)),
        ("begin_assembly", dict(assembly=5, to_path=folder + "/c", size=[4096, pages], read_back=True)),
        ("assemble", dict(assembly=5, paths=[folder + "/a"])),
        ("finish_assembly", dict(assembly=5)),
        ("pageset_info", dict(path=folder + "/a")),
        ("chain_infos", dict(chain=[folder + "/a"])),
        ("chain_pages", dict(chain=[folder + "/a"], pgnos=[1])),
        ("chain_sums", dict(chain=[folder + "/a"], first=1, count=1)),
        ("open_file", dict(handle=4, path=folder + "/c", page_size=4096)),
    ]
    for call, arguments in rest:
        answer = reader_main.answer(reader, call, arguments)
        assert "error" not in answer, (call, answer)
    assert {name for name in sys.modules if "sqlite3" in name} == set()
    with open("/proc/self/maps") as maps:
        assert "sqlite" not in maps.read()
    """
    succeed(program, path, tmp_path, measured=False)


def test_what_a_reader_had_begun_is_gone_with_it(tmp_path: Path) -> None:
    """One that is killed between two calls: the second is a named error, and what needs no call any more is none."""
    names = (tmp_path / f"new {number}" for number in itertools.count())
    with PageReader() as reader:
        ends: list[tuple[Callable[[], int], Callable[[int], object], Callable[[int], object]]] = [
            (lambda: reader.begin_assembly(next(names)), reader.finish_assembly, reader.abandon_assembly),
            (lambda: reader.begin_image(next(names), 4096), lambda one: reader.seal_image(one, 1), reader.abandon),
            (reader.begin_proof, lambda one: reader.prove_links(one, []), reader.end_proof),
        ]
        for begin, go_on, end in ends:
            for call in (go_on, end):
                begun, pid = begin(), reader.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                with nullcontext() if call is end else pytest.raises(ReaderCrashed, match="started again since"):
                    call(begun)


def test_a_killed_reader_is_a_named_error_and_the_next_call_works(tmp_path: Path) -> None:
    """A death between calls is noticed where something was attached, and only there."""
    path = build(tmp_path / "a.db")
    with PageReader() as reader:
        attachment = reader.attach(str(path))
        first = reader.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        # The whole process, and not only its first thread, has ended once it can be waited for.
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ReaderCrashed, match="started again since"):
            reader.sums(attachment.handle, 1, 1)
        with pytest.raises(ReaderCrashed, match="started again since"):
            reader.detach(attachment.handle)
        reader.release(attachment.handle)
        assert reader.ping()
        again = reader.attach(str(path))
        assert again.handle != attachment.handle
        assert reader.pages(again.handle, [1])[0].startswith(b"SQLite format 3")


@pytest.mark.parametrize("deadly", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_during_a_call_names_the_signal(deadly: signal.Signals, tmp_path: Path) -> None:
    """The caller, its threads and the next call are unharmed."""
    path = build(tmp_path / "a.db", rows=2000)
    with PageReader() as reader:
        attachment = reader.attach(str(path))
        pid = reader.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # it cannot answer before the end

        def strike() -> None:
            os.kill(pid, deadly)
            os.kill(pid, signal.SIGCONT)

        threading.Timer(0.2, strike).start()
        with pytest.raises(ReaderCrashed, match=f"was killed by {deadly.name} during sums") as caught:
            reader.sums(attachment.handle, 1, attachment.pages)
        if deadly is not signal.SIGKILL:
            assert "most recent call first" in str(caught.value.fields["stderr"])  # faulthandler's words
        assert reader.ping()


def test_kill_from_another_thread_ends_the_call_under_way(tmp_path: Path) -> None:
    """A call that hangs can be ended by whoever watches the clock."""
    with PageReader() as reader:
        reader.ping()
        pid = reader.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.2, reader.kill).start()
        with pytest.raises(ReaderCrashed, match="SIGKILL during ping"):
            reader.ping()


def test_ctrl_c_is_the_parents_to_handle() -> None:
    """SIGINT does nothing to the reader, wherever it comes from."""
    with PageReader() as reader:
        reader.ping()
        pid = reader.pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        assert reader.ping()
        assert reader.pid == pid


def test_the_reader_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves no reader behind, not even a stopped conversation."""
    program = """
    import sys, time
    from pagewarden.processes.reader import PageReader
    reader = PageReader()
    reader.ping()
    print(reader.pid, flush=True)
    time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert gone(pid)


def test_the_reader_ends_with_its_parent_in_the_midst_of_a_call(tmp_path: Path) -> None:
    """A thread of its own looks for the parent while pages are read: here, 2^31 of them (H29)."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 43)
    program = f"""
    import threading, time
    from pagewarden.processes.reader import PageReader
    reader = PageReader()
    handle, pages = reader.open_file({str(path)!r}, 4096)
    print(reader.pid, flush=True)
    reader.sums(handle, 1, 1 << 22)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    assert gone(pid, 8.0)


def test_a_forgotten_reader_ends() -> None:
    """A reader that nobody closed ends as soon as it is garbage."""
    reader = PageReader()
    reader.ping()
    pid = reader.pid
    assert pid is not None
    del reader
    gc.collect()
    assert gone(pid)


def test_after_a_fork_each_process_has_a_reader_of_its_own() -> None:
    """The child's calls do not get between the parent's, and its end does not end the parent's reader (H3)."""
    program = """
    import os, sys
    from pagewarden.processes.reader import PageReader
    reader = PageReader()
    reader.ping()
    before = reader.pid
    child = os.fork()
    if child == 0:
        assert reader.pid is None
        reader.close()
        reader.ping()
        assert reader.pid != before
        reader.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert reader.ping() and reader.pid == before
    reader.close()
    """
    succeed(program)


def test_many_threads_may_call_at_once(tmp_path: Path) -> None:
    """Each gets its own answer."""
    path = build(tmp_path / "a.db", rows=600)
    expected = file_sums(path, 4096)
    wrong: list[str] = []

    def work(number: int) -> None:
        for _ in range(20):
            attachment = reader.attach(str(path))
            first = number + 1
            if reader.sums(attachment.handle, first, 3) != expected[8 * number : 8 * number + 24]:
                wrong.append(f"sums of {first}")
            reader.detach(attachment.handle)

    with PageReader() as reader:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_callback_that_raises_ends_the_reader_and_goes_on(tmp_path: Path) -> None:
    """The answer that nobody waits for any more is not taken for the next one's."""
    path = tmp_path / "a.db"
    build(path, rows=3000)

    class Enough(Exception):
        pass

    def enough(_done: int, _total: int) -> None:
        raise Enough

    with PageReader() as reader:
        attachment = reader.attach(str(path))
        image = reader.begin_image(tmp_path / "image", 4096)
        with pytest.raises(Enough):
            reader.copy(image, attachment.handle, 1, attachment.pages, enough)
        assert reader.pid is None
        assert reader.ping()
        with pytest.raises(ReaderCrashed, match="started again"):
            reader.copy(image, attachment.handle, 1, 1)
        reader.abandon(image)


def test_a_callback_must_not_call_the_reader_that_called_it(tmp_path: Path) -> None:
    """Its answer would be taken for the call's own."""
    path = build(tmp_path / "a.db", rows=100)
    with PageReader() as reader:
        attachment = reader.attach(str(path))
        image = reader.begin_image(tmp_path / "image", 4096)

        def call_back(_done: int, _total: int) -> None:
            reader.ping()

        with pytest.raises(RuntimeError, match="called the page reader that called it"):
            reader.copy(image, attachment.handle, 1, attachment.pages, call_back)


def test_nonsense_from_the_reader_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that was taken over by hostile bytes cannot do more than fail."""
    monkeypatch.setattr(client, "MODULE", "tests.support.mute")
    reader = PageReader()
    with pytest.raises(ReaderCrashed, match="during ping"):
        reader.ping()
    monkeypatch.setattr(client, "MODULE", "tests.support.nonsense")
    for answer in ("no map", "no message", "no value", "no text"):
        monkeypatch.setenv("NONSENSE", answer)
        with pytest.raises(ReaderCrashed, match="answered nonsense"):
            reader.ping()
    reader.close()


def test_a_fault_of_the_readers_own_is_an_internal_error(reader: PageReader, tmp_path: Path) -> None:
    """It names the call and what was raised, and the reader lives on."""
    path = build(tmp_path / "a.db")
    attachment = reader.attach(str(path))
    with pytest.raises(PagewardenError, match="the page reader failed in sums: ValueError") as caught:
        reader.sums(attachment.handle, 0, 5)
    assert caught.value.exit_code == 70
    reader.detach(attachment.handle)


def test_the_first_answer_comes_soon() -> None:
    """Starting costs a fraction of a second, also on a busy machine; a report has the figure on a quiet one."""
    began = time.monotonic()
    with PageReader() as reader:
        reader.ping()
    assert time.monotonic() - began < 2.0
