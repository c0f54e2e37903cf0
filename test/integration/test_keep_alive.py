"""Connections that are not used.

A service keeps them longer than its clients do, and as long as it is told to.
"""

import asyncio
import os
import signal
import time

import pytest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service_chassis import server
from service_chassis.server import Service, Status
from service_chassis.settings import ServiceSettings
from shop.local import gateway
from shop.local.ports import LOOPBACK, Ports
from two_phase.http import client

USUAL_SECONDS = 90


def test_who_asks_closes_an_unused_connection_before_who_answers() -> None:
    """Else the other end closes it just as a request is put on it, and the request is lost."""
    kept = ServiceSettings(
        database_url="postgresql+psycopg2://shop@localhost/shop"
    ).keep_alive_seconds

    assert kept > USUAL_SECONDS
    assert gateway.CLIENT_IDLE_SECONDS > USUAL_SECONDS
    assert gateway.IDLE_SECONDS <= client.IDLE_SECONDS < USUAL_SECONDS


async def _page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


async def _closed_after(port: int) -> float:
    """Return how long a connection stays open behind its only request."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"page")).startswith(b"HTTP/1.1 200")
    answered = time.monotonic()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    return time.monotonic() - answered


async def test_unused_connection_is_kept_as_long_as_the_setting_says(
    payment_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both listeners of a service close it then, not before."""
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "_spare_the_collector", lambda: None)
    page = Starlette(routes=[Route("/", _page)])
    service = Service("payment_service", Status(payment_engine), page, page)
    with Ports() as ports:
        settings = ServiceSettings(
            database_url=payment_engine.url.render_as_string(hide_password=False),
            host=LOOPBACK,
            public_port=ports.reserve(),
            internal_port=ports.reserve(),
        ).model_copy(update={"keep_alive_seconds": 2})
        running = asyncio.create_task(server._run(settings, lambda _: service))
        async with asyncio.timeout(20):
            while not service.status.started:
                await asyncio.sleep(0.01)
        kept = await asyncio.gather(
            *(_closed_after(port) for port in (settings.public_port, settings.internal_port))
        )
        os.kill(os.getpid(), signal.SIGTERM)
        await running

    assert min(kept) > 1.5
