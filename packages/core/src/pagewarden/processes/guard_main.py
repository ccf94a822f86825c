"""The process of an embedded guard: follows one database for as long as its parent wants. See `guard.embedded`.

1. The first message says what to guard, and is answered once the guard has the database's lock, or with an error.
2. Each further message is a request as over the guard's socket (`guard.control`), and is answered like one.
3. A thread waits for the next message. The end of the input means that the parent is gone or has given up: the guard
   takes what is committed until then, stores it, within bounds, and ends.
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from pagewarden.errors import PagewardenError, to_wire
from pagewarden.processes.inside import take_channel
from pagewarden.runtime import PluginChoice, Runtime

if TYPE_CHECKING:
    from pagewarden.events import Event
    from pagewarden.guard.guard import Guard
    from pagewarden.processes.channel import Channel

_GONE = None  # in the queue: there will be no more messages


def serve(channel: Channel) -> None:
    """Guard until the input ends, or the parent says that it is enough."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    setup: Any = channel.receive()
    with ExitStack() as stack:
        try:
            guard = _begin(setup, stack)
        except PagewardenError as error:
            channel.send(msgspec.to_builtins({"error": to_wire(error)}))
            return
        channel.send({})
        threading.Thread(target=_listen, args=(channel, inbox, guard), name="listen", daemon=True).start()
        while (message := inbox.get()) is not _GONE:
            if message.get("verb") == "stop":
                guard.close()
                channel.send({})
                return
            try:
                reply = guard.answer(message)
            except PagewardenError as error:
                reply = {"error": to_wire(error)}
            channel.send(msgspec.to_builtins(reply))


def _begin(setup: Any, stack: ExitStack) -> Guard:
    from pagewarden.guard.guard import Guard
    from pagewarden.guard.values import GuardRequest

    observers = []
    if setup["log"] is not None:
        from pagewarden.logs import EventLog

        observers.append(stack.enter_context(EventLog(setup["log"], lambda _: None)).write)

    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    runtime = stack.enter_context(
        Runtime(plugins=msgspec.convert(setup["plugins"], PluginChoice), threads=setup["threads"], on_event=observe)
    )
    runtime.load_plugins()
    guard = Guard(msgspec.convert(setup["request"], GuardRequest), runtime)
    stack.callback(guard.close)
    return guard


def _listen(channel: Channel, inbox: queue.SimpleQueue[Any], guard: Guard) -> None:
    with suppress(EOFError, OSError, ValueError):
        while True:
            inbox.put(channel.receive())
    guard.stop()  # what waits for it in the other thread ends, too
    inbox.put(_GONE)


def main() -> None:
    """Be the guard's process."""
    with suppress(KeyboardInterrupt, BrokenPipeError, EOFError):  # the parent is gone, or gave up
        serve(take_channel())


if __name__ == "__main__":
    main()
