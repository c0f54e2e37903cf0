"""The participants' HTTP contract, row by row, through the gateway.

Statuses, bodies to the field, Location, problems.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from answers import MAX_INTEGER, assert_json, assert_problem
from given import Given

NOBODY = MAX_INTEGER


# payment_service


def test_user_is_created_with_a_balance_and_found_where_location_says(client: httpx.Client) -> None:
    """POST /payment/users answers 201 with the account and its Location."""
    response = client.post("/payment/users", json={"name": "Ivan", "balance": 110})

    user = assert_json(response, 201)
    assert user == {
        "user_id": user["user_id"],
        "name": "Ivan",
        "balance": 110,
        "held": 0,
        "available": 110,
    }
    assert type(user["user_id"]) is int
    assert response.headers["location"] == f"/payment/users/{user['user_id']}"
    assert assert_json(client.get(response.headers["location"]), 200) == user


def test_user_has_nothing_by_default_and_may_share_a_name(client: httpx.Client) -> None:
    """The balance is optional, and names need not be unique."""
    first = assert_json(client.post("/payment/users", json={"name": "Ivan"}), 201)
    second = assert_json(client.post("/payment/users", json={"name": "Ivan"}), 201)

    assert (first["balance"], second["balance"]) == (0, 0)
    assert first["user_id"] != second["user_id"]


def test_deposit_is_added_to_the_balance(client: httpx.Client, given: Given) -> None:
    """POST .../deposits answers 201 with the deposit and the account after it."""
    user_id = given.user(100)["user_id"]

    deposit = assert_json(
        client.post(f"/payment/users/{user_id}/deposits", json={"amount": 50}), 201
    )

    expected = {"user_id": user_id, "amount": 50, "balance": 150, "held": 0, "available": 150}
    assert deposit == {"deposit_id": deposit["deposit_id"], **expected}
    assert type(deposit["deposit_id"]) is int
    assert client.get(f"/payment/users/{user_id}").json()["balance"] == 150


def test_deposit_past_the_largest_balance_is_refused(client: httpx.Client, given: Given) -> None:
    """No balance grows past 2^53 - 1, or giving back could overflow."""
    user_id = given.user(MAX_INTEGER)["user_id"]

    assert_problem(
        client.post(f"/payment/users/{user_id}/deposits", json={"amount": 1}), 409, "limit_exceeded"
    )

    assert client.get(f"/payment/users/{user_id}").json()["balance"] == MAX_INTEGER


def test_statement_adds_up_and_leaves_out_what_was_cancelled(
    client: httpx.Client, given: Given
) -> None:
    """Opening + deposits - committed payments = balance; a refused order is not in it."""
    order = given.order_body(balance=100, price=10)
    path = f"/payment/users/{order['user_id']}"
    deposit = client.post(f"{path}/deposits", json={"amount": 50}).json()
    confirmed = client.post("/orders", json=order).json()
    refused = client.post("/orders", json=order | {"slot_id": given.slot(0)["slot_id"]})
    assert refused.status_code == 409

    statement = assert_json(client.get(f"{path}/statement"), 200)

    payment, paid_in = statement["items"]
    assert payment == {
        "kind": "payment",
        "amount": 10,
        "order_id": confirmed["order_id"],
        "at": payment["at"],
    }
    assert paid_in == {
        "kind": "deposit",
        "amount": 50,
        "deposit_id": deposit["deposit_id"],
        "at": paid_in["at"],
    }
    assert datetime.fromisoformat(payment["at"]).utcoffset() is not None
    del statement["items"]
    assert statement == {
        "user_id": order["user_id"],
        "balance": 140,
        "opening": 100,
        "next_cursor": None,
    }


# stock_service


def test_product_is_created_and_found_where_location_says(client: httpx.Client) -> None:
    """POST /stock/products answers 201 with the product and its Location."""
    response = client.post("/stock/products", json={"name": "apple", "price": 10, "quantity": 100})

    product = assert_json(response, 201)
    expected = {"name": "apple", "price": 10, "quantity": 100, "reserved": 0, "available": 100}
    assert product == {"product_id": product["product_id"], **expected}
    assert response.headers["location"] == f"/stock/products/{product['product_id']}"
    assert assert_json(client.get(response.headers["location"]), 200) == product


def test_price_can_be_changed_and_the_next_order_pays_the_new_one(
    client: httpx.Client, given: Given
) -> None:
    """PATCH answers 200 with the product.

    Order_service learns the new price by itself, before it tells the client.
    """
    order = given.order_body(balance=100, price=10)
    assert client.post("/orders", json=order).json()["total"] == 10
    path = f"/stock/products/{order['items'][0]['product_id']}"

    product = assert_json(client.patch(path, json={"price": 12}), 200)
    confirmed = assert_json(client.post("/orders", json=order), 201)

    assert (product["product_id"], product["price"]) == (order["items"][0]["product_id"], 12)
    assert (confirmed["items"][0]["price"], confirmed["total"]) == (12, 12)
    assert client.get(f"/payment/users/{order['user_id']}").json()["balance"] == 100 - 10 - 12


def test_restock_is_added_to_the_stock(client: httpx.Client, given: Given) -> None:
    """POST .../restocks answers 201 with the product after it."""
    product_id = given.product(quantity=0)["product_id"]

    restock = assert_json(
        client.post(f"/stock/products/{product_id}/restocks", json={"quantity": 5}), 201
    )

    assert (
        restock.items()
        >= {"product_id": product_id, "quantity": 5, "reserved": 0, "available": 5}.items()
    )
    assert client.get(f"/stock/products/{product_id}").json()["available"] == 5


def test_restock_past_the_largest_quantity_is_refused(client: httpx.Client, given: Given) -> None:
    """No quantity grows past 2^53 - 1, or giving back could overflow."""
    product_id = given.product(quantity=MAX_INTEGER)["product_id"]

    assert_problem(
        client.post(f"/stock/products/{product_id}/restocks", json={"quantity": 1}),
        409,
        "limit_exceeded",
    )

    assert client.get(f"/stock/products/{product_id}").json()["quantity"] == MAX_INTEGER


# delivery_service


@pytest.mark.parametrize("couriers", [[], ["Olga", "Petr"]])
def test_slot_is_created_and_found_where_location_says(
    client: httpx.Client, couriers: list[str]
) -> None:
    """POST /delivery/slots answers 201 with the slot and its Location; there may be no couriers."""
    starts_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    response = client.post(
        "/delivery/slots", json={"starts_at": starts_at.isoformat(), "couriers": couriers}
    )

    slot = assert_json(response, 201)
    counts = {"couriers": len(couriers), "held": 0, "booked": 0, "available": len(couriers)}
    assert slot == {"slot_id": slot["slot_id"], "starts_at": slot["starts_at"], **counts}
    assert datetime.fromisoformat(slot["starts_at"]) == starts_at
    assert response.headers["location"] == f"/delivery/slots/{slot['slot_id']}"
    assert assert_json(client.get(response.headers["location"]), 200) == slot


def test_slot_keeps_the_moment_whatever_offset_it_was_given_in(client: httpx.Client) -> None:
    """Times are moments: the offset of the request is understood, and the answer has one too."""
    starts_at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0, tzinfo=None)

    slot = client.post(
        "/delivery/slots", json={"starts_at": f"{starts_at.isoformat()}+03:00", "couriers": []}
    ).json()

    assert datetime.fromisoformat(slot["starts_at"]) == starts_at.replace(tzinfo=UTC) - timedelta(
        hours=3
    )


NOT_THERE = [
    ("GET", f"/payment/users/{NOBODY}", None),
    ("POST", f"/payment/users/{NOBODY}/deposits", {"amount": 1}),
    ("GET", f"/payment/users/{NOBODY}/statement", None),
    ("GET", f"/stock/products/{NOBODY}", None),
    ("PATCH", f"/stock/products/{NOBODY}", {"price": 1}),
    ("POST", f"/stock/products/{NOBODY}/restocks", {"quantity": 1}),
    ("GET", f"/delivery/slots/{NOBODY}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), NOT_THERE)
def test_id_that_does_not_exist_is_not_found(
    client: httpx.Client, method: str, path: str, body: Any
) -> None:
    """An id in a path that names nothing is a 404."""
    assert_problem(client.request(method, path, json=body), 404, "not_found")
