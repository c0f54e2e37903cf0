"""Where a request ends: its body belongs to it whatever its headers say, and never becomes the next request.

A gateway keeps its connections to a service and hands the next answer on one to its next client: an
answer too many reaches a stranger.
"""

import asyncio
import contextlib
from itertools import product

import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service_chassis.fast_path import FastPath
from service_chassis.server import Service, Status
from serving import listening, read_answer
from shop.local.ports import LOOPBACK

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: What a body must not do when it is taken for a request.
SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
UPGRADES = {
    "curl --http2": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "lower case": "connection: upgrade\r\nupgrade: h2c",
    "capitals": "CONNECTION: UPGRADE\r\nUPGRADE: H2C",
    "keep-alive": "Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.2",
    "two lines": "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: h2c",
    "several": "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket, foo/2\r\nUpgrade: \r\n",
    "websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==\r\nSec-WebSocket-Version: 13",
    "empty": "Connection: upgrade\r\nUpgrade:",
    "not meant for this hop": "Upgrade: h2c",
    "no value": "Connection: upgrade",
}
ARRIVALS = ("at once", "body later", "byte by byte")


class _Echo:
    """A service whose every answer is the request's own body.

    ``/early`` answers without reading it.
    """

    def __init__(self, engine: Engine) -> None:
        self.smuggled = 0
        paths = {
            "/fast": self.echo,
            "/plain": self.echo,
            "/early": self.early,
            "/smuggled": self.smuggle,
        }
        app = Starlette(
            routes=[Route(path, endpoint, methods=METHODS) for path, endpoint in paths.items()]
        )
        fast_path = FastPath("/fast", self.echo)
        self.service = Service(
            "payment_service", Status(engine), app, app, public_fast_path=fast_path
        )

    async def echo(self, request: Request) -> Response:
        assert "x-trailing" not in request.headers
        parts = [part async for part in request.stream()]
        return PlainTextResponse(b"".join(parts))

    async def early(self, _: Request) -> Response:
        return PlainTextResponse("early", 401)

    async def smuggle(self, _: Request) -> Response:
        self.smuggled += 1
        return PlainTextResponse("a stranger's")


def _request(
    method: str, path: str, headers: str, body: bytes, version: str = "1.1"
) -> tuple[bytes, bytes]:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, *([headers.strip()] if headers else [])])
    return head.encode() + b"\r\n\r\n", body


async def _send(writer: asyncio.StreamWriter, head: bytes, body: bytes, arrival: str) -> None:
    whole = head + body
    pieces = {
        "at once": [whole],
        "body later": [head, body],
        "byte by byte": [bytes([each]) for each in whole],
    }
    for piece in pieces[arrival]:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01 if arrival == "body later" else 0)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("path", ["/fast", "/plain"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_upgrade_that_is_not_spoken_is_ignored(
    payment_engine: Engine, method: str, path: str
) -> None:
    """RFC 9110, section 7.8: the request is answered with its body, and the connection goes on with the next one."""
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        for headers, arrival in [
            *product(UPGRADES.values(), ARRIVALS[:2]),
            (UPGRADES["several"], "byte by byte"),
        ]:
            reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
            head_only = method == "HEAD"
            await _send(writer, *_request(method, path, headers, SMUGGLED), arrival)
            status, answered, body = await read_answer(reader, head_only=head_only)
            assert (status, int(answered["content-length"])) == (200, len(SMUGGLED)), (
                headers,
                arrival,
            )
            assert body == ("" if head_only else SMUGGLED.decode())
            assert "upgrade" not in answered

            await _send(writer, *_request("POST", path, headers, b"the next one"), "at once")
            assert (await read_answer(reader))[::2] == (200, "the next one"), (headers, arrival)
            writer.close()

    assert not echo.smuggled


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("path", ["/fast", "/plain"])
@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ("Connection: upgrade, close\r\nUpgrade: h2c", "1.1"),
        ("Connection: upgrade\r\nUpgrade: h2c", "1.0"),
    ],
    ids=["close", "HTTP/1.0"],
)
async def test_an_upgrade_on_the_last_request_of_a_connection_is_ignored(
    payment_engine: Engine, path: str, headers: str, version: str
) -> None:
    """It is answered with its body, and the connection ends."""
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        for arrival in ARRIVALS:
            reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
            await _send(writer, *_request("POST", path, headers, SMUGGLED, version), arrival)
            assert (await read_answer(reader))[::2] == (200, SMUGGLED.decode())
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()

    assert not echo.smuggled


