"""The order in which a service stops: not ready, a while to hear of it, requests finished, decisions told, and only then closed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shop.ports import LOOPBACK, Ports
from two_phase.hosting import server
from two_phase.hosting.server import Service, Status
from two_phase.hosting.settings import ServiceSettings

Endpoint = Callable[[Request], Awaitable[PlainTextResponse]]


def _app(**endpoints: Endpoint) -> Starlette:
    return Starlette(routes=[Route(f"/{name}", endpoint) for name, endpoint in endpoints.items()])


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


async def test_a_service_that_stops_closes_nothing_that_is_still_needed(
    payment_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public listener goes last among what brings work, the internal one and the database last of all."""
    # Logs and garbage of the tests' own process stay as they are.
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "_spare_the_collector", lambda: None)
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
        public, internal = ports.reserve(), ports.reserve()
        settings = ServiceSettings(
            database_url=payment_engine.url.render_as_string(hide_password=False),
            host=LOOPBACK,
            public_port=public,
            internal_port=internal,
            drain_wait_seconds=2,
        )
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
