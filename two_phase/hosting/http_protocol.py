"""What is answered past the framework: the one request that most are, who comes when there is no room, and what cannot be parsed.

Most of what a framework does for a request costs more than an order shares of its round, and under overload most of what a
service does is to say no, which as a request would take a third of the time of those who are served.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httptools
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from two_phase.hosting import problems
from two_phase.hosting.json_body import WholeRequest
from two_phase.protocol import Unavailable

log = logging.getLogger(__name__)

TURNED_AWAY = Counter("http_requests_turned_away", "Requests answered with 503 because too many were under way")

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Express:
    """The POST to ``path`` that most requests are: answered by ``endpoint`` itself, if it is plain and arrives in one piece.

    The same endpoint is a route of the application, which answers whatever needs more care, and documents it. The request that it
    gets here has its headers and its body, and no more.

    When ``room`` requests are under way, further plain ones are turned away with ``full``. Requests are counted when they arrive,
    so that many which do so together do not all find the same room. It is a relief and no promise: the application has a limit
    of its own.
    """

    path: str
    endpoint: Endpoint
    room: float = float("inf")
    full: Unavailable = Unavailable("too many requests are under way")  # noqa: RUF009 - never changed
    #: Requests that have begun and are not all there: they take nobody's room, however long their callers keep them.
    arriving: int = 0

    @cached_property
    def no_room(self) -> bytes:
        """The answer to whoever is turned away, as it goes over the wire."""
        return _written(problems.unavailable_problem(self.full))


class _Exchange:
    """A request that is answered here: what uvicorn's protocol looks at of a request that is under way."""

    message_event = asyncio.Event()
    more_body = False

    def __init__(self) -> None:
        self.response_complete = False
        self.keep_alive = True


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with an express way, and with problems for what it cannot parse."""

    def __init__(self, *args: Any, express: Express | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._express = express
        self._turned_away = False
        #: The parts of the body, while a request arrives that may be answered here.
        self._parts: list[bytes] | None = None
        self._arriving = False
        #: The head of a request that asks for another protocol has been parsed, and will be again.
        self._upgrades = False
        #: Nothing that arrives from now on is looked at.
        self._ended = False
        #: The last answer of this connection, which waits for those that come first.
        self._refusal = b""

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; a request that is not all there by then is the application's."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            log.info("a request cannot be parsed", extra={"why": str(error)})
            self.send_400_response("Invalid HTTP request received.")
        parts, self._parts = self._parts, None
        if parts is not None and not self._ended:
            self._hand_on()
            for part in parts:
                super().on_body(part)

    def _parse(self, data: bytes) -> None:
        """Parse ``data``; a request that asks for another protocol is parsed as if it did not.

        RFC 9110, section 7.8. The parser takes whatever follows such a head for the other protocol.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            else:
                return
            if self._ended:
                return
            head = self._head_without_upgrade()
            self._upgrades = False
            self.parser = _parser(self)
            self.parser.feed_data(head)

    def _head_without_upgrade(self) -> bytes:
        start = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([start, *lines, b"", b""])

    def on_headers_complete(self) -> None:
        """Begin a request, unless it is turned away."""
        if self.parser.should_upgrade():
            self._begin_upgrade()
            return
        express = self._express
        self._turned_away = False
        if express is None or self.url != express.path.encode() or not self._is_plain():
            self._hand_on()
        elif len(self.tasks) - express.arriving < express.room:
            self._parts = []
        else:
            self._turned_away = True

    def _begin_upgrade(self) -> None:
        """Leave a request that asks for another protocol to ``_parse``, but for CONNECT."""
        if self.parser.get_method() == b"CONNECT":
            self._hand_on()
            self.cycle.keep_alive = False
            self._ended = True
        else:
            self._upgrades = True

    def _hand_on(self) -> None:
        self._arrives(begun=True)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body; that of a request which is turned away is of no interest."""
        if self._parts is not None:
            self._parts.append(body)
        elif not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request: it is turned away, answered, or left to the application."""
        if self._upgrades:
            return
        express, parts = self._express, self._parts
        if express and parts is not None:
            self._parts = None
            request = WholeRequest({"type": "http", "headers": self.headers}, b"".join(parts))
            exchange = _Exchange()
            self.cycle = exchange  # type: ignore[assignment] # all of it that is looked at
            task = self.loop.create_task(self._answer(exchange, express.endpoint(request)))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        elif express and self._turned_away:
            TURNED_AWAY.inc()
            self.transport.write(express.no_room)
            self.on_response_complete()
        else:
            self._arrives(begun=False)
            super().on_message_complete()

    async def _answer(self, exchange: _Exchange, answering: Awaitable[Response]) -> None:
        try:
            response = await answering
        except Exception as error:  # noqa: BLE001 - every failure is a problem, as in the framework's own handlers
            response = problems.answer(error)
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            response.headers["Connection"] = "close"
        self.transport.write(_written(response))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, and what has not arrived by now."""
        self._arrives(begun=False)
        super().connection_lost(exc)

    def _arrives(self, *, begun: bool) -> None:
        if self._express and begun != self._arriving:
            self._arriving = begun
            self._express.arriving += 1 if begun else -1

    def _is_plain(self) -> bool:
        """Return whether it is a POST that one write answers, on a connection that goes on."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            self.parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def send_400_response(self, msg: str) -> None:
        """Answer when it is this request's turn, and end the connection: nobody can tell where the next request begins."""
        self._ended = True
        refusal = _written(problems.problem(400, "malformed", msg, headers={"Connection": "close"}))
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._end(refusal)
        elif not cycle.more_body:
            self._refusal = refusal
        elif self.pipeline:
            self.pipeline.popleft()
            self._refusal = refusal
        else:
            self._end(b"" if cycle.response_started else refusal)

    def on_response_complete(self) -> None:
        """Go on with the next request of this connection, or end it."""
        if self._refusal and not self.pipeline and not self.transport.is_closing():
            self._end(self._refusal)
        else:
            super().on_response_complete()

    def _end(self, last_answer: bytes) -> None:
        self.transport.write(last_answer)
        self.transport.close()


def _parser(protocol: HttpProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _written(answer: Response) -> bytes:
    phrase = http.HTTPStatus(answer.status_code).phrase.encode()
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (answer.status_code, phrase, headers, bytes(answer.body))
