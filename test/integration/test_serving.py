"""How requests reach a service, who answers them, and the order in which it stops."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvloop
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving import Endpoint, served, settings_on
from shop.ports import LOOPBACK, Ports
from two_phase.hosting.http_protocol import TURNED_AWAY, Express
from two_phase.hosting.json_body import read_json
from two_phase.hosting.server import Service, Status
from two_phase.hosting.settings import ServiceSettings
from two_phase.protocol import Unavailable


def _app(**endpoints: Endpoint) -> Starlette:
    return Starlette(routes=[Route(f"/{name}", endpoint, methods=["GET", "POST"]) for name, endpoint in endpoints.items()])


async def _status(client: httpx.AsyncClient, port: int, path: str) -> int:
    """Return how a new connection is answered; 0 if there is nobody."""
    try:
        return (await client.get(f"http://{LOOPBACK}:{port}/{path}", headers={"Connection": "close"})).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.usefixtures("quiet")
async def test_a_service_that_stops_closes_nothing_that_is_still_needed(
    payment_engine: Engine,
) -> None:
    """The public listener goes last among what brings work, the internal one and the database last of all."""
    seen: list[str] = []
    asked, may_answer = asyncio.Event(), asyncio.Event()
    status = Status(payment_engine)

    async def slow(_: Request) -> PlainTextResponse:
        asked.set()
        await may_answer.wait()
        seen.append("the request under way is answered")
        return PlainTextResponse("done")

    async def ready(_: Request) -> PlainTextResponse:
        return PlainTextResponse("", 200 if await asyncio.to_thread(status.is_ready) else 503)

    async def drain() -> None:
        seen.append(
            f"decisions are told: public {await _status(client, public, 'ready')}, internal {await _status(client, internal, 'ready')}"
        )

    async def close() -> None:
        seen.append(f"closed: internal {await _status(client, internal, 'ready')}")

    with Ports() as ports:
        settings = settings_on(payment_engine, ports, drain_wait_seconds=2)
        public, internal = settings.public_port, settings.internal_port
        app = _app(slow=slow, ready=ready)
        service = Service("payment_service", status, app, _app(ready=ready), drain=drain, close=close)
        async with httpx.AsyncClient(timeout=10) as client, served(service, settings):
            assert await _status(client, public, "ready") == 200
            answering = asyncio.create_task(_status(client, public, "slow"))
            await asked.wait()

            os.kill(os.getpid(), signal.SIGTERM)
            while await _status(client, public, "ready") == 200:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.4)
            seen.append(f"still open: public {await _status(client, public, 'ready')}")
            await asyncio.sleep(2)
            may_answer.set()
            assert await answering == 200

    assert seen == [
        "still open: public 503",
        "the request under way is answered",
        "decisions are told: public 0, internal 503",
        "closed: internal 0",
    ]


class _Crowd:
    """A service that has room for so many POST /orders, and answers all when it is told to."""

    def __init__(self, engine: Engine, room: int) -> None:
        self.inside = 0
        self.may_answer = asyncio.Event()
        app = _app(orders=self._orders, ready=self._ready)
        express = Express("/orders", self._orders, room, Unavailable("no room", retry_after_seconds=7))
        self.service = Service("payment_service", Status(engine), app, app, public_express=express)

    async def holds(self, count: int) -> None:
        """Return when so many are inside."""
        async with asyncio.timeout(10):
            while self.inside < count:
                await asyncio.sleep(0.01)

    async def _orders(self, _: Request) -> PlainTextResponse:
        self.inside += 1
        await self.may_answer.wait()
        return PlainTextResponse("done")

    async def _ready(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("ready")


@asynccontextmanager
async def _crowded(engine: Engine, room: int = 2) -> AsyncIterator[tuple[_Crowd, httpx.AsyncClient]]:
    """Let two in, and show a client for those who come on top."""
    crowd = _Crowd(engine, room)
    with Ports() as ports:
        settings = settings_on(engine, ports)
        url = f"http://{LOOPBACK}:{settings.public_port}"
        async with httpx.AsyncClient(base_url=url, timeout=10) as client, served(crowd.service, settings):
            waiting = [asyncio.create_task(client.post("/orders", content=b"{}")) for _ in range(2)]
            await crowd.holds(2)
            yield crowd, client
            crowd.may_answer.set()
            assert [(await each).status_code for each in waiting] == [200, 200]
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("quiet")
async def test_who_comes_to_a_full_service_is_turned_away_at_its_door(payment_engine: Engine) -> None:
    """R13: the problem of any other 503, at once, on a connection that can be used again; others are not concerned."""
    before = TURNED_AWAY._value.get()
    async with _crowded(payment_engine) as (crowd, client):
        answers = [await client.post("/orders", content=b"{}") for _ in range(3)]
        other_method, other_path = await client.get("/ready"), await client.post("/ready", content=b"{}")

        assert crowd.inside == 2
        assert TURNED_AWAY._value.get() == before + 3
        assert {each.status_code for each in answers} == {503}
        assert answers[0].headers["retry-after"] == "7"
        assert answers[0].headers["content-type"] == "application/problem+json"
        assert answers[0].json() == {
            "type": "urn:shop:problem:unavailable",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "no room",
        }
        assert (other_method.status_code, other_path.status_code) == (200, 200)

        crowd.may_answer.set()
        async with asyncio.timeout(10):
            while (await client.post("/orders", content=b"{}")).status_code != 200:
                pass


@pytest.mark.usefixtures("quiet")
async def test_who_is_slow_to_say_what_he_wants_takes_nobody_elses_room(payment_engine: Engine) -> None:
    """Else a few hundred callers who never end their requests would keep everybody out."""
    async with _crowded(payment_engine, room=4) as (crowd, client):
        slow = [await asyncio.open_connection(LOOPBACK, client.base_url.port) for _ in range(5)]
        for _, writer in slow:
            writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await crowd.holds(2 + 5)

        let_in = [asyncio.create_task(client.post("/orders", content=b"{}")) for _ in range(2)]
        await crowd.holds(2 + 5 + 2)
        assert (await client.post("/orders", content=b"{}")).status_code == 503

        for _, writer in slow:
            writer.close()
        crowd.may_answer.set()
        assert [(await each).status_code for each in let_in] == [200, 200]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("request_", "answers"),
    [
        (b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 2, [503, 503]),
        (
            b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET /ready HTTP/1.1\r\nHost: x\r\n\r\n",
            [503, 200],
        ),
        (
            b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\nPOST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
            [200, 200],
        ),
        (b"POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", [200]),
        (b"POST /orders HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", [200]),
        (b"POST /orders HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", [200]),
    ],
    ids=["both turned away", "answered in order", "behind another request", "last of a connection", "old", "expects 100"],
)
async def test_what_the_door_does_not_care_for_is_left_to_the_application(
    payment_engine: Engine, request_: bytes, answers: list[int]
) -> None:
    """Only the plainest request is answered before it is one; here the application takes in what the door has let through."""
    async with _crowded(payment_engine) as (crowd, client):
        reader, writer = await asyncio.open_connection(LOOPBACK, client.base_url.port)
        writer.write(request_)
        heard = b""
        async with asyncio.timeout(10):
            while heard.count(b"HTTP/1.1 ") < len(answers):
                crowd.may_answer.set()
                heard += await reader.read(4096)
        writer.close()

    assert [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]] == answers


class _Shop:
    """A service whose POST /orders says who has answered it: the express way, or the application."""

    def __init__(self, engine: Engine) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()
        self.by_express = self.by_application = 0
        app = _app(orders=self._application, ready=self._application)
        self.service = Service("payment_service", Status(engine), app, app, public_express=Express("/orders", self._express))

    async def _express(self, request: Request) -> Response:
        match body := await read_json(request):
            case "unavailable":
                raise Unavailable("come again", retry_after_seconds=7)
            case "broken":
                raise AssertionError("a secret")
        self.asked.set()
        await self.may_answer.wait()
        self.by_express += 1
        return PlainTextResponse(f"express {body}")

    async def _application(self, request: Request) -> Response:
        body = (await request.body()).decode()
        self.by_application += 1
        return PlainTextResponse(f"application {body}")


@asynccontextmanager
async def _open_shop(engine: Engine) -> AsyncIterator[tuple[_Shop, ServiceSettings]]:
    shop = _Shop(engine)
    with Ports() as ports:
        settings = settings_on(engine, ports)
        async with served(shop.service, settings):
            yield shop, settings
            os.kill(os.getpid(), signal.SIGTERM)


def _order(body: str, *headers: str, start: str = "POST /orders HTTP/1.1") -> bytes:
    lines = [start, "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def _heard(reader: asyncio.StreamReader, count: int) -> list[tuple[int, str]]:
    """Return the status and the body of so many answers."""
    answers = []
    async with asyncio.timeout(10):
        while len(answers) < count:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if " 100 " not in head:
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                answers.append((int(head.split()[1]), (await reader.readexactly(length)).decode()))
    return answers


async def _begun(shop: _Shop) -> None:
    """Return when the service has seen the head of a request whose body is not there."""
    assert shop.service.public_express
    async with asyncio.timeout(10):
        while not shop.service.public_express.arriving:
            await asyncio.sleep(0.01)


EXPRESS, APPLICATION = (200, "express 1"), (200, "application 1")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([_order("1")], [EXPRESS]),
        ([_order("1"), _order("2"), _order("3")], [EXPRESS, (200, "express 2"), (200, "express 3")]),
        ([_order("1") + _order("1") + _order("2")], [EXPRESS, APPLICATION, (200, "application 2")]),
        ([_order("12")[:-1], b"2"], [(200, "application 12")]),
        ([_order("1", start="POST /ready HTTP/1.1")], [APPLICATION]),
        ([_order("1", start="POST /orders?a=b HTTP/1.1")], [APPLICATION]),
        ([_order("1", start="POST /orders HTTP/1.0")], [APPLICATION]),
        ([_order("1", start="GET /orders HTTP/1.1")], [APPLICATION]),
        ([_order("1", "Connection: close")], [APPLICATION]),
        ([_order("1", "Expect: 100-continue")], [APPLICATION]),
        ([_order("1", "Connection: Upgrade", "Upgrade: websocket")], [EXPRESS]),
        ([b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"], [(415, ...)]),
        ([_order(f'"{"x" * 65_535}"')], [(413, ...)]),
        ([_order("nonsense")], [(400, ...)]),
        ([_order('"unavailable"')], [(503, ...)]),
        ([_order('"broken"'), _order("1")], [(500, ...), EXPRESS]),
    ],
    ids=[
        "whole",
        "one after the other",
        "before the first is answered",
        "body comes late",
        "other path",
        "query",
        "old",
        "other method",
        "last of a connection",
        "expects 100",
        "upgrade",
        "no type",
        "too large",
        "malformed",
        "unavailable",
        "broken",
    ],
)
async def test_a_plain_request_takes_the_express_way(
    payment_engine: Engine, pieces: list[bytes], answers: list[tuple[int, Any]]
) -> None:
    """Whatever needs more care than one write is the application's; failures are told as problems either way."""
    async with _open_shop(payment_engine) as (shop, settings):
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        heard: list[tuple[int, str]] = []
        for number, piece in enumerate(pieces):
            writer.write(piece)
            if len(answers) == len(pieces):
                heard += await _heard(reader, 1)
            elif number < len(pieces) - 1:
                await _begun(shop)
        heard += await _heard(reader, len(answers) - len(heard))
        writer.close()

    assert [status for status, _ in heard] == [status for status, _ in answers]
    for (status, body), (_, expected) in zip(heard, answers, strict=True):
        if expected is ...:
            assert json.loads(body)["status"] == status
            assert "secret" not in body
        else:
            assert body == expected


