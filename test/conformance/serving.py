"""Puts a participant of this folder behind a real port, where a command can reach it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from conformance.in_memory import KEY, UNITS
from shop.local.program import Program

START_SECONDS = 60


@contextlib.contextmanager
def served(answer: Callable[[httpx.Request], httpx.Response]) -> Iterator[str]:
    """Serve ``answer`` inside the block; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet per answer: headers and body apart would wait for each other.
        wbufsize = -1

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = f"http://{self.headers['Host']}{self.path}"
            response = answer(
                httpx.Request(self.command, url, headers=dict(self.headers), content=body)
            )
            self.send_response(response.status_code)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


class Restartable:
    """A process on the loopback interface that can be killed and started again.

    It is ready when ``url`` answers anything.
    """

    def __init__(
        self, command: tuple[str, ...], environment: dict[str, str], url: str, log: Path
    ) -> None:
        self._program = Program(
            name=command[-1], command=command, environment={**os.environ, **environment}
        )
        self._url = url
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return at once."""
        with self._log.open("ab") as output:
            self._process = self._program.start(output)

    def wait_until_ready(self) -> None:
        """Return when it answers with less than 500."""
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(self._url).status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                        return
                assert self._process
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)

    def restart(self) -> None:
        """Kill it, start it, and return when it answers again."""
        self.kill()
        self.start()
        self.wait_until_ready()

    def kill(self) -> None:
        """End it without a warning."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def theatre(port: int, folder: Path, **environment: str) -> Restartable:
    """Return the participant that is written in JavaScript."""
    node = shutil.which("node")
    assert node, "Node.js is needed: apt-get install nodejs"
    settings = {
        "PARTICIPANT_KEY": KEY,
        "DATA": str(folder / "seats.log"),
        "PORT": str(port),
        "SEATS": str(UNITS),
    }
    script = Path(__file__).with_name("theatre.js")
    return Restartable(
        (node, str(script)),
        {**settings, **environment},
        f"http://127.0.0.1:{port}/",
        folder / "theatre.log",
    )


def service(
    name: str, internal_port: int, public_port: int, folder: Path, **environment: str
) -> Restartable:
    """Return one of our own participants; ``name`` is its package."""
    settings = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HOST": "127.0.0.1",
        "INTERNAL_PORT": str(internal_port),
        "PUBLIC_PORT": str(public_port),
        "ORDER_KEY": KEY,
    }
    ready = f"http://127.0.0.1:{public_port}/{name.removesuffix('_service')}/health/ready"
    return Restartable(
        (sys.executable, "-m", name), {**settings, **environment}, ready, folder / f"{name}.log"
    )
