"""How other processes of this user talk to a guard: a socket in the state directory, one line of JSON each way.

    {"verb": "flush"}                → {"position": {…}}   once all that was committed before is in the repository
    {"verb": "mark", "text": "…"}    → {"position": {…}}   and the position has that name from now on
    {"verb": "status"}               → {"status": {…}}
    {"verb": "stop"}                 → {}                  and the guard ends as by SIGTERM

What fails is answered with {"error": {"slug", "message", "hint", "exit_code"}}, as with --json. "seconds" limits how
long the guard may take. Only the user who runs the guard can connect.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pagewarden import durable
from pagewarden.errors import GuardFailed, PagewardenError, from_wire, to_wire

T = TypeVar("T")

Answer = Callable[[Mapping[str, Any], Callable[[], bool]], Mapping[str, Any]]
"""Does what a request asks for and returns the reply; may raise PagewardenError. Called by several threads at once.

With it goes what says whether whoever asked is gone, so that nobody need be waited for any more.
"""

PATIENT = frozenset({"flush", "mark"})
"""The verbs that may take long."""

_LONGEST = 64 << 10  # bytes of a line
_AT_ONCE = 64  # conversations
_WAITING = 32  # of them, those that may take long: there is room for others whatever these wait for
_PATIENCE = 5.0  # seconds for the line of a request, once somebody has connected
_SPARE = 5.0  # seconds that a client waits beyond what it gave the guard


class Control:
    """The guard's side of the socket: a thread that listens, and one for each conversation."""

    def __init__(self, path: Path, answer: Answer) -> None:
        """Listen at `path`. Only who has the guard's lock may: what stands there is of one that is dead.

        Raises OSError where there can be no socket.
        """
        self._path = path
        self._answer = answer
        durable.make_directories(path.parent)
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(_WAITING)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(path) as name:
                path.unlink(missing_ok=True)
                # The folder is the user's alone, so nobody else can connect before the mode is set.
                self._socket.bind(name)
            path.chmod(durable.FILE_MODE)
            self._socket.listen(_AT_ONCE)
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._listen, name="guard-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more. Conversations that have begun are answered, as long as the process lives."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        with suppress(OSError):  # a socket that nobody listens at says by itself that there is no guard
            self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        while True:
            self._room.acquire()
            try:
                conversation, _ = self._socket.accept()
            except OSError:  # it was closed
                self._room.release()
                return
            threading.Thread(target=self._converse, args=(conversation,), name="guard-answer", daemon=True).start()

    def _converse(self, conversation: socket.socket) -> None:
        try:
            with conversation, suppress(OSError):  # whoever asked is gone
                conversation.settimeout(_PATIENCE)
                line = _line(conversation)
                conversation.settimeout(None)
                reply = self._reply(line, partial(_is_gone, conversation))
                conversation.sendall(msgspec.json.encode(reply, enc_hook=str) + b"\n")
        finally:
            self._room.release()

    def _reply(self, line: bytes, gone: Callable[[], bool]) -> Mapping[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            if request.get("verb") not in PATIENT:
                return self._answer(request, gone)
            if not self._waiting.acquire(blocking=False):
                raise GuardFailed(f"{_WAITING} others wait for the guard", hint="try again later")
            try:
                return self._answer(request, gone)
            finally:
                self._waiting.release()
        except PagewardenError as error:
            return {"error": to_wire(error)}
        except msgspec.DecodeError as error:
            return {"error": to_wire(GuardFailed(f"the guard was asked nonsense: {error}"))}
        except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it was
            return {"error": to_wire(PagewardenError(f"an error of our own: {type(error).__name__}: {error}"))}


def ask(path: Path, request: Mapping[str, Any], *, seconds: float | None = None) -> dict[str, Any] | None:
    """Ask the guard that listens at `path`; return its reply, None where no guard listens.

    `seconds` is how long it may take; None: as long as it needs. Raises what the guard raised; GuardFailed where it
    did not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as conversation:
        try:
            with _short(path) as name:
                conversation.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise GuardFailed(
                f"the guard cannot be asked at {path}: {(error.strerror or str(error)).lower()}"
            ) from error
        conversation.settimeout(None if seconds is None else seconds + _SPARE)
        try:
            conversation.sendall(msgspec.json.encode({**request, "seconds": seconds}) + b"\n")
            reply = msgspec.json.decode(_line(conversation), type=dict[str, Any])
        except TimeoutError as error:
            raise GuardFailed(f"the guard did not answer within {seconds} s") from error
        except (OSError, msgspec.DecodeError) as error:
            raise GuardFailed(f"the guard ended, or answered nonsense: {error}") from error
    if "error" in reply:
        raise from_wire(reply["error"])
    return reply


def answered(reply: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """Return what a guard's reply says of `key`, which is a `kind`. Raises GuardFailed where it says no such thing."""
    try:
        return msgspec.convert(reply[key], kind)
    except (KeyError, msgspec.ValidationError) as error:
        raise GuardFailed(f"the guard answered nonsense: {error}") from error


def _is_gone(conversation: socket.socket) -> bool:
    """Return whether the far side has closed the conversation."""
    try:
        return not conversation.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:  # it says nothing, and waits
        return False
    except OSError:
        return True


def _line(conversation: socket.socket) -> bytes:
    """Return the line that was sent, at most the longest one that is accepted."""
    parts = bytearray()
    while not parts.endswith(b"\n") and len(parts) < _LONGEST:
        part = conversation.recv(_LONGEST)
        if not part:
            break
        parts += part
    return bytes(parts)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of `path` that fits the 107 bytes that the address of a socket may have (unix(7))."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
