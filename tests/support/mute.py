"""A child that does not answer: what it does instead is the first message that it gets."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from pagewarden.processes.channel import Channel


def main() -> None:
    """Do what is asked, in the words of tests/core/processes/test_spawn.py."""
    channel = Channel(os.dup(0), os.dup(1))
    wish: Any = channel.receive()
    if wish == "path":
        channel.send(sys.path)
        channel.send(sorted(os.listdir("/proc/self/fd")))
    elif wish == "linger":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    elif wish == "shout":
        os.write(2, b"early words\n")
        for _ in range(100):
            os.write(2, b"x" * 4095 + b"\n")
        channel.send("still here")
        sys.exit(3)
    elif wish == "fork":
        # A grandchild of another group holds on to all pipes after this process has ended.
        if os.fork() == 0:
            os.setsid()
            time.sleep(2)
            os._exit(0)
        os.write(2, b"last words\n")
        os._exit(4)
    elif wish == "breed":
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        channel.send(child)
        channel.receive()
    elif wish == "shout and take":
        os.write(2, b"x" * (1 << 20))
        channel.send(channel.receive() == "y" * (1 << 20))


if __name__ == "__main__":
    main()
