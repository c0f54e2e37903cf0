"""What is answered by the HTTP parser itself: what it cannot parse, and who comes when there is no room.

Under overload most of what a service does is to say no, and a no that has become a request first costs a third of an order. Those
turned away would then take the time of those who are served.
"""

import http
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prometheus_client import Counter
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from two_phase.hosting.problems import problem, unavailable_problem
from two_phase.protocol import Unavailable

TURNED_AWAY = Counter("http_requests_turned_away", "Requests answered with 503 because too many were under way")


@dataclass
class Door:
    """How many requests may be under way before further ones to one endpoint are turned away with ``answer``.

    Requests are counted when they arrive, so that many which do so together do not all find the same room. The limit is a relief
    and no promise: requests that need more care than one write are let through, and the application has a limit of its own.
    """

    method: str
    path: str
    limit: int
    answer: Unavailable
    #: Requests that have begun and are not all there: they take nobody's room, however long their callers keep them.
    arriving: int = 0

    @cached_property
    def written(self) -> bytes:
        """The answer as it goes over the wire."""
        return _written(unavailable_problem(self.answer))


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with a door, and with problems for what it cannot parse."""

    def __init__(self, *args: Any, door: Door | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._door = door
        self._turned_away = False
        self._arriving = False

    def on_headers_complete(self) -> None:
        """Begin a request, unless it is turned away."""
        self._turned_away = self._is_to_be_turned_away()
        if not self._turned_away:
            self._arrives(begun=True)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body; that of a request which is turned away is of no interest."""
        if not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, or turn it away."""
        if not self._turned_away:
            self._arrives(begun=False)
            super().on_message_complete()
            return
        assert self._door
        TURNED_AWAY.inc()
        self.transport.write(self._door.written)
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, and what has not arrived by now."""
        self._arrives(begun=False)
        super().connection_lost(exc)

    def _arrives(self, *, begun: bool) -> None:
        if self._door and begun != self._arriving:
            self._arriving = begun
            self._door.arriving += 1 if begun else -1

    def _is_to_be_turned_away(self) -> bool:
        door = self._door
        return (
            door is not None
            and len(self.tasks) - door.arriving >= door.limit
            and self.url == door.path.encode()
            and self.parser.get_method() == door.method.encode()
            # Whatever needs more than one write, and a connection that goes on, is left to the application.
            and not self._is_answering()
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer, and close the connection, since nobody knows where the next request would begin."""
        self.transport.write(_written(problem(400, "malformed", msg, headers={"Connection": "close"})))
        self.transport.close()


def _written(answer: Response) -> bytes:
    phrase = http.HTTPStatus(answer.status_code).phrase.encode()
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (answer.status_code, phrase, headers, bytes(answer.body))