@pytest.mark.usefixtures("quiet")
async def test_an_answer_on_the_express_way_is_the_last_of_a_connection_when_the_service_stops(
    payment_engine: Engine,
) -> None:
    """It is waited for, and its caller hears that this connection goes no further."""
    async with _open_shop(payment_engine) as (shop, settings):
        shop.may_answer.clear()
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(_order("1"))
        await shop.asked.wait()

        os.kill(os.getpid(), signal.SIGTERM)
        async with httpx.AsyncClient() as client, asyncio.timeout(10):
            while await _status(client, settings.public_port, "ready"):
                await asyncio.sleep(0.01)
        shop.may_answer.set()

        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"express 1")


@pytest.mark.usefixtures("quiet")
def test_who_hangs_up_on_the_express_way_is_not_answered(payment_engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The order is finished all the same, and nothing breaks over an answer that nobody hears."""

    async def hang_up() -> None:
        async with _open_shop(payment_engine) as (shop, settings), httpx.AsyncClient() as client:
            shop.may_answer.clear()
            _, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
            writer.write(_order("1"))
            await shop.asked.wait()
            writer.transport.abort()
            # What is sent later is seen later.
            assert await _status(client, settings.public_port, "ready") == 200
            shop.may_answer.set()
            assert await _status(client, settings.public_port, "ready") == 200

    # On the loop that services run on: it takes no write to a connection that is closed.
    uvloop.run(hang_up())

    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.usefixtures("quiet")
async def test_who_does_not_listen_is_not_answered_without_end(payment_engine: Engine) -> None:
    """What a caller has not taken must not pile up here: the application waits until he has."""
    body = f'"{"x" * 60_000}"'
    async with _open_shop(payment_engine) as (shop, settings):
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((LOOPBACK, settings.public_port))
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        sent = 0
        async with asyncio.timeout(20):
            while not shop.by_application:
                await loop.sock_sendall(deaf, _order(body))
                sent += 1
                while shop.by_express + shop.by_application < sent:
                    await asyncio.sleep(0.001)
        deaf.close()

    assert shop.by_express == sent - 1


@pytest.mark.usefixtures("quiet")
async def test_what_cannot_be_parsed_to_its_end_is_nobodys_request(
    payment_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its head was well-formed; it is refused by the parser, once."""
    async with _open_shop(payment_engine) as (_, settings):
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
