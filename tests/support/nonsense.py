"""A child that answers nonsense, of the kind that the environment variable NONSENSE names."""

from __future__ import annotations

import os

from pagewarden.processes.channel import Channel


def main() -> None:
    """Answer the second message: the first is a greeting."""
    channel = Channel(os.dup(0), os.dup(1))
    channel.receive()
    channel.receive()
    if os.environ["NONSENSE"] == "no map":
        channel.send("no map")
    elif os.environ["NONSENSE"] == "no value":
        channel.send({"else": 1})
    elif os.environ["NONSENSE"] == "no text":
        channel.send({"error": 5})
    else:
        os.write(1, b"\xff\xff\xff\xff")
    channel.receive()


if __name__ == "__main__":
    main()
