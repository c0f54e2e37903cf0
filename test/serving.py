"""A service of a test's own, served as the real ones are.

Two listeners, a database, and an end by SIGTERM.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_chassis import server
from service_chassis.server import Service
from service_chassis.settings import ServiceSettings
from shop.local.ports import LOOPBACK, Ports

Endpoint = Callable[[Request], Awaitable[Response]]


def app_of(**endpoints: Endpoint) -> Starlette:
    """Return an application with each endpoint at the path of its name, for GET and POST."""
    methods = ["GET", "POST"]
    routes = [Route(f"/{name}", each, methods=methods) for name, each in endpoints.items()]
    return Starlette(routes=routes)


async def status_of(client: httpx.AsyncClient, port: int, path: str) -> int:
    """Return how a new connection is answered; 0 if nothing listens."""
    url = f"http://{LOOPBACK}:{port}/{path}"
    try:
        return (await client.get(url, headers={"Connection": "close"})).status_code
    except httpx.TransportError:
        return 0


@asynccontextmanager
async def served(
    service: Service, settings: ServiceSettings
) -> AsyncIterator["asyncio.Task[None]"]:
    """Serve ``service``; the block, or what it calls, has to end it by SIGTERM."""
    running = asyncio.create_task(server._run(settings, lambda _: service))
    async with asyncio.timeout(20):
        while not service.status.started:
            await asyncio.sleep(0.01)
    try:
        yield running
    finally:
        async with asyncio.timeout(20):
            await running


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[ServiceSettings]:
    """Serve ``service`` on free ports as long as the block runs."""
    with Ports() as ports:
        settings = settings_on(service.status.engine, ports)
        async with served(service, settings):
            try:
                yield settings
            finally:
                os.kill(os.getpid(), signal.SIGTERM)


def settings_on(engine: Engine, ports: Ports, **others: Any) -> ServiceSettings:
    """Return the settings of a service that uses ``engine``'s database and listens on free ports."""
    return ServiceSettings(
        database_url=engine.url.render_as_string(hide_password=False),
        host=LOOPBACK,
        public_port=ports.reserve(),
        internal_port=ports.reserve(),
        **others,
    )


async def read_answer(
    reader: asyncio.StreamReader, *, head_only: bool = False
) -> tuple[int, dict[str, str], str]:
    """Return the next final answer: status, headers by lower-case name, body."""
    async with asyncio.timeout(10):
        status = 100
        while status == 100:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            status = int(lines[0].split()[1])
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        length = 0 if head_only else int(headers.get("content-length", 0))
        return status, headers, (await reader.readexactly(length)).decode()
