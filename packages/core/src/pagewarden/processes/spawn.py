"""Starting a module as a child process with a channel to it.

1. The child is spawned, never forked: a SQLite connection must not cross a fork (H3).
2. It runs `python -P -m MODULE` with the parent's module path, so that it imports what the parent would, and nothing
   from the current directory that the parent would not. The environment passes through.
3. Its standard input and output are the channel; it ends when its input ends, so it never outlives its parent.
4. Its standard error is a pipe that nobody waits on: a writer never blocks, what exceeds the pipe (64 KiB) is lost, and
   what is there when the child dies explains why.
5. It has a process group of its own: Ctrl-C in a terminal goes to the parent, which decides.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pagewarden
from pagewarden.processes.channel import MAX_MESSAGE, Channel

LAST_WORDS = 16 << 10
"""Bytes of a dead child's standard error that are kept: the stack of a crash in native code, with what stands above."""

_CRASH = "Fatal Python error: "  # what faulthandler begins with; it ends with a list of modules

_GRACE = 5.0  # seconds that a child may take to end once its input has ended


class Child:
    """A running child and the channel to it."""

    def __init__(self, module: str, *, limit: int = MAX_MESSAGE) -> None:
        """Start `module`; its first answer is not waited for. A longer message than `limit` bytes is not received.

        Raises OSError if no process can be started.
        """
        errors, writing = os.pipe()
        try:
            os.set_blocking(errors, False)
            os.set_blocking(writing, False)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=writing,
                bufsize=0,
                env=os.environ | {"PYTHONPATH": module_path()},
                process_group=0,
            )
        except BaseException:
            os.close(errors)
            raise
        finally:
            os.close(writing)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._errors = errors
        self._interrupted = False
        self.channel = Channel(os.dup(self._process.stdout.fileno()), os.dup(self._process.stdin.fileno()), limit)
        self._process.stdout.close()
        self._process.stdin.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Tell it to clean up and end, as Ctrl-C does; only the first call does anything."""
        if not self._interrupted and self._process.poll() is None:
            self._interrupted = True
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, whatever it does. `stop` or `died` must follow."""
        self._process.kill()

    def kill_group(self) -> None:
        """End it at once with every process that it started, unless that left the group. From any thread."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Let it end by ending its input, or kill it if it does not."""
        self.channel.close()
        self._wait()
        self._close_errors()

    def died(self) -> tuple[str, str]:
        """Return how it ended, as a clause, and the last of what it wrote to standard error. It is gone afterwards."""
        self.channel.close()
        code = self._wait()
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with status {code}"
        return how, self._close_errors()

    def _wait(self) -> int:
        waited = self._process.poll() is None and _await_end(self._process.pid, _GRACE)
        try:
            return self._process.wait(0 if waited else _GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _close_errors(self) -> str:
        text = b""
        try:
            while part := os.read(self._errors, 65536):
                text = (text + part)[-LAST_WORDS:]
        except BlockingIOError:
            pass  # something that it started still holds the pipe; what there is has been read
        os.close(self._errors)
        return text.decode("utf-8", "replace").strip()


def _await_end(pid: int, seconds: float) -> bool:
    """Wait until a child ends, or `seconds` are over; return false where the system cannot do that.

    Popen.wait with a time looks again and again, with pauses of up to 50 ms, which is a sixth of the time in which a
    small database is checked; where the system has descriptors of processes, they tell at once.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or an old one
        return False
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(round(seconds * 1000))
    finally:
        os.close(descriptor)
    return True


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
