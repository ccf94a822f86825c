"""An HTTP proxy in front of a store that breaks chosen requests in chosen ways."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Way = Literal[
    "cut",  # the connection ends before the request reaches the store
    "lost",  # it ends after the store has answered, before the answer is passed on
    "half-sent",  # the store gets half of the body, and then the connection ends
    "half-answered",  # half of the answer's body is passed on
    "flipped",  # one bit of the request's body is another
    "slow",  # the answer waits for `seconds`
    "status",  # the store is not asked: `status` and `code` are answered
    "late-status",  # the store is asked, and `status` answered all the same
]

_HOP = frozenset({"connection", "transfer-encoding", "keep-alive"})


@dataclass(slots=True, kw_only=True)
class Fault:
    """What is broken: the next `times` requests whose method and path with query match `where`."""

    where: str  # regular expression, of such as "PUT /bucket/key?partNumber=1"
    way: Way
    times: int = 1 << 30
    status: int = 500
    code: str = "InternalError"
    text: str = "We encountered an internal error. Please try again."
    seconds: float = 0.0
    every: int = 1  # strikes one of so many requests that match …
    after: int = 0  # … after so many of them
    matched: int = 0  # requests
    seen: int = 0  # how often it struck

    def strikes(self, request: str) -> bool:
        """Return whether it breaks this request."""
        if re.search(self.where, request) is None:
            return False
        turn = self.matched - self.after
        self.matched += 1
        if turn < 0 or turn % self.every or self.seen >= self.times:
            return False
        self.seen += 1
        return True


@dataclass(slots=True)
class FaultyProxy:
    """A proxy that runs; `faults` may be changed at any time."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # "METHOD path" of all requests, in order
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: str) -> Fault | None:
        """Note a request; return the fault that strikes it, if one does."""
        with self.lock:
            self.requests.append(request)
            struck = [fault for fault in self.faults if fault.strikes(request)]
        return struck[0] if struck else None


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the server at `upstream`."""
    host = upstream.removeprefix("http://")
    proxy = FaultyProxy("")

    class Handler(_Handler):
        """The handler of this proxy."""

        shared = (proxy, host)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: without it each answer waits 40 ms
    shared: tuple[FaultyProxy, str]

    def handle(self) -> None:
        """Serve requests until the client has had enough of a connection that may be broken."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def do(self) -> None:
        """Pass one request on, or break it."""
        proxy, host = self.shared
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.take(f"{self.command} {self.path}")
        way = fault.way if fault else ""
        if way == "cut":
            self._break()
            return
        if way == "half-sent":
            self._send_half(host, body)
            self._break()
            return
        if fault is not None and way == "status":
            self._answer_status(fault)
            return
        if way == "flipped":
            body = body[:-1] + bytes([body[-1] ^ 1])
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if way == "lost":
            self._break()
            return
        if fault is not None and way == "late-status":
            self._answer_status(fault)
            return
        if fault is not None and way == "slow":
            time.sleep(fault.seconds)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP and (name.lower() != "content-length" or self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: len(answer) // 2] if way == "half-answered" else answer)
        if way == "half-answered":
            self._break()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send_half(self, host: str, body: bytes) -> None:
        head = f"{self.command} {self.path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in self.headers.items())
        name, _, port = host.partition(":")
        with socket.create_connection((name, int(port))) as upstream:
            upstream.sendall(head.encode() + b"\r\n" + body[: len(body) // 2])

    def _answer_status(self, fault: Fault) -> None:
        text = f"<Error><Code>{fault.code}</Code><Message>{fault.text}</Message></Error>".encode()
        self.send_response_only(fault.status)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
