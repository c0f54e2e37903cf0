"""Which failure at a real socket is which of httpx's errors, and that another replica is asked after one of them alone.

A second replica may be asked only where no connection could be made: after that, the round may have
arrived.
"""

import gc
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from pydantic import SecretStr

from integration.raw_server import (
    Behaviour,
    Place,
    answered,
    chunked,
    full,
    hangs_up,
    refusing,
    resets,
    says,
    stays,
    unknown,
)
from two_phase.errors import Unavailable
from two_phase.http.client import AiohttpTransport, HttpTransport, Peer
from two_phase.messages import Ballot, Round

BALLOT = Ballot().model_dump_json().encode()


LIMIT = 1000


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


@pytest.mark.parametrize("nowhere", [refusing, unknown])
async def test_a_connection_that_could_not_be_made_is_a_connect_error_and_another_is_asked(
    nowhere: Callable[[], Iterator[str]],
) -> None:
    """Nothing was sent, so that nothing can be sent twice."""
    with nowhere() as url, Place(says(answered(BALLOT), stays)).open() as other:  # type: ignore[attr-defined] # wrapped
        with pytest.raises(httpx.ConnectError):
            await _sent(url)
        assert await _asked(url, other.url) == Ballot()

        assert len(other.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        pytest.param(resets, httpx.ReadError, id="reset before any byte"),
        pytest.param(hangs_up, httpx.RemoteProtocolError, id="closed before any byte"),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\nConte", hangs_up),
            httpx.RemoteProtocolError,
            id="half a head",
        ),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\nConte", resets),
            httpx.TransportError,
            id="reset in the head",
        ),
        pytest.param(
            says(answered(b"{", length=9), hangs_up), httpx.RemoteProtocolError, id="half a body"
        ),
        pytest.param(
            says(answered(b"{", length=9), resets), httpx.TransportError, id="reset in the body"
        ),
        pytest.param(
            says(chunked(b"5\r\n{"), hangs_up), httpx.RemoteProtocolError, id="half a chunk"
        ),
        pytest.param(
            says(chunked(b"1\r\n{\r\n"), hangs_up), httpx.RemoteProtocolError, id="no last chunk"
        ),
        pytest.param(
            says(chunked(b"x\r\n{\r\n"), hangs_up),
            httpx.RemoteProtocolError,
            id="a chunk of no length",
        ),
        pytest.param(
            says(b"SSH-2.0-x\r\n\r\n", stays), httpx.RemoteProtocolError, id="another protocol"
        ),
        pytest.param(
            says(answered(b"x" * (LIMIT + 1)), stays), httpx.RemoteProtocolError, id="too large"
        ),
        pytest.param(
            says(answered(gzip.compress(b"x" * 2_000_000), "Content-Encoding: gzip"), stays),
            httpx.RemoteProtocolError,
            id="too large when it is unpacked",
        ),
        pytest.param(
            says(answered(b"{}", "X: " + "x" * 100_000), stays),
            httpx.RemoteProtocolError,
            id="a head without end",
        ),
    ],
)
async def test_a_failure_after_the_connection_was_made_is_no_connect_error_and_no_other_is_asked(
    behaviour: Behaviour, error: type[httpx.TransportError]
) -> None:
    """The round may have arrived: its silence is for the caller to judge."""
    with Place(behaviour).open() as place, Place(says(answered(BALLOT), stays)).open() as other:
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
        Place(stays).open() as silent,
        full() as hanging,
        Place(says(answered(BALLOT), stays)).open() as other,
    ):
        for url in (silent.url, hanging):
            with pytest.raises(httpx.TimeoutException):
                await _sent(url, timeout_seconds=0.2)
            with pytest.raises(Unavailable, match="no answer"):
                await _asked(url, other.url, timeout_seconds=0.2)

        assert (len(silent.requests), len(other.requests)) == (2, 0)


@pytest.mark.parametrize("end", [hangs_up, resets])
async def test_a_kept_connection_that_closes_under_a_request_fails_it_and_nothing_is_sent_again(
    end: Behaviour,
) -> None:
    """HTTP clients like to repeat a request there, and this one may have been carried out."""
    with (
        Place(says(answered(BALLOT), stays)).open() as place,
        Place(says(answered(BALLOT), stays)).open() as other,
    ):
        async with _peer(place.url, other.url) as peer:
            assert await peer.send(Round(generation=1)) == Ballot()
            # Closed without a turn of the event loop: the client finds out when it has sent.
            end(place.connections[0])
            with pytest.raises(Unavailable, match="no answer"):
                await peer.send(Round(generation=1))

    assert (len(place.connections), len(place.requests), len(other.requests)) == (1, 1, 0)


@pytest.mark.parametrize("end", [hangs_up, resets])
async def test_a_request_that_was_read_on_a_kept_connection_is_not_sent_again(
    end: Behaviour,
) -> None:
    """The same, after the server has taken it."""
    told = []

    def answer_once(connection: socket.socket) -> None:
        told.append(connection)
        if len(told) == 1:
            connection.sendall(answered(BALLOT))
        else:
            end(connection)

    with (
        Place(answer_once).open() as place,
        Place(says(answered(BALLOT), stays)).open() as other,
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
    with Place(says(answered(BALLOT), stays)).open() as place:
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
    answer = answered(BALLOT, "Set-Cookie: session=1; Path=/")

    with refusing() as proxy, Place(says(answer, stays)).open() as place:
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
    """A round is lost there, and not the coordinator that sends it."""
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
    with Place(says(answer, stays)).open() as place:
        with pytest.raises(Unavailable):
            await _asked(place.url)

        assert len(place.requests) == 1
