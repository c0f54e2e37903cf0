"""Customers who do not wait for each other.

Orders leave at a fixed rate, whatever becomes of those before.

wrk's customers each wait for their answer, so that a slow service is asked less; real ones keep
coming. Every order takes a connection that is free (a few thousand are open before), or a new one.
Its time runs from the moment at which it was due, so that a late start counts as waiting. Raw HTTP
on uvloop, because the generator shares the machine with what it measures.
"""

import asyncio
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

#: Requests that leave together: the loop is not woken for each.
TICK_SECONDS = 0.005
CONNECTIONS_MAX = 8000
CONNECTIONS_BEFORE = 3000
CONNECTED_AT_ONCE = 50
LIVE_PATH = "/health/live"
PATIENCE_SECONDS = 10
CREATED, UNAVAILABLE = 201, 503


@dataclass
class Heard:
    """What became of the orders that were due while it was counted."""

    seconds: float = 0
    offered: int = 0
    #: Milliseconds from when they were due, of the confirmed and of those refused by a 503.
    confirmed_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    #: 503s without Retry-After, which must not be.
    without_retry_after: int = 0
    connections: int = 0
    #: Other answers by status; 0 is none, for a broken connection or the end of patience.
    others: Counter[int] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Return the orders confirmed per second."""
        return len(self.confirmed_ms) / self.seconds

    @property
    def busy_share(self) -> float:
        """Return the share that was told to come back later."""
        return len(self.busy_ms) / max(1, self.offered)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which ``percent`` of all are; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


class _Connection(asyncio.Protocol):
    """One connection: one order at a time."""

    def __init__(self, free: "deque[_Connection]") -> None:
        self._free = free
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._answered: Callable[[int, bool], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, request: bytes, answered: Callable[[int, bool], None]) -> None:
        """Send a request; ``answered`` is told the status, 0 if there was none, and whether there is a Retry-After."""
        assert self._transport
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        headers = head.lower()
        if len(body) < int(headers.partition(b"content-length:")[2].split(None, 1)[0]):
            return
        self._received = b""
        closes = b"connection: close" in headers
        self._tell(int(head[9:12]), has_retry_after=b"\r\nretry-after:" in headers)
        if not closes:
            self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self in self._free:
            self._free.remove(self)
        self._tell(0, has_retry_after=False)

    def _tell(self, status: int, *, has_retry_after: bool) -> None:
        answered, self._answered = self._answered, None
        if answered:
            answered(status, has_retry_after)

    def close(self) -> None:
        """Close it."""
        if self._transport:
            self._transport.close()


class _Customers:
    """All of them, and what they have heard."""

    def __init__(self, url: str, body: Callable[[], bytes]) -> None:
        address = urlsplit(url)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._body = body
        self._free: deque[_Connection] = deque()
        self._all: list[_Connection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._run = os.urandom(8).hex()
        self._sent = 0
        self._under_way = 0
        self.heard = Heard()

    async def connect(self, count: int) -> None:
        """Open so many connections, and use each once, before the first order.

        A gateway keeps its connections as well.

        The service takes one new connection per turn of its loop, so that those which come with the
        overload wait longest.
        """
        request = f"GET {LIVE_PATH} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()
        for _ in range(0, count, CONNECTED_AT_ONCE):
            await asyncio.gather(*(self._connect(request) for _ in range(CONNECTED_AT_ONCE)))

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._free), self._host, self._port
        )
        self._all.append(connection)
        answer: asyncio.Future[int] = loop.create_future()
        connection.send(request, lambda status, _: answer.set_result(status))
        await answer

    async def order_for(self, seconds: float, rate: float) -> None:
        """Let ``rate`` orders leave per second."""
        start = time.perf_counter()
        due_count = 0
        while (now := time.perf_counter() - start) < seconds:
            while due_count < now * rate:
                self._order(start + due_count / rate)
                due_count += 1
            await asyncio.sleep(TICK_SECONDS)

    async def settle(self) -> None:
        """Return when every order has been answered, or patience ends; then close everything."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while self._under_way and time.perf_counter() < deadline:
            await asyncio.sleep(TICK_SECONDS)
        self.heard.others[0] += self._under_way
        self.heard.connections = len(self._all)
        for each in self._all:
            each.close()

    def _order(self, due: float) -> None:
        heard = self.heard
        heard.offered += 1
        self._under_way += 1

        def answered(status: int, has_retry_after: bool) -> None:  # noqa: FBT001 - a callback
            self._under_way -= 1
            took_ms = (time.perf_counter() - due) * 1000
            if status == CREATED:
                heard.confirmed_ms.append(took_ms)
            elif status == UNAVAILABLE:
                heard.busy_ms.append(took_ms)
                heard.without_retry_after += not has_retry_after
            else:
                heard.others[status] += 1

        if self._free:
            self._free.popleft().send(self._request(), answered)
        elif len(self._all) + len(self._connecting) < CONNECTIONS_MAX:
            task = asyncio.ensure_future(self._connect_and_send(answered))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            answered(0, False)

    async def _connect_and_send(self, answered: Callable[[int, bool], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._free), self._host, self._port
            )
        except OSError:
            answered(0, False)
            return
        self._all.append(connection)
        connection.send(self._request(), answered)

    def _request(self) -> bytes:
        self._sent += 1
        body = self._body()
        key = f"Idempotency-Key: {self._run}-{self._sent}\r\n" if self._sent % 10 == 0 else ""
        head = f"POST /orders HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n{key}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def offer(
    url: str, body: Callable[[], bytes], *, rate: float, warm_seconds: float, seconds: float
) -> Heard:
    """Offer ``rate`` orders per second, and return what became of those that were due after the warm-up."""

    async def offering() -> Heard:
        customers = _Customers(url, body)
        await customers.connect(CONNECTIONS_BEFORE)
        await customers.order_for(warm_seconds, rate)
        warm, customers.heard = customers.heard, Heard(seconds=seconds)
        await customers.order_for(seconds, rate)
        await customers.settle()
        del warm
        return customers.heard

    return uvloop.run(offering())


def any_order(users: int, products: int, slots: int) -> Callable[[], bytes]:
    """Return a maker of orders for one unit, out of so many users, products and slots."""

    def body() -> bytes:
        user, product, slot = (
            1 + int(random.random() * users),
            1 + int(random.random() * products),
            1 + int(random.random() * slots),
        )
        return f'{{"user_id":{user},"items":[{{"product_id":{product},"quantity":1}}],"slot_id":{slot}}}'.encode()

    return body
