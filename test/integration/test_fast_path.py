"""Which requests are answered past the framework, and that all others are answered alike."""

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
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service_chassis import problems
from service_chassis.fast_path import FastPath
from service_chassis.json_body import read_json
from service_chassis.server import Service, Status
from service_chassis.settings import ServiceSettings
from serving import served, settings_on, status_of
from shop.local.ports import LOOPBACK, Ports
from two_phase.errors import Unavailable


class _Shop:
    """A service whose POST /orders says what has answered it: the fast path, or the application."""

    def __init__(self, engine: Engine) -> None:
        self.asked, self.may_answer, self.begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.may_answer.set()
        self.answers: list[str] = []
        app = FastAPI()
        problems.install(app)
        for path in ("/orders", "/ready"):
            app.add_route(path, self._application, methods=["GET", "POST"])
        app.add_route("/health", self._health)
        self.service = Service(
            "payment_service",
            Status(engine),
            app,
            app,
            public_fast_path=FastPath("/orders", self._fast),
        )

    async def _fast(self, request: Request) -> Response:
        return await self._answer(request, "fast")

    async def _application(self, request: Request) -> Response:
        return await self._answer(request, "application")

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("live")

    async def _answer(self, request: Request, way: str) -> Response:
        self.begun.set()
        match body := await read_json(request):
            case "unavailable":
                raise Unavailable("come again", retry_after_seconds=7)
            case "broken":
                raise AssertionError("a secret")
        self.asked.set()
        await self.may_answer.wait()
        self.answers.append(way)
        return PlainTextResponse(f"{way} {body}")


@asynccontextmanager
async def _open_shop(engine: Engine) -> AsyncIterator[tuple[_Shop, ServiceSettings]]:
    shop = _Shop(engine)
    with Ports() as ports:
        settings = settings_on(engine, ports)
        async with served(shop.service, settings):
            yield shop, settings
            os.kill(os.getpid(), signal.SIGTERM)


def _order(body: str, *headers: str, start: str = "POST /orders HTTP/1.1") -> bytes:
    lines = [
        start,
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
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


FAST, APPLICATION = (200, "fast 1"), (200, "application 1")


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([_order("1")], [FAST]),
        ([_order("1"), _order("2"), _order("3")], [FAST, (200, "fast 2"), (200, "fast 3")]),
        ([_order("1") + _order("1") + _order("2")], [FAST, APPLICATION, (200, "application 2")]),
        ([_order("12")[:-1], b"2"], [(200, "application 12")]),
        ([_order("1", start="POST /ready HTTP/1.1")], [APPLICATION]),
        ([_order("1", start="POST /orders?a=b HTTP/1.1")], [APPLICATION]),
        ([_order("1", start="POST /orders HTTP/1.0")], [APPLICATION]),
        ([_order("1", start="GET /orders HTTP/1.1")], [APPLICATION]),
        ([_order("1", "Connection: close")], [APPLICATION]),
        ([_order("1", "Expect: 100-continue")], [APPLICATION]),
        ([_order("1", "Connection: Upgrade", "Upgrade: websocket")], [FAST]),
        (
            [
                b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"
            ],
            [(415, ...)],
        ),
        ([_order(f'"{"x" * 65_535}"')], [(413, ...)]),
        ([_order("nonsense")], [(400, ...)]),
        ([_order('"unavailable"')], [(503, ...)]),
        ([_order('"broken"'), _order("1")], [(500, ...), FAST]),
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
async def test_a_plain_request_takes_the_fast_path(
    either_way: str, payment_engine: Engine, pieces: list[bytes], answers: list[tuple[int, Any]]
) -> None:
    """Whatever needs more care than one write is the application's.

    Failures are told as problems either way.
    """
    async with _open_shop(payment_engine) as (shop, settings):
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        heard: list[tuple[int, str]] = []
        for number, piece in enumerate(pieces):
            writer.write(piece)
            if len(answers) == len(pieces):
                heard += await _heard(reader, 1)
            elif number < len(pieces) - 1:
                await asyncio.wait_for(shop.begun.wait(), 10)
        heard += await _heard(reader, len(answers) - len(heard))
        writer.close()

    assert [status for status, _ in heard] == [status for status, _ in answers]
    for (status, body), (_, expected) in zip(heard, answers, strict=True):
        if expected is ...:
            assert json.loads(body)["status"] == status
            assert "secret" not in body
        else:
            assert body == (
                expected if either_way == "on" else expected.replace("fast", "application")
            )


async def test_an_answer_is_the_last_of_a_connection_when_the_service_stops(
    either_way: str,
    payment_engine: Engine,
) -> None:
    """The service waits for it, and its client hears that this connection goes no further."""
    async with _open_shop(payment_engine) as (shop, settings):
        shop.may_answer.clear()
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(_order("1"))
        await shop.asked.wait()

        os.kill(os.getpid(), signal.SIGTERM)
        async with httpx.AsyncClient() as client, asyncio.timeout(10):
            while await status_of(client, settings.public_port, "health"):
                await asyncio.sleep(0.01)
        shop.may_answer.set()

        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"fast 1" if either_way == "on" else b"application 1")


@pytest.mark.usefixtures("either_way")
def test_a_client_that_hangs_up_is_not_answered(
    payment_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The order is finished all the same, and nothing breaks over an answer that no client hears."""

    async def hang_up() -> None:
        async with _open_shop(payment_engine) as (shop, settings), httpx.AsyncClient() as client:
            shop.may_answer.clear()
            _, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
            writer.write(_order("1"))
            await shop.asked.wait()
            writer.transport.abort()
            # What is sent later is seen later.
            assert await status_of(client, settings.public_port, "health") == 200
            shop.may_answer.set()
            assert await status_of(client, settings.public_port, "health") == 200

    # On the loop that services run on: it takes no write to a connection that is closed.
    uvloop.run(hang_up())

    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.usefixtures("quiet")
async def test_a_client_that_does_not_read_is_not_answered_without_end(
    payment_engine: Engine,
) -> None:
    """What a client has not taken must not pile up: the application waits until it has."""
    body = f'"{"x" * 60_000}"'
    async with _open_shop(payment_engine) as (shop, settings):
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((LOOPBACK, settings.public_port))
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        sent = 0
        async with asyncio.timeout(20):
            while "application" not in shop.answers:
                await loop.sock_sendall(deaf, _order(body))
                sent += 1
                while len(shop.answers) < sent:
                    await asyncio.sleep(0.001)
        deaf.close()

    assert shop.answers.count("fast") == sent - 1


@pytest.mark.usefixtures("either_way")
async def test_a_body_that_cannot_be_parsed_is_refused_once(
    payment_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its head was well-formed, so that the application waits for it."""
    async with _open_shop(payment_engine) as (_, settings):
        reader, writer = await asyncio.open_connection(LOOPBACK, settings.public_port)
        writer.write(
            b"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        )
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
