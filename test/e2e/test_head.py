"""HEAD is answered like GET, without the body, on every page."""

import socket

import httpx
import pytest

from given import Given
from running_shop import Shop

PUBLIC = {
    "order": [
        "/",
        "/docs",
        "/openapi.json",
        "/health/live",
        "/health/ready",
        "/orders",
        "/orders?limit=0",
        "/nothing",
    ],
    "payment": [
        "/payment/docs",
        "/payment/openapi.json",
        "/payment/health/live",
        "/payment/health/ready",
    ],
    "stock": [
        "/stock/docs",
        "/stock/openapi.json",
        "/stock/health/live",
        "/stock/health/ready",
        "/stock/products",
    ],
    "delivery": [
        "/delivery/docs",
        "/delivery/openapi.json",
        "/delivery/health/live",
        "/delivery/health/ready",
    ],
}


INTERNAL = [
    "/metrics",
    "/two-phase/v1/branches?limit=1",
    "/two-phase/v1/decisions?limit=1",
    "/nothing",
]


def exchange(address: str, method: str, path: str) -> tuple[bytes, bytes]:
    """Return the head and the body of an answer as they came over the wire, to the end of the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection(
        (host.removeprefix("http://"), int(port)), timeout=10
    ) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def assert_head_is_get_without_a_body(address: str, path: str) -> None:
    """Check that HEAD has the very status line and headers of GET."""
    head, body = exchange(address, "GET", path)
    assert body

    # The length of the metrics differs from one look to the next.
    without = [
        line
        for line in head.splitlines()
        if path != "/metrics" or not line.lower().startswith(b"content-length")
    ]
    asked, nothing = exchange(address, "HEAD", path)
    seen = [
        line
        for line in asked.splitlines()
        if path != "/metrics" or not line.lower().startswith(b"content-length")
    ]
    assert sorted(seen) == sorted(without)
    assert b"content-length:" in asked.lower()
    assert nothing == b""


@pytest.mark.parametrize(
    ("service", "path"), [(service, path) for service, paths in PUBLIC.items() for path in paths]
)
def test_head_is_answered_like_get(shop: Shop, service: str, path: str) -> None:
    """Every page that GET shows, HEAD describes: at the service itself and through the gateway."""
    assert_head_is_get_without_a_body(shop.listener(service), path)
    assert exchange(shop.address, "HEAD", path)[1] == b""
    assert (
        exchange(shop.address, "HEAD", path)[0].split()[1]
        == exchange(shop.address, "GET", path)[0].split()[1]
    )


@pytest.mark.parametrize("service", PUBLIC)
@pytest.mark.parametrize("path", INTERNAL)
def test_head_is_answered_like_get_on_the_internal_port(
    shop: Shop, service: str, path: str
) -> None:
    """The internal port is no exception, whether the caller is let in or not."""
    assert_head_is_get_without_a_body(shop.services()[service]["internal"], path)


def test_head_finds_what_was_created(client: httpx.Client, given: Given) -> None:
    """A single account, product, slot and order, and a statement."""
    body = given.order_body()
    order = client.post("/orders", json=body).headers["location"]
    user = f"/payment/users/{body['user_id']}"
    product, slot = (
        f"/stock/products/{body['items'][0]['product_id']}",
        f"/delivery/slots/{body['slot_id']}",
    )

    for path in (order, user, f"{user}/statement", product, slot):
        get, head = client.get(path), client.head(path)
        assert head.status_code == get.status_code == 200
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.content == b""
