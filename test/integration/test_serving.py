"""The order in which a service stops."""

import asyncio
import os
import signal

import httpx
import pytest
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from service_chassis.server import Service, Status
from serving import app_of, served, settings_on, status_of
from shop.local.ports import Ports


@pytest.mark.usefixtures("either_way")
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
        answers = [await status_of(client, port, "ready") for port in (public, internal)]
        seen.append("decisions are told: public {}, internal {}".format(*answers))

    async def close() -> None:
        seen.append(f"closed: internal {await status_of(client, internal, 'ready')}")

    with Ports() as ports:
        settings = settings_on(payment_engine, ports, drain_wait_seconds=2)
        public, internal = settings.public_port, settings.internal_port
        app = app_of(slow=slow, ready=ready)
        service = Service(
            "payment_service", status, app, app_of(ready=ready), drain=drain, close=close
        )
        async with httpx.AsyncClient(timeout=10) as client, served(service, settings):
            assert await status_of(client, public, "ready") == 200
            answering = asyncio.create_task(status_of(client, public, "slow"))
            await asked.wait()

            os.kill(os.getpid(), signal.SIGTERM)
            while await status_of(client, public, "ready") == 200:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.4)
            seen.append(f"still open: public {await status_of(client, public, 'ready')}")
            await asyncio.sleep(2)
            may_answer.set()
            assert await answering == 200

    assert seen == [
        "still open: public 503",
        "the request under way is answered",
        "decisions are told: public 0, internal 503",
        "closed: internal 0",
    ]
