"""What a service answers while as many requests are in progress as it takes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from service_chassis.admission import REJECTED, Admission
from service_chassis.fast_path import FastPath
from service_chassis.json_body import read_body
from service_chassis.server import Service, Status
from serving import app_of, served, settings_on
from shop.local.ports import LOOPBACK, Ports
from two_phase.errors import Unavailable


class _Crowd:
    """A service that takes ``capacity`` POST /orders, and answers all when it is told to."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        self.begun = self.inside = 0
        self.may_answer = asyncio.Event()
        app = app_of(orders=self._orders, ready=self._ready)
        rejection = Unavailable("no capacity", retry_after_seconds=7)
        self.service = Service(
            "payment_service",
            Status(engine),
            app,
            app,
            public_fast_path=FastPath("/orders", self._orders),
            public_admission=Admission("/orders", capacity, rejection),
        )

    async def holds(self, count: int) -> None:
        """Return when so many are inside."""
        async with asyncio.timeout(10):
            while self.inside < count:
                await asyncio.sleep(0.01)

    async def _orders(self, request: Request) -> PlainTextResponse:
        self.begun += 1
        await read_body(request, 10)
        self.inside += 1
        await self.may_answer.wait()
        return PlainTextResponse("done")

    async def _ready(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("ready")


@asynccontextmanager
async def _crowded(
    engine: Engine, capacity: int = 2
) -> AsyncIterator[tuple[_Crowd, httpx.AsyncClient]]:
    """Let two requests in, and yield a client for more."""
    crowd = _Crowd(engine, capacity)
    with Ports() as ports:
        settings = settings_on(engine, ports)
        url = f"http://{LOOPBACK}:{settings.public_port}"
        async with (
            httpx.AsyncClient(base_url=url, timeout=10) as client,
            served(crowd.service, settings),
        ):
            waiting = [asyncio.create_task(client.post("/orders", content=b"{}")) for _ in range(2)]
            await crowd.holds(2)
            yield crowd, client
            crowd.may_answer.set()
            assert [(await each).status_code for each in waiting] == [200, 200]
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("either_way")
async def test_a_request_to_a_full_service_is_rejected_at_once(payment_engine: Engine) -> None:
    """R13: the problem of any other 503, on a connection that can be used again.

    Other paths and methods are served.
    """
    before = REJECTED._value.get()
    async with _crowded(payment_engine) as (crowd, client):
        answers = [await client.post("/orders", content=b"{}") for _ in range(3)]
        other_method, other_path = (
            await client.get("/ready"),
            await client.post("/ready", content=b"{}"),
        )

        assert crowd.inside == 2
        assert REJECTED._value.get() == before + 3
        assert {each.status_code for each in answers} == {503}
        assert answers[0].headers["retry-after"] == "7"
        assert answers[0].headers["content-type"] == "application/problem+json"
        assert answers[0].json() == {
            "type": "urn:shop:problem:unavailable",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "no capacity",
        }
        assert (other_method.status_code, other_path.status_code) == (200, 200)

        crowd.may_answer.set()
        async with asyncio.timeout(10):
            while (await client.post("/orders", content=b"{}")).status_code != 200:
                pass


@pytest.mark.usefixtures("either_way")
async def test_a_client_that_is_slow_to_send_takes_no_capacity(payment_engine: Engine) -> None:
    """Else a few hundred clients that never end their requests would keep all others out."""
    async with _crowded(payment_engine, capacity=4) as (crowd, client):
        slow = [await asyncio.open_connection(LOOPBACK, client.base_url.port) for _ in range(5)]
        for _, writer in slow:
            writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        async with asyncio.timeout(10):
            while crowd.begun < 2 + 5:
                await asyncio.sleep(0.01)

        let_in = [asyncio.create_task(client.post("/orders", content=b"{}")) for _ in range(2)]
        await crowd.holds(2 + 2)
        assert (await client.post("/orders", content=b"{}")).status_code == 503

        for _, writer in slow:
            writer.close()
        crowd.may_answer.set()
        assert [(await each).status_code for each in let_in] == [200, 200]


@pytest.mark.usefixtures("either_way")
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
            [200, 503],
        ),
        (
            b"POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            [503],
        ),
        (b"POST /orders HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", [503]),
        (
            b"POST /orders HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
            [503],
        ),
    ],
    ids=[
        "both rejected",
        "answered in order",
        "behind another request",
        "last of a connection",
        "old",
        "expects 100",
    ],
)
async def test_requests_are_rejected_however_they_arrive(
    payment_engine: Engine, request_: bytes, answers: list[int]
) -> None:
    """The answers come in the order of the requests."""
    async with _crowded(payment_engine) as (_, client):
        reader, writer = await asyncio.open_connection(LOOPBACK, client.base_url.port)
        writer.write(request_)
        heard = b""
        async with asyncio.timeout(10):
            while heard.count(b"HTTP/1.1 ") < len(answers):
                heard += await reader.read(4096)
        writer.close()

    assert [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]] == answers
