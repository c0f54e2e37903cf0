"""The order in which a service stops: not ready, a while to hear of it, requests finished, decisions told, and only then closed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shop.ports import LOOPBACK, Ports
from two_phase.hosting import server
from two_phase.hosting.http_protocol import TURNED_AWAY, Door
from two_phase.hosting.server import Service, Status
from two_phase.hosting.settings import ServiceSettings
from two_phase.protocol import Unavailable

Endpoint = Callable[[Request], Awaitable[PlainTextResponse]]


def _app(**endpoints: Endpoint) -> Starlette:
    return Starlette(routes=[Route(f"/{name}", endpoint, methods=["GET", "POST"]) for name, endpoint in endpoints.items()])


async def _status(client: httpx.AsyncClient, port: int, path: str) -> int:
    """Return how a new connection is answered; 0 if there is nobody."""
    try:
        return (await client.get(f"http://{LOOPBACK}:{port}/{path}", headers={"Connection": "close"})).status_code
    except httpx.TransportError:
        return 0


@asynccontextmanager
async def _served(service: Service, settings: ServiceSettings) -> AsyncIterator["asyncio.Task[None]"]:
    running = asyncio.create_task(server._run(settings, lambda _: service))
    async with asyncio.timeout(20):
        while not service.status.started:
            await asyncio.sleep(0.01)
        yield running
        await running


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logs and the garbage of the tests' own process as they are."""
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "_spare_the_collector", lambda: None)


def _settings(engine: Engine, ports: Ports, **others: Any) -> ServiceSettings:
    return ServiceSettings(
        database_url=engine.url.render_as_string(hide_password=False),
        host=LOOPBACK,
        public_port=ports.reserve(),
        internal_port=ports.reserve(),
        **others,
    )


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
        settings = _settings(payment_engine, ports, drain_wait_seconds=2)
        public, internal = settings.public_port, settings.internal_port
        app = _app(slow=slow, ready=ready)
        service = Service("payment_service", status, app, _app(ready=ready), drain=drain, close=close)
        async with httpx.AsyncClient(timeout=10) as client, _served(service, settings):
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
        door = Door("POST", "/orders", room, Unavailable("no room", retry_after_seconds=7))
        self.service = Service("payment_service", Status(engine), app, app, door=door)

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
        settings = _settings(engine, ports)
        url = f"http://{LOOPBACK}:{settings.public_port}"
        async with httpx.AsyncClient(base_url=url, timeout=10) as client, _served(crowd.service, settings):
            waiting = [asyncio.create_task(client.post("/orders", content=b"{}")) for _ in range(2)]
            await crowd.holds(2)
            yield crowd, client
            crowd.may_answer.set()
            assert [(await each).status_code for each in waiting] == [200, 200]
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("quiet")
async def test_who_comes_to_a_full_service_is_turned_away_at_its_door(payment_engine: Engine) -> None:
    """Rule 13: the problem of any other 503, at once, on a connection that can be used again; others are not concerned."""
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
