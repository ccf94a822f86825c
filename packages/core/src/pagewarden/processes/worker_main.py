"""The worker process: does the runs of an embedding application, so that the application opens nothing itself.

1. The first message sets it up: plugins, threads, and whether progress and events are wanted.
2. Each further message names a run and its request. The answers are any number of progress and event messages, then one
   report or one error.
3. A thread waits for the next message. The end of the input means that the application is gone or has given up: what
   is running is interrupted as by SIGINT, cleans up, and the process ends.
4. Standard output is the channel, so whatever a plugin prints goes to standard error, and standard error is a pipe that
   the application empties while it waits for an answer: never an exception in a plugin.
"""

from __future__ import annotations

import importlib
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from pagewarden.errors import ConfigurationInvalid, PagewardenError, to_wire
from pagewarden.events import Event
from pagewarden.processes.channel import Channel, ProtocolError
from pagewarden.processes.inside import take_channel
from pagewarden.runtime import PluginChoice, Runtime

RUNS = {
    "check": ("pagewarden.check", "CheckRequest", "run_check"),
    "backup": ("pagewarden.backup", "BackupRequest", "run_backup"),
    "backups": ("pagewarden.repository.backups", "BackupsRequest", "run_backups"),
    "verify": ("pagewarden.repository.verify", "VerifyRequest", "run_verify"),
    "restore": ("pagewarden.restore", "RestoreRequest", "run_restore"),
    "repair": ("pagewarden.repair.run", "RepairRequest", "run_repair"),
    "undo": ("pagewarden.restore", "UndoRequest", "run_undo"),
    "prune": ("pagewarden.repository.prune", "PruneRequest", "run_prune"),
    "pin": ("pagewarden.repository.pinning", "PinRequest", "run_pin"),
    "unpin": ("pagewarden.repository.pinning", "UnpinRequest", "run_unpin"),
    "undelete": ("pagewarden.repository.pinning", "UndeleteRequest", "run_undelete"),
    "ledger": ("pagewarden.ledger", "LedgerRequest", "run_ledger"),
    "doctor": ("pagewarden.doctor", "DoctorRequest", "run_doctor"),
    "wal_status": ("pagewarden.wal.status", "WalStatusRequest", "run_wal_status"),
    "wal_enable": ("pagewarden.wal.enable", "WalEnableRequest", "run_wal_enable"),
    "wal_checkpoint": ("pagewarden.wal.run", "WalCheckpointRequest", "run_wal_checkpoint"),
    "wal_tune": ("pagewarden.wal.tune", "WalTuneRequest", "run_wal_tune"),
}
"""The runs by their verbs: module, request and function. A module is imported when its verb is first asked for."""

READING = frozenset({"check", "backup", "verify", "restore"})  # the verbs that need the page reader

PROGRESS_INTERVAL = 0.05  # seconds between two messages about one step

_GONE = None  # in the queue: there will be no more messages


class Worker:
    """The far side of a `pagewarden.open`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._told: dict[str, float] = {}

    def serve(self) -> None:
        """Set up, and do one run after the other until the input ends."""
        threading.Thread(target=self._listen, args=(threading.get_ident(),), daemon=True).start()
        setup = self._inbox.get()
        if setup is _GONE:
            return
        runtime = Runtime(
            plugins=msgspec.convert(setup["plugins"], PluginChoice),
            threads=setup["threads"],
            on_progress=self._progress if setup["progress"] else _no_progress,
            on_event=self._event if setup["events"] else _no_event,
        )
        with runtime:
            while (message := self._inbox.get()) is not _GONE:
                self._answer(message["verb"], message["request"], runtime)

    def _listen(self, main_thread: int) -> None:
        try:
            while True:
                self._inbox.put(self._channel.receive())
        except (EOFError, ProtocolError, OSError):
            self._inbox.put(_GONE)
            signal.pthread_kill(main_thread, signal.SIGINT)

    def _answer(self, verb: str, request: object, runtime: Runtime) -> None:
        self._told.clear()
        try:
            if verb in READING:
                runtime.warm(copies=verb != "check")
            report = find_run(verb)(request, runtime)
        except PagewardenError as error:
            self._send({"error": to_wire(error)})
        except Exception as error:  # noqa: BLE001 - an error of our own must reach the caller, wherever it came from
            foreign = PagewardenError(f"an error of our own: {type(error).__name__}: {error}")
            self._send({"error": to_wire(foreign), "traceback": traceback.format_exc()})
        else:
            self._send({"report": msgspec.to_builtins(report)})

    def _progress(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total > 0 or now - self._told.get(step, 0.0) >= PROGRESS_INTERVAL:
            self._told[step] = now
            self._send({"progress": [step, done, total]})

    def _event(self, event: Event) -> None:
        # Fields are plain values by contract; a plugin's own that are not are sent as text.
        self._send({"event": msgspec.to_builtins(event, enc_hook=str)})

    def _send(self, message: Any) -> None:
        try:
            with self._sending:
                self._channel.send(message)
        except BrokenPipeError:
            pass  # the application is gone; `_listen` has noticed, too, and ends the run


def find_run(verb: str) -> Callable[[object, Runtime], object]:
    """Return the run of `verb`; it takes its request as plain values."""
    if verb == "plugins":
        return _list_plugins
    module_name, request_name, run_name = RUNS[verb]
    module = importlib.import_module(module_name)
    request_type, run = getattr(module, request_name), getattr(module, run_name)

    def call(request: object, runtime: Runtime) -> object:
        try:
            wanted = msgspec.convert(request, request_type)
        except msgspec.ValidationError as error:
            raise ConfigurationInvalid(
                f"{verb} was asked for something that it does not know: {error}", hint="see docs/embedding.md"
            ) from error
        answer: object = run(wanted, runtime)
        return answer

    return call


def _list_plugins(request: object, runtime: Runtime) -> object:  # noqa: ARG001 - as every run
    """Answer the one verb that has no run: the runtime knows."""
    return runtime.extensions.report()


def _no_progress(step: str, done: int, total: int) -> None:
    """Tell nobody."""


def _no_event(event: Event) -> None:
    """Tell nobody."""


def main() -> None:
    """Be the worker process."""
    # An application in the background of a shell ignores SIGINT, and passes that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        Worker(take_channel()).serve()
    except KeyboardInterrupt:
        pass  # the application is gone, or gave up


if __name__ == "__main__":
    main()
