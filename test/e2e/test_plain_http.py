"""What people expect of any HTTP server.

HEAD, bodies that are encoded, numbers of any length, names and keys of any script.
"""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from answers import assert_json, assert_problem
from given import Given
from running_shop import Shop
from shop import topology

CREATIONS = ["/payment/users", "/stock/products", "/delivery/slots", "/orders"]


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


LONG = "1" + "0" * 4300


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


@pytest.mark.parametrize("service", [service.name for service in topology.SERVICES])
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