@pytest.mark.usefixtures("either_way")
async def test_upgrades_in_a_row_are_answered_in_order(payment_engine: Engine) -> None:
    """Requests that arrive in one piece keep their bodies.

    A chunked body does not differ, nor does a trailer.
    """
    upgrade = UPGRADES["curl --http2"]
    chunked = f"POST /plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{upgrade}\r\n\r\n".encode()
    chunked += b"3\r\none\r\n0\r\nX-Trailing: 1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    sent = chunked + b"".join(
        b"".join(_request("POST", path, headers, body))
        for path, headers, body in (
            ("/fast", upgrade, b"two"),
            ("/plain", "", b"three"),
            ("/fast", upgrade, SMUGGLED),
            ("/plain", UPGRADES["websocket"], b"five"),
        )
    )
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(sent)
        answers = [(await read_answer(reader))[::2] for _ in range(5)]
        writer.close()

    assert answers == [(200, body) for body in ("one", "two", "three", SMUGGLED.decode(), "five")]
    assert not echo.smuggled


LONG = 3_000_000


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("start", "body"),
    [
        (f"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SMUGGLED)}", b""),
        (f"GET /early HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SMUGGLED)}", SMUGGLED[:10]),
        ("POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", b"5\r\n12345\r\n"),
        ("POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", b"5\r\n1"),
        (f"POST /early HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(SMUGGLED)}", b""),
        (f"POST /early HTTP/1.1\r\nHost: x\r\n{UPGRADES['lower case']}\r\nContent-Length: {len(SMUGGLED)}", b""),
        ("CONNECT /early HTTP/1.1\r\nHost: x\r\nContent-Length: 0", SMUGGLED),
        (f"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SMUGGLED)}", SMUGGLED),
        ("POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", b"nonsense\r\n" + SMUGGLED),
        ("POST /plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked", b"5\r\n12345\r\nnonsense\r\n" + SMUGGLED),
        ("POST /fast HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n" + SMUGGLED),
        ("POST /fast HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6", b"12345" + SMUGGLED),
    ],
    ids=[
        "body missing", "body of a GET missing", "chunks missing", "no such path", "expects 100", "upgrade", "CONNECT",
        "CONNECT of a proxy", "malformed chunk", "malformed later chunk", "two framings", "two lengths",
    ],
)  # fmt: skip
async def test_a_connection_ends_with_a_request_that_is_not_read_to_its_end(
    payment_engine: Engine, start: str, body: bytes
) -> None:
    """The answer says so, once; what comes later is nobody's request, though it may look like one."""
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(start.encode() + b"\r\n\r\n" + body)
        status, headers, _ = await read_answer(reader)
        writer.write(SMUGGLED * 2)
        with_rest = b""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                with_rest = await reader.read()
        writer.close()

    assert 400 <= status < 500
    assert headers["connection"] == "close"
    assert with_rest == b""
    assert not echo.smuggled


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("framing", [f"Content-Length: {LONG}", "Transfer-Encoding: chunked"])
async def test_a_connection_goes_on_when_the_rest_of_a_body_follows(
    payment_engine: Engine, framing: str
) -> None:
    """An answer that needed no body waits for it a little, so that a client that sends at all can use its connection again."""
    body = b"x" * LONG if "Length" in framing else b"%x\r\n%b\r\n0\r\n\r\n" % (LONG, b"x" * LONG)
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(f"POST /early HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        await asyncio.sleep(0.05)
        writer.write(body)
        status, headers, _ = await read_answer(reader)
        assert (status, headers.get("connection")) == (401, None)

        writer.write(b"".join(_request("POST", "/plain", "", b"the next one")))
        assert (await read_answer(reader))[::2] == (200, "the next one")
        writer.close()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("path", ["/fast", "/plain"])
@pytest.mark.parametrize(
    "surplus",
    [
        b"surplus\r\n\r\n",
        b"POST /plain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
    ],
)
async def test_what_cannot_be_parsed_is_refused_after_the_answers_that_come_first(
    payment_engine: Engine, path: str, surplus: bytes
) -> None:
    """A client that gets 400 first would take it for the answer to its first request, which was carried out."""
    echo = _Echo(payment_engine)
    async with listening(echo.service) as settings:
        for count in (1, 2, 3):
            reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
            writer.write(b"".join(_request("POST", path, "", b"good")) * count + surplus)
            for _ in range(count):
                assert (await read_answer(reader))[::2] == (200, "good")
            status, headers, _ = await read_answer(reader)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            assert (status, headers["connection"]) == (400, "close")
