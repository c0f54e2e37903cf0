"""A server at a bare socket that answers, hangs up, resets or stays silent, as it is told."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shop.local.ports import Ports

#: A backlog of none takes one or two connections, and then no more.
BACKLOG_MAX = 64


RESET = struct.pack("ii", 1, 0)


Behaviour = Callable[[socket.socket], None]


class Place:
    """Listens in a thread; each connection that was accepted is handed to what it does with it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def open(self) -> Iterator["Place"]:
        """Serve inside the block."""
        serving = threading.Thread(target=self._serve)
        serving.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            serving.join()
            for connection in self.connections:
                connection.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(5)
                self.connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,)).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while request := _request(connection):
                self.requests.append(request)
                self._behaviour(connection)


def _request(connection: socket.socket) -> bytes:
    """Return a request with its body, or nothing if the client has hung up."""
    read = b""
    while not read.endswith((b"a body", b"}")):
        part = connection.recv(65_536)
        if not part:
            return b""
        read += part
    return read


def says(answer: bytes, then: Behaviour) -> Behaviour:
    """Return a behaviour: send ``answer``, then do as ``then`` does."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(answer)
        then(connection)

    return behave


def hangs_up(connection: socket.socket) -> None:
    """Close the connection in an orderly way."""
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection: socket.socket) -> None:
    """Close the connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def stays(_: socket.socket) -> None:
    """Say nothing more, and keep the connection."""


def answered(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return an answer with ``body``."""
    lines = [
        "HTTP/1.1 200 OK",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def chunked(rest: bytes) -> bytes:
    """Return an answer whose chunks are ``rest``."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest


@contextmanager
def refusing() -> Iterator[str]:
    """Yield an address at which nothing listens."""
    with Ports() as ports:
        port = ports.reserve()
    yield f"http://127.0.0.1:{port}"


@contextmanager
def unknown() -> Iterator[str]:
    """Yield an address whose host has no name that could be looked up."""
    # Longer than a name may be: it is refused without a question to anybody.
    yield f"http://{'a.' * 150}invalid:1"


@contextmanager
def full() -> Iterator[str]:
    """Let connections hang: the backlog is full, and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(BACKLOG_MAX):
            connection = socket.socket()
            connection.settimeout(0.1)
            waiting.append(connection)
            try:
                connection.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise AssertionError("the backlog has no end")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for connection in waiting:
            connection.close()
