"""Stands between two services and does to their messages what a network may do, as the test says.

    link = proxy.link(lambda: "http://127.0.0.1:8001")     link.url is what the caller is told instead
    link.suffer(fault)                                      from now on; link.met counts the messages that met it
    link.heal()

A message is a whole HTTP request; a fault is a coroutine that is handed the exchange and passes it
on, late, twice, in part, or not at all. Every message is recorded, so that a whole run can be sent
again.
"""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_START_SECONDS = 10


async def whole_message(reader: asyncio.StreamReader) -> bytes:
    """Return one HTTP message, head and body.

    Raises IncompleteReadError when the connection ends first.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")


def body_of(message: bytes) -> bytes:
    """Return the body of an HTTP message."""
    return message.partition(b"\r\n\r\n")[2]


def with_body(message: bytes, body: bytes) -> bytes:
    """Return the message with another body."""
    head = message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    return _LENGTH.sub(b"\r\nContent-Length: %d\r\n" % len(body), head) + body


@dataclass
class Exchange:
    """One request on its way, and the connection on which its answer is awaited."""

    link: "Link"
    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answered: bool = False

    async def forward(self, request: bytes | None = None) -> bytes:
        """Deliver the request, or another one instead, and return the answer."""
        return await self.link.delivered(self.request if request is None else request)

    async def answer(self, response: bytes) -> None:
        """Give an answer to the caller, who may be gone."""
        self.writer.write(response)
        await self.writer.drain()
        self.answered = True

    async def silence(self) -> None:
        """Say nothing until the caller hangs up."""
        await self.reader.read()


Fault = Callable[[Exchange], Awaitable[None]]


async def untouched(exchange: Exchange) -> None:
    """Pass the message on as it is."""
    await exchange.answer(await exchange.forward())


@dataclass
class Link:
    """One direction in which a service calls another."""

    target: Callable[[], str]
    url: str = ""
    fault: Fault = untouched
    #: How many messages have met the present fault.
    met: int = 0
    recorded: list[bytes] = field(default_factory=list, repr=False)

    def suffer(self, fault: Fault) -> None:
        """Let every message meet ``fault`` from now on."""
        self.met = 0
        self.fault = fault

    def heal(self) -> None:
        """Pass everything on again."""
        self.fault = untouched

    async def until_changed(self) -> None:
        """Return when the present fault has gone."""
        present = self.fault
        while self.fault is present:
            await asyncio.sleep(0.01)

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the service that is called."""
        address = urlsplit(self.target())
        return await asyncio.open_connection(address.hostname, address.port)

    async def delivered(self, request: bytes) -> bytes:
        """Send a request to the service that is called, on a connection of its own, and return the answer."""
        reader, writer = await self.connected()
        try:
            writer.write(request)
            await writer.drain()
            return await whole_message(reader)
        finally:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection, until one of them is left without an answer."""
        # A service that is away, or a caller who has gone, is not the proxy's trouble: it hangs up
        # as the network would.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, LookupError):
            answered = True
            while answered:
                request = await whole_message(reader)
                self.recorded.append(request)
                self.met += 1
                exchange = Exchange(self, request, reader, writer)
                await self.fault(exchange)
                answered = exchange.answered
        writer.close()


class Proxy:
    """Any number of links, served by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def link(self, target: Callable[[], str]) -> Link:
        """Return a new link to the service whose base URL ``target`` tells when somebody calls."""
        link = Link(target)
        listener = socket.create_server(("127.0.0.1", 0))
        link.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._servers.append(self.run(asyncio.start_server(link.serve, sock=listener)))
        return link

    def replay(self, link: Link) -> list[bytes]:
        """Deliver all that was recorded once more, in its order, and return the answers."""

        async def again() -> list[bytes]:
            return [await link.delivered(request) for request in list(link.recorded)]

        return self.run(again(), seconds=60)

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = _START_SECONDS) -> Any:
        """Run ``work`` on the proxy's own loop, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        working = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
