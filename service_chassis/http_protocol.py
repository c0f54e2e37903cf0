"""Where a request begins and ends on a connection, and the answer when that cannot be told."""

import http
import logging
from typing import Any

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service_chassis import problems

log = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with no other protocol to upgrade to.

    A request that asks for one is answered as if it did not, with its body. A request that cannot
    be parsed is a problem like any other, told in its turn.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: The head of a request that asks for another protocol was parsed, and will be again.
        self._upgrades = False
        #: Nothing that arrives from now on is looked at.
        self._ended = False
        #: The last answer of this connection, which waits for those that come first.
        self._refusal = b""

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            log.info("a request cannot be parsed", extra={"why": str(error)})
            self.send_400_response("Invalid HTTP request received.")

    def _parse(self, data: bytes) -> None:
        """Parse ``data``; parse a request that asks for another protocol as if it did not.

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
        version = self.parser.get_http_version().encode()
        start = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([start, *lines, b"", b""])

    def on_headers_complete(self) -> None:
        """Begin a request; one that asks for another protocol is left to ``_parse``."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            super().on_headers_complete()
            self.cycle.keep_alive = False
            self._ended = True
        else:
            self._upgrades = True
            return
        # What trails a chunked body is no header of the request (RFC 9110, section 6.5.1).
        self.headers = []

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._upgrades:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer in this request's turn, and end the connection: no next request can be found."""
        self._ended = True
        answer = problems.problem(400, "malformed", msg, headers={"Connection": "close"})
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._end(written(answer))
        elif not cycle.more_body:
            self._refusal = written(answer)
        elif self.pipeline:
            self.pipeline.popleft()
            self._refusal = written(answer)
        else:
            self._end(b"" if cycle.response_started else written(answer))

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


def written(answer: Response) -> bytes:
    """Return ``answer`` as it goes over the wire."""
    phrase = http.HTTPStatus(answer.status_code).phrase.encode()
    headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
    start = b"HTTP/1.1 %d %b\r\n" % (answer.status_code, phrase)
    return b"%b%b\r\n%b" % (start, headers, bytes(answer.body))
