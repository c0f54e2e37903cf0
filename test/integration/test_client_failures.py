"""Which failure at a real socket is which of httpx's errors, and that another replica is asked after one of them alone.

A second replica may be asked only where no connection could be made: after that, the round may have
arrived.
"""

import gc
import gzip
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import httpx
import pytest
from pydantic import SecretStr

from shop.local.ports import Ports
from two_phase.errors import Unavailable
from two_phase.http.client import AiohttpTransport, HttpTransport, Peer
from two_phase.messages import Ballot, Round

BALLOT = Ballot().model_dump_json().encode()
LIMIT = 1000
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


def _says(answer: bytes, then: Behaviour) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(answer)
        then(connection)

    return behave


def _hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def _resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def _stays(_: socket.socket) -> None:
    """Say nothing more, and keep the connection."""


def _answered(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        "HTTP/1.1 200 OK",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def _chunked(rest: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest


@contextmanager
def _refusing() -> Iterator[str]:
    with Ports() as ports:
        port = ports.reserve()
    yield f"http://127.0.0.1:{port}"


@contextmanager
def _unknown() -> Iterator[str]:
    # Longer than a name may be: it is refused without a question to anybody.
    yield f"http://{'a.' * 150}invalid:1"


@contextmanager
def _full() -> Iterator[str]:
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


async def _sent(url: str, timeout_seconds: float = 5) -> httpx.Response:
    transport = AiohttpTransport(timeout_seconds=timeout_seconds, answer_bytes_max=LIMIT)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113 - the transport has one
        return await client.post(url, content=b"a body")


@asynccontextmanager
async def _peer(*urls: str, timeout_seconds: float = 5) -> AsyncIterator[HttpTransport]:
    peer = Peer(urls, SecretStr("k" * 32), timeout_seconds=timeout_seconds)
    try:
        yield HttpTransport(peer)
    finally:
        await peer.close()


async def _asked(*urls: str, timeout_seconds: float = 5) -> Ballot:
    async with _peer(*urls, timeout_seconds=timeout_seconds) as peer:
        return await peer.send(Round(generation=1))


@pytest.mark.parametrize("nowhere", [_refusing, _unknown])
async def test_a_connection_that_could_not_be_made_is_a_connect_error_and_another_is_asked(
    nowhere: Callable[[], Iterator[str]],
) -> None:
    """Nothing was sent, so that nothing can be sent twice."""
    with nowhere() as url, Place(_says(_answered(BALLOT), _stays)).open() as other:  # type: ignore[attr-defined] # wrapped
        with pytest.raises(httpx.ConnectError):
            await _sent(url)
        assert await _asked(url, other.url) == Ballot()

        assert len(other.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        pytest.param(_resets, httpx.ReadError, id="reset before any byte"),
        pytest.param(_hangs_up, httpx.RemoteProtocolError, id="closed before any byte"),
        pytest.param(
            _says(b"HTTP/1.1 200 OK\r\nConte", _hangs_up),
            httpx.RemoteProtocolError,
            id="half a head",
        ),
        pytest.param(
            _says(b"HTTP/1.1 200 OK\r\nConte", _resets),
            httpx.TransportError,
            id="reset in the head",
        ),
        pytest.param(
            _says(_answered(b"{", length=9), _hangs_up), httpx.RemoteProtocolError, id="half a body"
        ),
        pytest.param(
            _says(_answered(b"{", length=9), _resets), httpx.TransportError, id="reset in the body"
        ),
        pytest.param(
            _says(_chunked(b"5\r\n{"), _hangs_up), httpx.RemoteProtocolError, id="half a chunk"
        ),
        pytest.param(
            _says(_chunked(b"1\r\n{\r\n"), _hangs_up), httpx.RemoteProtocolError, id="no last chunk"
        ),
        pytest.param(
            _says(_chunked(b"x\r\n{\r\n"), _hangs_up),
            httpx.RemoteProtocolError,
            id="a chunk of no length",
        ),
        pytest.param(
            _says(b"SSH-2.0-x\r\n\r\n", _stays), httpx.RemoteProtocolError, id="another protocol"
        ),
        pytest.param(
            _says(_answered(b"x" * (LIMIT + 1)), _stays), httpx.RemoteProtocolError, id="too large"
        ),
        pytest.param(
            _says(_answered(gzip.compress(b"x" * 2_000_000), "Content-Encoding: gzip"), _stays),
            httpx.RemoteProtocolError,
            id="too large when it is unpacked",
        ),
        pytest.param(
            _says(_answered(b"{}", "X: " + "x" * 100_000), _stays),
            httpx.RemoteProtocolError,
            id="a head without end",
        ),
    ],
)
async def test_a_failure_after_the_connection_was_made_is_no_connect_error_and_no_other_is_asked(
    behaviour: Behaviour, error: type[httpx.TransportError]
) -> None:
    """The round may have arrived: its silence is for the caller to judge."""
    with Place(behaviour).open() as place, Place(_says(_answered(BALLOT), _stays)).open() as other:
        with pytest.raises(error) as raised:
            await _sent(place.url)
        assert not isinstance(raised.value, httpx.ConnectError)
        with suppress(Unavailable):
            await _asked(place.url, other.url)

        assert (len(place.requests), len(other.requests)) == (2, 0)


async def test_silence_and_a_connection_that_hangs_end_at_the_time_limit_and_no_other_is_asked() -> (
    None
):
    """The time is over, wherever it went: in a handshake that nobody answers, too."""
    with (
        Place(_stays).open() as silent,
        _full() as hanging,
        Place(_says(_answered(BALLOT), _stays)).open() as other,
    ):
        for url in (silent.url, hanging):
            with pytest.raises(httpx.TimeoutException):
                await _sent(url, timeout_seconds=0.2)
            with pytest.raises(Unavailable, match="no answer"):
                await _asked(url, other.url, timeout_seconds=0.2)

        assert (len(silent.requests), len(other.requests)) == (2, 0)


@pytest.mark.parametrize("end", [_hangs_up, _resets])
async def test_a_kept_connection_that_closes_under_a_request_fails_it_and_nothing_is_sent_again(
    end: Behaviour,
) -> None:
    """HTTP clients like to repeat a request there, and this one may have been carried out."""
    with (
        Place(_says(_answered(BALLOT), _stays)).open() as place,
        Place(_says(_answered(BALLOT), _stays)).open() as other,
    ):
        async with _peer(place.url, other.url) as peer:
            assert await peer.send(Round(generation=1)) == Ballot()
            # Closed without a turn of the event loop: the client finds out when it has sent.
            end(place.connections[0])
            with pytest.raises(Unavailable, match="no answer"):
                await peer.send(Round(generation=1))

    assert (len(place.connections), len(place.requests), len(other.requests)) == (1, 1, 0)


@pytest.mark.parametrize("end", [_hangs_up, _resets])
async def test_a_request_that_was_read_on_a_kept_connection_is_not_sent_again(
    end: Behaviour,
) -> None:
    """The same, after the server has taken it."""
    told = []

    def answer_once(connection: socket.socket) -> None:
        told.append(connection)
        if len(told) == 1:
            connection.sendall(_answered(BALLOT))
        else:
            end(connection)

    with (
        Place(answer_once).open() as place,
        Place(_says(_answered(BALLOT), _stays)).open() as other,
    ):
        async with _peer(place.url, other.url) as peer:
            assert await peer.send(Round(generation=1)) == Ballot()
            with pytest.raises(Unavailable, match="no answer"):
                await peer.send(Round(generation=1))

    assert (len(place.connections), len(place.requests), len(other.requests)) == (1, 2, 0)


async def test_an_exchange_leaves_nothing_for_the_garbage_collector() -> None:
    """The services collect seldom.

    Rounds and ballots in cycles took order_service 20 MB under load.
    """
    with Place(_says(_answered(BALLOT), _stays)).open() as place:
        async with _peer(place.url) as peer:
            await peer.send(Round(generation=1))
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await peer.send(Round(generation=1))
                left = gc.collect()
            finally:
                gc.enable()

    assert left < 20


async def test_a_proxy_a_netrc_and_cookies_of_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The key goes to the peer alone, and what a peer would have remembered is not."""
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    answer = _answered(BALLOT, "Set-Cookie: session=1; Path=/")

    with _refusing() as proxy, Place(_says(answer, _stays)).open() as place:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.setenv("NETRC", str(netrc))
        async with _peer(place.url) as peer:
            assert [await peer.send(Round(generation=1)) for _ in range(2)] == [Ballot()] * 2

    assert [
        (request.count(b"Bearer " + b"k" * 32), request.count(b"Cookie"))
        for request in place.requests
    ] == [(1, 0)] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "http://a..b",
        "http://[::1",
    ],
)
async def test_an_address_that_cannot_be_used_is_no_answer(url: str) -> None:
    """A round is lost there, and not the engine that sends it."""
    with pytest.raises(Unavailable):
        await _asked(url)


@pytest.mark.parametrize(
    "location", ["http://[", "http://\x01", "//", "http:///x", "http://h:port/", "\xff", "ftp://x"]
)
async def test_a_redirect_to_anywhere_is_no_answer(location: str) -> None:
    """The client takes the address apart before it does not go there."""
    answer = f"HTTP/1.1 307 Away\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode(
        "latin-1"
    )
    with Place(_says(answer, _stays)).open() as place:
        with pytest.raises(Unavailable):
            await _asked(place.url)

        assert len(place.requests) == 1
