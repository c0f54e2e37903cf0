"""Lists come a page at a time, and what is asked for in a path or a query is checked like a body."""

import base64
import json
from typing import Any

import httpx
import pytest

from answers import MAX_INTEGER, assert_json, assert_problem
from given import Given


def pages(client: httpx.Client, path: str, limit: int, **query: Any) -> list[list[dict[str, Any]]]:
    """Return all pages of a list."""
    found, cursor = [], {}
    while True:
        page = assert_json(client.get(path, params={"limit": limit, **query, **cursor}), 200)
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_orders_come_in_pages_without_gap_or_repetition(client: httpx.Client, given: Given) -> None:
    """Five orders by two: 2, 2, 1, the newest first, and the last page says that it is the last."""
    order = given.order_body(balance=20, price=10)
    placed = [client.post("/orders", json=order).json()["order_id"] for _ in range(5)]

    found = pages(client, "/orders", 2, user_id=order["user_id"])

    assert [len(page) for page in found] == [2, 2, 1]
    assert [item["order_id"] for page in found for item in page] == placed[::-1]


def test_statement_comes_in_pages_without_gap_or_repetition(
    client: httpx.Client, given: Given
) -> None:
    """Payments and deposits share the pages, the newest first."""
    order = given.order_body(balance=30, price=10)
    path = f"/payment/users/{order['user_id']}"
    deposits = [
        client.post(f"{path}/deposits", json={"amount": amount}).json()["deposit_id"]
        for amount in (1, 2)
    ]
    placed = [client.post("/orders", json=order).json()["order_id"] for _ in range(2)]

    found = pages(client, f"{path}/statement", 1)

    assert [len(page) for page in found] == [1, 1, 1, 1]
    entries = [item.get("order_id") or item["deposit_id"] for page in found for item in page]
    assert entries == placed[::-1] + deposits[::-1]


@pytest.mark.parametrize(
    ("path", "make", "name"),
    [("/stock/products", "product", "product_id"), ("/delivery/slots", "slot", "slot_id")],
)
def test_products_and_slots_come_in_pages_without_gap_or_repetition(
    client: httpx.Client, given: Given, path: str, make: str, name: str
) -> None:
    """Every product and every slot is on exactly one page, as it is when looked at alone."""
    made = [getattr(given, make)() for _ in range(3)]

    found = [item for page in pages(client, path, 100) for item in page]

    ids = [item[name] for item in found]
    assert len(ids) == len(set(ids))
    assert [item for item in found if item[name] >= made[0][name]] == made


def test_page_has_twenty_items_unless_asked_otherwise(client: httpx.Client, given: Given) -> None:
    """The default limit is 20."""
    order = given.order_body(balance=0)
    for _ in range(21):
        assert client.post("/orders", json=order).status_code == 409

    page = client.get("/orders", params={"user_id": order["user_id"]}).json()

    assert len(page["items"]) == 20
    assert page["next_cursor"]


LISTS = ["/orders", "/payment/users", "/stock/products", "/delivery/slots", "statement"]
BAD_QUERIES = [
    ("limit", "0"),
    ("limit", "-1"),
    ("limit", "1001"),
    ("limit", str(2**64)),
    ("limit", "ten"),
    ("limit", "1.5"),
    ("limit", "1.0"),
    ("limit", "+1"),
    ("limit", "1_0"),
    ("limit", ""),
    ("cursor", "nonsense"),
    ("cursor", ""),
    ("cursor", "\x00"),
    ("cursor", "c" * 300),
    ("cursor", "bnVsbA"),  # null
    ("cursor", "dHJ1ZQ"),  # true
    ("cursor", "LTE"),  # -1
    ("cursor", "OTIyMzM3MjAzNjg1NDc3NTgwOA"),  # past BIGINT
    ("cursor", "IlxkODAwIg"),  # malformed JSON
    ("cursor", "IlxuXHUwMDAwIg"),  # a string with a NUL
    ("colour", "red"),
]


@pytest.mark.parametrize(("parameter", "value"), BAD_QUERIES)
@pytest.mark.parametrize("path", LISTS)
def test_bad_query_is_refused_by_the_name_of_its_parameter(
    client: httpx.Client, given: Given, path: str, parameter: str, value: str
) -> None:
    """A limit outside 1 to 1,000, a cursor that no list gave out, a parameter that nobody knows.

    Each is a 422.
    """
    if path == "statement":
        path = f"/payment/users/{given.user()['user_id']}/statement"

    problem = assert_problem(client.get(path, params={parameter: value}), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("user_id", "0"),
        ("user_id", "-1"),
        ("user_id", "x"),
        ("user_id", str(2**53)),
        ("status", "pending"),
        ("status", ""),
    ],
)
def test_bad_filter_of_orders_is_refused_by_name(
    client: httpx.Client, parameter: str, value: str
) -> None:
    """What can match nothing is a mistake, not an empty list."""
    problem = assert_problem(client.get("/orders", params={parameter: value}), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize(
    "position",
    [
        "2026-01-01T00:00:00+00:00 \x00",
        "2026-01-01T00:00:00+00:00 \ud800",
        "9999-12-31T23:59:59-23:59 1",
        "yesterday 1",
        "2026-01-01T00:00:00+00:00",
    ],
)
def test_statement_cursor_that_was_made_up_is_refused(
    client: httpx.Client, given: Given, position: str
) -> None:
    """A cursor is opaque but not secret.

    One made by hand must not reach the database as it stands.
    """
    made_up = base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")

    response = client.get(
        f"/payment/users/{given.user()['user_id']}/statement", params={"cursor": made_up}
    )

    assert_problem(response, 422, "invalid")


def test_cursor_of_another_list_is_refused(client: httpx.Client, given: Given) -> None:
    """A cursor belongs to the list that gave it out: an order's means nothing to products."""
    order = given.order_body(balance=0)
    for _ in range(2):
        client.post("/orders", json=order)
    cursor = client.get("/orders", params={"limit": 1}).json()["next_cursor"]

    assert_problem(client.get("/stock/products", params={"cursor": cursor}), 422, "invalid")


BAD_IDS = [
    "0",
    "-1",
    "abc",
    "1.5",
    "1e3",
    str(MAX_INTEGER + 1),
    str(2**63),
    "9" * 5000,
    "%00",
    "%ff",
    "%D9%A1",
    "1_0",
    "%2B1",
    "%201",
]


@pytest.mark.parametrize("bad", BAD_IDS, ids=[bad[:20] for bad in BAD_IDS])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/payment/users", "user_id"),
        ("/stock/products", "product_id"),
        ("/delivery/slots", "slot_id"),
    ],
)
def test_id_that_is_no_id_is_refused(client: httpx.Client, path: str, field: str, bad: str) -> None:
    """Ids are 1 to 2^53 - 1, in plain digits."""
    problem = assert_problem(client.get(f"{path}/{bad}"), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("bad", ["1", "abc", "00000000-0000-0000-0000-00000000000", "%00", "%ff"])
def test_order_id_that_is_no_uuid_is_refused(client: httpx.Client, bad: str) -> None:
    """Ids of orders are UUIDs."""
    problem = assert_problem(client.get(f"/orders/{bad}"), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == ["order_id"]
