"""When commits became durable in a directory: the manifests that arrive there, by inotify(7)."""

from __future__ import annotations

import ctypes
import json
import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_IN_MOVED_TO, _IN_CREATE, _IN_NONBLOCK = 0x80, 0x100, 0o4000
_HEAD = struct.Struct("iIII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A manifest that came."""

    txid: int  # of the position that it brings back
    commits: int  # that it stands for
    at: int  # monotonic nanoseconds, when it was durable at the latest


class Arrivals:
    """Notes the manifests that come to a folder while the context is open."""

    def __init__(self, manifests: Path) -> None:
        self.seen: list[Arrival] = []
        self._folder = manifests
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(_IN_NONBLOCK)
        if libc.inotify_add_watch(self._inotify, os.fsencode(self._folder), _IN_MOVED_TO | _IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(self._folder))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        os.close(self._inotify)

    def durable(self, txid: int) -> int | None:
        """Return when the commit `txid` was durable, monotonic nanoseconds; None where it never was."""
        return next((arrival.at for arrival in self.seen if arrival.txid >= txid), None)

    def _watch(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not self._done.is_set():
                if not select.select([self._inotify], [], [], 0.1)[0]:
                    continue
                names = _names(os.read(self._inotify, 1 << 16))
                # Whoever put it may not have come to make it durable: then it is, from here on.
                os.fsync(folder)
                at = time.monotonic_ns()
                self.seen += [self._read(name, at) for name in names if name.count(".") == 1 and name.endswith(".json")]
        finally:
            os.close(folder)

    def _read(self, name: str, at: int) -> Arrival:
        manifest = json.loads((self._folder / name).read_bytes())["manifest"]
        txid = manifest["position"]["txid"]
        return Arrival(txid=txid, commits=txid - (manifest["parent"] or {"txid": txid - 1})["txid"], at=at)


def _names(events: bytes) -> list[str]:
    found, at = [], 0
    while at < len(events):
        *_, length = _HEAD.unpack_from(events, at)
        found.append(events[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0").decode())
        at += _HEAD.size + length
    return found
