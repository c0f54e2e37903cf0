"""The HTTP contract of orders, row by row, through the gateway.

What is taken, what is refused, what is recorded.
"""

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from answers import MAX_INTEGER, assert_json, assert_problem
from given import Given

NOBODY = MAX_INTEGER


def test_order_takes_money_goods_and_a_courier(client: httpx.Client, given: Given) -> None:
    """POST /orders answers 201, and what GET shows afterwards is the same order and all three parts of it."""
    order = given.order_body(balance=100, price=10, stock=5, couriers=2)
    order["items"][0]["quantity"] = 3

    response = client.post("/orders", json=order)

    confirmed = assert_json(response, 201)
    expected = {"status": "confirmed", "total": 30, "items": [order["items"][0] | {"price": 10}]}
    assert confirmed == {
        "order_id": confirmed["order_id"],
        "courier": confirmed["courier"],
        **order,
        **expected,
    }
    assert uuid.UUID(confirmed["order_id"]).version == 7
    assert confirmed["courier"] in {"Courier 0", "Courier 1"}
    assert response.headers["location"] == f"/orders/{confirmed['order_id']}"
    assert assert_json(client.get(response.headers["location"]), 200) == confirmed
    user, slot, product = given.state_of(order)
    assert (user["balance"], user["held"], user["available"]) == (70, 0, 70)
    assert (slot["couriers"], slot["held"], slot["booked"], slot["available"]) == (2, 0, 1, 1)
    assert (product["quantity"], product["reserved"], product["available"]) == (2, 0, 2)


def test_order_of_the_same_product_twice_is_summed(client: httpx.Client, given: Given) -> None:
    """Two lines of one product are one line, so that they cannot outwit the stock."""
    order = given.order_body(balance=100, price=10, stock=4)
    product_id = order["items"][0]["product_id"]
    order["items"] = [
        {"product_id": product_id, "quantity": 1},
        {"product_id": product_id, "quantity": 2},
    ]

    confirmed = assert_json(client.post("/orders", json=order), 201)
    refused = assert_problem(client.post("/orders", json=order), 409, "out_of_stock")

    assert confirmed["items"] == [{"product_id": product_id, "quantity": 3, "price": 10}]
    assert confirmed["total"] == 30
    assert refused["order_status"] == "cancelled"


def test_order_may_have_a_hundred_items(client: httpx.Client, given: Given) -> None:
    """The limit itself is allowed."""
    order = given.order_body(balance=1000, price=1, stock=100)
    order["items"] = order["items"] * 100

    assert assert_json(client.post("/orders", json=order), 201)["items"][0]["quantity"] == 100


def _refused_for_funds(given: Given) -> dict[str, Any]:
    return given.order_body(balance=9, price=10)


def _refused_for_stock(given: Given) -> dict[str, Any]:
    return given.order_body(stock=0)


def _refused_for_couriers(given: Given) -> dict[str, Any]:
    return given.order_body(couriers=0)


REFUSED = [
    (_refused_for_funds, "payment", "insufficient_funds"),
    (_refused_for_stock, "stock", "out_of_stock"),
    (_refused_for_couriers, "delivery", "no_courier"),
]


@pytest.mark.parametrize(
    ("make", "participant", "reason"), REFUSED, ids=[reason for _, _, reason in REFUSED]
)
def test_refusal_tells_who_and_why_and_leaves_no_trace(
    client: httpx.Client,
    given: Given,
    make: Callable[[Given], dict[str, Any]],
    participant: str,
    reason: str,
) -> None:
    """A 409 carries the order and its refusals.

    Balance, stock and slot are as before, and the order is recorded.
    """
    order = make(given)
    before = given.state_of(order)

    problem = assert_problem(client.post("/orders", json=order), 409, reason)

    assert given.state_of(order) == before
    (refusal,) = problem["refusals"]
    assert refusal == {"participant": participant, "reason": reason, "detail": refusal["detail"]}
    assert refusal["detail"]
    assert problem["order_status"] == "cancelled"
    recorded = assert_json(client.get(f"/orders/{problem['order_id']}"), 200)
    assert (
        recorded.items()
        >= {
            "order_id": problem["order_id"],
            "status": "cancelled",
            "user_id": order["user_id"],
        }.items()
    )
    assert recorded["refusals"] == problem["refusals"]


