"""The HTTP side of the protocol.

How a round, a question and their answers travel, and what counts as an answer.

Only a 200 with a well-formed body of this version counts (R6); everything else, from a refused
connection to a foreign body, is Unavailable: no answer. Several base URLs are the replicas of one
service: the next one is tried when a connection could not be made at all, and only then, so that
nothing is asked twice.

httpx is the client, and aiohttp carries its requests.
"""

from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from two_phase.errors import Unavailable
from two_phase.http.paths import (
    OUTCOMES_PATH,
    PEEK_PATH,
    ROUND_PATH,
)
from two_phase.messages import (
    PROTOCOL_VERSION,
    ROUND_BYTES_MAX,
    Ballot,
    InDoubt,
    Outcomes,
    Question,
    Round,
)

#: So long a connection stays open unused: shorter than any listener keeps it, which must not close
#: it under a request.
IDLE_SECONDS = 30
_NO_AUTH = httpx.Auth()
#: httpx takes a URL apart each time that it is given as text.
_url = lru_cache(httpx.URL)

A = TypeVar("A", Ballot, Outcomes)


class _NoCookies(httpx.Cookies):
    """Keeps no cookie; to look for them in each answer costs a tenth of the request."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them."""


class _Client(httpx.AsyncClient):
    """An httpx client that looks for no cookies."""

    no_cookies = _NoCookies()

    @property  # type: ignore[misc] # it is never set
    def cookies(self) -> httpx.Cookies:
        """Return none."""
        return self.no_cookies


class _WholeResponse(httpx.Response):
    """A response that the transport has read and decoded: httpx has nothing left to do with it."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(status, headers=headers, stream=httpx.ByteStream(body))
        self._body = body

    @property
    def content(self) -> bytes:
        """Return the body."""
        return self._body

    async def aread(self) -> bytes:
        """Return the body."""
        # The client has put a stream around ours that refers to this response: with such a cycle,
        # rounds and ballots would lie in memory until the next garbage collection.
        self.stream = httpx.ByteStream(self._body)
        return self._body


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Carries httpx's requests over aiohttp's connections, which cost a fraction of httpx's own.

    Only a connection that could not be made is a ConnectError, and nothing is sent twice. httpx
    limits each step of an exchange, and an answer that drips passes all of those limits: here one
    limit holds for the whole exchange, and the client's own are not looked at.
    """

    def __init__(self, *, timeout_seconds: float, answer_bytes_max: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._answer_bytes_max = answer_bytes_max
        self._made: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the whole answer, whatever its status; raises httpx.TransportError."""
        # aiohttp would send a GET once more by itself, but no POST.
        assert request.method == "POST", request.method
        try:
            async with self._session().post(
                str(request.url),
                headers=[(name.decode(), value.decode()) for name, value in request.headers.raw],
                data=await request.aread(),
                allow_redirects=False,
            ) as answer:
                return _WholeResponse(
                    answer.status, answer.raw_headers, await self._whole(answer.content)
                )
        except aiohttp.ClientConnectorError as failure:
            raise httpx.ConnectError(str(failure)) from failure
        except TimeoutError as failure:
            raise httpx.TimeoutException(f"not within {self._timeout_seconds} s") from failure
        except (
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientPayloadError,
            aiohttp.ClientResponseError,
        ) as failure:
            raise httpx.RemoteProtocolError(repr(failure)) from failure
        except aiohttp.ClientError as failure:
            raise httpx.ReadError(repr(failure)) from failure

    async def aclose(self) -> None:
        """Close the connections."""
        if self._made is not None:
            await self._made.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._made is None:
            # Made here and not in __init__, because it belongs to the running event loop.
            self._made = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                connector=aiohttp.TCPConnector(limit=8, keepalive_timeout=IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._made

    async def _whole(self, content: aiohttp.StreamReader) -> bytes:
        body = bytearray()
        async for part in content.iter_any():
            body += part
            if len(body) > self._answer_bytes_max:
                raise httpx.RemoteProtocolError(f"more than {self._answer_bytes_max} bytes")
        return bytes(body)


class Peer:
    """One service at the other end, whatever its number of replicas."""

    def __init__(self, urls: Sequence[str], key: SecretStr, *, timeout_seconds: float) -> None:
        assert urls
        self._urls = [url.rstrip("/") for url in urls]
        bearer = f"Bearer {key.get_secret_value()}".encode()
        self._headers = httpx.Headers(
            {b"Authorization": bearer, b"Content-Type": b"application/json"}
        )
        transport = AiohttpTransport(
            timeout_seconds=timeout_seconds, answer_bytes_max=ROUND_BYTES_MAX
        )
        self._client = _Client(transport=transport, timeout=None, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(self, path: str, message: BaseModel, answer: type[A]) -> A:
        """Post ``message`` and return the well-formed answer.

        Raises Unavailable for everything else.
        """
        # What nobody has set is absent: an older peer takes no message with members that it does
        # not know.
        body = message.model_dump_json(exclude_unset=True).encode()
        reason: Exception | None = None
        for _ in self._urls:
            try:
                response = await self._client.send(self._request(path, body), auth=_NO_AUTH)
            except httpx.ConnectError as failure:
                reason = failure
                self._try_another_next()
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
                # InvalidURL and ValueError: an address that names no place is no answer either.
                self._try_another_next()
                raise Unavailable(f"no answer: {failure!r}") from failure
            else:
                return _understood(response.status_code, response.content, answer)
        raise Unavailable(f"no connection: {reason!r}")

    def _request(self, path: str, body: bytes) -> httpx.Request:
        return httpx.Request(
            "POST", _url(self._urls[0] + path), headers=self._headers, stream=httpx.ByteStream(body)
        )

    def _try_another_next(self) -> None:
        self._urls.append(self._urls.pop(0))


def _understood(status: int, body: bytes, answer: type[A]) -> A:
    if status != HTTPStatus.OK:
        raise Unavailable(f"no answer: status {status}")
    try:
        understood = answer.model_validate_json(body)
    except ValidationError as failure:
        raise Unavailable("no answer: the body is not well-formed") from failure
    if understood.version != PROTOCOL_VERSION:
        raise Unavailable(f"no answer: version {understood.version} is not known")
    return understood


class HttpTransport:
    """Carries rounds to one participant."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def send(self, message: Round) -> Ballot:
        """Return the participant's ballot; raises Unavailable."""
        return await self._peer.call(ROUND_PATH, message, Ballot)


class HttpCoordinator:
    """Asks the coordinator about branches in doubt."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return decisions, after deciding what was undecided; raises Unavailable."""
        return await self._peer.call(
            OUTCOMES_PATH, question_about(transactions, log_seen), Outcomes
        )

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions that are recorded by now; raises Unavailable."""
        return await self._peer.call(PEEK_PATH, question_about(transactions, log_seen), Outcomes)


def question_about(transactions: Sequence[InDoubt], log_seen: int) -> Question:
    """Return a question; a log that has told nothing of its counter is told nothing either."""
    return Question(transactions=list(transactions), **{"log_seen": log_seen} if log_seen else {})
