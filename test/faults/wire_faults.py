"""What a network, or a sick service, does to a message.

The faults that a link of the proxy may suffer.
"""

import asyncio
import json
import random
import re
import uuid

from faults.proxy import Exchange, Fault, body_of, untouched, with_body

_TRANSACTION_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_PIECE = b" " * 65536


async def dropped(exchange: Exchange) -> None:
    """Lose the request; the caller hears nothing."""
    await exchange.silence()


async def answer_dropped(exchange: Exchange) -> None:
    """Deliver the request and lose the answer; the caller hears nothing."""
    await exchange.forward()
    await exchange.silence()


async def cut_before_the_answer(exchange: Exchange) -> None:
    """Deliver the request and hang up."""
    await exchange.forward()


async def refused(_exchange: Exchange) -> None:
    """Hang up at once."""


async def repeated(exchange: Exchange) -> None:
    """Deliver the request three times, and the last answer."""
    await exchange.forward()
    await exchange.forward()
    await exchange.answer(await exchange.forward())


async def held(exchange: Exchange) -> None:
    """Deliver the request when the link is healed, long after its caller has gone."""
    await exchange.link.until_changed()
    await untouched(exchange)


async def jittery(exchange: Exchange) -> None:
    """Deliver requests out of their order: some at once, some after their callers have gone."""
    await asyncio.sleep(random.choice((0, 0.02, 0.3, 1.2)))
    await untouched(exchange)


async def decisions_lost(exchange: Exchange) -> None:
    """Let prepares pass, and lose the decisions that ride along with them, or travel alone."""
    body = json.loads(body_of(exchange.request))
    bare = json.dumps(body | {"aborts": [], "commits": []}).encode()
    await exchange.answer(await exchange.forward(with_body(exchange.request, bare)))


def delayed(seconds: float) -> Fault:
    """Deliver each request so late."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await untouched(exchange)

    return fault


def request_cut(count: int) -> Fault:
    """Deliver so many bytes of each request, and hang up on both sides."""

    async def fault(exchange: Exchange) -> None:
        _, writer = await exchange.link.connected()
        writer.write(exchange.request[:count])
        await writer.drain()
        writer.close()

    return fault


def answer_cut(count: int) -> Fault:
    """Deliver the request, and so many bytes of the answer before hanging up."""

    async def fault(exchange: Exchange) -> None:
        await exchange.answer((await exchange.forward())[:count])
        exchange.answered = False

    return fault


def answering(status: int, body: bytes = b"", headers: str = "") -> Fault:
    """Deliver nothing; answer with a status and a body of one's own."""
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(head.encode() + body)

    return fault


async def redirecting(exchange: Exchange) -> None:
    """Send the caller to the very service that it wanted."""
    path = exchange.request.split(b" ", 2)[1].decode()
    await answering(307, headers=f"Location: {exchange.link.target()}{path}\r\n")(exchange)


async def dripping(exchange: Exchange) -> None:
    """Deliver the request, and the answer one byte at a time."""
    for byte in await exchange.forward():
        await exchange.answer(bytes([byte]))
        await asyncio.sleep(0.05)


async def of_another_transaction(exchange: Exchange) -> None:
    """Deliver the request, and answer about transactions that nobody has asked about."""
    answer = await exchange.forward()
    await exchange.answer(_TRANSACTION_ID.sub(lambda _found: str(uuid.uuid4()).encode(), answer))


async def too_large(exchange: Exchange) -> None:
    """Deliver the request, and answer without an end, as fast as the caller reads."""
    await exchange.forward()
    await exchange.answer(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    )
    while True:
        await exchange.answer(_PIECE)


#: What a network does.
NETWORK: dict[str, Fault] = {
    "requests dropped": dropped,
    "answers dropped": answer_dropped,
    "delayed by 0.3 s": delayed(0.3),
    "delayed past the deadline": delayed(1.5),
    "repeated": repeated,
    "held": held,
    "reordered": jittery,
    "connections refused": refused,
    "requests cut after 100 bytes": request_cut(100),
    "answers cut after 40 bytes": answer_cut(40),
    "cut after the request and before the answer": cut_before_the_answer,
}
#: What a sick participant answers, or does not.
SICK: dict[str, Fault] = {
    "slow": delayed(1.5),
    "dripping": dripping,
    "hung": answer_dropped,
    "500": answering(500, b'{"status": 500}'),
    "404": answering(404, b'{"status": 404}'),
    "502": answering(502, b"<html>Bad Gateway</html>"),
    "garbage": answering(200, b"\x00\xff not JSON"),
    "truncated": answer_cut(150),
    "another transaction's body": of_another_transaction,
    "too large": too_large,
    "redirect": redirecting,
}
