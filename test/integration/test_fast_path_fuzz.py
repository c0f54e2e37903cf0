"""The same bytes get the same answers with and without the fast path, however they are cut into pieces."""

import asyncio
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.server import ServerState

from service_chassis import problems, server, whole_bodies
from service_chassis.fast_path import FastPath
from service_chassis.json_body import read_json
from service_chassis.settings import ServiceSettings
from two_phase.errors import Unavailable

#: So often the loop goes round between two pieces, or after the last: more than any answer takes.
ROUNDS = 60


class Wire(asyncio.Transport):
    """A connection in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what is sent."""
        if not self.closed:
            self.sent += bytes(data)

    def close(self) -> None:
        """Send and receive no more."""
        self.closed = True

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Receive nothing for now."""
        self.paused = True

    def resume_reading(self) -> None:
        """Receive again."""
        self.paused = False


async def _endpoint(request: Request) -> Response:
    match body := await read_json(request):
        case "unavailable":
            raise Unavailable("come again", retry_after_seconds=7)
        case "broken":
            raise AssertionError("a secret")
    given = request.headers.getlist("x-given")
    return JSONResponse({"body": body, "given": given}, 201, {"Location": "/orders/1"})


@cache
def _config(*, fast_path: bool) -> Any:
    app = FastAPI()
    problems.install(app)
    for path in ("/orders", "/other"):
        app.add_route(path, _endpoint, methods=["GET", "POST"])
    url = "postgresql+psycopg2://shop@localhost/shop"
    chosen = ServiceSettings(database_url=url, fast_path=fast_path)  # type: ignore[arg-type]
    config = server._configuration(app, FastPath("/orders", _endpoint), None, chosen, 1)
    config.load()
    return config


async def _answers(config: Any, pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    """Return what is answered to ``pieces``, and whether the connection was closed."""
    wire, state = Wire(), ServerState()
    loop = asyncio.get_running_loop()
    protocol = config.http_protocol_class(
        config=config, server_state=state, app_state={}, _loop=loop
    )
    protocol.connection_made(wire)
    for piece in pieces:
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            if not wire.paused:
                break
        if not wire.closed:
            protocol.data_received(piece)
    for _ in range(ROUNDS * 4):
        await asyncio.sleep(0)
    closed = wire.closed
    protocol._unset_keepalive_if_required()
    wire.closed = True
    protocol.connection_lost(None)
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=5)
    return wire.sent, closed


BODIES = st.sampled_from(
    [
        b"1",
        b'"unavailable"',
        b'"broken"',
        b"nonsense",
        b"",
        b'{"a": 1, "a": 2}',
        b'"' + b"x" * 70_000 + b'"',
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
            b"Connection: upgrade\r\nUpgrade: websocket",
            b"Upgrade: h2c",
            b"Connection: close",
            b"Connection: keep-alive",
            b"Expect: 100-continue",
            b"Expect: something",
            b"X-Given: one",
            b"X-Given: " + b"y" * 9000,
            b"X-Given: folded\r\n line",
            b"X-Given: lone\nX-Other: LF",
            b"X-Given : blank before the colon",
            b"X-Given: \xff\xfe",
            b"X-Given:",
            b": nameless",
            b"Content-Length: 3",
            b"Content-Length: +1",
            b"Content-Encoding: gzip",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: chunked",
        ]
    ),
    max_size=3,
)
STARTS = st.sampled_from(
    [
        *[b"POST /orders HTTP/1.1"] * 6,
        b"POST /orders?a=b HTTP/1.1",
        b"POST /other HTTP/1.1",
        b"POST http://x/orders HTTP/1.1",
        b"POST /orders HTTP/1.0",
        b"POST /orders HTTP/2.0",
        b"GET /orders HTTP/1.1",
        b"HEAD /orders HTTP/1.1",
        b"PUT /orders HTTP/1.1",
        b"CONNECT /orders HTTP/1.1",
        b"CONNECT x:80 HTTP/1.1",
        b"BREW /orders HTTP/1.1",
        b"POST /orders HTTP/1.1\n",
    ]
)
FRAMINGS = st.sampled_from(
    ["length", "length", "length", "chunked", "trailer", "short", "long", "none", "malformed"]
)


def _framed(framing: str, body: bytes) -> tuple[bytes, bytes]:
    match framing:
        case "length" | "short" | "long":
            difference = {"length": 0, "short": -1, "long": 20}[framing]
            return b"Content-Length: %d" % max(0, len(body) + difference), body
        case "chunked" | "trailer":
            trailer = b"X-Given: trailer\r\n" if framing == "trailer" else b""
            chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return b"Transfer-Encoding: chunked", chunks + b"0\r\n" + trailer + b"\r\n"
        case "malformed":
            return b"Transfer-Encoding: chunked", b"no chunk\r\n" + body
    return b"X-Unframed: 1", body


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request, as likely as not a strange one."""
    framing, body = _framed(draw(FRAMINGS), draw(BODIES))
    kind = draw(st.sampled_from([b"application/json", b"application/json", b"text/plain"]))
    lines = [draw(STARTS), b"Host: x", b"Content-Type: " + kind, framing, *draw(HEADERS)]
    return b"\r\n".join([*lines, b"", b""]) + body


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """Draw some requests in a row, cut anywhere."""
    whole = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    cuts = draw(st.lists(st.integers(0, min(len(whole), 400)), max_size=4))
    ends = sorted({0, *cuts, len(whole)})
    return [whole[start:end] for start, end in pairwise(ends)]


#: Kept open by neither.
OLD = (
    b"POST /orders HTTP/1.0",
    b"Connection: keep-alive",
    b"Content-Type: application/json",
    b"Content-Length: 1",
)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer wait for the rest of a body that never comes."""
    monkeypatch.setattr(whole_bodies, "_REST_SECONDS", 0)
    monkeypatch.setattr(whole_bodies, "_LINGER_SECONDS", 0)


@pytest.mark.usefixtures("hasty")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=pieces())
@example(sent=[b"\r\n".join([*OLD, b"", b"1"])])
def test_the_same_bytes_get_the_same_answers_either_way(sent: list[bytes]) -> None:
    """Byte by byte; and the connection goes on, or it does not."""
    fast, plain = (asyncio.run(_answers(_config(fast_path=each), sent)) for each in (True, False))

    assert fast == plain
