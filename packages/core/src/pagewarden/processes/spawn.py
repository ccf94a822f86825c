"""Starting a module as a child process with a channel to it.

1. The child is spawned, never forked: a SQLite connection must not cross a fork (H3).
2. It runs `python -P -m MODULE` with the parent's module path, so that it imports what the parent would, and nothing
   from the current directory that the parent would not. The environment passes through.
3. Its standard input and output are the channel; it ends when its input ends, so it never outlives its parent.
4. Its standard error is a pipe as any program expects it. Whoever waits for a message or for the child's end empties it
   meanwhile, so a writer is never held up for longer than the parent works on an answer; the last of it explains why a
   child died. No thread does that: a thread of ours would make every later fork of an application's a risky one.
5. It has a process group of its own: Ctrl-C in a terminal goes to the parent, which decides. What is left of the group
   is killed when the child has ended, before its id can be another's.
6. Where the child asks for it, it is given one more pipe, the number of which is its argument: nothing is ever written
   there, and the system itself ends the group when the pipe does (`inside.end_group_with_parent`).
7. A conversation is over when the child has ended, even where something that it started keeps the channel open.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import pagewarden
from pagewarden.processes.channel import MAX_MESSAGE, Channel

LAST_WORDS = 16 << 10
"""Bytes of a dead child's standard error that are kept: the stack of a crash in native code, with what stands above."""

_CRASH = "Fatal Python error: "  # what faulthandler begins with; it ends with a list of modules

_GRACE = 5.0  # seconds that a child may take to end once its input has ended
_LOOK_EVERY = 0.05  # seconds between two looks for its end, where no descriptor tells
_PIPE = 64 << 10  # bytes that a pipe holds


class Child:
    """A running child and the channel to it."""

    def __init__(self, module: str, *, limit: int = MAX_MESSAGE, lifeline: bool = False) -> None:
        """Start `module`; its first answer is not waited for. A longer message than `limit` bytes is not received.

        With `lifeline` it is given a pipe that ends with this process. Raises OSError if no process can be started.
        """
        errors, writing = os.pipe()
        given, kept = os.pipe() if lifeline else (-1, -1)
        try:
            os.set_blocking(errors, False)  # this end alone
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *([str(given)] if lifeline else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=writing,
                bufsize=0,
                env=os.environ | {"PYTHONPATH": module_path()},
                process_group=0,
                pass_fds=(given,) if lifeline else (),
            )
        except BaseException:
            _close_all(errors, kept)
            raise
        finally:
            _close_all(writing, given)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._errors = errors
        self._kept = kept
        self._words = b""  # the last of what was read of them
        self._silent = False  # whether nobody can write any more of them
        self._interrupted = False
        self._lock = threading.RLock()  # while it is held, the process's id is not given to another
        self._ending = _open_process(self._process.pid)
        writing = os.dup(self._process.stdin.fileno())
        os.set_blocking(writing, False)  # this end alone, too
        self.channel = Channel(os.dup(self._process.stdout.fileno()), writing, limit, self._attend)
        self._process.stdout.close()
        self._process.stdin.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        with self._lock:
            return self._look() is True

    def interrupt(self) -> None:
        """Tell it to clean up and end, as Ctrl-C does; only the first call does anything."""
        if not self._interrupted:
            self._interrupted = self._signal(os.kill, signal.SIGINT)

    def kill(self) -> None:
        """End it at once, whatever it does. `stop` or `died` must follow."""
        self._signal(os.kill, signal.SIGKILL)

    def kill_group(self) -> None:
        """End it at once with every process that it started, unless that left the group. From any thread."""
        self._signal(os.killpg, signal.SIGKILL)

    def stop(self) -> None:
        """Let it end by ending its input, or kill it if it does not."""
        self._close()

    def died(self) -> tuple[str, str]:
        """Return how it ended, as a clause, and the last of what it wrote to standard error. It is gone afterwards."""
        code, words = self._close()
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with status {code}"
        return how, words

    def _signal(self, send: Callable[[int, int], None], number: int) -> bool:
        """Send a signal while its id is its own; return whether that was done."""
        with self._lock, suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead permits nothing
            if self._look() is not None:
                send(self._process.pid, number)
                return True
        return False

    def _look(self) -> bool | None:
        """Return whether it is running; None if it was reaped, be it by an application that ignores SIGCHLD.

        It is not reaped by that: until it is, its id, which is its group's, cannot be another's.
        """
        if self._process.returncode is not None:
            return None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return None

    def _attend(self, descriptor: int, event: int) -> None:
        """Wait until the channel's `descriptor` can be read or written. Raises EOFError if the child has ended.

        What it said before it ended can be read first.
        """
        while True:
            ended = not self.running
            if descriptor in self._wait(descriptor, event, 0 if ended else None):
                return
            if ended:
                raise EOFError("the far side has ended")

    def _wait(self, descriptor: int, event: int, seconds: float | None) -> Collection[int]:
        """Empty standard error until something happens or the time is over; return which descriptors are ready."""
        poll = select.poll()
        for each, wanted in ((descriptor, event), (self._errors, select.POLLIN), (self._ending, select.POLLIN)):
            if each >= 0 and not (each == self._errors and self._silent):
                poll.register(each, wanted)
        if self._ending < 0:  # nothing will tell that it has ended
            seconds = min(_LOOK_EVERY, _LOOK_EVERY if seconds is None else seconds)
        ready = dict(poll.poll(None if seconds is None else int(seconds * 1000 + 1)))
        if self._errors in ready:
            self._drain()
        return ready

    def _drain(self) -> None:
        """Read what there is of standard error, and no more: whatever holds the pipe could write for ever."""
        with suppress(BlockingIOError):
            part = os.read(self._errors, _PIPE)
            self._silent = not part
            self._words = (self._words + part)[-LAST_WORDS:]

    def _close(self) -> tuple[int, str]:
        """Wait until it ends, or make it; return its status and last words. Nothing is left of it and its group."""
        self.channel.close()
        until = time.monotonic() + _GRACE
        while self.running and (left := until - time.monotonic()) > 0:
            self._wait(-1, 0, left)
        self.kill_group()
        self.kill()  # it may have gone to another group
        with self._lock:
            code = self._process.wait()
        self._drain()
        _close_all(self._errors, self._ending, self._kept)
        return code, self._words.decode("utf-8", "replace").strip()


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _open_process(pid: int) -> int:
    """Return a descriptor that is readable once a child has ended; -1 where the system has none.

    Popen.wait with a time looks again and again, with pauses of up to 50 ms, which is a sixth of the time in which a
    small database is checked; where the system has descriptors of processes, they tell at once.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or an old one
        return -1


def gist(words: str) -> str:
    """Return the line of a dead child's last words that says why it died: how it crashed, else the last one."""
    lines = words.splitlines()
    crashes = [line for line in lines if line.startswith(_CRASH)]
    return (crashes or lines or [""])[-1]


def signal_name(number: int) -> str:
    """Return the name of a signal, such as "SIGKILL"."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name of its own
        return f"signal {number}"


def module_path() -> str:
    """Return this process's module path for a child's PYTHONPATH: absolute, and with the folder of this package.

    The empty entry, which means the current directory, is left out.
    """
    folders = [str(Path(folder).absolute()) for folder in sys.path if folder]
    own = str(Path(pagewarden.__file__).absolute().parents[1])
    if own not in folders:
        folders.append(own)
    # A folder whose name holds the separator cannot be named there; whatever it provides, the child lacks.
    return os.pathsep.join(folder for folder in folders if os.pathsep not in folder)
