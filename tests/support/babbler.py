"""A worker process that answers with what BABBLE holds, in hexadecimal: nonsense, as a broken worker would."""

from __future__ import annotations

import os

from pagewarden.processes.channel import Channel

if __name__ == "__main__":
    channel = Channel(os.dup(0), os.dup(1))
    channel.receive()
    channel.receive()
    os.write(1, bytes.fromhex(os.environ["BABBLE"]))
