"""What people expect of any HTTP server.

HEAD, bodies that are encoded, numbers of any length, names and keys of any script.
"""

import gzip
import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from answers import assert_json, assert_problem
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
CREATIONS = ["/payment/users", "/stock/products", "/delivery/slots", "/orders"]
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()
LONG = "1" + "0" * 4300


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


@pytest.mark.parametrize("path", CREATIONS)
@pytest.mark.parametrize(
    "coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "GZIP", "nonsense"]
)
def test_encoded_body_is_not_taken(client: httpx.Client, path: str, coding: str) -> None:
    """An encoded body is 415, which says what would be taken.

    It was called malformed JSON before.
    """
    body = gzip.compress(b'{"name":"Ivan"}')

    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = client.post(path, content=body, headers=headers)

    assert_problem(response, 415, "unsupported_media_type")
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_body_that_is_called_not_encoded_is_taken(client: httpx.Client, coding: str) -> None:
    """Identity is no encoding."""
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}

    assert_json(client.post("/payment/users", content=b'{"name":"Ivan"}', headers=headers), 201)


@pytest.mark.parametrize("service", PUBLIC)
def test_encoded_round_is_not_taken(shop: Shop, service: str) -> None:
    """The internal port takes no encoded message either, once the caller is known."""
    keys = json.loads((shop.data / "secrets.json").read_text())
    key = keys["payment_key"] if service == "order" else keys[f"{service}_key"]
    path = "peek" if service == "order" else "round"
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
    }

    response = httpx.post(
        f"{shop.services()[service]['internal']}/two-phase/v1/{path}",
        content=gzip.compress(b"{}"),
        headers=headers,
    )

    assert_problem(response, 415, "unsupported_media_type")


INTEGERS: list[tuple[str, str, str]] = [
    ("/payment/users", "balance", '{{"name":"Ivan","balance":{value}}}'),
    ("/payment/users", "name", '{{"name":{value}}}'),
    ("/stock/products", "price", '{{"name":"apple","price":{value},"quantity":1}}'),
    ("/delivery/slots", "starts_at", '{{"starts_at":{value},"couriers":[]}}'),
    (
        "/orders",
        "user_id",
        '{{"user_id":{value},"items":[{{"product_id":1,"quantity":1}}],"slot_id":1}}',
    ),
    (
        "/orders",
        "items.0.quantity",
        '{{"user_id":1,"items":[{{"product_id":1,"quantity":{value}}}],"slot_id":1}}',
    ),
]


@pytest.mark.parametrize(
    "value", [LONG[:4300], LONG, f"-{LONG}", LONG * 10, f"{LONG}.5", "1e999", "-1e999", f"1e{LONG}"]
)
@pytest.mark.parametrize(("path", "field", "body"), INTEGERS)
def test_number_of_any_length_is_refused_by_its_field(
    client: httpx.Client, path: str, field: str, body: str, value: str
) -> None:
    """A number is JSON however many digits it has, so that the field's rule answers and not the parser's limit."""
    headers = {"Content-Type": "application/json"}

    problem = assert_problem(
        client.post(path, content=body.format(value=value), headers=headers), 422, "invalid"
    )

    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    "path", ["/orders?limit=", "/orders?user_id=", "/stock/products?limit=", "/payment/users/"]
)
@pytest.mark.parametrize("value", [LONG[:4300], LONG, f"-{LONG}", "1e999", "NaN", "Infinity"])
def test_parameter_of_any_length_is_refused(client: httpx.Client, path: str, value: str) -> None:
    """What stands in a path or a query may be as long."""
    assert_problem(client.get(path + value), 422, "invalid")


BLANK = {
    "blank": " ",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "zero width space": "\u200b",
    "zero width joiners": "\u200c\u200d",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "direction marks": "\u200e\u202e",
    "line separator": "\u2028",
    "hangul filler": "\u3164",
    "combining grapheme joiner": "\u034f",
    "variation selector": "\ufe0f",
    "tag": "\U000e0041",
    "braille blank": "\u2800",
    "all of them": " \u200b\u00a0\ufe0f ",
}
NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("/payment/users", {}, "name"),
    ("/stock/products", {"price": 1, "quantity": 1}, "name"),
    ("/delivery/slots", {"starts_at": TOMORROW}, "couriers"),
]


@pytest.mark.parametrize("name", BLANK.values(), ids=BLANK.keys())
@pytest.mark.parametrize(("path", "body", "field"), NAMED)
def test_name_that_cannot_be_seen_is_refused(
    client: httpx.Client, path: str, body: dict[str, Any], field: str, name: str
) -> None:
    """A name has a character at least that is on paper."""
    problem = assert_problem(
        client.post(path, json={**body, field: [name] if field == "couriers" else name}),
        422,
        "invalid",
    )

    assert [error["field"] for error in problem["errors"]] == [
        "couriers.0" if field == "couriers" else field
    ]


@pytest.mark.parametrize("name", ["می‌خواهم", "👩‍👧", "❤️", " Ivan ", "0", "Ж", "한", "e\u0301", "-"])
def test_name_with_signs_that_cannot_be_seen_is_taken_as_it_is(
    client: httpx.Client, name: str
) -> None:
    """Joiners, selectors and blanks belong to names of many scripts."""
    assert assert_json(client.post("/payment/users", json={"name": name}), 201)["name"] == name


def keyed_calls(given: Given) -> dict[str, Any]:
    """Return every call that takes a key, with its body."""
    return {
        "/orders": given.order_body(),
        f"/payment/users/{given.user()['user_id']}/deposits": {"amount": 1},
        f"/stock/products/{given.product()['product_id']}/restocks": {"quantity": 1},
    }


@pytest.mark.parametrize("key", ["", "k" * 256, "заказ", "schlüssel", "a\tb", "a\u0085", "\u00a0"])
def test_key_that_is_not_printable_ascii_is_refused(
    client: httpx.Client, given: Given, key: str
) -> None:
    """One rule for all keys, whatever the bytes look like in another encoding."""
    for path, body in keyed_calls(given).items():
        for encoded in {key.encode(), key.encode("latin-1", "replace")} - {b"?" * len(key)}:
            response = client.post(path, json=body, headers=[(b"Idempotency-Key", encoded)])
            problem = assert_problem(response, 422, "invalid")
            assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]


@pytest.mark.parametrize("second", ["one", "two"])
def test_two_keys_are_refused(client: httpx.Client, given: Given, second: str) -> None:
    """Neither the first nor the last of two keys is meant, even where they are the same."""
    for path, body in keyed_calls(given).items():
        response = client.post(
            path, json=body, headers=[("Idempotency-Key", "one"), ("idempotency-key", second)]
        )
        assert_problem(response, 422, "invalid")


@pytest.mark.parametrize("key", ["k", "~" * 255, '"quoted"', "a b", "!#$%&'*+-./:;<=>?@[]^_`{|}"])
def test_key_of_any_printable_ascii_is_taken(client: httpx.Client, given: Given, key: str) -> None:
    """A key is opaque."""
    for path, body in keyed_calls(given).items():
        first, again = [
            client.post(path, json=body, headers={"Idempotency-Key": key}) for _ in range(2)
        ]
        assert first.status_code == again.status_code == 201
        assert first.json() == again.json()
