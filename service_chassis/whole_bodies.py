"""Every answer waits for the body of its request, or is the last one on its connection."""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: So long an answer waits for the rest of a body that the application has not read.
_REST_SECONDS = 1
#: So long a connection stays open after an answer that did not, so that a client that still sends
#: hears it.
_LINGER_SECONDS = 3
_FRAMING = (b"content-length", b"transfer-encoding")


class WholeBodies:
    """The application ``app``; the rest of a body is never taken for the next request.

    What ``app`` has left of a body is read and discarded before its answer goes out. If the body is
    not there to its end by then, the answer says `Connection: close`, and its connection ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and any(name in _FRAMING for name, _ in scope["headers"]):
            body = _Body(scope, receive, send)
            await self._app(scope, body.receive, body.send)
        else:
            await self._app(scope, receive, send)


class _Body:
    """The body of one request, on its way to the application, or past it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._ended = False
        #: Asking for the body of such a request invites its client to send it.
        self._is_held_back = any(name == b"expect" for name, _ in scope["headers"])

    async def receive(self) -> Message:
        """Return what comes next."""
        self._is_held_back = False
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._ended = True
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            if not self._ended and not self._is_held_back:
                await self._discard(_REST_SECONDS)
            close = [] if self._ended else [(b"connection", b"close")]
            await self._send({**message, "headers": [*message.get("headers", ()), *close]})
        elif self._ended or message.get("more_body"):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._discard(_LINGER_SECONDS)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended:
                    await self.receive()
