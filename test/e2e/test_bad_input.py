"""Bad input gets a problem that names the field and the rule, nothing is written, and it is never a 500."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from answers import MAX_INTEGER, assert_json, assert_problem
from e2e.bad_values import CALLS, CASES, REQUIRED, TOMORROW
from given import Given

BODY_BYTES_MAX = 65_536


#: Creations may be of many at once.
LIST_BYTES_MAX = 1024 * 1024


CREATIONS = ("users", "products", "slots")


@dataclass(frozen=True)
class Call:
    """One call of the contract that takes a body.

    Its valid ``body``, and a watch over what it would write.
    """

    method: str
    path: str
    body: dict[str, Any]
    writes_nothing: Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def calls(client: httpx.Client, given: Given) -> dict[str, Call]:
    """Return all calls that take a body, by name."""
    user, product = (
        f"/payment/users/{given.user()['user_id']}",
        f"/stock/products/{given.product()['product_id']}",
    )
    order = given.order_body()

    @contextmanager
    def unchanged(*paths: str) -> Iterator[None]:
        """What these paths show is the same afterwards."""
        before = [client.get(path).json() for path in paths]
        yield
        assert [client.get(path).json() for path in paths] == before

    @contextmanager
    def nobody_new(make: Callable[[], dict[str, Any]], path: str, name: str) -> Iterator[None]:
        """Between one made before and one made after there is none."""
        first = make()[name]
        yield
        between = range(first + 1, make()[name])
        assert [
            number for number in between if client.get(f"{path}/{number}").status_code != 404
        ] == []

    @contextmanager
    def nothing_ordered() -> Iterator[None]:
        """No order is recorded, and all that an order takes is there."""
        before = given.state_of(order)
        with unchanged("/orders?limit=1"):
            yield
        assert given.state_of(order) == before

    new_user = {"name": "Ivan", "balance": 1}
    new_product = {"name": "apple", "price": 10, "quantity": 1}
    new_slot = {"starts_at": TOMORROW, "couriers": ["Olga"]}
    no_user = partial(nobody_new, given.user, "/payment/users", "user_id")
    no_product = partial(nobody_new, given.product, "/stock/products", "product_id")
    no_slot = partial(nobody_new, given.slot, "/delivery/slots", "slot_id")
    return {
        "users": Call("POST", "/payment/users", new_user, no_user),
        "deposits": Call(
            "POST", f"{user}/deposits", {"amount": 1}, partial(unchanged, user, f"{user}/statement")
        ),
        "products": Call("POST", "/stock/products", new_product, no_product),
        "price": Call("PATCH", product, {"price": 1}, partial(unchanged, product)),
        "restocks": Call(
            "POST", f"{product}/restocks", {"quantity": 1}, partial(unchanged, product)
        ),
        "slots": Call("POST", "/delivery/slots", new_slot, no_slot),
        "orders": Call("POST", "/orders", order, nothing_ordered),
    }


@pytest.fixture
def call(calls: dict[str, Call], name: str) -> Iterator[Call]:
    """Return the call called ``name``, and check afterwards that nothing was written."""
    with calls[name].writes_nothing():
        yield calls[name]


def send(client: httpx.Client, call: Call, body: str | bytes, **headers: str) -> httpx.Response:
    """Send ``body`` as it stands, as JSON unless ``headers`` say otherwise."""
    sent = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return client.request(call.method, call.path, content=body, headers=sent)


def assert_invalid(response: httpx.Response, field: str) -> None:
    """Check that the answer is a 422 that names ``field`` and a rule."""
    problem = assert_problem(response, 422, "invalid")
    assert field in [error["field"] for error in problem["errors"]]
    assert all(
        error["message"] and set(error) == {"field", "message"} for error in problem["errors"]
    )


def with_value(body: dict[str, Any], field: str, value: str) -> str:
    """Return ``body`` as JSON, with ``value`` in the place of ``field``."""
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    changed = json.loads(json.dumps(body))
    place = changed
    for part in parents:
        place = place[part]
    place[last] = "the value"
    return json.dumps(changed).replace('"the value"', value)


@pytest.mark.parametrize(("name", "field", "value"), CASES)
def test_bad_value_is_refused_by_the_name_of_its_field(
    client: httpx.Client, call: Call, field: str, value: str
) -> None:
    """Negative, zero, huge, fractional, non-numeric, too long, unprintable, past.

    Each is a 422 that says which field.
    """
    assert_invalid(send(client, call, with_value(call.body, field, value)), field)


@pytest.mark.parametrize(("name", "field"), REQUIRED)
def test_missing_field_is_refused_by_name(client: httpx.Client, call: Call, field: str) -> None:
    """What is required is asked for by name."""
    body = json.loads(with_value(call.body, field, "null"))
    place = body
    for part in field.split(".")[:-1]:
        place = place[int(part) if part.isdigit() else part]
    del place[field.rsplit(".", maxsplit=1)[-1]]

    assert_invalid(send(client, call, json.dumps(body)), field)


@pytest.mark.parametrize("name", CALLS)
def test_unknown_field_is_refused_by_name(client: httpx.Client, call: Call) -> None:
    """Bodies are strict: a field that nobody knows is a mistake, not a decoration."""
    assert_invalid(send(client, call, json.dumps(call.body | {"colour": "red"})), "colour")


@pytest.mark.parametrize("name", CALLS)
def test_field_that_stands_twice_is_refused_by_name(client: httpx.Client, call: Call) -> None:
    """Two values for one field are no value: nobody may read the first and another the last."""
    field, value = next(iter(call.body.items()))
    body = json.dumps(call.body)

    assert_invalid(
        send(client, call, f"{body[:-1]}, {json.dumps(field)}: {json.dumps(value)}}}"), field
    )


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "null", "true"])
@pytest.mark.parametrize("name", CALLS)
def test_body_that_is_no_object_is_invalid(client: httpx.Client, call: Call, body: str) -> None:
    """JSON of another kind is understood and refused."""
    assert_problem(send(client, call, body), 422, "invalid")


MALFORMED = {
    "empty": b"",
    "cut off": b'{"name": ',
    "single quotes": b"{'name': 'Ivan'}",
    "two values": b"{} {}",
    "NaN": b'{"balance": NaN}',
    "infinity": b'{"balance": -Infinity}',
    "not UTF-8": b'{"name": "\xff\xfe\xfd"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "bottomless": b"[" * 30_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("name", CALLS)
def test_malformed_json_is_a_bad_request(client: httpx.Client, call: Call, body: bytes) -> None:
    """What is not JSON at all is a 400."""
    assert_problem(send(client, call, body), 400, "malformed")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]
)
@pytest.mark.parametrize("name", CALLS)
def test_body_that_is_not_called_json_is_not_read(
    client: httpx.Client, call: Call, content_type: str
) -> None:
    """A wrong content type, or none, is a 415 even where the body would do."""
    response = send(client, call, json.dumps(call.body), Content_Type=content_type)

    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("size", [1, 1024 * 1024])
@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_body_over_the_limit_is_too_large(
    client: httpx.Client, call: Call, name: str, size: int, *, in_chunks: bool
) -> None:
    """A body over 64 KiB, or 1 MiB for a creation, is a 413, whether its length was announced or not."""
    limit = LIST_BYTES_MAX if name in CREATIONS else BODY_BYTES_MAX
    body = json.dumps(call.body).encode().ljust(limit + size)
    content = iter([body[:1000], body[1000:]]) if in_chunks else body

    response = client.request(
        call.method, call.path, content=content, headers={"Content-Type": "application/json"}
    )

    assert_problem(response, 413, "too_large")


def test_body_of_the_very_limit_is_read(client: httpx.Client) -> None:
    """1 MiB is allowed for a creation, in any name for JSON."""
    body = json.dumps({"name": "Ivan"}).encode().ljust(LIST_BYTES_MAX)

    response = client.post(
        "/payment/users", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )

    assert_json(response, 201)


def test_longest_names_and_largest_numbers_are_accepted(client: httpx.Client) -> None:
    """The limits themselves are allowed: 200 characters of any script, 2^53 - 1, 1,000 couriers."""
    user = assert_json(
        client.post("/payment/users", json={"name": "Ж" * 199 + "🍎", "balance": MAX_INTEGER}), 201
    )
    product = {"name": "x" * 200, "price": MAX_INTEGER, "quantity": MAX_INTEGER}
    slot = {"starts_at": TOMORROW, "couriers": ["Ольга"] * 1000}

    assert user["name"] == "Ж" * 199 + "🍎"
    assert assert_json(client.post("/stock/products", json=product), 201).items() >= product.items()
    assert assert_json(client.post("/delivery/slots", json=slot), 201)["available"] == 1000


@pytest.mark.parametrize("name", ["orders"])
def test_order_of_more_than_a_hundred_items_is_refused(client: httpx.Client, call: Call) -> None:
    """101 lines are one too many, even for one and the same product."""
    assert_invalid(
        send(client, call, json.dumps(call.body | {"items": call.body["items"] * 101})), "items"
    )


@pytest.mark.parametrize("name", ["orders"])
def test_lines_of_one_product_must_not_sum_past_the_largest_number(
    client: httpx.Client, call: Call
) -> None:
    """Each line may be allowed, and their sum not."""
    (item,) = call.body["items"]
    items = [item | {"quantity": MAX_INTEGER}, item]

    assert_invalid(send(client, call, json.dumps(call.body | {"items": items})), "items")


@pytest.mark.parametrize("key", ["k" * 256, "k" * 4000, ""])
@pytest.mark.parametrize("name", ["users", "deposits", "products", "restocks", "slots", "orders"])
def test_idempotency_key_of_a_wrong_length_is_refused(
    client: httpx.Client, call: Call, key: str
) -> None:
    """A key has 1 to 255 characters."""
    assert_invalid(
        send(client, call, json.dumps(call.body), Idempotency_Key=key), "Idempotency-Key"
    )