UNKNOWN = [
    ({"user_id": NOBODY}, "payment", "unknown_user"),
    ({"items": [{"product_id": NOBODY, "quantity": 1}]}, "stock", "unknown_product"),
    ({"slot_id": NOBODY}, "delivery", "unknown_slot"),
]


@pytest.mark.parametrize(
    ("change", "participant", "reason"), UNKNOWN, ids=[reason for _, _, reason in UNKNOWN]
)
def test_unknown_user_product_or_slot_is_a_refusal_like_any_other(
    client: httpx.Client, given: Given, change: dict[str, Any], participant: str, reason: str
) -> None:
    """Only the service that owns an id knows whether it exists.

    It refuses, and the order is recorded and listed.
    """
    order = given.order_body()
    before = given.state_of(order)

    problem = assert_problem(client.post("/orders", json=order | change), 409, reason)

    assert given.state_of(order) == before
    assert [(each["participant"], each["reason"]) for each in problem["refusals"]] == [
        (participant, reason)
    ]
    user_id = change.get("user_id", order["user_id"])
    newest = client.get("/orders", params={"user_id": user_id, "limit": 1}).json()["items"][0]
    assert (newest["order_id"], newest["status"]) == (problem["order_id"], "cancelled")


def test_every_refusal_is_told_at_once(client: httpx.Client, given: Given) -> None:
    """A client that has three things wrong hears of all three, also for a product that was never sold before."""
    order = given.order_body(balance=0, stock=0, couriers=0)

    problem = client.post("/orders", json=order).json()

    reasons = {(each["participant"], each["reason"]) for each in problem["refusals"]}
    assert reasons == {
        ("payment", "insufficient_funds"),
        ("stock", "out_of_stock"),
        ("delivery", "no_courier"),
    }
    assert problem["type"].removeprefix("urn:shop:problem:") in {reason for _, reason in reasons}


def test_slot_that_has_started_takes_no_orders(client: httpx.Client, given: Given) -> None:
    """A slot is opened in the future; once its time has come it is refused."""
    order = given.order_body()
    slot = given.slot(after_seconds=0.4)
    time.sleep(0.5)

    problem = assert_problem(
        client.post("/orders", json=order | {"slot_id": slot["slot_id"]}), 409, "slot_started"
    )

    assert [each["participant"] for each in problem["refusals"]] == ["delivery"]


def test_order_that_costs_more_than_any_number_is_refused_and_spoils_nothing(
    client: httpx.Client, given: Given
) -> None:
    """A total past every integer is a refusal, and all lists and statements go on working with it recorded."""
    order = given.order_body(balance=100, price=MAX_INTEGER, stock=MAX_INTEGER)
    order["items"][0]["quantity"] = MAX_INTEGER

    response = client.post("/orders", json=order)

    assert response.status_code in {409, 422}, response.text
    for path in (
        f"/payment/users/{order['user_id']}/statement",
        f"/orders?user_id={order['user_id']}",
    ):
        assert_json(client.get(path), 200)


def test_order_that_nobody_knows_is_not_found(client: httpx.Client) -> None:
    """GET /orders/{order_id} is 404 while nothing is recorded."""
    assert_problem(client.get(f"/orders/{uuid.uuid4()}"), 404, "not_found")


def test_orders_are_listed_newest_first_and_filtered_by_status(
    client: httpx.Client, given: Given
) -> None:
    """GET /orders lists the same as GET /orders/{order_id}."""
    order = given.order_body(balance=100, price=60)
    first = client.post("/orders", json=order).json()
    refused = client.post("/orders", json=order).json()
    user_id = order["user_id"]

    listed = assert_json(client.get("/orders", params={"user_id": user_id}), 200)

    each = [
        client.get(f"/orders/{order_id}").json()
        for order_id in (refused["order_id"], first["order_id"])
    ]
    assert listed == {"items": each, "next_cursor": None}
    for status, order_id in (("confirmed", first["order_id"]), ("cancelled", refused["order_id"])):
        found = client.get("/orders", params={"user_id": user_id, "status": status}).json()["items"]
        assert [(item["order_id"], item["status"]) for item in found] == [(order_id, status)]
