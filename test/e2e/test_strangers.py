"""No client ever hears the answer to another client's request, whatever the others send.

The gateway keeps its connections to the services, so that an answer too many on one of them would
go to whichever client comes next.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest

from given import Given
from running_shop import Shop

UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
VICTIMS, VISITS = 12, 25


class Wire:
    """A connection on which every byte is ours."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, start: str, headers: str, *pieces: bytes) -> None:
        """Send a request whose body is ``pieces``, each in a packet of its own behind the head."""
        lines = [
            start,
            "Host: x",
            "Content-Type: application/json",
            f"Content-Length: {len(b''.join(pieces))}",
            headers,
        ]
        self.socket.sendall("\r\n".join([line for line in lines if line] + ["", ""]).encode())
        for piece in pieces:
            self.socket.sendall(piece)

    def answer(self) -> tuple[int, str]:
        """Return the status and the body of the next answer."""
        status = int(self.file.readline().split()[1])
        length = 0
        while (line := self.file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return status, self.file.read(length).decode()


def listeners(shop: Shop) -> Iterator[tuple[str, str, str, str]]:
    """Yield address, path that takes POST, header, and path that takes GET of each listener of each service."""
    posts = {
        "order": "/orders",
        "payment": "/payment/users",
        "stock": "/stock/products",
        "delivery": "/delivery/slots",
    }
    secrets = json.loads((shop.data / "secrets.json").read_text())
    for name, urls in shop.services().items():
        prefix = "" if name == "order" else f"/{name}"
        yield urlsplit(urls["public"]).netloc, posts[name], "", f"{prefix}/health/live"
        path, pair = ("outcomes", "payment") if name == "order" else ("round", name)
        key = f"Authorization: Bearer {secrets[f'{pair}_key']}"
        yield urlsplit(urls["internal"]).netloc, f"/two-phase/v1/{path}", key, "/metrics"


@pytest.fixture(scope="module", params=["on", "off"])
def either_shop(
    request: pytest.FixtureRequest, shop: Shop, start_shop: Callable[..., Shop]
) -> Iterator[Shop]:
    """Return a shop with the fast path, and one without."""
    if request.param == "on":
        yield shop
        return
    without = start_shop(FAST_PATH="off")
    yield without
    without.stop()


@pytest.mark.parametrize(
    "upgrade", [UPGRADE, "connection: upgrade\r\nupgrade: websocket"], ids=["h2c", "websocket"]
)
def test_a_listener_reads_the_body_behind_an_upgrade(either_shop: Shop, upgrade: str) -> None:
    """All eight answer the request as if it asked for nothing else, and then the next one on the same connection."""
    tried = list(listeners(either_shop))
    for address, post, key, get in tried:
        for pieces in ([b'{"unknown": 1}'], [b'{"unknown":', b" 1}"]):
            with Wire(address) as plain, Wire(address) as wire:
                plain.send(f"POST {post} HTTP/1.1", key, *pieces)
                wire.send(
                    f"POST {post} HTTP/1.1", "\r\n".join(filter(None, (upgrade, key))), *pieces
                )
                status, body = wire.answer()
                assert (status, body) == plain.answer()
                assert "unknown" in body
                wire.send(f"GET {get} HTTP/1.1", upgrade)
                status, body = wire.answer()
                assert (status, "{" in body) == (200, True)

    assert len(tried) == 8


def test_an_account_is_created_by_a_client_that_would_rather_speak_http_2(shop: Shop) -> None:
    """What `curl --http2 --json` and Java's client send by default."""
    with Wire(shop.address) as wire:
        wire.send("POST /payment/users HTTP/1.1", UPGRADE, b'{"name": "c",', b' "balance": 1}')
        status, body = wire.answer()

    assert (status, json.loads(body)["name"]) == (201, "c")


def _attacks(own: dict[str, Any]) -> list[tuple[str, str, list[bytes]]]:
    path = f"/payment/users/{own['user_id']}"
    hidden = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    users, deposits = "/payment/users", f"{path}/deposits"
    return [
        (f"POST {users} HTTP/1.1", UPGRADE, [hidden]),
        (f"POST {users} HTTP/1.1", UPGRADE, [b"", hidden, hidden]),
        (f"POST {deposits} HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket", [hidden]),
        (f"GET {path} HTTP/1.1", UPGRADE, [hidden]),
        (f"PUT {path} HTTP/1.1", "Connection: upgrade\r\nUpgrade: foo/2", [hidden, hidden]),
        (f"POST {users} HTTP/1.1", "Expect: 100-continue", [hidden]),
        (f"POST /payment{path} HTTP/1.1", "", [hidden, hidden]),
        (f"CONNECT {path} HTTP/1.1", "", [hidden]),
        ("POST /orders HTTP/1.1", UPGRADE, [hidden]),
        (f"DELETE {users} HTTP/1.1", UPGRADE, [hidden]),
    ]


def test_no_client_is_answered_with_a_strangers_account(either_shop: Shop) -> None:
    """Victims look after their accounts and orders while attackers leave bodies that look like requests."""
    address = either_shop.address
    with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
        attacker = Given(client).user(balance=1)
    over = threading.Event()
    errors: list[str] = []

    def attack() -> None:
        while not over.is_set():
            for start, headers, pieces in _attacks(attacker):
                with contextlib.suppress(OSError, IndexError, ValueError), Wire(address) as wire:
                    wire.send(start, headers, *pieces)
                    wire.answer()

    def visit(number: int) -> None:
        with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
            account = Given(client).user(balance=1000 + number)
            path = f"/payment/users/{account['user_id']}"
            for turn in range(VISITS):
                seen = client.get(path)
                if seen.json().get("user_id") != account["user_id"]:
                    errors.append(f"account {account['user_id']}: {seen.text}")
                added = client.post(
                    f"{path}/deposits",
                    json={"amount": 1},
                    headers={"Idempotency-Key": f"{number}-{turn}"},
                )
                if (added.status_code, added.json().get("balance")) != (201, 1001 + number + turn):
                    errors.append(
                        f"deposit {turn} of {account['user_id']}: {added.status_code} {added.text}"
                    )

    with ThreadPoolExecutor(VICTIMS + 4) as pool:
        attackers = [pool.submit(attack) for _ in range(4)]
        victims = [pool.submit(visit, number) for number in range(VICTIMS)]
        try:
            for each in victims:
                each.result(90)
        finally:
            over.set()
        for each in attackers:
            each.result(30)

    assert not errors
