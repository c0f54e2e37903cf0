"""What counts as an answer from a peer (R6), tried with servers that answer anything but a ballot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from pydantic import SecretStr

from shop.local.ports import Ports
from two_phase.errors import Unavailable
from two_phase.http.client import HttpTransport, Peer
from two_phase.messages import ROUND_BYTES_MAX, Ballot, Round

KEY = SecretStr("k" * 32)
BALLOT = Ballot().model_dump_json().encode()


class Server:
    """Answers each request with the same bytes and hangs up, or says nothing at all until its client hangs up."""

    def __init__(self, answer: bytes | None, pause_seconds: float = 0) -> None:
        self.answer = answer
        self.pause_seconds = pause_seconds
        self.heads: list[str] = []
        self.url = ""
        self.serving: list[Any] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        """Serve inside the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.current_task())
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await self._say(self.answer, reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _say(
        self, answer: bytes | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if answer is None:
            await reader.read()
        elif not self.pause_seconds:
            writer.write(answer)
        else:
            for byte in answer:
                writer.write(bytes([byte]))
                await asyncio.sleep(self.pause_seconds)


def reply(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """Return an HTTP answer; ``length`` is what it claims to be long."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


async def ask(*urls: str, timeout_seconds: float = 5) -> Ballot:
    """Send an empty round to the first of ``urls`` that can be reached."""
    peer = Peer(urls, KEY, timeout_seconds=timeout_seconds)
    try:
        return await HttpTransport(peer).send(Round(generation=1))
    finally:
        await peer.close()


async def test_a_well_formed_ballot_is_an_answer_and_the_key_travels_with_the_question() -> None:
    """The one answer that counts."""
    async with Server(reply(BALLOT)).running() as server:
        assert await ask(server.url) == Ballot()

    assert f"Authorization: Bearer {KEY.get_secret_value()}" in server.heads[0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            reply(BALLOT, "500 Internal Server Error"), id="a failure with a ballot as its body"
        ),
        pytest.param(reply(BALLOT, "404 Not Found"), id="not found"),
        pytest.param(reply(BALLOT, "201 Created"), id="another success"),
        pytest.param(reply(b"<html>all is well</html>"), id="garbage"),
        pytest.param(reply(BALLOT[:-2], length=len(BALLOT)), id="truncated by a lost connection"),
        pytest.param(reply(BALLOT[:-2]), id="truncated by its sender"),
        pytest.param(reply(BALLOT.replace(b'"version":1', b'"version":2')), id="another version"),
        pytest.param(reply(b'{"votes":"yes"}'), id="another shape"),
        pytest.param(b"not even HTTP\r\n\r\n", id="another protocol"),
        pytest.param(b"", id="a closed connection"),
    ],
)
async def test_anything_else_is_no_answer(answer: bytes) -> None:
    """R6: a vote is read from a positive, well-formed body or not at all."""
    async with Server(answer).running() as server:
        with pytest.raises(Unavailable):
            await ask(server.url)

        assert len(server.heads) == 1


async def test_an_endless_answer_is_given_up() -> None:
    """R13: a limit on everything, also on what a peer may say."""
    async with Server(reply(b" " * (ROUND_BYTES_MAX + 1) + BALLOT)).running() as server:
        with pytest.raises(Unavailable, match="more than"):
            await ask(server.url)


async def test_a_redirect_is_not_followed() -> None:
    """The round and its key stay with whom they were sent to."""
    async with Server(reply(BALLOT)).running() as elsewhere:
        answer = reply(
            b"", "307 Temporary Redirect", f"Location: {elsewhere.url}/two-phase/v1/round"
        )
        async with Server(answer).running() as server:
            with pytest.raises(Unavailable):
                await ask(server.url)

        assert elsewhere.heads == []


async def test_silence_ends_at_the_time_limit() -> None:
    """R7: who waits for ever holds up everybody."""
    async with Server(None).running() as server:
        with pytest.raises(Unavailable):
            await ask(server.url, timeout_seconds=0.1)


async def test_an_answer_that_drips_is_none_when_the_time_limit_has_passed() -> None:
    """The limit is that of the whole answer.

    Each byte comes in time, and the last would come in half a minute.
    """
    async with Server(reply(BALLOT), pause_seconds=0.2).running() as server, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await ask(server.url, timeout_seconds=0.5)
        for task in server.serving:
            task.cancel()


async def test_another_replica_is_asked_only_where_no_connection_could_be_made() -> None:
    """A round that may have arrived is not sent to a second replica.

    Its silence is for the caller to judge.
    """
    nobody = "http://127.0.0.1:{}"
    with Ports() as ports:
        port = ports.reserve()
    async with Server(reply(BALLOT)).running() as other:
        assert await ask(nobody.format(port), other.url) == Ballot()
        async with Server(b"").running() as broken:
            with pytest.raises(Unavailable):
                await ask(broken.url, other.url)

        assert len(other.heads) == 1
