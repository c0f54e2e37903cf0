"""The HTTP side of the protocol: how a round, a question and their answers travel, and what counts as an answer.

Only a 200 with a well-formed body of this version counts (R6); everything else, from a refused connection to a foreign
body, is Unavailable: no answer. Several base URLs are the replicas of one service: the next one is tried when a connection
could not be made at all, and only then, so that nothing is asked twice.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, SecretStr, ValidationError

from two_phase.protocol import (
    PROTOCOL_VERSION,
    ROUND_BYTES_MAX,
    Ballot,
    InDoubt,
    Outcomes,
    Question,
    Round,
    Unavailable,
)

ROUND_PATH = "/two-phase/v1/round"
OUTCOMES_PATH = "/two-phase/v1/outcomes"
PEEK_PATH = "/two-phase/v1/peek"
BRANCHES_PATH = "/two-phase/v1/branches"
CONSERVATION_PATH = "/two-phase/v1/conservation"
DECISIONS_PATH = "/two-phase/v1/decisions"
COUNTERS_PATH = "/two-phase/v1/counters"
STANDING_PATH = "/two-phase/v1/standing"
HOLD_PATH = "/two-phase/v1/hold"
REBUILD_PATH = "/two-phase/v1/rebuild"
RESUME_PATH = "/two-phase/v1/resume"

#: So long a connection stays open unused: shorter than any listener keeps it, which must not close it under a request.
IDLE_SECONDS = 30

A = TypeVar("A", Ballot, Outcomes)


class Peer:
    """One service at the other end, whatever its number of replicas."""

    def __init__(self, urls: Sequence[str], key: SecretStr, *, timeout_seconds: float) -> None:
        assert urls
        self._urls = [url.rstrip("/") for url in urls]
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}", "Content-Type": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._client: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def call(self, path: str, message: BaseModel, answer: type[A]) -> A:
        """Post ``message`` and return the well-formed answer; raises Unavailable for everything else."""
        # What nobody has set is absent: an older peer takes no message with members that it does not know.
        body = message.model_dump_json(exclude_unset=True).encode()
        reason: Exception | None = None
        for _ in self._urls:
            try:
                async with self._session().post(self._urls[0] + path, data=body, allow_redirects=False) as response:
                    return _understood(response.status, await _body(response), answer)
            except aiohttp.ClientConnectorError as failure:
                reason = failure
                self._try_another_next()
            except (aiohttp.ClientError, TimeoutError) as failure:
                self._try_another_next()
                raise Unavailable(f"no answer: {failure!r}") from failure
        raise Unavailable(f"no connection: {reason!r}")

    def _session(self) -> aiohttp.ClientSession:
        if self._client is None:
            # Made here and not in __init__, because it belongs to the running event loop.
            self._client = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=8, keepalive_timeout=IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._client

    def _try_another_next(self) -> None:
        self._urls.append(self._urls.pop(0))


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ROUND_BYTES_MAX:
            raise Unavailable(f"no answer: more than {ROUND_BYTES_MAX} bytes")
    return bytes(body)


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
        return await self._peer.call(OUTCOMES_PATH, question_about(transactions, log_seen), Outcomes)

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions that are recorded by now; raises Unavailable."""
        return await self._peer.call(PEEK_PATH, question_about(transactions, log_seen), Outcomes)


def question_about(transactions: Sequence[InDoubt], log_seen: int) -> Question:
    """Return a question; a log that has told nothing of its counter is told nothing either."""
    return Question(transactions=list(transactions), **{"log_seen": log_seen} if log_seen else {})
