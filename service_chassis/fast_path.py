"""The one POST that most requests to a listener are, answered past the framework.

Most of what a framework does for a request costs more than an order's share of its round. What is
done here leans on members of uvicorn that it does not document: FAST_PATH=off does without.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service_chassis import problems
from service_chassis.admission import Admission
from service_chassis.http_protocol import HttpProtocol, written
from service_chassis.json_body import WholeRequest

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class FastPath:
    """Answer a POST to ``path`` by ``endpoint`` itself, if it is plain and arrives in one piece.

    The same endpoint is a route of the application, which answers whatever needs more care, and
    documents it. The request that it gets here has its headers and its body, and no more.
    """

    path: str
    endpoint: Endpoint


class _Exchange:
    """A request answered here: what uvicorn's protocol looks at of a request in progress."""

    message_event = asyncio.Event()
    more_body = False

    def __init__(self) -> None:
        self.response_complete = False
        self.keep_alive = True


class FastPathProtocol(HttpProtocol):
    """The protocol of one connection to a listener that has a fast path."""

    def __init__(
        self, *args: Any, fast_path: FastPath, admission: Admission | None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._path = fast_path.path.encode()
        self._endpoint = fast_path.endpoint
        self._admission = admission
        #: The parts of the body, while a request arrives that may be answered here.
        self._parts: list[bytes] | None = None

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; a request that is not whole by then is the application's."""
        super().data_received(data)
        parts, self._parts = self._parts, None
        if parts is not None and not self._ended:
            super().on_headers_complete()
            for part in parts:
                super().on_body(part)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        if self.url == self._path and self._is_plain():
            self._parts = []
            self.headers = []
        else:
            super().on_headers_complete()

    def _is_plain(self) -> bool:
        """Return whether it is a POST that one write answers, on a connection that goes on."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            self.parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        if self._parts is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """End a request: answer it, reject it, or leave it to the application."""
        parts, self._parts = self._parts, None
        if parts is None:
            super().on_message_complete()
        elif self._admission and self._admission.is_full():
            self.transport.write(written(self._admission.reject()))
            self.on_response_complete()
        else:
            self._begin(b"".join(parts))

    def _begin(self, body: bytes) -> None:
        request = WholeRequest({"type": "http", "headers": self.scope["headers"]}, body)
        exchange = _Exchange()
        self.cycle = exchange  # type: ignore[assignment] # all of it that is looked at
        task = self.loop.create_task(self._answer(exchange, self._endpoint(request)))
        if self._admission:
            self._admission.in_progress += 1
        task.add_done_callback(self._end_task)
        self.tasks.add(task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        if self._admission:
            self._admission.in_progress -= 1
        self.tasks.discard(task)

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
        self.transport.write(written(response))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()


def protocol(
    fast_path: FastPath | None, admission: Admission | None
) -> type[HttpProtocol] | partial[FastPathProtocol]:
    """Return what makes the protocol of a connection, with ``fast_path`` if there is one."""
    if fast_path is None:
        return HttpProtocol
    return partial(FastPathProtocol, fast_path=fast_path, admission=admission)
